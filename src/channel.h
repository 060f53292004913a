/*
 * channel: framed messages between supervisor and worker, each with a descriptor if need be.
 *
 * A sequenced-packet socket pair keeps the frames apart, and passes a descriptor in the same way
 * to another process as to another thread. Frames arrive whole and in order. Nothing here waits:
 * what the peer does not take yet is queued.
 */
#ifndef ECHOD_CHANNEL_H
#define ECHOD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest payload, in bytes. */
#define CHANNEL_PAYLOAD_MAX 16384

struct channel;
struct event_base;

/* What the user of a channel does; any of these may call channel_free. */
struct channel_handler {
    /* A frame came. PAYLOAD is valid during the call. FD, or -1, is the callee's to close. */
    void (*received)(void *context, uint32_t type, const void *payload, size_t length, int fd);
    /* The other end is gone; called once, and nothing after it. */
    void (*ended)(void *context);
    /* No frame waits any more. May be NULL. */
    void (*drained)(void *context);
};

/* A connected pair of descriptors, one for each end. False with errno set. */
bool channel_pair(int fds[2]);

/* A channel over FD, which it owns; on failure (NULL) FD is still the caller's. */
struct channel *channel_new(struct event_base *base, int fd,
                            const struct channel_handler *handler, void *context);
void channel_free(struct channel *channel);

/*
 * Sends a frame, with a copy of descriptor FD unless that is -1. Returns false when it cannot
 * arrive: the other end is gone, or memory or descriptors are short.
 */
bool channel_send(struct channel *channel, uint32_t type, const void *payload, size_t length,
                  int fd);

/* Do frames wait because the peer does not take them? */
bool channel_is_busy(const struct channel *channel);

/* The bytes of those that wait, and a number that changes when the peer takes something. */
size_t channel_waiting(const struct channel *channel);
uint64_t channel_taken(const struct channel *channel);

/* Are frames to be received? At first they are. Those that are not wait at the sender. */
void channel_listen(struct channel *channel, bool on);

/* What comes by it is received before all other events of its reactor that are ready. */
void channel_go_first(struct channel *channel);

/* Receives what has come by now, in this call; nothing may free the channel. Tells of no end. */
void channel_receive_waiting(struct channel *channel);

/* The other end is gone, or about to: receives what it has sent, in this call. Tells of no end. */
void channel_receive_rest(struct channel *channel);

#endif
