/*
 * quota: how many connections each source has, in memory that all workers share: a pure decision.
 *
 * A counter for each source, in a table of fixed size, moved by compare-and-swap: of two workers
 * that race for a source's last place one gets it. Each worker's share is kept beside, to be taken
 * back should it die. The counter that a source has is the one that its hash falls on; two sources
 * that fall on the same one share their places. With so many other sources connected that happens
 * to a newcomer as often as they are of QUOTA_COUNTERS: with 1000 once in a thousand times.
 */
#ifndef ECHOD_QUOTA_H
#define ECHOD_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "address.h"

struct quota;

/*
 * Shared memory for WORKERS and MOST places for each source, at least 1. NULL when there is none,
 * or no random number.
 */
struct quota *quota_new(unsigned workers, uint64_t most);
void quota_free(struct quota *quota);

/* Takes a place for WORKER's next connection from the IP address ADDRESS; false: all are taken. */
bool quota_take(struct quota *quota, unsigned worker, const struct address *address);

/* Gives it back. */
void quota_give(struct quota *quota, unsigned worker, const struct address *address);

/* WORKER is dead: its places are free. */
void quota_worker_died(struct quota *quota, unsigned worker);

#endif
