#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "src/channel.h"
#include "src/chat_elsewhere.h"
#include "src/clock.h"
#include "src/defaults.h"
#include "src/reactor.h"
#include "src/redisbus.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define A "00000000000000aa"
#define B "00000000000000bb"

enum { MESSAGES_MOST = 64, OURS_MOST = 3000 };

/* The bus, which is played here, and what it was given. */
static struct {
    struct redisbus_handler handler;
    bool is_open, is_up, is_full;
    size_t pending;
    char kinds[MESSAGES_MOST][16];
    char bodies[MESSAGES_MOST][CHANNEL_PAYLOAD_MAX + 1];
    unsigned count;
    char id[17]; /* who sent it */
    bool is_wrong;
} bus;

static struct {
    struct event_base *base;
    struct chat_names names; /* ours */
    struct chat_members members;
    struct elsewhere *elsewhere;
    char heard[1 << 18];
    size_t length, longest;
    unsigned drained;
} here;

static int64_t later; /* seconds that the clock is ahead */

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
struct redisbus *__wrap_redisbus_new(struct event_base *base, const struct address *servers,
                                     size_t count, const char *channel,
                                     const struct redisbus_handler *handler);
void __wrap_redisbus_free(struct redisbus *redisbus);
bool __wrap_redisbus_publish(struct redisbus *redisbus, const void *data, size_t length);
size_t __wrap_redisbus_pending(const struct redisbus *redisbus);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = __real_clock_gettime(clock, now);

    now->tv_sec += later;
    return result;
}

struct redisbus *__wrap_redisbus_new(struct event_base *base, const struct address *servers,
                                     size_t count, const char *channel,
                                     const struct redisbus_handler *handler)
{
    void *memory = malloc(1); /* so that it may fail */

    (void) base;
    (void) servers;
    (void) count;
    bus.is_wrong = bus.is_wrong || strcmp(channel, "channel") != 0;
    bus.handler = *handler;
    bus.is_open = memory != NULL;
    return memory;
}

void __wrap_redisbus_free(struct redisbus *redisbus)
{
    bus.is_open = bus.is_open && redisbus == NULL;
    free(redisbus);
}

/* Takes a message apart again; the rules are those in chat_elsewhere.c. */
bool __wrap_redisbus_publish(struct redisbus *redisbus, const void *data, size_t length)
{
    const char *message = data, *end = memchr(data, '\n', length);
    char head[64] = "";
    size_t body;

    (void) redisbus;
    if (!bus.is_up || bus.is_full)
        return false;
    body = end != NULL ? length - (size_t) (end + 1 - message) : 0;
    if (end != NULL && (size_t) (end - message) < sizeof(head))
        memcpy(head, message, (size_t) (end - message));
    bus.is_wrong = bus.is_wrong || end == NULL || bus.count == MESSAGES_MOST ||
                   body >= sizeof(bus.bodies[0]) ||
                   sscanf(head, "echod1 %16[0-9a-f] %15[a-z]", bus.id,
                          bus.kinds[bus.count % MESSAGES_MOST]) != 2;
    if (bus.is_wrong)
        return true;
    memcpy(bus.bodies[bus.count], end + 1, body);
    bus.bodies[bus.count++][body] = '\0';
    bus.pending += length;
    return true;
}

size_t __wrap_redisbus_pending(const struct redisbus *redisbus)
{
    (void) redisbus;
    return bus.pending;
}

static void on_heard(void *context, const char *text, size_t length)
{
    if (context != &here || here.length + length >= sizeof(here.heard) ||
        length > CHANNEL_PAYLOAD_MAX)
        bus.is_wrong = true;
    if (bus.is_wrong)
        return;
    memcpy(here.heard + here.length, text, length);
    here.length += length;
    here.heard[here.length] = '\0';
    if (length > here.longest)
        here.longest = length;
}

static void on_drained(void *context)
{
    (void) context;
    here.drained++;
}

static void add_own(uint32_t number, const char *name)
{
    struct chat_member *member = chat_names_add(&here.names, &here.members, 0, number);

    ck_assert_ptr_nonnull(member);
    ck_assert(chat_names_set(&here.names, member, name));
}

