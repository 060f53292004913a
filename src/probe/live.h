/* live: a line on the terminal that says, while a load runs, how it goes. */
#ifndef ECHOD_PROBE_LIVE_H
#define ECHOD_PROBE_LIVE_H

#include <stdbool.h>

#include "tally.h"

struct live {
    bool is_wanted;                /* stderr is a terminal that can renew a line */
    uint64_t began_at;             /* on clock_ns */
    uint64_t last_at;              /* the same, when it was last shown ... */
    uint64_t last[TALLY_COUNTERS]; /* ... and what the counters were then */
};

/* Begins now. */
void live_begin(struct live *live);

/* Shows COUNTERS, which are the sums over all threads, and the rates since it last did. */
void live_show(struct live *live, const uint64_t *counters);

/* Takes the line away, so that others may write to the terminal. */
void live_clear(const struct live *live);

#endif
