#include "src/gauge.h"
#include "tests/harness.h"

enum { MUCH = 100, PATIENCE = 250, BEGIN = 1000000 };

static const struct gauge_limits limits = { MUCH, PATIENCE };

START_TEST(little_is_free_for_ever)
{
    struct gauge gauge = { 0 };

    for (int64_t now = BEGIN; now < BEGIN + 100 * PATIENCE; now += PATIENCE)
        ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH, 7, now), GAUGE_FREE);
    ck_assert_int_eq(gauge_look(&gauge, &limits, 0, 7, BEGIN), GAUGE_FREE);
}
END_TEST

START_TEST(who_takes_nothing_holds_for_a_while)
{
    struct gauge gauge = { 0 };

    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 7, BEGIN), GAUGE_HOLDS);
    ck_assert_int_eq(gauge_look(&gauge, &limits, 9 * MUCH, 7, BEGIN + PATIENCE - 1), GAUGE_HOLDS);
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 7, BEGIN + PATIENCE), GAUGE_MUTE);
    ck_assert_int_eq(gauge_look(&gauge, &limits, 9 * MUCH, 7, BEGIN + 1000), GAUGE_MUTE);
    ck_assert_int_eq(gauge.state, GAUGE_MUTE);
}
END_TEST

START_TEST(who_takes_some_has_the_time_again)
{
    struct gauge gauge = { 0 };
    int64_t now = BEGIN;

    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 0, now), GAUGE_HOLDS);
    for (uint64_t taken = 1; taken < 20; taken++) { /* it holds as long as it moves */
        now += PATIENCE - 1;
        ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, taken, now), GAUGE_HOLDS);
    }
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 19, now + PATIENCE), GAUGE_MUTE);
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 20, now + PATIENCE), GAUGE_HOLDS);
    /* Another number is another one: it need not grow. */
    now += 2 * PATIENCE;
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 3, now), GAUGE_HOLDS);
}
END_TEST

START_TEST(from_little_it_begins_anew)
{
    struct gauge gauge = { 0 };

    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 7, BEGIN), GAUGE_HOLDS);
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 7, BEGIN + PATIENCE), GAUGE_MUTE);
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH, 7, BEGIN + PATIENCE), GAUGE_FREE);
    ck_assert_int_eq(gauge_look(&gauge, &limits, MUCH + 1, 7, BEGIN + 9 * PATIENCE), GAUGE_HOLDS);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        little_is_free_for_ever,
        who_takes_nothing_holds_for_a_while,
        who_takes_some_has_the_time_again,
        from_little_it_begins_anew,
    };

    return HARNESS_RUN("gauge", tests);
}
