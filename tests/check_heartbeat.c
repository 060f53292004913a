#include <event2/event.h>
#include <string.h>

#include "src/defaults.h"
#include "src/heartbeat.h"
#include "src/reactor.h"
#include "tests/harness.h"

enum { COUNT = 3, OTHER = 2 };

/* Those who are asked, and what was done about each. */
static struct {
    struct event_base *base;
    struct heartbeat *heartbeat;
    struct event *timer;
    int64_t ms; /* what it was started for */
    bool is_dead[COUNT], is_unasked[COUNT];
    bool is_late[COUNT]; /* its answer is there, but unread, until somebody looks */
    unsigned asked[COUNT], looked[COUNT], silent[COUNT], back[COUNT], hung[COUNT];
} here;

void __wrap_reactor_start_timer(struct event *timer, int64_t ms);

/* Time passes when the test says so. */
void __wrap_reactor_start_timer(struct event *timer, int64_t ms)
{
    here.timer = timer;
    here.ms = ms;
}

static bool on_ask(void *context, unsigned number)
{
    ck_assert_ptr_eq(context, &here);
    if (here.is_unasked[number])
        return false;
    here.asked[number]++;
    if (!here.is_dead[number] && !here.is_late[number])
        heartbeat_answered(here.heartbeat, number);
    return true;
}

static void on_look(void *context, unsigned number)
{
    ck_assert_ptr_eq(context, &here);
    here.looked[number]++;
    if (here.is_late[number])
        heartbeat_answered(here.heartbeat, number);
}

static void on_silent(void *context, unsigned number, bool is_silent)
{
    ck_assert_ptr_eq(context, &here);
    ck_assert_int_eq(heartbeat_is_silent(here.heartbeat, number), is_silent);
    here.silent[number] += is_silent;
    here.back[number] += !is_silent;
}

static void on_hung(void *context, unsigned number)
{
    ck_assert_ptr_eq(context, &here);
    here.hung[number]++;
}

static void start(void)
{
    const struct heartbeat_events events = { on_ask, on_look, on_silent, on_hung, &here };

    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.heartbeat = heartbeat_new(here.base, COUNT, &events);
    ck_assert_ptr_nonnull(here.heartbeat);
}

static void stop(void)
{
    heartbeat_free(here.heartbeat);
    event_base_free(here.base);
}

static void beat(unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        ck_assert_int_eq(here.ms, HEARTBEAT_MS);
        here.ms = 0; /* it has to be started again */
        event_active(here.timer, EV_TIMEOUT, 0);
        event_base_loop(here.base, EVLOOP_NONBLOCK);
    }
}

static void make_ready(unsigned number)
{
    heartbeat_expect(here.heartbeat, number);
    heartbeat_answered(here.heartbeat, number);
}

START_TEST(who_answers_is_asked_for_ever)
{
    start();
    make_ready(0);
    beat(100);
    ck_assert_uint_eq(here.asked[0], 100);
    ck_assert_uint_eq(here.silent[0] + here.back[0] + here.hung[0], 0);
    ck_assert_uint_eq(here.asked[1] + here.looked[1] + here.hung[1], 0); /* nobody is there */
    stop();
}
END_TEST

START_TEST(who_does_not_answer_is_silent_then_hangs)
{
    start();
    for (unsigned i = 0; i < COUNT; i++)
        make_ready(i);
    here.is_dead[1] = true;
    beat(HEARTBEATS_SILENT); /* the last question has just been asked */
    ck_assert(!heartbeat_is_silent(here.heartbeat, 1));
    beat(1);
    ck_assert(heartbeat_is_silent(here.heartbeat, 1));
    beat(HEARTBEATS_HUNG - HEARTBEATS_SILENT - 1);
    ck_assert_uint_eq(here.hung[1], 0);
    beat(1);
    ck_assert_uint_eq(here.hung[1], 1);
    ck_assert_uint_eq(here.silent[1], 1);
    ck_assert_uint_eq(here.asked[1], HEARTBEATS_HUNG);
    ck_assert_uint_eq(here.asked[OTHER], HEARTBEATS_HUNG + 1);
    ck_assert_uint_eq(here.silent[OTHER] + here.hung[OTHER], 0);
    beat(1); /* still there */
    ck_assert_uint_eq(here.hung[1], 2);
    heartbeat_forget(here.heartbeat, 1);
    ck_assert(!heartbeat_is_silent(here.heartbeat, 1));
    beat(HEARTBEATS_STARTING);
    ck_assert_uint_eq(here.hung[1], 2);
    stop();
}
END_TEST

START_TEST(one_answer_is_enough_for_all_questions)
{
    start();
    make_ready(0);
    for (unsigned i = 0; i < 5; i++) {
        here.is_dead[0] = true;
        beat(HEARTBEATS_HUNG);
        here.is_dead[0] = false;
        heartbeat_answered(here.heartbeat, 0);
        ck_assert(!heartbeat_is_silent(here.heartbeat, 0));
        ck_assert_uint_eq(here.back[0], i + 1);
        beat(1);
    }
    ck_assert_uint_eq(here.silent[0], 5);
    ck_assert_uint_eq(here.hung[0], 0);
    stop();
}
END_TEST

START_TEST(an_answer_that_nobody_has_read_counts)
{
    const unsigned times = 3 * HEARTBEATS_HUNG;

    start();
    make_ready(0);
    here.is_late[0] = true;
    beat(times);
    ck_assert_uint_eq(here.asked[0], times);
    ck_assert_uint_eq(here.silent[0] + here.hung[0], 0);
    stop();
}
END_TEST

START_TEST(who_could_not_be_asked_owes_nothing)
{
    start();
    make_ready(0);
    here.is_dead[0] = here.is_unasked[0] = true;
    beat(3 * HEARTBEATS_HUNG);
    ck_assert_uint_eq(here.silent[0] + here.hung[0], 0);
    stop();
}
END_TEST

START_TEST(who_starts_has_more_time_and_is_not_asked)
{
    start();
    heartbeat_expect(here.heartbeat, 0);
    beat(HEARTBEATS_STARTING - 1);
    ck_assert_uint_eq(here.hung[0], 0);
    beat(1);
    ck_assert_uint_eq(here.hung[0], 1);
    ck_assert_uint_eq(here.asked[0] + here.silent[0], 0);
    heartbeat_expect(here.heartbeat, 0); /* the next one */
    beat(HEARTBEATS_STARTING - 1);
    heartbeat_answered(here.heartbeat, 0);
    beat(1);
    ck_assert_uint_eq(here.hung[0], 1);
    ck_assert_uint_eq(here.asked[0], 1);
    stop();
}
END_TEST

/* It may say what it likes, when it likes: it has been taken over. */
START_TEST(answers_that_nobody_asked_for_do_no_harm)
{
    start();
    heartbeat_answered(here.heartbeat, 0);
    beat(2);
    ck_assert_uint_eq(here.asked[0] + here.looked[0], 0);
    make_ready(1);
    for (int i = 0; i < 10; i++)
        heartbeat_answered(here.heartbeat, 1);
    beat(2);
    ck_assert_uint_eq(here.asked[1], 2);
    ck_assert_uint_eq(here.silent[1] + here.back[1], 0);
    stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        who_answers_is_asked_for_ever,
        who_does_not_answer_is_silent_then_hangs,
        one_answer_is_enough_for_all_questions,
        an_answer_that_nobody_has_read_counts,
        who_could_not_be_asked_owes_nothing,
        who_starts_has_more_time_and_is_not_asked,
        answers_that_nobody_asked_for_do_no_harm,
    };

    return HARNESS_RUN("heartbeat", tests);
}
