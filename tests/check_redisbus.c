#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/defaults.h"
#include "src/reactor.h"
#include "src/redisbus.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define SUBSCRIBE "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nroom\r\n"
#define SUBSCRIBED "*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n"
#define PING "*1\r\n$4\r\nPING\r\n"
#define PONG "+PONG\r\n"
#define PONG_OF_SUBSCRIBER "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
#define MESSAGE "*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n"

/* What a bus has told its owner. */
struct owner {
    struct redisbus *bus;
    unsigned ups, downs, messages, drained;
    size_t length;
    char heard[REDISBUS_PENDING_MOST]; /* the last message */
    bool is_wrong; /* it was told something out of place: asserting at once would allocate */
};

/* A bus, and the Redis that is played to it: the ends of its two connections, non-blocking. */
static struct {
    struct event_base *base;
    struct owner owner;
    int listener, newcomer, subscriber, publisher;
    struct address servers[2];
    char commands[4096]; /* of the last connection that was looked at */
} here;

static void on_up(void *context)
{
    struct owner *owner = context;

    owner->ups++;
}

static void on_down(void *context)
{
    struct owner *owner = context;

    owner->downs++;
    if (redisbus_publish(owner->bus, "x", 1) || redisbus_pending(owner->bus) != 0)
        owner->is_wrong = true;
}

static void on_drained(void *context)
{
    struct owner *owner = context;

    owner->drained++; /* and no check, which takes memory */
}

static void on_received(void *context, const void *data, size_t length)
{
    struct owner *owner = context;

    if (owner->ups != owner->downs + 1 || length > sizeof(owner->heard)) {
        owner->is_wrong = true;
        return;
    }
    memcpy(owner->heard, data, length);
    owner->length = length;
    owner->messages++;
}

static struct redisbus *join(struct owner *owner, size_t servers, const char *channel)
{
    const struct redisbus_handler handler = { on_up, on_down, on_received, on_drained, owner };

    memset(owner, 0, sizeof(*owner));
    owner->bus = redisbus_new(here.base, here.servers, servers, channel, &handler);
    return owner->bus;
}

static struct address loopback(uint16_t port)
{
    struct endpoint endpoint;
    struct address *found, address;
    size_t count;

    ck_assert_ptr_null(endpoint_parse("127.0.0.1:0", &endpoint));
    ck_assert_ptr_null(endpoint_resolve(&endpoint, &found, &count));
    address = found[0];
    free(found);
    address_set_port(&address, port);
    return address;
}

static void open_here(void)
{
    uint16_t port;

    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.listener = listen_anywhere(&port);
    set_blocking(here.listener, false);
    here.newcomer = here.subscriber = here.publisher = -1;
    here.servers[0] = loopback(port);
    capture_log_begin(LOG_NOTICE);
}

static void start(void)
{
    open_here();
    ck_assert_ptr_nonnull(join(&here.owner, 1, "room"));
}

static void replace(int *fd, int by)
{
    if (*fd >= 0)
        close(*fd);
    *fd = by;
}

static void hang_up(void)
{
    replace(&here.newcomer, -1);
    replace(&here.subscriber, -1);
    replace(&here.publisher, -1);
}

/* Returns what was logged. */
static const char *stop(void)
{
    ck_assert(!here.owner.is_wrong);
    redisbus_free(here.owner.bus);
    hang_up();
    close(here.listener);
    event_base_free(here.base);
    return capture_end();
}

