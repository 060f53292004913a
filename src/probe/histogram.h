/*
 * histogram: how often which latency was seen.
 *
 * Log-linear: each power of two is cut into equal buckets, so that memory is fixed, a value takes
 * a few instructions, and what is read back is within 1 % of what was put in.
 */
#ifndef ECHOD_PROBE_HISTOGRAM_H
#define ECHOD_PROBE_HISTOGRAM_H

#include <stdint.h>

/* A power of two has 1 << HISTOGRAM_BITS buckets: half of one is at most 0.4 % of the value. */
#define HISTOGRAM_BITS 7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

/* All zero: nothing seen yet. */
struct histogram {
    uint64_t count;
    uint64_t sum; /* of all values: of nanoseconds it holds 584 years */
    uint64_t min, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* Adds all that OTHER has seen. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/*
 * The value that so many PERCENT (0 to 100) of those seen do not exceed, within 1 %, and never
 * outside min and max; 0 if none was seen.
 */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* The exact mean; 0 if nothing was seen. */
double histogram_mean(const struct histogram *histogram);

/* How many of those seen are at least FROM and less than TO, as finely as buckets tell. */
uint64_t histogram_between(const struct histogram *histogram, uint64_t from, uint64_t to);

#endif
