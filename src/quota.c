#include "quota.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "defaults.h"
#include "source.h"

/* First the counters of all together, then each worker's own: of them only what is used is real. */
struct quota {
    unsigned workers;
    uint64_t most;
    struct source_key key;
    _Atomic uint32_t taken[][QUOTA_COUNTERS];
};

static size_t size_of(unsigned workers)
{
    return sizeof(struct quota) + (1 + (size_t) workers) * sizeof(uint32_t[QUOTA_COUNTERS]);
}

struct quota *quota_new(unsigned workers, uint64_t most)
{
    struct quota *quota = mmap(NULL, size_of(workers), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (quota == MAP_FAILED)
        return NULL;
    quota->workers = workers;
    quota->most = most;
    if (source_key_draw(&quota->key))
        return quota;
    quota_free(quota);
    return NULL;
}

void quota_free(struct quota *quota)
{
    if (quota != NULL)
        munmap(quota, size_of(quota->workers));
}

/* Takes COUNT off, but never below zero: so a count that a death left too low mends itself. */
static void take_off(_Atomic uint32_t *counter, uint32_t count)
{
    uint32_t taken = atomic_load(counter);

    while (taken > 0 &&
           !atomic_compare_exchange_weak(counter, &taken, taken > count ? taken - count : 0))
        ;
}

/*
 * The worker's own counter is raised first, and lowered last: one that dies in between takes a
 * place too many off with it. The other way round it would leave one taken for good.
 */
bool quota_take(struct quota *quota, unsigned worker, const struct address *address)
{
    uint64_t place = source_hash(&quota->key, address) % QUOTA_COUNTERS;
    _Atomic uint32_t *all = &quota->taken[0][place], *own = &quota->taken[1 + worker][place];
    uint32_t taken = atomic_load(all);

    atomic_fetch_add(own, 1);
    while (taken < quota->most)
        if (atomic_compare_exchange_weak(all, &taken, taken + 1))
            return true;
    atomic_fetch_sub(own, 1);
    return false;
}

void quota_give(struct quota *quota, unsigned worker, const struct address *address)
{
    uint64_t place = source_hash(&quota->key, address) % QUOTA_COUNTERS;

    take_off(&quota->taken[0][place], 1);
    atomic_fetch_sub(&quota->taken[1 + worker][place], 1);
}

void quota_worker_died(struct quota *quota, unsigned worker)
{
    for (size_t place = 0; place < QUOTA_COUNTERS; place++) {
        _Atomic uint32_t *own = &quota->taken[1 + worker][place];

        if (atomic_load_explicit(own, memory_order_relaxed) > 0)
            take_off(&quota->taken[0][place], atomic_exchange(own, 0));
    }
}