static bool accepts(int *fd)
{
    if (*fd < 0)
        *fd = accept4(here.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return *fd >= 0;
}

/* In this order it connects. */
static bool has_both(void *unused)
{
    (void) unused;
    return accepts(&here.subscriber) && accepts(&here.publisher);
}

static void accept_both(void)
{
    ck_assert(loop_until(here.base, has_both, NULL));
}

struct expected {
    int fd;
    const char *text;
    size_t length;
};

static bool has_come(void *context)
{
    struct expected *expected = context;
    size_t wanted = strlen(expected->text);
    ssize_t length =
        read(expected->fd, here.commands + expected->length, wanted - expected->length);

    ck_assert_int_ne(length, 0);
    if (length > 0)
        expected->length += (size_t) length;
    ck_assert_int_eq(memcmp(here.commands, expected->text, expected->length), 0);
    return expected->length == wanted;
}

static void expect_command(int fd, const char *text)
{
    struct expected expected = { .fd = fd, .text = text };

    ck_assert_msg(loop_until(here.base, has_come, &expected), "no %s", text);
}

static void say_bytes(int fd, const char *data, size_t length)
{
    set_blocking(fd, true);
    ck_assert_int_eq(write(fd, data, length), (ssize_t) length);
    set_blocking(fd, false);
}

static void say(int fd, const char *text)
{
    say_bytes(fd, text, strlen(text));
}

static bool is_up(void *owner)
{
    return ((struct owner *) owner)->ups > ((struct owner *) owner)->downs;
}

static bool is_down(void *owner)
{
    return !is_up(owner);
}

static bool has_message(void *owner)
{
    return ((struct owner *) owner)->messages > 0;
}

static bool is_confirmed(void *owner)
{
    return redisbus_pending(((struct owner *) owner)->bus) == 0;
}

/* One after the other, whoever comes: it may have gone again. */
static bool lets_in(void *owner)
{
    const char *answer;
    bool is_subscriber;
    ssize_t length;

    if (!accepts(&here.newcomer))
        return is_up(owner);
    length = read(here.newcomer, here.commands, sizeof(here.commands));
    if (length < 0 && errno == EAGAIN)
        return false;
    if (length > 0) {
        is_subscriber = here.commands[1] == '2';
        answer = is_subscriber ? SUBSCRIBED : PONG;
        length = write(here.newcomer, answer, strlen(answer));
        replace(is_subscriber ? &here.subscriber : &here.publisher, here.newcomer);
    } else {
        close(here.newcomer);
    }
    here.newcomer = -1;
    return is_up(owner);
}

static void let_in(void)
{
    ck_assert(loop_until(here.base, lets_in, &here.owner));
}

static void expect_message(struct owner *owner, const char *data, size_t length)
{
    ck_assert(loop_until(here.base, has_message, owner));
    ck_assert_uint_eq(owner->messages, 1);
    ck_assert_uint_eq(owner->length, length);
    ck_assert_mem_eq(owner->heard, data, length);
    owner->messages = 0;
}

START_TEST(good_addresses_are_understood)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        const char *channel;
    } table[] = {
        { "redis://localhost:6379", "localhost", 6379, "echod" },
        { "redis://10.0.0.1:7/room", "10.0.0.1", 7, "room" },
        { "redis://[::1]:65535/a/b c?d@e", "::1", 65535, "a/b c?d@e" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct redisbus_address address;
        const char *wrong = redisbus_parse(table[i].text, &address);

        ck_assert_msg(wrong == NULL, "%s: %s", table[i].text, wrong);
        ck_assert_str_eq(address.server.host, table[i].host);
        ck_assert_uint_eq(address.server.port, table[i].port);
        ck_assert_str_eq(address.channel, table[i].channel);
        ck_assert_str_eq(address.server.text, table[i].text);
    }
}
END_TEST

