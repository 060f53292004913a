#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "src/channel.h"
#include "src/chat_frames.h"
#include "src/chat_hub.h"
#include "src/clock.h"
#include "src/defaults.h"
#include "src/options.h"
#include "src/reactor.h"
#include "src/stats.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { ROOMS = 3 };

/* A worker's room, which is played here. */
struct room {
    struct channel *channel;
    char heard[4 << 20]; /* what all its members were told */
    size_t length;
    struct chat_answer answer; /* the last */
    char text[1 << 16];        /* of all answers since the last question, in a row */
    size_t text_length;
    unsigned answers;
    size_t heard_before; /* so much had been heard when the answer came */
    bool is_wrong;       /* something came that a room does not get */
    bool has_ended;
};

static struct {
    struct event_base *base;
    struct options options;
    struct stats *stats;
    void *hub;
} here;

static struct room rooms[ROOMS];

static void on_answer(struct room *room, const char *payload, size_t length)
{
    memcpy(&room->answer, payload, sizeof(room->answer));
    memcpy(room->text + room->text_length, payload + sizeof(room->answer),
           length - sizeof(room->answer));
    room->text_length += length - sizeof(room->answer);
    room->text[room->text_length] = '\0';
    room->heard_before = room->length;
    room->answers++;
}

static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct room *room = context;

    if (type == CHAT_HEAR && fd < 0 && room->length + length < sizeof(room->heard)) {
        memcpy(room->heard + room->length, payload, length);
        room->length += length;
        room->heard[room->length] = '\0';
    } else if (type == CHAT_ANSWER && fd < 0 && length >= sizeof(struct chat_answer)) {
        on_answer(room, payload, length);
    } else {
        room->is_wrong = true;
    }
}

static void on_ended(void *context)
{
    ((struct room *) context)->has_ended = true;
}

static const struct channel_handler handler = { on_frame, on_ended, NULL };

static void open_room(unsigned worker)
{
    struct room *room = &rooms[worker];
    int fds[2];

    memset(room, 0, sizeof(*room));
    ck_assert(channel_pair(fds));
    ck_assert(chat_hub.join(here.hub, worker, fds[0]));
    room->channel = channel_new(here.base, fds[1], &handler, room);
    ck_assert_ptr_nonnull(room->channel);
}

static void close_room(unsigned worker)
{
    channel_free(rooms[worker].channel);
    rooms[worker].channel = NULL;
}

static void prepare(void)
{
    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.stats = stats_new(ROOMS, 1);
    here.options.workers = ROOMS;
}

static void begin(void)
{
    prepare();
    here.hub = chat_hub.start(here.base, &here.options, here.stats);
    ck_assert_ptr_nonnull(here.hub);
    for (unsigned i = 0; i < ROOMS; i++)
        open_room(i);
}

static void finish(void)
{
    inject_reset();
    if (here.hub != NULL)
        chat_hub.stop(here.hub);
    for (unsigned i = 0; i < ROOMS; i++) {
        ck_assert(!rooms[i].is_wrong);
        close_room(i);
    }
    event_base_free(here.base);
    stats_free(here.stats);
}

/* Sends; checks nothing, for memory may be short. */
static bool put(unsigned worker, enum chat_frame frame, uint32_t member, const char *name)
{
    struct chat_question question = { .member = member };

    strcpy(question.name, name);
    rooms[worker].answers = 0;
    rooms[worker].text_length = 0;
    return channel_send(rooms[worker].channel, frame, &question, sizeof(question), -1);
}

static bool is_answered(void *worker)
{
    struct room *room = &rooms[*(unsigned *) worker];

    return room->answers > 0 && room->answer.is_last;
}

/* Asks, and waits for the last answer: in rooms[WORKER]. */
static void ask(unsigned worker, enum chat_frame frame, uint32_t member, const char *name)
{
    ck_assert(put(worker, frame, member, name));
    ck_assert(loop_until(here.base, is_answered, &worker));
    ck_assert_uint_eq(rooms[worker].answer.member, member);
}

static void expect_answer(unsigned worker, const char *name, const char *text)
{
    ck_assert_str_eq(rooms[worker].answer.name, name);
    rooms[worker].text[rooms[worker].text_length] = '\0';
    ck_assert_str_eq(rooms[worker].text, text);
}

static void join(unsigned worker, uint32_t member, const char *name)
{
    ask(worker, CHAT_JOIN, member, "");
    if (name != NULL)
        ask(worker, CHAT_NICK, member, name);
}

static const char *wanted;

static bool has_heard(void *worker)
{
    return rooms[*(unsigned *) worker].length >= strlen(wanted);
}