static void make(void)
{
    const struct elsewhere_handler handler = { on_heard, on_drained, &here };

    here.elsewhere = elsewhere_new(here.base, NULL, 0, "channel", &here.names, &handler);
}

static void prepare(void)
{
    memset(&bus, 0, sizeof(bus));
    memset(&here, 0, sizeof(here));
    later = 0;
    here.base = reactor_new(NULL);
}

static void come_up(void)
{
    bus.is_up = true;
    bus.handler.up(bus.handler.context);
}

/* The bus is there; what we said by then is not looked at. */
static void begin(void)
{
    prepare();
    make();
    ck_assert_ptr_nonnull(here.elsewhere);
    come_up();
    bus.count = 0;
}

static void finish(void)
{
    inject_reset();
    elsewhere_free(here.elsewhere);
    ck_assert(!bus.is_open);
    ck_assert(!bus.is_wrong);
    while (!LIST_EMPTY(&here.members))
        chat_names_remove(&here.names, LIST_FIRST(&here.members));
    event_base_free(here.base);
}

/* It comes from the bus, whatever it is; in memory of its own, so that a step too far shows. */
static void come(const char *data, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    memcpy(copy, data, length);
    bus.handler.received(bus.handler.context, copy, length);
    free(copy);
}

static void tell(const char *id, const char *kind, const char *body)
{
    static char message[CHANNEL_PAYLOAD_MAX + 100];

    come(message, (size_t) snprintf(message, sizeof(message), "echod1 %s %s\n%s", id, kind, body));
}

static void expect_heard(const char *text)
{
    here.heard[here.length] = '\0';
    ck_assert_str_eq(here.heard, text);
    here.length = 0;
}

static void expect_published(const char *kind, const char *body)
{
    ck_assert_uint_gt(bus.count, 0);
    ck_assert_str_eq(bus.kinds[0], kind);
    ck_assert_str_eq(bus.bodies[0], body);
    bus.count--;
    memmove(bus.kinds[0], bus.kinds[1], sizeof(bus.kinds) - sizeof(bus.kinds[0]));
    memmove(bus.bodies[0], bus.bodies[1], sizeof(bus.bodies) - sizeof(bus.bodies[0]));
}

static void visit(const char *name, void *list)
{
    strcat(list, name);
    strcat(list, " ");
}

static void expect_there(const char *names)
{
    static char list[1 << 17];

    list[0] = '\0';
    ck_assert_ptr_nonnull(elsewhere_names(here.elsewhere));
    chat_names_each(elsewhere_names(here.elsewhere), visit, list);
    ck_assert_str_eq(list, names);
}

/* SECONDS pass, one by one. */
static void pass(int seconds)
{
    for (int i = 0; i < seconds; i++) {
        later++;
        event_base_loop(here.base, EVLOOP_NONBLOCK);
    }
}

START_TEST(who_comes_to_the_bus_asks_and_tells)
{
    prepare();
    add_own(1, "ann");
    add_own(2, "bob");
    make();
    ck_assert_ptr_null(elsewhere_names(here.elsewhere));
    ck_assert(elsewhere_say(here.elsewhere, "x", 1)); /* there is nobody to lose it */
    elsewhere_joined(here.elsewhere, "x");
    come_up();
    expect_published("hello", "");
    expect_published("names", "ann\nbob\n");
    expect_published("alive", "2");
    ck_assert_uint_eq(bus.count, 0);
    ck_assert_uint_eq(strlen(bus.id), 16);
    expect_there("");
    tell(A, "hello", "");
    expect_published("names", "ann\nbob\n");
    expect_published("alive", "2");
    tell(A, "hello", bus.id);
    expect_published("names", "ann\nbob\n");
    expect_published("alive", "2");
    tell(A, "hello", B); /* another one is asked */
    tell(A, "hello", "x");
    ck_assert_uint_eq(bus.count, 0);
    finish();
}
END_TEST