START_TEST(wrong_addresses_are_refused)
{
    static const struct {
        const char *text, *wrong;
    } table[] = {
        { "", "not redis://HOST:PORT[/CHANNEL]" },
        { "localhost:6379", "not redis://HOST:PORT[/CHANNEL]" },
        { "rediss://localhost:6379", "not redis://HOST:PORT[/CHANNEL]" },
        { "REDIS://localhost:6379", "not redis://HOST:PORT[/CHANNEL]" },
        { "redis://", "missing port" },
        { "redis://localhost", "missing port" },
        { "redis://localhost/6379", "missing port" },
        { "redis://6379", "missing port" },
        { "redis://:6379", "malformed address" },
        { "redis://*:6379", "malformed address" },
        { "redis://::1:6379", "IPv6 address without brackets" },
        { "redis://localhost:0", "port out of range" },
        { "redis://localhost:65536", "port out of range" },
        { "redis://localhost:x", "malformed port" },
        { "redis://localhost:6379?db=1", "malformed address" },
        { "redis://localhost:6379?proxy=off", "malformed address" },
        { "redis://localhost:6379/", "no channel after the /" },
        { "redis://user:secret@localhost:6379", "a user or password cannot be given" },
        { "redis://:secret@localhost:6379/room", "a user or password cannot be given" },
    };
    char longest[512] = "redis://";

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct redisbus_address address;
        const char *wrong = redisbus_parse(table[i].text, &address);

        ck_assert_msg(wrong != NULL, "%s was taken", table[i].text);
        ck_assert_str_eq(wrong, table[i].wrong);
    }
    for (size_t length = strlen(longest); length < sizeof(longest) - 2; length++) {
        struct redisbus_address address;

        strcpy(longest + length, ":1");
        if (length > strlen("redis://") + ENDPOINT_HOST_MAX)
            ck_assert_str_eq(redisbus_parse(longest, &address), "malformed address");
        longest[length] = 'x';
    }
}
END_TEST

START_TEST(it_is_up_when_both_connections_are)
{
    const char *log;

    start();
    accept_both();
    expect_command(here.subscriber, SUBSCRIBE);
    expect_command(here.publisher, PING);
    ck_assert(!redisbus_publish(here.owner.bus, "early", 5));
    say(here.publisher, PONG PONG);
    say(here.subscriber, MESSAGE "$5\r\nearly\r\n");
    loop_for(here.base, 50);
    ck_assert_uint_eq(here.owner.ups, 0);
    say(here.subscriber, SUBSCRIBED MESSAGE "$4\r\nfour\r\n");
    expect_message(&here.owner, "four", 4);
    say(here.subscriber, SUBSCRIBED);
    loop_for(here.base, 50);
    ck_assert_uint_eq(here.owner.ups, 1);
    log = stop();
    ck_assert_uint_eq(count_lines(log), 1);
    ck_assert_ptr_nonnull(strstr(log, " notice bus-connected server=127.0.0.1:"));
}
END_TEST

START_TEST(messages_are_any_bytes)
{
    start();
    let_in();
    ck_assert(redisbus_publish(here.owner.bus, "a\r\n\0\xff", 5));
    ck_assert(redisbus_publish(here.owner.bus, "", 0));
    ck_assert(redisbus_publish(here.owner.bus, "b", 1));
    ck_assert_uint_eq(redisbus_pending(here.owner.bus), 6);
    expect_command(here.publisher, "*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$5\r\na\r\n");
    ck_assert_int_eq(read(here.publisher, here.commands, 4), 4);
    ck_assert_mem_eq(here.commands, "\0\xff\r\n", 4);
    expect_command(here.publisher, "*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$0\r\n\r\n"
                                   "*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$1\r\nb\r\n");
    say(here.publisher, ":0\r\n:12\r\n");
    loop_for(here.base, 50);
    ck_assert_uint_eq(redisbus_pending(here.owner.bus), 1);
    say(here.publisher, ":1\r\n");
    ck_assert(loop_until(here.base, is_confirmed, &here.owner));
    say_bytes(here.subscriber, MESSAGE "$5\r\na\r\n\0\xff\r\n", sizeof(MESSAGE) - 1 + 11);
    expect_message(&here.owner, "a\r\n\0\xff", 5);
    say(here.subscriber, MESSAGE "$0\r\n\r\n");
    expect_message(&here.owner, "", 0);
    stop();
}
END_TEST

START_TEST(answers_may_come_byte_by_byte)
{
    const char *const text = SUBSCRIBED PONG_OF_SUBSCRIBER MESSAGE "$3\r\none\r\n";

    start();
    accept_both();
    say(here.publisher, PONG);
    for (const char *c = text; *c != '\0'; c++) {
        say_bytes(here.subscriber, c, 1);
        event_base_loop(here.base, EVLOOP_NONBLOCK);
    }
    expect_message(&here.owner, "one", 3);
    stop();
}
END_TEST

