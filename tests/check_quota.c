#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/defaults.h"
#include "src/quota.h"
#include "tests/harness.h"

enum { HOST = 0x0a000001 };

static bool take(struct quota *quota, unsigned worker, uint32_t host)
{
    struct address address = ip4(host, 1);

    return quota_take(quota, worker, &address);
}

static void give(struct quota *quota, unsigned worker, uint32_t host)
{
    struct address address = ip4(host, 2); /* another port, the same source */

    quota_give(quota, worker, &address);
}

/* How many more places WORKER gets for HOST. */
static unsigned take_all(struct quota *quota, unsigned worker, uint32_t host)
{
    unsigned count = 0;

    while (take(quota, worker, host))
        count++;
    return count;
}

START_TEST(each_source_has_so_many_places_at_all_workers_together)
{
    struct quota *quota = quota_new(3, 5);

    ck_assert(take(quota, 0, HOST) && take(quota, 1, HOST) && take(quota, 2, HOST));
    ck_assert_uint_eq(take_all(quota, 1, HOST), 2);
    for (unsigned worker = 0; worker < 3; worker++)
        ck_assert(!take(quota, worker, HOST));
    ck_assert_uint_eq(take_all(quota, 0, HOST + 1), 5);
    quota_free(quota);
    quota_free(NULL);
}
END_TEST

START_TEST(a_place_that_is_given_back_is_free)
{
    struct quota *quota = quota_new(2, 2);

    ck_assert_uint_eq(take_all(quota, 0, HOST), 2);
    give(quota, 0, HOST);
    ck_assert(take(quota, 1, HOST));
    ck_assert(!take(quota, 0, HOST));
    give(quota, 1, HOST);
    give(quota, 0, HOST);
    ck_assert_uint_eq(take_all(quota, 0, HOST), 2);
    quota_free(quota);
}
END_TEST

START_TEST(the_places_of_a_dead_worker_are_free_and_only_those)
{
    struct quota *quota = quota_new(2, 10);

    for (uint32_t host = HOST; host < HOST + 100; host++)
        for (int i = 0; i < 5; i++)
            ck_assert(take(quota, 0, host) && take(quota, 1, host));
    quota_worker_died(quota, 0);
    for (uint32_t host = HOST; host < HOST + 100; host++)
        ck_assert_uint_eq(take_all(quota, 0, host), 5); /* it has been replaced */
    quota_worker_died(quota, 0);
    quota_worker_died(quota, 1);
    ck_assert_uint_eq(take_all(quota, 1, HOST), 10);
    for (int i = 0; i < 4; i++)
        give(quota, 1, HOST);
    ck_assert(take(quota, 0, HOST));
    quota_worker_died(quota, 1); /* what it had given back is not taken off again */
    ck_assert_uint_eq(take_all(quota, 0, HOST), 9);
    quota_free(quota);
}
END_TEST

/* Two that fall on the same counter share its places, and with few sources hardly two do. */
START_TEST(many_sources_do_not_disturb_each_other)
{
    enum { SOURCES = 1000 };
    struct quota *quota = quota_new(1, 1);
    unsigned disturbed = 0;

    for (uint32_t i = 0; i < SOURCES; i++)
        disturbed += !take(quota, 0, HOST + i);
    ck_assert_uint_lt(disturbed, 10); /* of 0.5 that are to be expected */
    quota_free(quota);
}
END_TEST

/* A worker died between two steps: the count is one too low, but never less than nothing. */
START_TEST(a_count_that_is_too_low_mends_itself)
{
    struct quota *quota = quota_new(2, 3);

    ck_assert(take(quota, 0, HOST));
    quota_worker_died(quota, 0);
    give(quota, 0, HOST); /* as if it had been told of a place more */
    ck_assert_uint_eq(take_all(quota, 1, HOST), 3);
    quota_free(quota);
}
END_TEST

enum { THREADS = 4, TRIES = 20000, MOST = 3 };

static struct quota *contested;
static _Atomic int held, most_held;

static void *hammer(void *worker)
{
    for (int i = 0; i < TRIES; i++) {
        int now;

        if (!take(contested, *(unsigned *) worker, HOST))
            continue;
        now = atomic_fetch_add(&held, 1) + 1;
        if (now > atomic_load(&most_held))
            atomic_store(&most_held, now);
        atomic_fetch_sub(&held, 1);
        give(contested, *(unsigned *) worker, HOST);
    }
    return NULL;
}

START_TEST(racers_never_get_one_too_many)
{
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];

    contested = quota_new(THREADS, MOST);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_le(most_held, MOST);
    ck_assert_uint_eq(take_all(contested, 0, HOST), MOST); /* none is lost */
    quota_free(contested);
}
END_TEST

START_TEST(processes_share_the_places)
{
    struct quota *quota = quota_new(2, 10);
    int status;
    pid_t child;

    ck_assert(take(quota, 0, HOST));
    child = fork();
    if (child == 0)
        _exit((int) take_all(quota, 1, HOST));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    ck_assert(!take(quota, 0, HOST));
    quota_worker_died(quota, 1);
    ck_assert_uint_eq(take_all(quota, 0, HOST), 9);
    quota_free(quota);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_source_has_so_many_places_at_all_workers_together,
        a_place_that_is_given_back_is_free,
        the_places_of_a_dead_worker_are_free_and_only_those,
        many_sources_do_not_disturb_each_other,
        a_count_that_is_too_low_mends_itself,
        racers_never_get_one_too_many,
        processes_share_the_places,
    };

    return HARNESS_RUN("quota", tests);
}
