#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/defaults.h"
#include "src/rates.h"
#include "tests/harness.h"

enum { NOW = 1000000 }; /* ms; where time does not matter */

static bool take(struct rates *rates, struct address source, int64_t now)
{
    return rates_take(rates, &source, now);
}

/* How often SOURCE may come at NOW, until it may not. */
static unsigned take_all(struct rates *rates, struct address source, int64_t now)
{
    unsigned count = 0;

    while (take(rates, source, now))
        count++;
    return count;
}

START_TEST(a_burst_then_the_rate)
{
    struct rates *rates = rates_new(10, 5);
    struct address source = ip4(0x7f000001, 1);

    ck_assert_uint_eq(take_all(rates, source, NOW), 5);
    ck_assert_uint_eq(take_all(rates, source, NOW + 99), 0);
    ck_assert_uint_eq(take_all(rates, source, NOW + 100), 1);
    ck_assert_uint_eq(take_all(rates, source, NOW + 300), 2);
    ck_assert_uint_eq(take_all(rates, source, NOW + 799), 4);
    ck_assert_uint_eq(take_all(rates, source, NOW + 800), 1);
    ck_assert_uint_eq(take_all(rates, source, NOW + 60000), 5); /* it holds no more */
    rates_free(rates);
    rates_free(NULL);
}
END_TEST

START_TEST(no_token_is_lost_to_rounding)
{
    static const uint64_t tried[] = { 1, 3, 7, 999, 1000, 1001, 123457 };

    for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
        struct rates *rates = rates_new(tried[i], tried[i]);
        struct address source = ip4(0x0a000001, 1);
        unsigned count = 0;

        ck_assert_uint_eq(take_all(rates, source, NOW), tried[i]);
        for (int64_t ms = 1; ms <= 7000; ms++)
            count += take_all(rates, source, NOW + ms);
        ck_assert_uint_eq(count, 7 * tried[i]);
        rates_free(rates);
    }
}
END_TEST

START_TEST(the_largest_rate_does_not_overflow)
{
    static const int64_t year = INT64_C(366) * 24 * 3600 * 1000;
    struct rates *rates = rates_new(1000000000, 1);
    struct address source = ip4(0x0a000001, 1);

    for (int64_t now = 0; now < 100 * year; now += year) {
        ck_assert(rates_take(rates, &source, now));
        ck_assert(!rates_take(rates, &source, now));
    }
    rates_free(rates);
}
END_TEST

START_TEST(a_clock_that_lags_gives_nothing_more)
{
    struct rates *rates = rates_new(1000, 10);
    struct address source = ip4(0x0a000001, 1);

    ck_assert_uint_eq(take_all(rates, source, NOW), 10);
    ck_assert_uint_eq(take_all(rates, source, NOW - 4), 0); /* another worker's, of the last tick */
    ck_assert_uint_eq(take_all(rates, source, NOW + 1), 1);
    rates_free(rates);
}
END_TEST

/* Half as many sources as there are places: hardly a row of them is full. */
START_TEST(many_sources_do_not_disturb_each_other)
{
    enum { SOURCES = RATES_ROWS * RATES_WAYS / 2 };
    struct rates *rates = rates_new(1, 2);
    unsigned disturbed = 0;

    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < SOURCES; i++)
            disturbed += !take(rates, ip4(i, 1), NOW);
    ck_assert_uint_lt(disturbed, SOURCES / 10);
    for (uint32_t i = 0; i < SOURCES; i++)
        disturbed += take(rates, ip4(i, 1), NOW);
    ck_assert_uint_lt(disturbed, SOURCES / 10);
    rates_free(rates);
}
END_TEST

/* Who floods with made-up addresses neither frees itself of its limit nor gets more in all. */
START_TEST(a_flood_of_sources_gets_no_more_than_the_table_holds)
{
    enum { BURST = 3, ROOM = RATES_ROWS * RATES_WAYS * BURST };
    struct rates *rates = rates_new(1, BURST);
    struct address limited = ip4(0x7f000001, 1);
    unsigned count = 0;

    ck_assert_uint_eq(take_all(rates, limited, NOW), BURST);
    for (uint32_t i = 0; i < 4 * ROOM; i++)
        count += take(rates, ip4(0x0a000000 + i, 1), NOW);
    ck_assert_uint_le(count, ROOM - BURST);
    ck_assert_uint_gt(count, ROOM / 2);
    ck_assert_uint_eq(take_all(rates, limited, NOW), 0);
    rates_free(rates);
}
END_TEST

START_TEST(places_that_have_been_full_longest_are_taken_first)
{
    struct rates *rates = rates_new(1000, 1000);
    struct address limited = ip4(0x7f000001, 1);

    ck_assert_uint_eq(take_all(rates, limited, NOW), 1000);
    for (uint32_t i = 0; i < 4 * RATES_ROWS * RATES_WAYS; i++) /* each comes once, and is full soon */
        take(rates, ip4(0x0a000000 + i, 1), NOW + i / RATES_ROWS);
    ck_assert_uint_eq(take_all(rates, limited, NOW + 100), 100);
    rates_free(rates);
}
END_TEST

START_TEST(no_two_tables_have_the_same_places)
{
    struct rates *tables[2] = { rates_new(1, 1), rates_new(1, 1) };
    unsigned differ = 0;

    /* In an overfull table it depends on the places who gets something. */
    for (uint32_t i = 0; i < 2 * RATES_ROWS * RATES_WAYS; i++) {
        struct address source = ip4(i, 1);

        differ += rates_take(tables[0], &source, NOW) != rates_take(tables[1], &source, NOW);
    }
    ck_assert_uint_gt(differ, RATES_ROWS);
    rates_free(tables[0]);
    rates_free(tables[1]);
}
END_TEST

enum { THREADS = 4, TRIES = 200000, BURST = 100000, ROUNDS = 5 };

static struct rates *contested;
static pthread_barrier_t start;

static void *hammer(void *got)
{
    struct address source = ip4(0x7f000001, 1);

    pthread_barrier_wait(&start);
    for (int i = 0; i < TRIES; i++)
        *(unsigned *) got += rates_take(contested, &source, NOW);
    return NULL;
}

START_TEST(threads_get_exactly_what_one_source_may)
{
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        unsigned got[THREADS] = { 0 }, all = 0;

        contested = rates_new(1, BURST);
        pthread_barrier_init(&start, NULL, THREADS);
        for (int i = 0; i < THREADS; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &got[i]), 0);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            all += got[i];
        }
        ck_assert_uint_eq(all, BURST);
        pthread_barrier_destroy(&start);
        rates_free(contested);
    }
}
END_TEST

START_TEST(processes_share_the_buckets)
{
    struct rates *rates = rates_new(1, 10);
    struct address source = ip4(0x7f000001, 1);
    int status;
    pid_t child;

    ck_assert(rates_take(rates, &source, NOW));
    child = fork();
    if (child == 0)
        _exit((int) take_all(rates, source, NOW));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    ck_assert_uint_eq(take_all(rates, source, NOW), 0);
    rates_free(rates);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_burst_then_the_rate,
        no_token_is_lost_to_rounding,
        the_largest_rate_does_not_overflow,
        a_clock_that_lags_gives_nothing_more,
        many_sources_do_not_disturb_each_other,
        a_flood_of_sources_gets_no_more_than_the_table_holds,
        places_that_have_been_full_longest_are_taken_first,
        no_two_tables_have_the_same_places,
        threads_get_exactly_what_one_source_may,
        processes_share_the_buckets,
    };

    return HARNESS_RUN("rates", tests);
}