/* Room WORKER hears TEXT, and has heard nothing else. */
static void expect_heard(unsigned worker, const char *text)
{
    wanted = text;
    ck_assert(loop_until(here.base, has_heard, &worker));
    ck_assert_str_eq(rooms[worker].heard, text);
    rooms[worker].length = 0;
    rooms[worker].heard[0] = '\0';
}

static void expect_all_heard(const char *text)
{
    for (unsigned i = 0; i < ROOMS; i++)
        expect_heard(i, text);
}

static void forget_heard(void)
{
    loop_for(here.base, 5);
    for (unsigned i = 0; i < ROOMS; i++) {
        rooms[i].length = 0;
        rooms[i].heard[0] = '\0';
    }
}

static void say(unsigned worker, const char *text)
{
    ck_assert(channel_send(rooms[worker].channel, CHAT_SAY, text, strlen(text), -1));
}

START_TEST(who_joins_gets_a_name_and_all_hear_of_it)
{
    begin();
    ask(0, CHAT_JOIN, 1, "");
    expect_answer(0, "guest1", "* you are guest1, 1 here\n");
    ck_assert_uint_eq(rooms[0].heard_before, strlen("* guest1 joined\n")); /* by the others there */
    expect_all_heard("* guest1 joined\n");
    ask(2, CHAT_JOIN, 1, "");
    expect_answer(2, "guest2", "* you are guest2, 2 here\n");
    expect_all_heard("* guest2 joined\n");
    ck_assert_uint_eq(here.stats->chat_members, 2);
    ck_assert(put(0, CHAT_LEAVE, 1, ""));
    expect_all_heard("* guest1 left\n");
    ck_assert_uint_eq(here.stats->chat_members, 1);
    ask(1, CHAT_JOIN, 1, "");
    expect_answer(1, "guest3", "* you are guest3, 2 here\n"); /* none is given again */
    finish();
}
END_TEST

START_TEST(what_is_said_goes_to_all_other_rooms)
{
    begin();
    say(1, "a: hello\na: again\n");
    expect_heard(0, "a: hello\na: again\n");
    expect_heard(2, "a: hello\na: again\n");
    loop_for(here.base, 5);
    ck_assert_uint_eq(rooms[1].length, 0);
    ck_assert_uint_eq(here.stats->chat_dropped, 0);
    finish();
}
END_TEST

START_TEST(a_name_is_one_members)
{
    begin();
    join(0, 1, NULL);
    join(1, 1, NULL);
    forget_heard();
    ask(0, CHAT_NICK, 1, "ann");
    expect_answer(0, "ann", "");
    ck_assert_uint_eq(rooms[0].heard_before, strlen("* guest1 is now ann\n"));
    expect_all_heard("* guest1 is now ann\n");
    ask(1, CHAT_NICK, 1, "ann");
    expect_answer(1, "", "* ann is taken\n");
    ask(0, CHAT_NICK, 1, "ann");
    expect_answer(0, "", "* you are ann\n");
    ask(1, CHAT_NICK, 1, "Ann"); /* another name */
    expect_answer(1, "Ann", "");
    ask(0, CHAT_NICK, 1, "bob");
    ask(1, CHAT_NICK, 1, "ann"); /* was given up */
    expect_answer(1, "ann", "");
    ck_assert(put(0, CHAT_LEAVE, 1, ""));
    ask(1, CHAT_NICK, 1, "bob"); /* has left, and what comes from there came first */
    loop_for(here.base, 5);
    ask(1, CHAT_NICK, 1, "bob");
    expect_answer(1, "", "* you are bob\n");
    finish();
}
END_TEST

START_TEST(of_two_who_want_a_name_at_once_one_gets_it)
{
    unsigned one = 0, other = 1, got;

    begin();
    join(0, 1, NULL);
    join(1, 1, NULL);
    ck_assert(put(0, CHAT_NICK, 1, "ann"));
    ck_assert(put(1, CHAT_NICK, 1, "ann"));
    ck_assert(loop_until(here.base, is_answered, &one));
    ck_assert(loop_until(here.base, is_answered, &other));
    got = rooms[0].answer.name[0] != '\0' ? 0 : 1;
    expect_answer(got, "ann", "");
    expect_answer(1 - got, "", "* ann is taken\n");
    finish();
}
END_TEST

