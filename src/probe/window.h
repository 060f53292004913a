/*
 * window: which datagrams are on their way, and since when.
 *
 * Numbers are given in order, and settled in any. Memory is a ring from the oldest number that is
 * not settled to the newest, which grows as it has to, up to WINDOW_MOST.
 */
#ifndef ECHOD_PROBE_WINDOW_H
#define ECHOD_PROBE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

/* All zero: nothing was sent yet, and no memory taken. */
struct window {
    uint64_t *ring;   /* by number: when it was sent, with OPEN in the lowest bit */
    uint64_t size;    /* of the ring: a power of two, or 0 */
    uint64_t oldest;  /* number that is not settled; NEXT: all are */
    uint64_t next;    /* number to be given */
};

void window_free(struct window *window);

/* How many of WANTED numbers can be given; fewer when it is full, or memory is. */
uint64_t window_room(struct window *window, uint64_t wanted);

/* Gives the next COUNT numbers, for which there is room, at NOW, on clock_ns. */
void window_give(struct window *window, uint64_t count, uint64_t now);

/* Was NUMBER given, and not settled? */
bool window_is_open(const struct window *window, uint64_t number);

/* Settles NUMBER, which is open. */
void window_settle(struct window *window, uint64_t number);

/* When NUMBER was given, within a ns; until others are given after it was settled. */
uint64_t window_given_at(const struct window *window, uint64_t number);

/* Takes back all numbers from the oldest on: they will be given again. */
void window_rewind(struct window *window);

#endif