START_TEST(what_happens_here_is_told)
{
    begin();
    ck_assert(elsewhere_say(here.elsewhere, "ann: hello\nann: again\n", 22));
    expect_published("say", "ann: hello\nann: again\n");
    elsewhere_joined(here.elsewhere, "ann");
    expect_published("joined", "ann");
    elsewhere_renamed(here.elsewhere, "ann", "bob");
    expect_published("renamed", "ann\nbob");
    elsewhere_left(here.elsewhere, "bob");
    expect_published("left", "bob");
    ck_assert_uint_eq(bus.count, 0);
    ck_assert_uint_eq(elsewhere_pending(here.elsewhere), bus.pending);
    bus.handler.drained(bus.handler.context);
    ck_assert_uint_eq(here.drained, 1);
    bus.is_full = true;
    ck_assert(!elsewhere_say(here.elsewhere, "x\n", 2));
    finish();
}
END_TEST

/* A number that changes when the bus takes some, and not when it is given some. */
START_TEST(what_the_bus_has_taken)
{
    uint64_t taken;

    begin();
    taken = elsewhere_taken(here.elsewhere);
    ck_assert(elsewhere_say(here.elsewhere, "ann: hello\n", 11));
    ck_assert_uint_eq(elsewhere_taken(here.elsewhere), taken);
    bus.pending -= 20;
    ck_assert_uint_eq(elsewhere_taken(here.elsewhere), taken + 20);
    bus.is_full = true;
    ck_assert(!elsewhere_say(here.elsewhere, "ann: hello\n", 11));
    ck_assert_uint_eq(elsewhere_taken(here.elsewhere), taken + 20);
    finish();
}
END_TEST

START_TEST(what_happens_there_is_heard)
{
    begin();
    tell(A, "joined", "ann");
    expect_heard("* ann joined\n");
    tell(B, "joined", "bob\n");
    expect_heard("* bob joined\n");
    expect_there("ann bob ");
    ck_assert(elsewhere_has(here.elsewhere, "ann") && !elsewhere_has(here.elsewhere, "an"));
    tell(A, "say", "ann: hello\nann: again\n");
    expect_heard("ann: hello\nann: again\n");
    tell(A, "renamed", "ann\nzoe");
    expect_heard("* ann is now zoe\n");
    expect_there("bob zoe ");
    tell(A, "left", "zoe");
    expect_heard("* zoe left\n");
    expect_there("bob ");
    tell(A, "left", "bob"); /* is B's */
    tell(A, "renamed", "bob\neve");
    tell(B, "joined", "bob"); /* is known */
    expect_heard("");
    expect_there("bob ");
    finish();
}
END_TEST

START_TEST(what_we_said_ourselves_is_nothing_new)
{
    char id[17];

    begin();
    elsewhere_joined(here.elsewhere, "ann");
    strcpy(id, bus.id);
    tell(id, "joined", "ann");
    tell(id, "say", "ann: hello\n");
    tell(id, "hello", "");
    expect_heard("");
    expect_there("");
    ck_assert_uint_eq(bus.count, 1);
    finish();
}
END_TEST

START_TEST(lines_are_made_clean)
{
    static char longest[CHANNEL_PAYLOAD_MAX + 1];
    static char wanted[CHANNEL_PAYLOAD_MAX + 10];

    begin();
    tell(A, "say", "a: \x1b[2Jred\x07\r\n\n\x01\nb: \xff\tx\nno end");
    expect_heard("a: [2Jred\nb: \xef\xbf\xbd x\nno end\n");
    memset(longest, 'x', 12400);
    tell(A, "say", longest);
    snprintf(wanted, sizeof(wanted), "%s\n", longest);
    expect_heard(wanted);
    memset(longest, '\xff', 6000); /* each becomes three bytes: too long */
    longest[6000] = '\0';
    tell(A, "say", longest);
    expect_heard("");
    finish();
}
END_TEST

