#include "limits.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "defaults.h"

/* One worker's part. */
struct share {
    _Alignas(64) _Atomic uint64_t held; /* slots */
    _Atomic uint64_t ticket;            /* its place in the queue; 0: none */
    _Atomic int64_t asked;              /* when it last wanted a slot */
    _Atomic uint32_t paused;            /* reasons, a bit each */
};

struct limits {
    unsigned workers;
    uint64_t max_connections;
    _Atomic uint64_t taken;   /* slots, by all */
    _Atomic uint64_t tickets; /* drawn so far */
    struct share shares[];
};

static size_t size_of(unsigned workers)
{
    return sizeof(struct limits) + workers * sizeof(struct share);
}

struct limits *limits_new(unsigned workers, uint64_t max_connections)
{
    struct limits *limits = mmap(NULL, size_of(workers), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (limits == MAP_FAILED)
        return NULL;
    limits->workers = workers;
    limits->max_connections = max_connections;
    return limits;
}

void limits_free(struct limits *limits)
{
    if (limits != NULL)
        munmap(limits, size_of(limits->workers));
}

/* Does anybody but WORKER, who has asked since SINCE, hold a ticket that comes before MINE? */
static bool is_before(struct limits *limits, unsigned worker, uint64_t mine, int64_t since)
{
    for (unsigned i = 0; i < limits->workers; i++) {
        uint64_t ticket = atomic_load(&limits->shares[i].ticket);

        if (i != worker && ticket != 0 && ticket < mine &&
            atomic_load(&limits->shares[i].asked) >= since)
            return true;
    }
    return false;
}

/* Takes a free slot, unless somebody who came before MINE waits for one. */
static bool take_slot(struct limits *limits, unsigned worker, uint64_t mine, int64_t now)
{
    uint64_t taken = atomic_load(&limits->taken);

    if (is_before(limits, worker, mine, now - LIMITS_STALE_MS))
        return false;
    while (taken < limits->max_connections)
        if (atomic_compare_exchange_weak(&limits->taken, &taken, taken + 1)) {
            atomic_fetch_add(&limits->shares[worker].held, 1);
            atomic_store(&limits->shares[worker].ticket, 0);
            return true;
        }
    return false;
}

bool limits_take(struct limits *limits, unsigned worker, int64_t now)
{
    uint64_t ticket;

    if (limits->max_connections == 0)
        return true;
    atomic_store(&limits->shares[worker].asked, now);
    ticket = atomic_load(&limits->shares[worker].ticket);
    if (ticket != 0)
        return take_slot(limits, worker, ticket, now);
    if (take_slot(limits, worker, UINT64_MAX, now))
        return true;
    ticket = atomic_fetch_add(&limits->tickets, 1) + 1;
    atomic_store(&limits->shares[worker].ticket, ticket);
    /* Whoever gave a slot back before it could see the ticket has woken nobody: look once more. */
    return take_slot(limits, worker, ticket, now);
}

void limits_give(struct limits *limits, unsigned worker)
{
    if (limits->max_connections == 0)
        return;
    /* In this order: a worker that dies in between leaves one slot too few, never one too many. */
    atomic_fetch_sub(&limits->shares[worker].held, 1);
    atomic_fetch_sub(&limits->taken, 1);
}

void limits_leave_queue(struct limits *limits, unsigned worker)
{
    atomic_store(&limits->shares[worker].ticket, 0);
}

bool limits_is_waiting(struct limits *limits, unsigned worker)
{
    return atomic_load(&limits->shares[worker].ticket) != 0;
}

bool limits_others_wait(struct limits *limits, unsigned worker)
{
    return limits->max_connections > 0 && is_before(limits, worker, UINT64_MAX, INT64_MIN);
}

void limits_worker_died(struct limits *limits, unsigned worker)
{
    struct share *share = &limits->shares[worker];

    atomic_fetch_sub(&limits->taken, atomic_exchange(&share->held, 0));
    atomic_store(&share->ticket, 0);
    atomic_store(&share->paused, 0);
}

void limits_set_paused(struct limits *limits, unsigned worker, uint32_t reasons)
{
    atomic_store(&limits->shares[worker].paused, reasons);
}

uint32_t limits_paused(struct limits *limits)
{
    uint32_t reasons = 0;

    for (unsigned i = 0; i < limits->workers; i++)
        reasons |= atomic_load(&limits->shares[i].paused);
    return reasons;
}
