/* metrics: what administrators and their programs see by HTTP: --metrics. */
#ifndef ECHOD_METRICS_H
#define ECHOD_METRICS_H

#include <stdbool.h>

#include "sockets.h"
#include "stats.h"

struct event_base;
struct metrics;

/*
 * Serves at SOCKETS, which stay the caller's and outlive it, in BASE's loop: that may be none.
 * NULL: no memory.
 */
struct metrics *metrics_new(struct event_base *base, const struct sockets *sockets,
                            struct stats *stats);
void metrics_free(struct metrics *metrics);

/* What /readyz says; at first that we are not. */
void metrics_set_ready(struct metrics *metrics, bool is_ready);

#endif
