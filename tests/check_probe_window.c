#include <errno.h>
#include <stdlib.h>

#include "src/probe/defaults.h"
#include "src/probe/window.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* Gives COUNT numbers at NOW, for which there has to be room. */
static void give(struct window *window, uint64_t count, uint64_t now)
{
    ck_assert_uint_eq(window_room(window, count), count);
    window_give(window, count, now);
}

START_TEST(nothing_is_open_to_begin_with)
{
    struct window window = { 0 };

    ck_assert(!window_is_open(&window, 0));
    ck_assert(!window_is_open(&window, UINT64_MAX));
    ck_assert_uint_eq(window_room(&window, 0), 0);
    window_free(&window);
    window_free(&window);
}
END_TEST

START_TEST(numbers_are_settled_in_any_order)
{
    struct window window = { 0 };

    give(&window, 3, 1000);
    ck_assert_uint_eq(window.next, 3);
    window_settle(&window, 1);
    ck_assert(window_is_open(&window, 0) && !window_is_open(&window, 1));
    ck_assert(window_is_open(&window, 2) && !window_is_open(&window, 3));
    ck_assert_uint_eq(window.oldest, 0);
    window_settle(&window, 0);
    ck_assert_uint_eq(window.oldest, 2);
    window_settle(&window, 2);
    ck_assert_uint_eq(window.oldest, 3);
    ck_assert(!window_is_open(&window, 2));
    window_free(&window);
}
END_TEST

START_TEST(it_knows_since_when)
{
    struct window window = { 0 };

    give(&window, 1, 1000);
    give(&window, 1, 2001);
    ck_assert_uint_eq(window_given_at(&window, 0), 1000);
    ck_assert_uint_eq(window_given_at(&window, 1), 2000); /* within a ns */
    window_settle(&window, 0);
    ck_assert_uint_eq(window_given_at(&window, 0), 1000);
    window_free(&window);
}
END_TEST

START_TEST(it_grows_and_forgets_nothing)
{
    static bool open[20000];
    struct window window = { 0 };
    uint64_t oldest = 0, next = 0;

    srand(1);
    while (next < 20000) {
        for (int i = rand() % 50; i > 0 && next < 20000; i--) {
            give(&window, 1, 2 * next);
            open[next++] = true;
        }
        for (int i = rand() % 40; i > 0 && oldest < next; i--) {
            uint64_t number = oldest + (uint64_t) rand() % (next - oldest);

            ck_assert_int_eq(window_is_open(&window, number), open[number]);
            if (!open[number])
                continue;
            ck_assert_uint_eq(window_given_at(&window, number), 2 * number);
            window_settle(&window, number);
            open[number] = false;
            while (oldest < next && !open[oldest])
                oldest++;
            ck_assert_uint_eq(window.oldest, oldest);
        }
    }
    window_free(&window);
}
END_TEST

START_TEST(a_window_that_moves_needs_no_more_room)
{
    struct window window = { 0 };

    for (uint64_t i = 0; i < 100000; i++) {
        give(&window, 1, i);
        window_settle(&window, i);
    }
    ck_assert_uint_eq(window.size, WINDOW_LEAST);
    window_free(&window);
}
END_TEST

START_TEST(its_room_has_an_end)
{
    struct window window = { 0 };

    ck_assert_uint_eq(window_room(&window, 2 * WINDOW_MOST), WINDOW_MOST);
    window_give(&window, WINDOW_MOST - 1, 1);
    ck_assert_uint_eq(window_room(&window, 5), 1);
    window_give(&window, 1, 1);
    ck_assert_uint_eq(window_room(&window, 5), 0);
    window_settle(&window, 0);
    ck_assert_uint_eq(window_room(&window, 5), 1);
    window_free(&window);
}
END_TEST

START_TEST(without_memory_it_stays_as_it_is)
{
    struct window window = { 0 };

    inject_reset();
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    ck_assert_uint_eq(window_room(&window, 1), 0);
    give(&window, WINDOW_LEAST, 7);
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    ck_assert_uint_eq(window_room(&window, 1), 0);
    ck_assert(window_is_open(&window, 0));
    give(&window, 1, 9);
    ck_assert_uint_eq(window_given_at(&window, 0), 6);
    window_free(&window);
}
END_TEST

START_TEST(numbers_that_are_taken_back_are_given_again)
{
    struct window window = { 0 };

    give(&window, 5, 1);
    window_settle(&window, 0);
    window_rewind(&window);
    ck_assert(!window_is_open(&window, 1));
    ck_assert_uint_eq(window.next, 1);
    give(&window, 1, 8);
    ck_assert(window_is_open(&window, 1));
    ck_assert_uint_eq(window_given_at(&window, 1), 8);
    window_free(&window);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        nothing_is_open_to_begin_with,
        numbers_are_settled_in_any_order,
        it_knows_since_when,
        it_grows_and_forgets_nothing,
        a_window_that_moves_needs_no_more_room,
        its_room_has_an_end,
        without_memory_it_stays_as_it_is,
        numbers_that_are_taken_back_are_given_again,
    };

    return HARNESS_RUN("probe/window", tests);
}