/* More than a frame of the hub's, as another sort of server may send it. */
START_TEST(a_long_message_comes_in_parts)
{
    enum { LINES = 1000 };
    char *message = malloc(200000), *end = message;
    size_t head;

    begin();
    head = (size_t) sprintf(message, "echod1 " A " say\n");
    end += head;
    for (int i = 0; i < LINES; i++)
        end += sprintf(end, "line %d %040d\n", i, 0);
    memset(end, '\xff', 20000); /* one that is too long by itself, and longer when it is clean */
    end[20000] = '\n';
    memcpy(end + 20001, "the end\n", 8);
    come(message, (size_t) (end - message) + 20009);
    memcpy(end, "the end\n", 9);
    ck_assert_str_eq(here.heard, message + head);
    ck_assert_uint_le(here.longest, CHANNEL_PAYLOAD_MAX);
    free(message);
    finish();
}
END_TEST

START_TEST(what_is_malformed_is_nothing)
{
    static const char *const messages[] = {
        "", "\n", "echod1", "echod1\n", "echod1 \n", "echod1 " A, "echod1 " A "\n",
        "echod1 " A " \n", "echod1 " A " joined", "echod1 " A " joined\n",
        "echod1 " A " joined\n\n", "echod1 " A " joined\na b",
        "echod1 " A " joined\nn\xc3\xa4me", "echod1 " A " joined\n-\x01",
        "echod1 " A " joined\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "echod1 " A " unknown\nx",
        "echod1 " A " join\nx", "echod1 " A " joinedx\nx", "echod1 " A " joined x\nx",
        "echod1 " A " joinedjoinedjoined\nx", "echod2 " A " joined\nx", "echod " A " joined\nx",
        "echod1 00000000000000a joined\nx", "echod1 00000000000000AA joined\nx",
        "echod1 00000000000000aa0 joined\nx", "echod1 00000000000000ag joined\nx",
        "echod1" A " joined\nx", "echod1 " A "joined\nx", "xechod1 " A " joined\nx",
        "echod1 " A " left\nx", "echod1 " A " renamed\nx", "echod1 " A " renamed\nx\ny",
        "echod1 " A " say\n", "echod1 " A " say\n\n\n", "echod1 " A " names\n",
        "echod1 " A " more\n", "echod1 " A " more\n\nx",
    };
    static const char with_zero[][34] = { "echod1 " A " joined\0\nx", "echod1 " A "\0joined\nxy",
                                          "echod1 " A " joined\nx\0", "echod1\0" A " joined\nxy" };

    begin();
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        come(messages[i], strlen(messages[i]));
        ck_assert_msg(here.length == 0, "%zu: %s", i, here.heard);
    }
    for (size_t i = 0; i < sizeof(with_zero) / sizeof(with_zero[0]); i++)
        come(with_zero[i], sizeof(with_zero[0]) - 1);
    expect_heard("");
    expect_there("");
    ck_assert_uint_eq(bus.count, 0);
    finish();
}
END_TEST

START_TEST(any_bytes_do_no_harm)
{
    static const char *const words[] = { "echod1", " ", A, B, "say", "joined", "left", "renamed",
                                         "names", "more", "alive", "gone", "\n", "x", "y\n", "2",
                                         "\xff" };
    char message[400];

    begin();
    srand(1);
    for (int i = 0; i < 20000; i++) {
        size_t length = 0;

        if (i % 4 != 0)
            length = (size_t) sprintf(message, "echod1 %s %s\n", words[2 + rand() % 2],
                                      words[4 + rand() % 8]);
        for (int k = rand() % 6; k > 0; k--)
            length += (size_t) sprintf(message + length, "%s", words[rand() % 17]);
        come(message, length);
        here.length = 0;
        bus.count = 0;
    }
    finish();
}
END_TEST

/* Who is named for the first time joined, and who is not named any more has left. */
START_TEST(names_are_all_that_a_server_has)
{
    begin();
    tell(A, "names", "ann\nbob\n");
    tell(A, "alive", "2");
    tell(B, "names", "carol\n");
    expect_heard("* ann joined\n* bob joined\n* carol joined\n");
    expect_there("ann bob carol ");
    tell(A, "names", "bob\ndave");
    tell(A, "more", "eve\neve\n");
    expect_heard("* dave joined\n* eve joined\n");
    expect_there("ann bob carol dave eve "); /* there may be more to come */
    tell(A, "names", "bob\ndave\neve"); /* begins anew */
    tell(A, "alive", "3");
    expect_heard("* ann left\n");
    expect_there("bob carol dave eve ");
    ck_assert_uint_eq(bus.count, 0);
    tell(A, "names", "");
    tell(A, "alive", "0");
    expect_there("carol ");
    ck_assert_uint_eq(bus.count, 0);
    finish();
}
END_TEST

