/*
 * gauge: whether someone for whom much waits is only slow, and worth waiting for, or takes nothing.
 *
 * A pure decision, of whoever sends faster than others take: many who are slow may hold it back,
 * one who is stuck may not.
 */
#ifndef ECHOD_GAUGE_H
#define ECHOD_GAUGE_H

#include <stddef.h>
#include <stdint.h>

enum gauge_state {
    GAUGE_FREE,  /* not much waits */
    GAUGE_HOLDS, /* much waits, and some was taken lately: whoever sends is to wait */
    GAUGE_MUTE,  /* much waits, and none is taken */
};

/* From when much began to wait; all zero: it does not. */
struct gauge {
    enum gauge_state state;
    uint64_t taken;
    int64_t moved_at;
};

/* What is much, in bytes, and how long may pass with none of it taken, in milliseconds. */
struct gauge_limits {
    size_t much;
    int64_t patience;
};

/*
 * The state now that WAITING bytes wait, at NOW (clock_ms). TAKEN is any number that changes when
 * some are taken.
 */
enum gauge_state gauge_look(struct gauge *gauge, const struct gauge_limits *limits,
                            size_t waiting, uint64_t taken, int64_t now);

#endif