/* ERROR is in the log, once; and then Redis is tried again. */
static void expect_lost(const char *error)
{
    ck_assert(loop_until(here.base, is_down, &here.owner));
    hang_up();
    let_in();
    ck_assert_uint_eq(redisbus_pending(here.owner.bus), 0);
    ck_assert_msg(strstr(stop(), error) != NULL, "no %s", error);
}

static const struct {
    bool to_subscriber;
    const char *text, *error;
} broken[] = {
    { true, "-NOAUTH Authentication required.\r\n", "error=\"NOAUTH Authentication required.\"" },
    { false, "-LOADING Redis is loading\r\n", "error=\"LOADING Redis is loading\"" },
    { true, "HTTP/1.1 400 Bad Request\r\n", "error=\"Protocol error, got \\\"H\\\"" },
    { false, "HTTP/1.1 400 Bad Request\r\n", "error=\"Protocol error, got \\\"H\\\"" },
    { false, ":1\r\n", "error=\"not an answer of Redis\"" }, /* nothing was published */
    { false, "+OK\r\n", "error=\"not an answer of Redis\"" },
    { false, "$-1\r\n", "error=\"not an answer of Redis\"" },
    { false, "$4\r\nPONG\r\n", "error=\"not an answer of Redis\"" },
    { false, "*1\r\n+PONG\r\n", "error=\"not an answer of Redis\"" },
    { true, PONG, "error=\"not an answer of Redis\"" },
    { true, "*-1\r\n", "error=\"not an answer of Redis\"" },
    { true, "*0\r\n", "error=\"not an answer of Redis\"" },
    { true, "*1\r\n$4\r\npong\r\n", "error=\"not an answer of Redis\"" },
    { true, "*2\r\n$4\r\nping\r\n$0\r\n\r\n", "error=\"not an answer of Redis\"" },
    { true, "*2\r\n:1\r\n:1\r\n", "error=\"not an answer of Redis\"" },
    { true, "*3\r\n:1\r\n:1\r\n:1\r\n", "error=\"not an answer of Redis\"" },
    { true, "*3\r\n*1\r\n:1\r\n:1\r\n:1\r\n", "error=\"not an answer of Redis\"" },
    { true, MESSAGE ":1\r\n", "error=\"not an answer of Redis\"" },
    { true, MESSAGE "$-1\r\n", "error=\"not an answer of Redis\"" },
    { true, MESSAGE "-ERR\r\n", "error=\"not an answer of Redis\"" },
    { true, "*3\r\n$11\r\nunsubscribe\r\n$4\r\nroom\r\n:0\r\n", "not an answer of Redis" },
    { true, "$-2\r\n", "length out of range\"" },
    { true, "*99999999999999\r\n", "length out of range\"" },
};

enum { BROKEN = sizeof(broken) / sizeof(broken[0]) };

START_TEST(who_does_not_speak_like_redis_is_left)
{
    for (size_t i = 0; i < BROKEN; i++) {
        start();
        let_in();
        say(broken[i].to_subscriber ? here.subscriber : here.publisher, broken[i].text);
        expect_lost(broken[i].error);
    }
}
END_TEST

START_TEST(nor_is_it_taken_for_redis_at_first)
{
    for (size_t i = 0; i < BROKEN; i++) {
        const char *log;

        start();
        accept_both();
        say(broken[i].to_subscriber ? here.subscriber : here.publisher, broken[i].text);
        loop_for(here.base, 50);
        hang_up();
        let_in();
        ck_assert_uint_eq(here.owner.ups, 1);
        ck_assert_uint_eq(here.owner.downs, 0);
        log = stop();
        ck_assert_msg(strstr(log, broken[i].error) != NULL, "%s: %s", broken[i].text, log);
        ck_assert_uint_eq(count_lines(log), 2);
    }
}
END_TEST

START_TEST(what_follows_the_end_is_not_heard)
{
    start();
    let_in();
    say(here.subscriber, "-ERR\r\n" MESSAGE "$1\r\nx\r\n");
    ck_assert(loop_until(here.base, is_down, &here.owner));
    loop_for(here.base, 20);
    ck_assert_uint_eq(here.owner.messages, 0);
    stop();
}
END_TEST

