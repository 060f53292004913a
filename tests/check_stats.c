#include <stdio.h>
#include <string.h>

#include "src/stats.h"
#include "tests/harness.h"

enum { WORKERS = 3, ENDPOINTS = 2 };

/* Counters that all differ, so that a sum of the wrong ones shows. */
static struct stats *make_stats(void)
{
    struct stats *stats = stats_new(WORKERS, ENDPOINTS);

    ck_assert_ptr_nonnull(stats);
    for (unsigned worker = 0; worker < WORKERS; worker++)
        for (unsigned endpoint = 0; endpoint < ENDPOINTS; endpoint++) {
            struct stats_block *block = stats_block(stats, worker, endpoint);
            uint64_t unit = worker * 10 + endpoint + 1;

            stats_add(&block->counter[STATS_accepted], 100 * unit);
            stats_add(&block->counter[STATS_received_bytes], 1000 * unit);
            stats_add(&block->counter[STATS_sent_bytes], 5000 * unit);
            stats_add(&block->closed[CLOSE_EOF], 10 * unit);
            stats_add(&block->closed[CLOSE_RESET], unit);
        }
    return stats;
}

START_TEST(new_counters_are_zero)
{
    struct stats *stats = stats_new(WORKERS, ENDPOINTS);
    struct stats_sum sum = stats_sum_all(stats), zero = { 0 };

    ck_assert_mem_eq(&sum, &zero, sizeof(sum));
    ck_assert_uint_eq(stats->lost.lines, 0);
    stats_free(stats);
    stats_free(NULL);
}
END_TEST

START_TEST(all_is_the_sum_of_all_workers)
{
    struct stats *stats = make_stats();
    struct stats_sum all = stats_sum_all(stats); /* 69 units */

    ck_assert_uint_eq(all.counter[STATS_accepted], 6900);
    ck_assert_uint_eq(all.counter[STATS_received_bytes], 69000);
    ck_assert_uint_eq(all.counter[STATS_sent_bytes], 345000);
    ck_assert_uint_eq(all.closed[CLOSE_EOF], 690);
    ck_assert_uint_eq(all.closed[CLOSE_RESET], 69);
    ck_assert_uint_eq(all.active, 6900 - 690 - 69);
    stats_free(stats);
}
END_TEST

START_TEST(sums_are_had_by_endpoint_and_by_worker)
{
    struct stats *stats = make_stats();
    struct stats_sum one = stats_sum_endpoint(stats, 1), other = stats_sum_endpoint(stats, 0);

    ck_assert_uint_eq(one.counter[STATS_accepted], 3600); /* units 2, 12 and 22 */
    ck_assert_uint_eq(one.active, 3600 - 360 - 36);
    ck_assert_uint_eq(stats_sum_worker(stats, 2).counter[STATS_accepted], 4300); /* 21, 22 */
    ck_assert_uint_eq(stats_sum_worker(stats, 2).closed[CLOSE_RESET], 43);
    stats_sum_add(&one, &other);
    other = stats_sum_all(stats);
    ck_assert_mem_eq(&one, &other, sizeof(one));
    stats_free(stats);
}
END_TEST

START_TEST(a_dead_worker_keeps_its_counts_and_holds_nothing)
{
    struct stats *stats = make_stats();
    struct stats_sum before = stats_sum_all(stats), after;
    uint64_t held = 2300 - 230 - 23; /* worker 1 has units 11 and 12 */

    for (int again = 0; again < 2; again++) {
        stats_worker_died(stats, 1, CLOSE_CRASH);
        after = stats_sum_all(stats);
        ck_assert_uint_eq(after.active, before.active - held);
        ck_assert_uint_eq(after.closed[CLOSE_CRASH], held);
        ck_assert_mem_eq(after.counter, before.counter, sizeof(after.counter));
    }
    stats_free(stats);
}
END_TEST

START_TEST(the_line_has_every_counter)
{
    struct stats *stats = make_stats();
    const char *text;

    stats->worker_restarts = 7;
    stats->lost.lines = 8;
    stats->paused[PAUSE_DESCRIPTORS] = 9;
    stats->paused[PAUSE_MAX_CONNECTIONS] = 11;
    /* So that the line does not say that lines were lost. */
    capture_log_begin(LOG_NOTICE);
    stats_log(stats);
    text = capture_end();
    ck_assert_ptr_nonnull(strstr(text, "Z notice stats uptime="));
    ck_assert_ptr_nonnull(strstr(text, " active=6141 "));
    ck_assert_ptr_nonnull(strstr(text, " accepted=6900 "));
    ck_assert_ptr_nonnull(strstr(text, " received_bytes=69000 "));
    ck_assert_ptr_nonnull(strstr(text, " sent_bytes=345000 "));
    ck_assert_ptr_nonnull(strstr(text, " closed_eof=690 "));
    ck_assert_ptr_nonnull(strstr(text, " closed_reset=69 "));
    for (int i = 0; i < CLOSE_REASONS; i++) {
        char key[48];

        snprintf(key, sizeof(key), " closed_%s=", close_reason_name((enum close_reason) i));
        ck_assert_ptr_nonnull(strstr(text, key));
    }
    ck_assert_ptr_nonnull(strstr(text, " paused_descriptors=9 "));
    ck_assert_ptr_nonnull(strstr(text, " paused_max-connections=11 "));
    ck_assert_ptr_nonnull(strstr(text, " worker_restarts=7 "));
    ck_assert_ptr_nonnull(strstr(text, " log_lines_lost=8\n"));
    stats_free(stats);
}
END_TEST

START_TEST(reasons_have_the_interfaces_names)
{
    static const struct {
        enum close_reason reason;
        const char *name;
    } table[] = {
        { CLOSE_EOF, "eof" },       { CLOSE_RESET, "reset" },     { CLOSE_IDLE, "idle" },
        { CLOSE_DRAIN, "drain" },   { CLOSE_TIMEOUT, "timeout" }, { CLOSE_CRASH, "crash" },
        { CLOSE_FORCED, "forced" }, { CLOSE_ERROR, "error" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        ck_assert_str_eq(close_reason_name(table[i].reason), table[i].name);
    ck_assert_str_eq(pause_reason_name(PAUSE_DESCRIPTORS), "descriptors");
    ck_assert_str_eq(pause_reason_name(PAUSE_MAX_CONNECTIONS), "max-connections");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        new_counters_are_zero,
        all_is_the_sum_of_all_workers,
        sums_are_had_by_endpoint_and_by_worker,
        a_dead_worker_keeps_its_counts_and_holds_nothing,
        the_line_has_every_counter,
        reasons_have_the_interfaces_names,
    };

    return HARNESS_RUN("stats", tests);
}
