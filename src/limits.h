/*
 * limits: what all workers together may hold, in memory that they share: a pure decision.
 *
 * --max-connections is a count of slots, taken by compare-and-swap, so that two workers that race
 * for the last slot cannot both have it. Who finds none draws a ticket and waits with the one
 * connection that it has accepted; slots go to the lowest ticket, first come first served, also
 * across workers. Each worker's share is kept beside, to be taken back should it die.
 */
#ifndef ECHOD_LIMITS_H
#define ECHOD_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

struct limits;

/* Shared memory for WORKERS; MAX_CONNECTIONS 0 is no limit. NULL when there is none. */
struct limits *limits_new(unsigned workers, uint64_t max_connections);
void limits_free(struct limits *limits);

/*
 * Takes a slot for WORKER's next connection; on false WORKER is in the queue, if it was not yet,
 * and has to ask again well within LIMITS_STALE_MS: whoever does not runs no more, and others go
 * first. NOW is in milliseconds, on any clock that all workers share.
 */
bool limits_take(struct limits *limits, unsigned worker, int64_t now);

/* Gives one of WORKER's slots back. */
void limits_give(struct limits *limits, unsigned worker);

/* WORKER no longer waits for a slot. */
void limits_leave_queue(struct limits *limits, unsigned worker);

/* Is WORKER in the queue for a slot? Is anybody else than WORKER? */
bool limits_is_waiting(struct limits *limits, unsigned worker);
bool limits_others_wait(struct limits *limits, unsigned worker);

/* WORKER is dead: its slots and its place in the queue are free. */
void limits_worker_died(struct limits *limits, unsigned worker);

/* Notes why WORKER's listeners are paused: a bit a reason, the caller's own; 0: they are not. */
void limits_set_paused(struct limits *limits, unsigned worker, uint32_t reasons);

/* Why anybody's listeners are paused. */
uint32_t limits_paused(struct limits *limits);

#endif