START_TEST(who_says_that_it_is_gone_is)
{
    begin();
    tell(A, "names", "ann\nbob\n");
    tell(B, "names", "carol\n");
    here.length = 0;
    tell(A, "names", "ann\n"); /* bob was not named again yet */
    tell(A, "gone", "");
    expect_heard("* ann left\n* bob left\n");
    expect_there("carol ");
    tell(A, "gone", ""); /* of one that is not known */
    expect_heard("");
    elsewhere_free(here.elsewhere);
    here.elsewhere = NULL;
    expect_published("gone", "");
    finish();
}
END_TEST

START_TEST(two_have_a_name_for_a_moment)
{
    begin();
    tell(A, "names", "ann\n");
    tell(B, "names", "ann\nbob\n");
    expect_there("ann bob ");
    expect_heard("* ann joined\n* bob joined\n"); /* one ann */
    tell(B, "alive", "2");
    tell(B, "left", "ann"); /* is A's here */
    expect_heard("");
    expect_there("ann bob ");
    ck_assert_uint_eq(bus.count, 0);
    tell(B, "alive", "1"); /* of B's two one has no name here, and now is too many */
    expect_published("hello", B);
    tell(B, "names", "bob\n");
    tell(B, "alive", "1");
    expect_heard("");
    ck_assert_uint_eq(bus.count, 0);
    tell(A, "left", "ann");
    expect_heard("* ann left\n");
    expect_there("bob ");
    finish();
}
END_TEST

START_TEST(whose_number_differs_is_asked)
{
    begin();
    tell(A, "names", "ann\nbob\n");
    tell(A, "alive", "2");
    ck_assert_uint_eq(bus.count, 0);
    tell(A, "alive", "3");
    expect_published("hello", A);
    tell(A, "alive", "02");
    expect_published("hello", A);
    tell(A, "alive", "");
    expect_published("hello", A);
    tell(A, "alive", "2\n");
    expect_published("hello", A);
    tell(B, "alive", "0"); /* one that is new, and has nobody */
    ck_assert_uint_eq(bus.count, 0);
    finish();
}
END_TEST

START_TEST(who_is_silent_for_long_is_gone)
{
    begin();
    add_own(1, "me");
    tell(A, "names", "ann\nbob\n");
    tell(B, "names", "carol\n");
    here.length = 0;
    for (int i = 0; i < 3; i++) {
        pass(CHAT_ALIVE_MS / 1000);
        expect_published("alive", "1");
        tell(B, "alive", "1");
    }
    expect_heard("");
    ck_assert_uint_eq(bus.count, 0);
    pass(CHAT_ALIVE_MS / 1000);
    ck_assert(strcmp(here.heard, "* bob left\n* ann left\n") == 0 ||
              strcmp(here.heard, "* ann left\n* bob left\n") == 0);
    expect_there("carol ");
    tell(A, "joined", "ann"); /* it was only slow */
    expect_there("ann carol ");
    finish();
}
END_TEST

/* We stood still for a minute, and nobody was heard: that was not they. */
START_TEST(who_was_silent_while_we_stood_still_is_not_gone)
{
    begin();
    tell(A, "names", "ann\n");
    here.length = 0;
    later += 60;
    event_base_loop(here.base, EVLOOP_NONBLOCK);
    expect_heard("");
    expect_there("ann ");
    pass(CHAT_SERVER_SILENT_MS / 1000 + CHAT_ALIVE_MS / 1000 + 1); /* but now it is */
    expect_heard("* ann left\n");
    finish();
}
END_TEST

