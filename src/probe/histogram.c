#include "histogram.h"

#include <stddef.h>

#define SUB_BUCKETS ((size_t) 1 << HISTOGRAM_BITS)

/* The first two powers share a scale of one: below 2 * SUB_BUCKETS each value has a bucket. */
static size_t bucket_of(uint64_t value)
{
    int shift = value < SUB_BUCKETS ? 0 : 63 - __builtin_clzll(value) - HISTOGRAM_BITS;

    return ((size_t) shift << HISTOGRAM_BITS) + (size_t) (value >> shift);
}

/* The middle of what falls into BUCKET. */
static uint64_t value_of(size_t bucket)
{
    size_t shift = bucket < 2 * SUB_BUCKETS ? 0 : (bucket >> HISTOGRAM_BITS) - 1;
    uint64_t lowest = (uint64_t) (bucket - (shift << HISTOGRAM_BITS)) << shift;

    return lowest + (((uint64_t) 1 << shift) - 1) / 2;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    if (histogram->count == 0 || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->count++;
    histogram->sum += value;
    histogram->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    if (other->count == 0)
        return;
    if (histogram->count == 0 || other->min < histogram->min)
        histogram->min = other->min;
    if (other->max > histogram->max)
        histogram->max = other->max;
    histogram->count += other->count;
    histogram->sum += other->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram->buckets[i] += other->buckets[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    double wanted = (double) histogram->count * percent / 100;
    uint64_t seen = 0, value;
    size_t i = 0;

    if (wanted <= 1)
        return histogram->min;
    if (wanted > (double) (histogram->count - 1))
        return histogram->max;
    while ((double) (seen += histogram->buckets[i]) < wanted)
        i++;
    value = value_of(i);
    if (value < histogram->min)
        return histogram->min;
    return value < histogram->max ? value : histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count == 0 ? 0 : (double) histogram->sum / (double) histogram->count;
}

uint64_t histogram_between(const struct histogram *histogram, uint64_t from, uint64_t to)
{
    uint64_t count = 0;

    for (size_t i = bucket_of(from); i < bucket_of(to); i++)
        count += histogram->buckets[i];
    return count;
}
