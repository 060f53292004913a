/*
 * statusjson: the state of the daemon as JSON, for the status page: pure, no I/O.
 *
 * Names are those of the `stats` line as far as it has them. A message is what echod can tell
 * apart: a line of the chat, a datagram, or else what one read of a stream brought.
 */
#ifndef ECHOD_STATUSJSON_H
#define ECHOD_STATUSJSON_H

#include <stdbool.h>

#include "crew.h"

struct evbuffer;

/* What is told; nothing of it is kept. */
struct statusjson {
    struct stats *stats;
    const struct sockets *sockets; /* those that STATS counts for */
    const char *backend;
    const struct crew_worker *workers; /* as many as STATS counts for */
    bool is_draining;
};

/* Appends FACTS to OUT, as one object. False: no memory; a part may be there. */
bool statusjson_write(struct evbuffer *out, const struct statusjson *facts);

#endif
