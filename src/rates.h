/*
 * rates: how often a source may come, in memory that all workers share: a pure decision.
 *
 * A token bucket for each source, in a table of fixed size, without a lock. A source that finds its
 * row full takes the place, and the bucket as it is, of the one that has been full longest: so all
 * sources of a row together never get more than the buckets of the row hold, however many they
 * are.
 */
#ifndef ECHOD_RATES_H
#define ECHOD_RATES_H

#include <stdbool.h>
#include <stdint.h>

#include "address.h"

struct rates;

/*
 * Shared memory for buckets that hold BURST and are filled with RATE a second, both at least 1.
 * NULL when there is none, or no random number.
 */
struct rates *rates_new(uint64_t rate, uint64_t burst);
void rates_free(struct rates *rates);

/*
 * Takes one from the bucket of the source that ADDRESS belongs to; false: it is empty. NOW is in
 * milliseconds, at least 0, on any clock that all workers share.
 */
bool rates_take(struct rates *rates, const struct address *address, int64_t now);

#endif
