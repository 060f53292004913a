#include <string.h>

#include "src/probe/pattern.h"
#include "tests/harness.h"

START_TEST(a_piece_is_the_stream_from_there_on)
{
    const uint64_t starts[] = { 0, 1, 4711, PATTERN_PERIOD - 1, UINT64_C(1) << 40 };

    pattern_init();
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        for (size_t j = 0; j < PIECE_MAX; j += 997)
            ck_assert_mem_eq(pattern_at(3, starts[i]) + j, pattern_at(3, starts[i] + j), 1);
}
END_TEST

START_TEST(it_is_the_same_each_time)
{
    unsigned char before[256];

    pattern_init();
    memcpy(before, pattern_at(5, 12345), sizeof(before));
    pattern_init();
    ck_assert_mem_eq(before, pattern_at(5, 12345), sizeof(before));
}
END_TEST

/* Any connection's bytes at the same position differ from each other's. */
START_TEST(connections_do_not_share_bytes)
{
    pattern_init();
    for (uint64_t a = 0; a < 300; a++)
        for (uint64_t b = a + 1; b < 300; b++)
            ck_assert_mem_ne(pattern_at(a, 640), pattern_at(b, 640), 16);
}
END_TEST

START_TEST(a_shift_or_a_lost_block_is_seen)
{
    pattern_init();
    for (uint64_t shift = 1; shift < PATTERN_PERIOD; shift++)
        ck_assert_mem_ne(pattern_at(0, 0), pattern_at(0, shift), 16);
    for (uint64_t block = 1; block <= 1 << 20; block *= 2)
        ck_assert_mem_ne(pattern_at(0, 0), pattern_at(0, block), 16);
}
END_TEST

START_TEST(all_values_are_about_as_frequent)
{
    unsigned seen[256] = { 0 };

    pattern_init();
    for (uint64_t i = 0; i < PATTERN_PERIOD; i++)
        seen[*pattern_at(0, i)]++;
    for (size_t i = 0; i < 256; i++)
        ck_assert_msg(seen[i] > 170 && seen[i] < 342, "%zu: %u times", i, seen[i]);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_piece_is_the_stream_from_there_on, it_is_the_same_each_time,
        connections_do_not_share_bytes,      a_shift_or_a_lost_block_is_seen,
        all_values_are_about_as_frequent,
    };

    return HARNESS_RUN("probe/pattern", tests);
}