START_TEST(a_close_after_any_byte_is_noticed)
{
    static const char text[] = SUBSCRIBED PONG_OF_SUBSCRIBER MESSAGE "$1\r\n1\r\n";

    for (size_t length = 0; length < sizeof(text); length++) {
        start();
        accept_both();
        say(here.publisher, PONG);
        say_bytes(here.subscriber, text, length);
        loop_for(here.base, 2);
        if (length % 2 == 1) {
            abort_connection(here.subscriber);
            here.subscriber = -1;
        }
        hang_up();
        if (length >= sizeof(SUBSCRIBED) - 1)
            ck_assert(loop_until(here.base, is_down, &here.owner));
        let_in();
        ck_assert_uint_eq(here.owner.ups, length < sizeof(SUBSCRIBED) - 1 ? 1 : 2);
        ck_assert_uint_eq(here.owner.downs, here.owner.ups - 1);
        stop();
    }
}
END_TEST

START_TEST(a_close_of_the_publisher_too)
{
    start();
    let_in();
    ck_assert(redisbus_publish(here.owner.bus, "lost", 4));
    shutdown(here.publisher, SHUT_WR);
    expect_lost("error=\"closed by the server\"");
}
END_TEST

/* Answers what FD is asked, for so long, or until the bus is down. */
static void answer_for(int fd, const char *answer, int64_t ms)
{
    for (int64_t end = clock_ms() + ms; is_up(&here.owner) && clock_ms() < end;) {
        loop_for(here.base, 10);
        if (read(fd, here.commands, sizeof(here.commands)) > 0)
            say(fd, answer);
    }
}

START_TEST(the_silence_of_either_is_noticed)
{
    for (int i = 0; i < 2; i++) {
        int64_t before = clock_ms();

        start();
        let_in();
        if (i == 0)
            answer_for(here.publisher, PONG, DEADLINE_MS);
        else
            answer_for(here.subscriber, PONG_OF_SUBSCRIBER, DEADLINE_MS);
        ck_assert(is_down(&here.owner));
        ck_assert_int_ge(clock_ms() - before, BUS_PING_MS * BUS_SILENT_MOST);
        expect_lost("error=\"no answer\"");
    }
}
END_TEST

START_TEST(a_sign_of_life_is_enough)
{
    int64_t end = clock_ms() + BUS_PING_MS * (BUS_SILENT_MOST + 2);

    start();
    let_in();
    while (clock_ms() < end) {
        answer_for(here.publisher, PONG, 50);
        answer_for(here.subscriber, PONG_OF_SUBSCRIBER, 50);
    }
    ck_assert_uint_eq(here.owner.downs, 0);
    stop();
}
END_TEST

START_TEST(who_never_says_a_word_is_left)
{
    start();
    accept_both();
    loop_for(here.base, BUS_PING_MS * (BUS_SILENT_MOST + 2));
    hang_up();
    let_in();
    ck_assert_ptr_nonnull(strstr(stop(), " warning bus-lost server=127.0.0.1:"));
}
END_TEST

/* Accepts, and closes at once; a condition with a count of tries. */
static bool turns_away(void *context)
{
    unsigned *tries = context;

    if (has_both(NULL)) {
        hang_up();
        ++*tries;
    }
    return *tries == 5;
}

