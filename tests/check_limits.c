#include <pthread.h>
#include <stdatomic.h>

#include "src/defaults.h"
#include "src/limits.h"
#include "tests/harness.h"

enum { NOW = 100000 }; /* where time does not matter */

START_TEST(without_a_limit_every_slot_is_free)
{
    struct limits *limits = limits_new(2, 0);

    for (int i = 0; i < 100000; i++)
        ck_assert(limits_take(limits, 0, NOW));
    ck_assert(!limits_is_waiting(limits, 0));
    limits_give(limits, 0);
    limits_free(limits);
    limits_free(NULL);
}
END_TEST

START_TEST(the_limit_holds_over_all_workers)
{
    struct limits *limits = limits_new(3, 3);

    for (unsigned worker = 0; worker < 3; worker++)
        ck_assert(limits_take(limits, worker, NOW));
    for (unsigned worker = 0; worker < 3; worker++) {
        ck_assert(!limits_take(limits, worker, NOW));
        ck_assert(limits_is_waiting(limits, worker));
    }
    limits_free(limits);
}
END_TEST

START_TEST(who_came_first_is_served_first)
{
    static const unsigned order[] = { 2, 0, 3, 1 };
    struct limits *limits = limits_new(5, 1);

    ck_assert(limits_take(limits, 4, NOW));
    for (int i = 0; i < 4; i++)
        ck_assert(!limits_take(limits, order[i], NOW));
    for (int i = 0; i < 4; i++) {
        limits_give(limits, i == 0 ? 4 : order[i - 1]);
        ck_assert(!limits_take(limits, 4, NOW)); /* it comes last from now on */
        for (int k = 3; k > i; k--)
            ck_assert_msg(!limits_take(limits, order[k], NOW), "%d overtook %d", k, i);
        ck_assert(limits_take(limits, order[i], NOW));
        ck_assert(!limits_is_waiting(limits, order[i]));
    }
    limits_free(limits);
}
END_TEST

START_TEST(who_asks_no_more_lets_others_by)
{
    struct limits *limits = limits_new(3, 1);

    ck_assert(limits_take(limits, 0, NOW));
    ck_assert(!limits_take(limits, 1, NOW)); /* and then hangs */
    ck_assert(!limits_take(limits, 2, NOW));
    limits_give(limits, 0);
    ck_assert(!limits_take(limits, 2, NOW + LIMITS_STALE_MS));
    ck_assert(limits_take(limits, 2, NOW + LIMITS_STALE_MS + 1));
    ck_assert(!limits_take(limits, 0, NOW + LIMITS_STALE_MS + 2));
    limits_give(limits, 2);
    ck_assert(limits_take(limits, 1, NOW + LIMITS_STALE_MS + 2)); /* back, and first again */
    limits_free(limits);
}
END_TEST

START_TEST(who_waits_keeps_its_place)
{
    struct limits *limits = limits_new(3, 1);

    ck_assert(limits_take(limits, 0, NOW));
    ck_assert(!limits_take(limits, 1, NOW));
    ck_assert(!limits_take(limits, 2, NOW));
    for (int i = 0; i < 3; i++)
        ck_assert(!limits_take(limits, 1, NOW)); /* asks again and again: no new ticket */
    limits_give(limits, 0);
    ck_assert(!limits_take(limits, 2, NOW));
    ck_assert(limits_take(limits, 1, NOW));
    limits_free(limits);
}
END_TEST

START_TEST(who_leaves_the_queue_holds_nobody_up)
{
    struct limits *limits = limits_new(3, 1);

    ck_assert(limits_take(limits, 0, NOW));
    ck_assert(!limits_take(limits, 1, NOW));
    ck_assert(!limits_take(limits, 2, NOW));
    ck_assert(limits_others_wait(limits, 1));
    limits_leave_queue(limits, 1);
    ck_assert(!limits_is_waiting(limits, 1));
    ck_assert(!limits_others_wait(limits, 2));
    ck_assert(limits_others_wait(limits, 0));
    limits_give(limits, 0);
    ck_assert(limits_take(limits, 2, NOW));
    ck_assert(!limits_others_wait(limits, 0));
    limits_free(limits);
}
END_TEST

