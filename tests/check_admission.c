#include <string.h>

#include "src/admission.h"
#include "tests/harness.h"

enum { NOW = 1000000, HOST = 0xc0000207 };

static struct stats *stats;

static unsigned enter(const struct admission *admission, struct address client, int64_t now)
{
    return admission_enter(admission, &client, now);
}

static void leave(const struct admission *admission, struct address client)
{
    admission_leave(admission, &client);
}

START_TEST(without_limits_everyone_is_let_in)
{
    const struct admission open = { 0 };

    for (int i = 0; i < 1000; i++)
        ck_assert_uint_eq(enter(&open, ip4(HOST, 1), NOW), ADMITTED);
    leave(&open, ip4(HOST, 1));
}
END_TEST

START_TEST(a_source_has_its_places_and_its_rate)
{
    struct admission admission = { .quota = quota_new(1, 2), .rates = rates_new(1, 3) };

    ck_assert_uint_eq(enter(&admission, ip4(HOST, 1), NOW), ADMITTED);
    ck_assert_uint_eq(enter(&admission, ip4(HOST, 2), NOW), ADMITTED);
    ck_assert_uint_eq(enter(&admission, ip4(HOST, 3), NOW), REFUSE_MAX_PER_SOURCE);
    leave(&admission, ip4(HOST, 1));
    ck_assert_uint_eq(enter(&admission, ip4(HOST, 4), NOW), REFUSE_ACCEPT_RATE);
    ck_assert_uint_eq(enter(&admission, ip4(HOST, 5), NOW + 1000), ADMITTED);
    ck_assert_uint_eq(enter(&admission, ip4(HOST + 1, 1), NOW), ADMITTED);
    quota_free(admission.quota);
    rates_free(admission.rates);
}
END_TEST

/* Whoever is refused for the one holds none of the other. */
START_TEST(who_comes_too_often_takes_no_place)
{
    struct admission admission = { .quota = quota_new(1, 2), .rates = rates_new(1, 1) };

    ck_assert_uint_eq(enter(&admission, ip4(HOST, 1), NOW), ADMITTED);
    for (int i = 0; i < 10; i++)
        ck_assert_uint_eq(enter(&admission, ip4(HOST, 1), NOW), REFUSE_ACCEPT_RATE);
    ck_assert_uint_eq(enter(&admission, ip4(HOST, 1), NOW + 1000), ADMITTED);
    quota_free(admission.quota);
    rates_free(admission.rates);
}
END_TEST

START_TEST(a_process_of_this_machine_is_no_source)
{
    struct admission admission = { .quota = quota_new(1, 1), .rates = rates_new(1, 1) };
    struct address local = { .length = sizeof(local.local) };

    local.local.family = AF_UNIX;
    for (int i = 0; i < 10; i++)
        ck_assert_uint_eq(enter(&admission, local, NOW), ADMITTED);
    leave(&admission, local);
    quota_free(admission.quota);
    rates_free(admission.rates);
}
END_TEST

START_TEST(a_refusal_is_counted_and_logged)
{
    struct address client = ip4(HOST, 4711), via = ip4(0x0a000001, 99);
    struct stats_block *block;
    const char *log;

    stats = stats_new(1, 1);
    block = stats_block(stats, 0, 0);
    capture_log_begin(LOG_INFO);
    admission_refuse(block, &client, NULL, REFUSE_ACCEPT_RATE);
    admission_refuse(block, &client, &via, REFUSE_MAX_PER_SOURCE);
    log = capture_end();
    ck_assert_ptr_nonnull(strstr(log, " info refused peer=192.0.2.7:4711 reason=accept-rate\n"));
    ck_assert_ptr_nonnull(strstr(log, " info refused peer=192.0.2.7:4711 "
                                      "reason=max-per-source via=10.0.0.1:99\n"));
    ck_assert_uint_eq(block->refused[REFUSE_ACCEPT_RATE], 1);
    ck_assert_uint_eq(block->refused[REFUSE_MAX_PER_SOURCE], 1);
    stats_free(stats);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        without_limits_everyone_is_let_in,
        a_source_has_its_places_and_its_rate,
        who_comes_too_often_takes_no_place,
        a_process_of_this_machine_is_no_source,
        a_refusal_is_counted_and_logged,
    };

    return HARNESS_RUN("admission", tests);
}