START_TEST(a_guest_gets_no_name_that_somebody_has)
{
    char longest[CHAT_NAME_MOST + 1] = "";

    begin();
    join(0, 1, "guest3");
    join(0, 2, NULL);
    ask(0, CHAT_JOIN, 3, "");
    expect_answer(0, "guest4", "* you are guest4, 3 here\n");
    memset(longest, 'x', CHAT_NAME_MOST);
    ask(0, CHAT_NICK, 3, longest);
    ck_assert_str_eq(rooms[0].answer.name, longest);
    finish();
}
END_TEST

START_TEST(with_a_worker_its_members_go)
{
    begin();
    join(0, 1, "a");
    join(0, 2, "b");
    join(1, 1, "c");
    forget_heard();
    close_room(0); /* it died */
    expect_heard(1, "* b left\n* a left\n");
    expect_heard(2, "* b left\n* a left\n");
    ck_assert_uint_eq(here.stats->chat_members, 1);
    chat_hub.leave(here.hub, 0);
    chat_hub.leave(here.hub, 0); /* as often as one likes */
    open_room(0);
    ask(0, CHAT_JOIN, 1, ""); /* another 1 */
    expect_answer(0, "guest4", "* you are guest4, 2 here\n");
    forget_heard();
    chat_hub.leave(here.hub, 0);
    expect_heard(1, "* guest4 left\n");
    loop_for(here.base, 5);
    ck_assert(rooms[0].has_ended);
    say(1, "c: hello\n"); /* there is nobody to tell it to */
    expect_heard(2, "* guest4 left\nc: hello\n");
    ck_assert_uint_eq(here.stats->chat_dropped, 0);
    close_room(0);
    open_room(0);
    finish();
}
END_TEST