START_TEST(when_the_bus_is_away_so_are_all)
{
    begin();
    tell(A, "names", "ann\nbob\n");
    here.length = 0;
    bus.is_up = false;
    bus.handler.down(bus.handler.context);
    ck_assert_uint_eq(here.length, strlen("* ann left\n* bob left\n"));
    ck_assert_ptr_null(elsewhere_names(here.elsewhere));
    ck_assert(!elsewhere_has(here.elsewhere, "ann"));
    ck_assert(elsewhere_say(here.elsewhere, "x\n", 2)); /* nobody misses it */
    pass(CHAT_ALIVE_MS / 1000);
    ck_assert_uint_eq(bus.count, 0);
    come_up();
    expect_there("");
    expect_published("hello", "");
    expect_published("names", "");
    expect_published("alive", "0");
    finish();
}
END_TEST

/* So many names that they fill several messages; and from there they can be had again. */
START_TEST(many_names_are_told_in_parts)
{
    static char all[OURS_MOST * 40], told[OURS_MOST * 40];
    char name[CHAT_NAME_MOST + 1];

    prepare();
    for (uint32_t i = 0; i < OURS_MOST; i++) {
        snprintf(name, sizeof(name), "member-%0*u", 10 + (int) (i % 16), i);
        add_own(i, name);
    }
    make();
    come_up();
    ck_assert_str_eq(bus.kinds[1], "names");
    for (unsigned i = 1; i + 1 < bus.count; i++) {
        ck_assert_str_eq(bus.kinds[i], i == 1 ? "names" : "more");
        ck_assert_uint_gt(strlen(bus.bodies[i]), i + 2 < bus.count ? 16000 : 1);
        strcat(told, bus.bodies[i]);
        tell(A, bus.kinds[i], bus.bodies[i]);
    }
    chat_names_each(&here.names, visit, all);
    expect_there(all);
    for (char *at = told; *at != '\0'; at++)
        *at = *at == '\n' ? ' ' : *at;
    ck_assert_str_eq(told, all);
    finish();
}
END_TEST

START_TEST(without_a_bus_there_is_nobody)
{
    ck_assert(elsewhere_say(NULL, "x\n", 2)); /* nothing is lost */
    elsewhere_joined(NULL, "x");
    elsewhere_left(NULL, "x");
    elsewhere_renamed(NULL, "x", "y");
    ck_assert(!elsewhere_has(NULL, "x"));
    ck_assert_ptr_null(elsewhere_names(NULL));
    ck_assert_uint_eq(elsewhere_pending(NULL), 0);
    ck_assert_uint_eq(elsewhere_taken(NULL), 0);
    elsewhere_free(NULL);
}
END_TEST

START_TEST(short_of_memory_there_is_none)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        prepare();
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        make();
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert(here.elsewhere != NULL || failed);
        finish();
    }
}
END_TEST

/* What is missed then is asked for once the numbers are told, and right when it is said again. */
START_TEST(short_of_memory_it_asks_again)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        static const char names[] = "echod1 " A " names\nann\nbob\n";
        static const char more[] = "echod1 " A " joined\neve";

        begin();
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        bus.handler.received(bus.handler.context, names, sizeof(names) - 1);
        bus.handler.received(bus.handler.context, more, sizeof(more) - 1);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        tell(A, "alive", "3");
        if (bus.count > 0)
            expect_published("hello", A);
        tell(A, "names", "ann\nbob\neve");
        tell(A, "alive", "3");
        ck_assert_uint_eq(bus.count, 0);
        expect_there("ann bob eve ");
        finish();
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        who_comes_to_the_bus_asks_and_tells,
        what_happens_here_is_told,
        what_the_bus_has_taken,
        what_happens_there_is_heard,
        what_we_said_ourselves_is_nothing_new,
        lines_are_made_clean,
        a_long_message_comes_in_parts,
        what_is_malformed_is_nothing,
        any_bytes_do_no_harm,
        names_are_all_that_a_server_has,
        who_says_that_it_is_gone_is,
        two_have_a_name_for_a_moment,
        whose_number_differs_is_asked,
        who_is_silent_for_long_is_gone,
        who_was_silent_while_we_stood_still_is_not_gone,
        when_the_bus_is_away_so_are_all,
        many_names_are_told_in_parts,
        without_a_bus_there_is_nobody,
        short_of_memory_there_is_none,
        short_of_memory_it_asks_again,
    };

    return HARNESS_RUN("chat_elsewhere", tests);
}
