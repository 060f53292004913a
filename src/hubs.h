/* hubs: the supervisor's part of those services whose workers have to hear of each other. */
#ifndef ECHOD_HUBS_H
#define ECHOD_HUBS_H

#include <stdbool.h>

#include "worker.h"

struct channel;
struct event_base;
struct hubs;

/* The hubs of the services that are served, which may be none. NULL: no memory. */
struct hubs *hubs_new(struct event_base *base, const struct worker_setup *setup);
void hubs_free(struct hubs *hubs);

/* Gives WORKER, by its CHANNEL, its end of each bus; false with errno set: not all, and none is. */
bool hubs_join(struct hubs *hubs, unsigned worker, struct channel *channel);

/* It is gone, if it ever joined. */
void hubs_leave(struct hubs *hubs, unsigned worker);

#endif
