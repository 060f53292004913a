#include "rates.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "defaults.h"
#include "source.h"

/*
 * A bucket is kept as the time when it will be full again, counted in tokens that have been given
 * out by then since the clock's zero: below the clock's own count it is full, BURST above it is
 * empty, and taking one is adding one. It never goes down, also when another source takes it over.
 */
struct row {
    _Alignas(64) _Atomic uint64_t source[RATES_WAYS]; /* its hash; 0: nobody */
    _Atomic uint64_t full_at[RATES_WAYS];
};

struct rates {
    uint64_t rate, burst;
    struct source_key key;
    struct row rows[RATES_ROWS];
};

struct rates *rates_new(uint64_t rate, uint64_t burst)
{
    struct rates *rates = mmap(NULL, sizeof(*rates), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (rates == MAP_FAILED)
        return NULL;
    if (!source_key_draw(&rates->key)) {
        rates_free(rates);
        return NULL;
    }
    rates->rate = rate;
    rates->burst = burst;
    return rates;
}

void rates_free(struct rates *rates)
{
    if (rates != NULL)
        munmap(rates, sizeof(*rates));
}

/* Tokens given out since the clock's zero, by a bucket that was never full. */
static uint64_t tokens_until(const struct rates *rates, int64_t now)
{
    uint64_t ms = (uint64_t) now;

    return ms / 1000 * rates->rate + ms % 1000 * rates->rate / 1000;
}

/* The place of the source with hash SOURCE; RATES_WAYS: it has none. */
static unsigned find(struct row *row, uint64_t source)
{
    unsigned i = 0;

    while (i < RATES_WAYS &&
           atomic_load_explicit(&row->source[i], memory_order_relaxed) != source)
        i++;
    return i;
}

/* The place that has been full longest; one that nobody had is before all others. */
static unsigned fullest(struct row *row)
{
    unsigned best = 0;

    for (unsigned i = 1; i < RATES_WAYS; i++)
        if (atomic_load_explicit(&row->full_at[i], memory_order_relaxed) <
            atomic_load_explicit(&row->full_at[best], memory_order_relaxed))
            best = i;
    return best;
}

/*
 * A place for SOURCE. Should two workers find one for the same source at the same moment, after
 * others came between, it may get two: the first counts from then on, and what was taken from the
 * other, hardly more than a token, is forgotten.
 */
static unsigned place_of(struct row *row, uint64_t source)
{
    for (;;) {
        unsigned place = find(row, source);
        uint64_t before;

        if (place < RATES_WAYS)
            return place;
        place = fullest(row);
        before = atomic_load_explicit(&row->source[place], memory_order_relaxed);
        if (atomic_compare_exchange_strong(&row->source[place], &before, source))
            return place;
    }
}

bool rates_take(struct rates *rates, const struct address *address, int64_t now)
{
    uint64_t name = source_hash(&rates->key, address);
    uint64_t full_at, clock = tokens_until(rates, now);
    _Atomic uint64_t *bucket;
    struct row *row;

    row = &rates->rows[name % RATES_ROWS];
    bucket = &row->full_at[place_of(row, name)];
    full_at = atomic_load_explicit(bucket, memory_order_relaxed);
    for (;;) {
        uint64_t next = (full_at > clock ? full_at : clock) + 1;

        if (next > clock + rates->burst)
            return false;
        if (atomic_compare_exchange_weak(bucket, &full_at, next))
            return true;
    }
}
