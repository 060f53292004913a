#include "rates.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "defaults.h"

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
    uint64_t key[2]; /* of the hash */
    struct row rows[RATES_ROWS];
};

struct rates *rates_new(uint64_t rate, uint64_t burst)
{
    struct rates *rates = mmap(NULL, sizeof(*rates), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (rates == MAP_FAILED)
        return NULL;
    if (getrandom(rates->key, sizeof(rates->key), 0) != (ssize_t) sizeof(rates->key)) {
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

static uint64_t rotated(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

/* SipHash's round. */
static void mix(uint64_t state[4])
{
    state[0] += state[1];
    state[1] = rotated(state[1], 13) ^ state[0];
    state[0] = rotated(state[0], 32);
    state[2] += state[3];
    state[3] = rotated(state[3], 16) ^ state[2];
    state[0] += state[3];
    state[3] = rotated(state[3], 21) ^ state[0];
    state[2] += state[1];
    state[1] = rotated(state[1], 17) ^ state[2];
    state[2] = rotated(state[2], 32);
}

/* SipHash-1-3 of two words, without the length, which is always the same; never 0. */
static uint64_t hash(const uint64_t key[2], const uint64_t words[2])
{
    uint64_t state[4] = { key[0] ^ UINT64_C(0x736f6d6570736575),
                          key[1] ^ UINT64_C(0x646f72616e646f6d),
                          key[0] ^ UINT64_C(0x6c7967656e657261),
                          key[1] ^ UINT64_C(0x7465646279746573) };
    uint64_t result;

    for (int i = 0; i < 2; i++) {
        state[3] ^= words[i];
        mix(state);
        state[0] ^= words[i];
    }
    state[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        mix(state);
    result = state[0] ^ state[1] ^ state[2] ^ state[3];
    return result != 0 ? result : 1;
}

/* What of ADDRESS makes it a source of its own, and the family. */
static void source_of(const struct address *address, uint64_t words[2])
{
    const struct in6_addr *ip6 = &address->ip6.sin6_addr;

    words[0] = 0;
    words[1] = AF_INET;
    if (address->any.sa_family == AF_INET) {
        memcpy(&words[0], &address->ip4.sin_addr, sizeof(address->ip4.sin_addr));
    } else if (IN6_IS_ADDR_V4MAPPED(ip6)) {
        memcpy(&words[0], &ip6->s6_addr[12], sizeof(struct in_addr));
    } else {
        words[1] = AF_INET6;
        memcpy(&words[0], ip6->s6_addr, sizeof(words[0]));
    }
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

bool rates_take(struct rates *rates, const struct address *source, int64_t now)
{
    uint64_t words[2], name, full_at, clock = tokens_until(rates, now);
    _Atomic uint64_t *bucket;
    struct row *row;

    source_of(source, words);
    name = hash(rates->key, words);
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
