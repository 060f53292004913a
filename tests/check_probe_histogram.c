#include <string.h>

#include "src/probe/histogram.h"
#include "tests/harness.h"

static struct histogram histogram, other;

static void begin(void)
{
    memset(&histogram, 0, sizeof(histogram));
    memset(&other, 0, sizeof(other));
}

/* Within 1 %, and never outside what was put in. */
static void expect_about(uint64_t got, uint64_t wanted)
{
    uint64_t error = got > wanted ? got - wanted : wanted - got;

    ck_assert_msg(error <= wanted / 100, "%llu in place of %llu", (unsigned long long) got,
                  (unsigned long long) wanted);
}

START_TEST(an_empty_one_is_all_zero)
{
    begin();
    ck_assert_uint_eq(histogram_percentile(&histogram, 50), 0);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), 0);
    ck_assert_uint_eq(histogram.min, 0);
    ck_assert_uint_eq(histogram.max, 0);
    ck_assert(histogram_mean(&histogram) == 0);
    histogram_merge(&histogram, &other);
    ck_assert_uint_eq(histogram.count, 0);
}
END_TEST

START_TEST(one_value_is_everything)
{
    begin();
    histogram_add(&histogram, 1234567);
    for (int percent = 0; percent <= 100; percent++)
        ck_assert_uint_eq(histogram_percentile(&histogram, percent), 1234567);
    ck_assert(histogram_mean(&histogram) == 1234567);
}
END_TEST

START_TEST(each_value_is_kept_within_one_percent)
{
    for (uint64_t value = 1; value < UINT64_MAX / 3; value += value / 7 + 1) {
        begin();
        histogram_add(&histogram, 0);
        histogram_add(&histogram, value);
        histogram_add(&histogram, UINT64_MAX);
        expect_about(histogram_percentile(&histogram, 50), value);
    }
}
END_TEST

START_TEST(small_values_and_powers_of_two_are_told_apart)
{
    begin();
    for (uint64_t value = 0; value < 256; value++)
        histogram_add(&histogram, value);
    for (uint64_t value = 0; value < 255; value++)
        ck_assert_uint_eq(histogram_between(&histogram, value, value + 1), 1);
    for (int shift = 8; shift < 63; shift++) {
        histogram_add(&histogram, (UINT64_C(1) << shift) - 1);
        histogram_add(&histogram, UINT64_C(1) << shift);
    }
    for (int shift = 9; shift < 62; shift++) /* its own value, and the next power less one */
        ck_assert_uint_eq(
            histogram_between(&histogram, UINT64_C(1) << shift, UINT64_C(1) << (shift + 1)), 2);
}
END_TEST

START_TEST(percentiles_of_a_ramp)
{
    double sum = 0;

    begin();
    for (uint64_t i = 1; i <= 100000; i++) {
        histogram_add(&histogram, i * 1000);
        sum += (double) i * 1000;
    }
    expect_about(histogram_percentile(&histogram, 50), 50000000);
    expect_about(histogram_percentile(&histogram, 90), 90000000);
    expect_about(histogram_percentile(&histogram, 99), 99000000);
    expect_about(histogram_percentile(&histogram, 99.9), 99900000);
    ck_assert_uint_eq(histogram_percentile(&histogram, 0), 1000);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), 100000000);
    ck_assert_uint_eq(histogram.min, 1000);
    ck_assert_uint_eq(histogram.max, 100000000);
    ck_assert(histogram_mean(&histogram) == sum / 100000);
}
END_TEST

START_TEST(an_outlier_is_found_where_it_belongs)
{
    begin();
    for (int i = 0; i < 999; i++)
        histogram_add(&histogram, 100);
    histogram_add(&histogram, 1000000);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99.9), 100);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99.95), 1000000);
}
END_TEST

START_TEST(merged_is_as_if_seen_by_one)
{
    static struct histogram all;

    begin();
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t value = (uint64_t) i * i % 77777;

        histogram_add(i % 3 == 0 ? &histogram : &other, value);
        histogram_add(&all, value);
    }
    histogram_merge(&histogram, &other);
    ck_assert_mem_eq(&histogram, &all, sizeof(all));
    begin();
    histogram_merge(&other, &all);
    ck_assert_mem_eq(&other, &all, sizeof(all));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        an_empty_one_is_all_zero,
        one_value_is_everything,
        each_value_is_kept_within_one_percent,
        small_values_and_powers_of_two_are_told_apart,
        percentiles_of_a_ramp,
        an_outlier_is_found_where_it_belongs,
        merged_is_as_if_seen_by_one,
    };

    return HARNESS_RUN("probe/histogram", tests);
}
