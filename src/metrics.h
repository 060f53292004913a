/* metrics: what administrators and their programs see by HTTP: --metrics. */
#ifndef ECHOD_METRICS_H
#define ECHOD_METRICS_H

#include <stdbool.h>

#include "sockets.h"
#include "stats.h"

struct crew;
struct event_base;
struct metrics;

/* What is told; all of it outlives the metrics. */
struct metrics_facts {
    struct stats *stats;
    const struct sockets *served; /* what STATS counts for */
    const struct crew *crew;
};

/* How far the daemon's life is; only while it serves /readyz says yes. */
enum metrics_state { METRICS_STARTING, METRICS_SERVING, METRICS_DRAINING };

/*
 * Serves at SOCKETS, which stay the caller's and outlive it, in BASE's loop: that may be none.
 * NULL: no memory.
 */
struct metrics *metrics_new(struct event_base *base, const struct sockets *sockets,
                            const struct metrics_facts *facts);
void metrics_free(struct metrics *metrics);

/* At first it is METRICS_STARTING. */
void metrics_set_state(struct metrics *metrics, enum metrics_state state);

#endif