START_TEST(who_is_here_is_told_in_lines)
{
    enum { MANY = 120 };
    char name[CHAT_NAME_MOST + 1], *line;
    int last = -1, count = 0;

    begin();
    join(0, 1, "a");
    ask(0, CHAT_WHO, 1, "");
    expect_answer(0, "", "* 1 here: a\n");
    join(1, 1, "b");
    ask(0, CHAT_WHO, 1, "");
    expect_answer(0, "", "* 2 here: a, b\n");
    ck_assert_uint_eq(rooms[0].answers, 1);
    for (uint32_t i = 2; i < MANY; i++) { /* with a and b so many */
        snprintf(name, sizeof(name), "member-%0*u", 10 + (int) (i % 16), i);
        join(2, i, name);
    }
    ask(0, CHAT_WHO, 1, "");
    ck_assert_uint_gt(rooms[0].answers, 2);
    ck_assert_ptr_eq(strstr(rooms[0].text, "* 120 here: a, b, member-"), rooms[0].text);
    for (line = strtok(rooms[0].text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        ck_assert_uint_lt(strlen(line), 1000);
        ck_assert_int_eq(strncmp(line, "* ", 2), 0);
        ck_assert_int_ne(line[strlen(line) - 1], ' ');
        for (char *at = line; (at = strstr(at, "member-")) != NULL; count++)
            at++;
        last++;
    }
    ck_assert_int_eq(last + 1, (int) rooms[0].answers);
    ck_assert_int_eq(count, MANY - 2);
    finish();
}
END_TEST

/* LENGTH bytes of lines of 100; of each room in its own. */
static const char *lines_of(size_t length)
{
    static char text[CHANNEL_PAYLOAD_MAX + 1];

    for (size_t i = 0; i < length; i++)
        text[i] = i % 100 == 99 ? '\n' : '.';
    text[length] = '\0';
    return text;
}

static bool has_stopped(void *worker)
{
    return channel_is_busy(rooms[*(unsigned *) worker].channel);
}

static bool is_taken(void *worker)
{
    return !has_stopped(worker);
}

/* Says so much that the room of WORKER, which does not listen, has much waiting. */
static size_t stuff(unsigned from)
{
    size_t said = 0;

    while (!has_stopped(&from)) {
        say(from, lines_of(16000));
        said += 16000;
        loop_for(here.base, 1);
    }
    return said;
}

START_TEST(a_room_that_takes_its_time_holds_back_the_others)
{
    unsigned from = 0;
    size_t said;
    int64_t began;

    begin();
    join(1, 1, NULL);
    forget_heard();
    channel_listen(rooms[1].channel, false);
    said = stuff(from);
    began = clock_ms();
    while (clock_ms() - began < CHAT_WORKER_PATIENCE_MS * 3 / 2) {
        channel_listen(rooms[1].channel, true);
        event_base_loop(here.base, EVLOOP_NONBLOCK | EVLOOP_ONCE); /* it takes something */
        channel_listen(rooms[1].channel, false);
        if (is_taken(&from)) {
            say(from, lines_of(16000));
            said += 16000;
        }
        loop_for(here.base, CHAT_WORKER_PATIENCE_MS / 10);
    }
    ck_assert_uint_eq(here.stats->chat_dropped, 0);
    channel_listen(rooms[1].channel, true);
    ck_assert(loop_until(here.base, is_taken, &from));
    for (began = clock_ms(); rooms[1].length < said && clock_ms() - began < DEADLINE_MS;)
        loop_for(here.base, 1);
    ck_assert_uint_eq(rooms[1].length, said);
    ck_assert_uint_eq(rooms[2].length, said);
    ck_assert_uint_eq(here.stats->chat_dropped, 0);
    finish();
}
END_TEST

START_TEST(a_room_that_comes_meanwhile_is_held_back_too)
{
    begin();
    channel_listen(rooms[1].channel, false);
    stuff(0);
    close_room(2);
    open_room(2);
    say(2, "c: hello\n");
    loop_for(here.base, 20);
    ck_assert_uint_eq(rooms[0].length, 0);
    channel_listen(rooms[1].channel, true);
    expect_heard(0, "c: hello\n");
    finish();
}
END_TEST

START_TEST(a_stuck_room_holds_nobody_for_long_and_costs_little)
{
    size_t said, memory, got;
    unsigned from = 0;
    int64_t began;

    begin();
    channel_listen(rooms[1].channel, false);
    said = stuff(from);
    began = clock_ms();
    ck_assert(loop_until(here.base, is_taken, &from));
    ck_assert_int_ge(clock_ms() - began, CHAT_WORKER_PATIENCE_MS * 3 / 4);
    memory = mallinfo2().uordblks;
    while (said < 3000000) {
        say(from, lines_of(16000));
        said += 16000;
        loop_for(here.base, 1);
    }
    ck_assert(loop_until(here.base, is_taken, &from));
    ck_assert_uint_le(mallinfo2().uordblks, memory + 2 * CHAT_MOST);
    while (rooms[2].length < said) { /* who listens gets all */
        loop_for(here.base, 1);
        ck_assert_int_lt(clock_ms() - began, DEADLINE_MS);
    }
    ck_assert_uint_gt(here.stats->chat_dropped, 10000);
    channel_listen(rooms[1].channel, true); /* it gets what had place, and the rest is counted */
    do {
        got = rooms[1].length;
        loop_for(here.base, 20);
    } while (rooms[1].length > got);
    ck_assert_uint_eq(got + here.stats->chat_dropped * 100, said);
    say(from, "a: once more\n");
    loop_for(here.base, 20);
    ck_assert_ptr_nonnull(strstr(rooms[1].heard + got, "a: once more\n"));
    finish();
}
END_TEST

/* What its members ask is answered there: that it takes none does not cost without end. */
START_TEST(a_room_that_asks_and_does_not_listen)
{
    char name[CHAT_NAME_MOST + 1];
    size_t before;

    begin();
    for (uint32_t i = 1; i < 300; i++) {
        snprintf(name, sizeof(name), "member-%025u", i);
        join(0, i, name);
    }
    forget_heard();
    channel_listen(rooms[0].channel, false);
    before = mallinfo2().uordblks;
    for (int k = 0; k < 10; k++)
        for (uint32_t i = 1; i < 300; i++)
            put(0, CHAT_WHO, i, "");
    loop_for(here.base, 100);
    /* Ours are in there, too: 3000 questions that wait. */
    ck_assert_uint_le(mallinfo2().uordblks, before + 2 * CHAT_MOST + 3000 * 150);
    ck_assert(has_stopped(&(unsigned){ 0 }));
    finish();
}
END_TEST

START_TEST(frames_that_make_no_sense)
{
    static const char junk[200] = "junk";
    struct chat_question question = { .member = 1 };
    int before;

    begin();
    join(0, 1, "a");
    forget_heard();
    before = open_descriptors();
    for (uint32_t type = 0; type < 12; type++)
        for (size_t length = 0; length <= sizeof(junk); length += 40)
            if (type != CHAT_SAY && length != sizeof(question))
                ck_assert(channel_send(rooms[1].channel, type, junk, length, STDERR_FILENO));
    ck_assert(put(1, CHAT_NICK, 77, "nobody"));
    ck_assert(put(1, CHAT_LEAVE, 1, "")); /* room 0 has a 1 */
    ck_assert(put(1, CHAT_WHO, 1, ""));
    memset(question.name, 'x', sizeof(question.name)); /* without an end */
    ck_assert(channel_send(rooms[0].channel, CHAT_NICK, &question, sizeof(question), -1));
    loop_for(here.base, 20);
    ck_assert_uint_eq(rooms[1].answers, 0);
    ck_assert_uint_eq(strlen(rooms[0].answer.name), CHAT_NAME_MOST);
    ck_assert_uint_eq(here.stats->chat_members, 1);
    ck_assert_int_eq(open_descriptors(), before);
    finish();
}
END_TEST

/* By way of the hub a worker that was taken over harms no other one. */
START_TEST(what_others_are_not_to_hear)
{
    static const char *const names[] = { "", "two words", "line\nline", "\033[2J", "a:" };

    begin();
    join(0, 1, "a");
    forget_heard();
    ck_assert(channel_send(rooms[0].channel, CHAT_SAY, "", 0, -1));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert(put(0, CHAT_NICK, 1, names[i]));
    loop_for(here.base, 20);
    ck_assert_uint_eq(rooms[0].answers, 0);
    ck_assert_str_eq(rooms[1].heard, "");
    ask(0, CHAT_NICK, 1, "b");
    ck_assert_str_eq(rooms[0].answer.name, "b");
    finish();
}
END_TEST

START_TEST(a_room_has_no_more_members_than_descriptors)
{
    struct rlimit limit, small;

    ck_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    small = (struct rlimit){ 50, limit.rlim_max };
    ck_assert(setrlimit(RLIMIT_NOFILE, &small) == 0);
    begin();
    for (uint32_t i = 1; i <= 60; i++)
        ask(0, CHAT_JOIN, i, "");
    ck_assert_str_eq(rooms[0].answer.name, "");
    ck_assert_uint_eq(here.stats->chat_members, 50);
    ask(1, CHAT_JOIN, 1, ""); /* another one's are others */
    ck_assert_str_ne(rooms[1].answer.name, "");
    ck_assert(put(0, CHAT_LEAVE, 1, ""));
    ask(0, CHAT_JOIN, 100, "");
    ck_assert_str_ne(rooms[0].answer.name, "");
    finish();
    ck_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}
END_TEST

START_TEST(short_of_memory_it_does_not_start)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        prepare();
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        here.hub = chat_hub.start(here.base, &here.options, here.stats);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(here.hub == NULL, failed);
        finish();
    }
}
END_TEST