START_TEST(a_dead_workers_share_is_free)
{
    struct limits *limits = limits_new(3, 4);

    ck_assert(limits_take(limits, 0, NOW));
    for (int i = 0; i < 3; i++)
        ck_assert(limits_take(limits, 1, NOW));
    ck_assert(!limits_take(limits, 1, NOW));
    ck_assert(!limits_take(limits, 2, NOW));
    limits_set_paused(limits, 1, 1);
    limits_worker_died(limits, 1); /* three slots, and the place before worker 2's */
    ck_assert_uint_eq(limits_paused(limits), 0);
    ck_assert(!limits_is_waiting(limits, 1));
    for (int i = 0; i < 3; i++)
        ck_assert(limits_take(limits, 2, NOW));
    ck_assert(!limits_take(limits, 2, NOW));
    limits_free(limits);
}
END_TEST

START_TEST(pauses_are_anybodys)
{
    struct limits *limits = limits_new(3, 0);

    ck_assert_uint_eq(limits_paused(limits), 0);
    limits_set_paused(limits, 0, 1);
    limits_set_paused(limits, 2, 2);
    ck_assert_uint_eq(limits_paused(limits), 3);
    limits_set_paused(limits, 0, 2);
    ck_assert_uint_eq(limits_paused(limits), 2);
    limits_set_paused(limits, 0, 0);
    ck_assert_uint_eq(limits_paused(limits), 2);
    limits_set_paused(limits, 2, 0);
    ck_assert_uint_eq(limits_paused(limits), 0);
    limits_free(limits);
}
END_TEST

enum { RACERS = 4, SLOTS = 2, ROUNDS = 2000 };

static struct {
    struct limits *limits;
    _Atomic int holders, most, served;
} race;

/* Takes a slot, sees how many have one, and gives it back; over and over. */
static void *run_race(void *argument)
{
    unsigned worker = *(unsigned *) argument;

    for (int i = 0; i < ROUNDS; i++) {
        int holders, most;

        while (!limits_take(race.limits, worker, NOW))
            sched_yield();
        holders = atomic_fetch_add(&race.holders, 1) + 1;
        most = race.most;
        while (holders > most && !atomic_compare_exchange_weak(&race.most, &most, holders))
            continue;
        atomic_fetch_add(&race.served, 1);
        atomic_fetch_sub(&race.holders, 1);
        limits_give(race.limits, worker);
    }
    return NULL;
}

START_TEST(racers_never_hold_more_and_all_are_served)
{
    pthread_t threads[RACERS];
    unsigned numbers[RACERS];

    race.limits = limits_new(RACERS, SLOTS);
    race.holders = race.most = race.served = 0;
    for (unsigned i = 0; i < RACERS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_race, &numbers[i]), 0);
    }
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_le(race.most, SLOTS);
    ck_assert_int_eq(race.served, RACERS * ROUNDS);
    /* All slots are back. */
    for (int i = 0; i < SLOTS; i++)
        ck_assert(limits_take(race.limits, 0, NOW));
    ck_assert(!limits_take(race.limits, 0, NOW));
    limits_free(race.limits);
}
END_TEST

static pthread_barrier_t together;

static void *take_last(void *argument)
{
    unsigned worker = *(unsigned *) argument;

    pthread_barrier_wait(&together);
    return limits_take(race.limits, worker, NOW) ? argument : NULL;
}

START_TEST(two_that_race_for_the_last_slot)
{
    pthread_barrier_init(&together, NULL, 2);
    for (int i = 0; i < 500; i++) {
        unsigned numbers[] = { 0, 1 };
        pthread_t threads[2];
        void *taken[2];

        race.limits = limits_new(2, 1);
        for (int k = 0; k < 2; k++)
            pthread_create(&threads[k], NULL, take_last, &numbers[k]);
        for (int k = 0; k < 2; k++)
            pthread_join(threads[k], &taken[k]);
        ck_assert_msg(taken[0] == NULL || taken[1] == NULL, "both have the last slot");
        /* Nobody may wait for a slot that is free: the one who waits looks again and has it. */
        if (taken[0] == NULL && taken[1] == NULL)
            ck_assert(limits_take(race.limits, 0, NOW) || limits_take(race.limits, 1, NOW));
        limits_free(race.limits);
    }
    pthread_barrier_destroy(&together);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        without_a_limit_every_slot_is_free,
        the_limit_holds_over_all_workers,
        who_came_first_is_served_first,
        who_asks_no_more_lets_others_by,
        who_waits_keeps_its_place,
        who_leaves_the_queue_holds_nobody_up,
        a_dead_workers_share_is_free,
        pauses_are_anybodys,
        racers_never_hold_more_and_all_are_served,
        two_that_race_for_the_last_slot,
    };

    return HARNESS_RUN("limits", tests);
}