START_TEST(who_is_away_at_first_is_tried_ever_less_often)
{
    unsigned tries = 0;
    int64_t before;
    const char *log;

    start();
    before = clock_ms();
    ck_assert(loop_until(here.base, turns_away, &tries));
    ck_assert_int_ge(clock_ms() - before, 100 + 200 + 400 + 800 - 20);
    let_in();
    ck_assert_uint_eq(here.owner.downs, 0);
    log = stop();
    ck_assert_uint_eq(count_lines(log), 2);
    ck_assert_ptr_nonnull(strstr(log, " warning bus-lost server=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(log, " notice bus-connected server=127.0.0.1:"));
}
END_TEST

START_TEST(who_leaves_as_soon_as_he_came_too)
{
    int64_t before;

    open_here();
    here.servers[1] = here.servers[0];
    ck_assert_ptr_nonnull(join(&here.owner, 2, "room"));
    before = clock_ms();
    for (int i = 0; i < 5; i++) {
        let_in();
        hang_up();
        ck_assert(loop_until(here.base, is_down, &here.owner));
    }
    ck_assert_int_ge(clock_ms() - before, 100 + 200 + 400 + 800 - 20);
    let_in();
    loop_for(here.base, BUS_PING_MS + 50); /* and now it stays */
    before = clock_ms();
    hang_up();
    let_in();
    ck_assert_int_lt(clock_ms() - before, 1600);
    stop();
}
END_TEST

START_TEST(each_address_is_tried)
{
    uint16_t port;
    const char *log;

    open_here();
    here.servers[1] = here.servers[0];
    close(listen_anywhere(&port)); /* nobody is there now */
    address_set_port(&here.servers[0], port);
    ck_assert_ptr_nonnull(join(&here.owner, 2, "room"));
    let_in();
    hang_up();
    ck_assert(loop_until(here.base, is_down, &here.owner));
    let_in();
    close(here.listener);
    here.listener = listen_anywhere(&port);
    hang_up();
    ck_assert(loop_until(here.base, is_down, &here.owner));
    loop_for(here.base, 500);
    log = stop();
    ck_assert_uint_eq(count_lines(log), 4); /* came, went, came, went */
    ck_assert_ptr_null(strstr(log, "refused"));
}
END_TEST

START_TEST(what_is_refused_is_named)
{
    const char *log;
    uint16_t port;

    open_here();
    close(listen_anywhere(&port));
    address_set_port(&here.servers[0], port);
    ck_assert_ptr_nonnull(join(&here.owner, 1, "room"));
    loop_for(here.base, 500);
    log = stop();
    ck_assert_uint_eq(count_lines(log), 1);
    ck_assert_ptr_nonnull(strstr(log, " error=\"Connection refused\"\n"));
}
END_TEST

START_TEST(no_more_than_so_much_is_on_its_way)
{
    static char data[REDISBUS_PENDING_MOST + 1];
    struct redisbus *bus;
    unsigned sent = 0;

    start();
    let_in();
    bus = here.owner.bus;
    ck_assert(!redisbus_publish(bus, data, sizeof(data)));
    while (redisbus_publish(bus, data, 5000))
        sent++;
    ck_assert_uint_eq(sent, REDISBUS_PENDING_MOST / 5000);
    ck_assert_uint_eq(redisbus_pending(bus), sent * 5000);
    ck_assert(redisbus_publish(bus, data, REDISBUS_PENDING_MOST - sent * 5000));
    ck_assert(!redisbus_publish(bus, data, 1));
    say(here.publisher, ":1\r\n");
    loop_for(here.base, 50);
    ck_assert(redisbus_publish(bus, data, 5000));
    ck_assert(!redisbus_publish(bus, data, 1));
    hang_up();
    ck_assert(loop_until(here.base, is_down, &here.owner));
    ck_assert_uint_eq(redisbus_pending(bus), 0);
    stop();
}
END_TEST

/* Writes of FD's big message what fits; a condition: all of it? */
static struct {
    char text[sizeof(MESSAGE) + 16 + 2 * REDISBUS_PENDING_MOST];
    size_t length, written;
} big;

static bool has_said(void *unused)
{
    ssize_t length =
        write(here.subscriber, big.text + big.written, big.length - big.written);

    (void) unused;
    if (length > 0)
        big.written += (size_t) length;
    return big.written == big.length || is_down(&here.owner);
}

/* A message with SIZE bytes, of which the end is left away if it is longer than may be. */
static void say_big(size_t size)
{
    memset(&big, 'x', sizeof(big));
    big.written = 0;
    big.length = (size_t) sprintf(big.text, MESSAGE "$%zu\r\n", size);
    big.text[big.length] = 'x';
    big.length += size;
    memcpy(big.text + big.length, "\r\n", 2);
    big.length += size > REDISBUS_PENDING_MOST ? 0 : 2;
    ck_assert(loop_until(here.base, has_said, NULL));
}

START_TEST(a_message_has_an_end)
{
    start();
    let_in();
    say_big(REDISBUS_PENDING_MOST);
    ck_assert(loop_until(here.base, has_message, &here.owner));
    ck_assert_uint_eq(here.owner.length, REDISBUS_PENDING_MOST);
    say_big(2 * REDISBUS_PENDING_MOST);
    expect_lost("error=\"an answer without end\"");
}
END_TEST

START_TEST(many_small_things_have_one_too)
{
    start();
    let_in();
    memset(&big, 0, sizeof(big));
    big.length = (size_t) sprintf(big.text, "*900000\r\n");
    while (big.length + 4 < sizeof(big.text))
        big.length += (size_t) sprintf(big.text + big.length, ":1\r\n");
    ck_assert(loop_until(here.base, has_said, NULL));
    expect_lost("error=\"an answer without end\"");
}
END_TEST

START_TEST(short_of_descriptors)
{
    for (unsigned nth = 1; nth <= 2; nth++) {
        start();
        inject_fail(INJECT_SOCKET, nth, 1, EMFILE);
        let_in();
        ck_assert_uint_eq(inject_failures(INJECT_SOCKET), 1);
        inject_reset();
        ck_assert_ptr_nonnull(strstr(stop(), " error=\"Too many open files\"\n"));
    }
}
END_TEST

/*
 * Joins, publishes, hears something; whatever the NTH allocation did, it is up in the end. No
 * assertion before the reset: it would allocate.
 */
static bool fails_and_goes_on(unsigned nth)
{
    static const char message[] = MESSAGE "$2\r\nin\r\n";
    bool failed, went_on = true;

    open_here();
    inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
    if (join(&here.owner, 1, "room") != NULL) {
        went_on = loop_until(here.base, lets_in, &here.owner);
        redisbus_publish(here.owner.bus, "out", 3);
        went_on &= write(here.subscriber, message, sizeof(message) - 1) > 0;
        loop_for(here.base, 10);
        went_on &= loop_until(here.base, lets_in, &here.owner);
    }
    failed = inject_failures(INJECT_MEMORY) > 0;
    inject_reset();
    ck_assert(went_on);
    ck_assert(failed || (here.owner.ups == 1 && here.owner.messages == 1));
    stop();
    return failed;
}

START_TEST(short_of_memory)
{
    unsigned nth = 1;

    while (fails_and_goes_on(nth))
        nth++;
    ck_assert_uint_gt(nth, 20);
}
END_TEST

/* The real one. */
struct redis {
    pid_t pid;
    char port[8];
};

/* It is in Debian's redis-tools too, by another name, and is no service there. */
static const char *redis_program(void)
{
    static const char *const programs[] = { "/usr/bin/redis-server", "/usr/bin/redis-check-rdb" };

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        if (access(programs[i], X_OK) == 0)
            return programs[i];
    return NULL;
}

static bool answers_or_died(void *context)
{
    struct redis *redis = context;
    int fd = connect_to((uint16_t) atoi(redis->port));

    if (fd >= 0)
        close(fd);
    else if (waitpid(redis->pid, NULL, WNOHANG) == redis->pid)
        redis->pid = 0;
    return fd >= 0 || redis->pid == 0;
}

/* False: somebody else has its port by now. PASSWORD may be empty. */
static bool redis_start_at_port(struct redis *redis, const char *password)
{
    redis->pid = fork();
    ck_assert_int_ge(redis->pid, 0);
    if (redis->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(redis_program(), "redis-server", "--port", redis->port, "--bind", "127.0.0.1",
              "--save", "", "--appendonly", "no", "--dir", "/", "--logfile", "/dev/null",
              "--requirepass", password, (char *) NULL);
        _exit(127);
    }
    ck_assert(wait_until(answers_or_died, redis));
    return redis->pid > 0;
}

static void redis_start(struct redis *redis, const char *password)
{
    uint16_t port;

    do {
        close(listen_anywhere(&port));
        snprintf(redis->port, sizeof(redis->port), "%u", port);
    } while (!redis_start_at_port(redis, password));
    here.servers[0] = loopback(port);
}

static void redis_stop(struct redis *redis)
{
    kill(redis->pid, SIGKILL);
    ck_assert_int_eq(waitpid(redis->pid, NULL, 0), redis->pid);
}

static void both_hear(struct owner *a, struct owner *b, const char *data, size_t length)
{
    ck_assert(redisbus_publish(a->bus, data, length));
    expect_message(a, data, length);
    expect_message(b, data, length);
    ck_assert(loop_until(here.base, is_confirmed, a));
}

START_TEST(a_real_redis_that_comes_and_goes)
{
    static struct owner other, stranger;
    struct redis redis;

    if (redis_program() == NULL)
        return;
    open_here();
    redis_start(&redis, "");
    ck_assert_ptr_nonnull(join(&here.owner, 1, "room"));
    ck_assert_ptr_nonnull(join(&other, 1, "room"));
    ck_assert_ptr_nonnull(join(&stranger, 1, "another room"));
    for (int i = 0; i < 3; i++) {
        ck_assert(loop_until(here.base, is_up, &here.owner));
        ck_assert(loop_until(here.base, is_up, &other));
        ck_assert(loop_until(here.base, is_up, &stranger));
        both_hear(&here.owner, &other, "any\r\n\0\xff", 7);
        both_hear(&other, &here.owner, big.text, 100000);
        loop_for(here.base, BUS_PING_MS + 100);
        if (i == 1) {
            kill(redis.pid, SIGSTOP);
            ck_assert(redisbus_publish(other.bus, "lost?", 5));
        } else {
            redis_stop(&redis);
        }
        ck_assert(loop_until(here.base, is_down, &here.owner));
        ck_assert(loop_until(here.base, is_down, &other));
        ck_assert(loop_until(here.base, is_down, &stranger));
        if (i == 1)
            kill(redis.pid, SIGCONT);
        else
            ck_assert(redis_start_at_port(&redis, ""));
    }
    ck_assert_uint_eq(stranger.messages, 0);
    redisbus_free(other.bus);
    redisbus_free(stranger.bus);
    redis_stop(&redis);
    ck_assert_ptr_nonnull(strstr(stop(), " error=\"no answer\"\n"));
}
END_TEST

START_TEST(a_real_redis_that_wants_a_password)
{
    struct redis redis;
    const char *log;

    if (redis_program() == NULL)
        return;
    open_here();
    redis_start(&redis, "secret");
    ck_assert_ptr_nonnull(join(&here.owner, 1, "room"));
    loop_for(here.base, 1000);
    redis_stop(&redis);
    log = stop();
    ck_assert_msg(strstr(log, "error=\"NOAUTH ") != NULL, "%s", log);
    ck_assert_uint_eq(count_lines(log), 1);
}
END_TEST

START_TEST(freed_at_any_time)
{
    int before = open_descriptors();

    redisbus_free(NULL);
    start();
    stop();
    start();
    accept_both();
    stop();
    start();
    let_in();
    ck_assert(redisbus_publish(here.owner.bus, "x", 1));
    stop();
    start();
    let_in();
    hang_up();
    ck_assert(loop_until(here.base, is_down, &here.owner));
    stop();
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        good_addresses_are_understood,
        wrong_addresses_are_refused,
        it_is_up_when_both_connections_are,
        messages_are_any_bytes,
        answers_may_come_byte_by_byte,
        who_does_not_speak_like_redis_is_left,
        nor_is_it_taken_for_redis_at_first,
        what_follows_the_end_is_not_heard,
        a_close_after_any_byte_is_noticed,
        a_close_of_the_publisher_too,
        the_silence_of_either_is_noticed,
        a_sign_of_life_is_enough,
        who_never_says_a_word_is_left,
        who_is_away_at_first_is_tried_ever_less_often,
        who_leaves_as_soon_as_he_came_too,
        each_address_is_tried,
        what_is_refused_is_named,
        no_more_than_so_much_is_on_its_way,
        a_message_has_an_end,
        many_small_things_have_one_too,
        short_of_descriptors,
        short_of_memory,
        a_real_redis_that_comes_and_goes,
        a_real_redis_that_wants_a_password,
        freed_at_any_time,
    };

    return HARNESS_RUN("redisbus", tests);
}
