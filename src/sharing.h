/*
 * sharing: what all workers use alike, sent to each until it has it: TLS credentials, access rules.
 *
 * A worker that cannot take the newest, for want of memory or descriptors, goes on with what it has
 * and is sent it again in a while. Which descriptors these are is in struct worker_setup.
 */
#ifndef ECHOD_SHARING_H
#define ECHOD_SHARING_H

#include <stdbool.h>

#include "worker.h"

struct channel;
struct event_base;
struct sharing;

/* Calls SHARED(CONTEXT) when no worker uses anything else than what is newest. NULL: no memory. */
struct sharing *sharing_new(struct event_base *base, const struct worker_setup *setup,
                            void (*shared)(void *context), void *context);
void sharing_free(struct sharing *sharing);

/*
 * Sends WORKER, by its CHANNEL, all that it needs before it lets anybody in. False with errno set:
 * not all. The channel is used until sharing_leave.
 */
bool sharing_join(struct sharing *sharing, unsigned worker, struct channel *channel);

/* It is gone, or about to, if it ever joined: nobody waits for its answers any more. */
void sharing_leave(struct sharing *sharing, unsigned worker);

/* Some of it is new: CHANGED has bits, 1 << FRAME_TLS and the like. Sends that to all who joined. */
void sharing_renew(struct sharing *sharing, unsigned changed);

/* WORKER's answer to FRAME, which it may never have been sent. */
void sharing_answered(struct sharing *sharing, unsigned worker, uint32_t frame, bool has_taken);

#endif
