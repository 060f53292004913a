/* tally: what came of it. Each thread has its own; others may read its counters meanwhile. */
#ifndef ECHOD_PROBE_TALLY_H
#define ECHOD_PROBE_TALLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"

enum tally_counter {
    TALLY_MESSAGES, /* that came back, exact or not */
    TALLY_BYTES,    /* that came back */
    TALLY_LOST,     /* messages that did not come back */
    TALLY_CORRUPT,  /* messages that came back changed; connections that got too much */
    TALLY_ERRORS,   /* connections that failed */
    TALLY_COUNTERS
};

/* All zero: nothing happened yet. */
struct tally {
    _Alignas(64) _Atomic uint64_t counter[TALLY_COUNTERS];
    uint64_t connected;       /* connections that came about */
    uint64_t began_at;        /* on clock_ns; 0: it did not come to that */
    uint64_t ended_at;        /* the last answer, or later the end of sending */
    struct histogram latency; /* in ns */
};

/* Adds to a counter that the caller alone writes: a load and a store, no bus lock. */
static inline void tally_add(struct tally *tally, enum tally_counter counter, uint64_t amount)
{
    uint64_t before = atomic_load_explicit(&tally->counter[counter], memory_order_relaxed);

    atomic_store_explicit(&tally->counter[counter], before + amount, memory_order_relaxed);
}

static inline uint64_t tally_get(const struct tally *tally, enum tally_counter counter)
{
    return atomic_load_explicit(&tally->counter[counter], memory_order_relaxed);
}

/* Adds what OTHER, whose thread has ended, has counted. */
void tally_merge(struct tally *tally, const struct tally *other);

/* Seconds from the first message to the end. */
double tally_seconds(const struct tally *tally);

/* Did everything come back exact? */
bool tally_is_clean(const struct tally *tally);

#endif
