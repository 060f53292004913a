#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/defaults.h"
#include "src/reactor.h"
#include "tests/harness.h"

static void note(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    *(short *) context = what;
}

static bool is_noted(void *context)
{
    return *(short *) context != 0;
}

START_TEST(each_backend_is_what_was_asked_for_and_works)
{
    for (const char **method = reactor_backends(); *method != NULL; method++) {
        struct event_base *base = reactor_new(*method);
        struct event *event;
        short noted = 0;
        int fds[2];

        ck_assert_ptr_nonnull(base);
        ck_assert_str_eq(event_base_get_method(base), *method);
        ck_assert_int_eq(pipe(fds), 0);
        event = event_new(base, fds[0], EV_READ, note, &noted);
        event_add(event, NULL);
        send_text(fds[1], "x");
        ck_assert(loop_until(base, is_noted, &noted));
        ck_assert_int_eq(noted, EV_READ);
        event_free(event);
        event_base_free(base);
        close(fds[0]);
        close(fds[1]);
    }
}
END_TEST

START_TEST(the_default_is_the_first)
{
    struct event_base *base = reactor_new(NULL);

    ck_assert_str_eq(event_base_get_method(base), reactor_backends()[0]);
    event_base_free(base);
}
END_TEST

START_TEST(the_environment_does_not_decide)
{
    struct event_base *base;

    setenv("EVENT_NOEPOLL", "1", 1);
    base = reactor_new("epoll");
    unsetenv("EVENT_NOEPOLL");
    ck_assert_ptr_nonnull(base);
    ck_assert_str_eq(event_base_get_method(base), "epoll");
    event_base_free(base);
}
END_TEST

START_TEST(backends_have_names)
{
    ck_assert(reactor_has_backend(reactor_backends()[0]));
    ck_assert(!reactor_has_backend("iocp"));
    ck_assert(!reactor_has_backend(""));
    ck_assert(!reactor_has_backend("epol"));
}
END_TEST

START_TEST(the_list_of_backends_stays)
{
    const char **first = reactor_backends();

    /* libevent's own is made anew, and the old one freed, each time that it is asked for. */
    ck_assert(reactor_has_backend("epoll"));
    ck_assert_ptr_eq(reactor_backends(), first);
}
END_TEST

static void *make_reactors(void *argument)
{
    for (int i = 0; i < 200; i++) {
        struct event_base *base = reactor_new("epoll");

        if (base == NULL || strcmp(event_base_get_method(base), "epoll") != 0)
            return argument;
        event_base_free(base);
    }
    return NULL;
}

START_TEST(threads_make_reactors_at_the_same_time)
{
    pthread_t threads[4];
    void *failed;

    reactor_backends(); /* as the supervisor does, before any thread */
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, make_reactors, threads), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
}
END_TEST

enum { SLOW_ONES = 30, SLOW_MS = 10 };

static struct {
    int pipe[2];
    int slow; /* that were called... */
    int slow_before; /* ... when what is first was */
} turns;

static void be_slow(evutil_socket_t fd, short what, void *context)
{
    int64_t end = clock_ms() + SLOW_MS;

    (void) fd;
    (void) what;
    (void) context;
    if (turns.slow++ == 0)
        send_text(turns.pipe[1], "x");
    while (clock_ms() < end)
        continue;
}

static void be_first(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    (void) context;
    turns.slow_before = turns.slow;
}

START_TEST(what_is_first_does_not_wait_for_a_long_round)
{
    for (const char **method = reactor_backends(); *method != NULL; method++) {
        struct event_base *base = reactor_new(*method);
        struct event *slow[SLOW_ONES], *first;

        turns.slow = turns.slow_before = 0;
        ck_assert_int_eq(pipe(turns.pipe), 0);
        first = event_new(base, turns.pipe[0], EV_READ, be_first, NULL);
        event_priority_set(first, REACTOR_FIRST);
        event_add(first, NULL);
        for (int i = 0; i < SLOW_ONES; i++) {
            slow[i] = event_new(base, -1, 0, be_slow, NULL);
            event_active(slow[i], EV_TIMEOUT, 0);
        }
        while (turns.slow < SLOW_ONES)
            event_base_loop(base, EVLOOP_NONBLOCK);
        ck_assert_int_gt(turns.slow_before, 0);
        ck_assert_int_lt(turns.slow_before, 2 * ROUND_MS / SLOW_MS);
        for (int i = 0; i < SLOW_ONES; i++)
            event_free(slow[i]);
        event_free(first);
        event_base_free(base);
        close(turns.pipe[0]);
        close(turns.pipe[1]);
    }
}
END_TEST

START_TEST(only_select_is_short_of_descriptors)
{
    ck_assert_uint_eq(reactor_descriptor_limit("select"), FD_SETSIZE);
    ck_assert_uint_eq(reactor_descriptor_limit("epoll"), 0);
    ck_assert_uint_eq(reactor_descriptor_limit("poll"), 0);
    ck_assert_uint_eq(reactor_descriptor_limit(NULL), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_backend_is_what_was_asked_for_and_works,
        the_default_is_the_first,
        the_environment_does_not_decide,
        backends_have_names,
        the_list_of_backends_stays,
        threads_make_reactors_at_the_same_time,
        what_is_first_does_not_wait_for_a_long_round,
        only_select_is_short_of_descriptors,
    };

    return HARNESS_RUN("reactor", tests);
}