START_TEST(short_of_memory_a_room_cannot_join)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        int fds[2];
        bool joined;

        begin();
        close_room(1);
        ck_assert(channel_pair(fds));
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        joined = chat_hub.join(here.hub, 1, fds[0]);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(joined, !failed);
        ck_assert_int_eq(is_open(fds[0]), joined);
        close(fds[1]);
        say(0, "a: hello\n");
        expect_heard(2, "a: hello\n");
        finish();
    }
}
END_TEST

/* Whatever fails: there is an answer, names are one member's, and who is counted is there. */
START_TEST(short_of_memory_all_questions_are_answered)
{
    unsigned nth, worker = 1;
    bool failed = true;

    for (nth = 1; failed; nth++) {
        bool answered;

        begin();
        join(0, 1, "ann");
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        put(1, CHAT_JOIN, 1, "");
        answered = loop_until(here.base, is_answered, &worker);
        if (answered && rooms[1].answer.name[0] != '\0') {
            put(1, CHAT_NICK, 1, "bob");
            answered = loop_until(here.base, is_answered, &worker);
        }
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_msg(answered, "allocation %u", nth);
        ck_assert(failed || strcmp(rooms[1].answer.name, "bob") == 0);
        ck_assert(rooms[1].answer.name[0] != '\0' || here.stats->chat_members <= 2);
        ask(0, CHAT_NICK, 1, "carol");
        expect_answer(0, "carol", "");
        finish();
    }
    ck_assert_uint_gt(nth, 3);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        who_joins_gets_a_name_and_all_hear_of_it,
        what_is_said_goes_to_all_other_rooms,
        a_name_is_one_members,
        of_two_who_want_a_name_at_once_one_gets_it,
        a_guest_gets_no_name_that_somebody_has,
        with_a_worker_its_members_go,
        who_is_here_is_told_in_lines,
        a_room_that_takes_its_time_holds_back_the_others,
        a_room_that_comes_meanwhile_is_held_back_too,
        a_stuck_room_holds_nobody_for_long_and_costs_little,
        a_room_that_asks_and_does_not_listen,
        frames_that_make_no_sense,
        what_others_are_not_to_hear,
        a_room_has_no_more_members_than_descriptors,
        short_of_memory_it_does_not_start,
        short_of_memory_a_room_cannot_join,
        short_of_memory_all_questions_are_answered,
    };

    return HARNESS_RUN("chat_hub", tests);
}
