#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/channel.h"
#include "src/chat.h"
#include "src/chat_frames.h"
#include "src/chat_room.h"
#include "src/clock.h"
#include "src/conn.h"
#include "src/defaults.h"
#include "src/options.h"
#include "src/reactor.h"
#include "src/spare.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { MEMBERS_MOST = 16, QUESTIONS = 4 };

/* A worker with a room, and the hub at the other end of its bus, which is played here. */
static struct {
    struct conn_set set;
    struct conn_origin origin;
    struct options options;
    unsigned closed;
    struct channel *hub;
    bool is_silent;             /* the hub answers nothing... */
    uint32_t asked;             /* ... to this one, the last that asked */
    unsigned asks[QUESTIONS];   /* how often, by frame */
    char nick[CHAT_NAME_MOST + 1];
    bool is_wrong;              /* what came on the bus: told at the end, for want of memory */
    char said[1 << 20];         /* what the hub was told */
    size_t said_length;
    size_t said_before; /* so much of it when it was asked last */
} here;

/* Somebody who is in the chat. */
struct client {
    int fd;
    struct conn *conn;
    size_t length;
    char text[1 << 20]; /* came, and is not looked at yet */
    const char *wanted;
    bool at_end;
};

static struct client clients[MEMBERS_MOST];

static void on_closed(void *context)
{
    (void) context;
    here.closed++;
}

static void on_other(void *context)
{
    (void) context;
}

/* NAME "": none; TEXT goes to the member. */
static void answer(uint32_t member, const char *name, bool is_last, const char *text)
{
    struct chat_answer given = { .member = member, .is_last = is_last };
    char payload[CHANNEL_PAYLOAD_MAX];

    memcpy(given.name, name, strlen(name) + 1);
    memcpy(payload, &given, sizeof(given));
    memcpy(payload + sizeof(given), text, strlen(text));
    channel_send(here.hub, CHAT_ANSWER, payload, sizeof(given) + strlen(text), -1);
}

/* Member 1 is a, 2 is b, and so on. */
static void name_member(uint32_t member)
{
    char name[] = { (char) ('a' + member - 1), '\0' };

    answer(member, name, true, "* welcome\n");
}

static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct chat_question question;

    (void) context;
    if (type == CHAT_SAY && here.said_length + length <= sizeof(here.said)) {
        memcpy(here.said + here.said_length, payload, length);
        here.said_length += length;
        return;
    }
    if (type >= QUESTIONS || length != sizeof(question) || fd >= 0) {
        here.is_wrong = true;
        return;
    }
    memcpy(&question, payload, sizeof(question));
    here.asks[type]++;
    here.said_before = here.said_length;
    here.asked = question.member;
    memcpy(here.nick, question.name, sizeof(here.nick));
    if (here.is_silent)
        return;
    if (type == CHAT_JOIN)
        name_member(question.member);
    else if (type == CHAT_NICK)
        answer(question.member, question.name, true, "");
    else if (type == CHAT_WHO)
        answer(question.member, "", true, "* all\n");
}

static const struct channel_handler handler = { on_frame, on_other, NULL };

static void make_hub(int fds[2])
{
    int small = 32768; /* for two frames, of the longest */

    ck_assert(channel_pair(fds));
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    here.hub = channel_new(here.set.base, fds[1], &handler, NULL);
    ck_assert_ptr_nonnull(here.hub);
}

static void prepare(void)
{
    memset(&here, 0, sizeof(here));
    here.set.base = reactor_new(NULL);
    here.set.stats = stats_new(1, 1);
    TAILQ_INIT(&here.set.shaking);
    TAILQ_INIT(&here.set.active);
    TAILQ_INIT(&here.set.lingering);
    here.set.closed = on_closed;
    here.set.lingers = here.set.shakes = on_other;
    here.options.workers = 2;
    here.origin = (struct conn_origin){ .service = &chat_service,
                                        .name = "chat+tcp://127.0.0.1:7777",
                                        .stats = stats_block(here.set.stats, 0, 0) };
}

/* Opens a room of as many WORKERS. */
static void begin(uint64_t workers)
{
    int fds[2];

    prepare();
    here.options.workers = workers;
    make_hub(fds);
    here.origin.service_state = chat_service.start(here.set.base, &here.options, fds[0]);
    ck_assert_ptr_nonnull(here.origin.service_state);
}

static void cut_all(struct conn_queue *queue)
{
    while (!TAILQ_EMPTY(queue))
        conn_close(TAILQ_FIRST(queue), CLOSE_FORCED);
}

/* As a worker ends. */
static void finish(void)
{
    inject_reset();
    ck_assert(!here.is_wrong);
    cut_all(&here.set.active);
    cut_all(&here.set.lingering);
    if (here.origin.service_state != NULL)
        chat_service.stop(here.origin.service_state);
    channel_free(here.hub);
    event_base_loop(here.set.base, EVLOOP_NONBLOCK); /* libevent frees later */
    event_base_free(here.set.base);
    stats_free(here.set.stats);
    for (int i = 0; i < MEMBERS_MOST; i++)
        if (clients[i].fd > 0)
            close(clients[i].fd);
    memset(clients, 0, sizeof(clients));
    spare_release();
}

/* Reads what has come. */
static void take(struct client *client)
{
    ssize_t length;

    do {
        ck_assert_uint_lt(client->length, sizeof(client->text));
        length = read(client->fd, client->text + client->length,
                      sizeof(client->text) - client->length);
        client->at_end = length == 0 || (length < 0 && errno != EAGAIN);
        client->length += length > 0 ? (size_t) length : 0;
    } while (length > 0);
}

static bool has_all(void *context)
{
    struct client *client = context;

    take(client);
    return client->length >= strlen(client->wanted) || client->at_end;
}

/* TEXT comes next, and nothing more is there by then. */
static void expect(struct client *client, const char *text)
{
    client->wanted = text;
    ck_assert(loop_until(here.set.base, has_all, client));
    ck_assert_msg(client->length == strlen(text) && memcmp(client->text, text, client->length) == 0,
                  "\"%.*s\", not \"%s\"", (int) client->length, client->text, text);
    client->length = 0;
}

static void expect_nothing(struct client *client)
{
    loop_for(here.set.base, 10);
    take(client);
    ck_assert_msg(client->length == 0, "\"%.*s\"", (int) client->length, client->text);
}

static bool is_at_end(void *client)
{
    take(client);
    return ((struct client *) client)->at_end;
}

static bool has_said(void *text)
{
    return here.said_length >= strlen(text);
}

/* The hub is told TEXT, and no more. */
static void expect_said(const char *text)
{
    ck_assert(loop_until(here.set.base, has_said, (void *) text));
    ck_assert_msg(here.said_length == strlen(text) &&
                      memcmp(here.said, text, here.said_length) == 0,
                  "\"%.*s\", not \"%s\"", (int) here.said_length, here.said, text);
    here.said_length = 0;
}

/* Not named yet. BUFFER: as for make_pair. */
static struct client *enter(int index, int buffer)
{
    struct client *client = &clients[index];
    struct pair pair = make_pair(buffer);

    client->fd = pair.client;
    set_blocking(client->fd, false);
    ck_assert(conn_new(&here.set, &here.origin, pair.server, &pair.peer));
    client->conn = TAILQ_LAST(&here.set.active, conn_queue);
    return client;
}

static struct client *join(int index, int buffer)
{
    struct client *client = enter(index, buffer);

    expect(client, "* welcome\n");
    return client;
}

static void join_many(int count)
{
    for (int i = 0; i < count; i++)
        join(i, 0);
}

static void say(const struct client *client, const char *text)
{
    send_text(client->fd, text);
}

/* The hub tells all of TEXT. */
static void hear(const char *text)
{
    ck_assert(channel_send(here.hub, CHAT_HEAR, text, strlen(text), -1));
}

static uint64_t closed_for(enum close_reason reason)
{
    return here.origin.stats->closed[reason];
}

static bool is_any_closed(void *context)
{
    (void) context;
    return here.closed > 0;
}

/* Members are asked for by the first frame, in the order in which they came. */
static bool is_asked(void *frame)
{
    return here.asks[*(enum chat_frame *) frame] > 0;
}

static void expect_asked(enum chat_frame frame)
{
    ck_assert(loop_until(here.set.base, is_asked, &frame));
    here.asks[frame] = 0;
}

START_TEST(who_has_no_name_yet_is_heard_later)
{
    struct client *other, *client;

    begin(2);
    other = join(0, 0);
    here.is_silent = true;
    here.asks[CHAT_JOIN] = 0;
    client = enter(1, 0);
    say(client, "hello\n");
    say(other, "for those who are here\n");
    expect_asked(CHAT_JOIN);
    expect_said("a: for those who are here\n");
    expect_nothing(other);
    answer(2, "new", true, "* you are new\n");
    expect(client, "* you are new\n");
    expect(other, "new: hello\n");
    expect_said("new: hello\n");
    finish();
}
END_TEST

START_TEST(a_line_goes_to_all_others_and_to_the_hub)
{
    begin(2);
    join_many(3);
    say(&clients[0], "hello\n");
    expect(&clients[1], "a: hello\n");
    expect(&clients[2], "a: hello\n");
    expect_said("a: hello\n");
    expect_nothing(&clients[0]);
    hear("x: from afar\ny: another\n");
    for (int i = 0; i < 3; i++)
        expect(&clients[i], "x: from afar\ny: another\n");
    ck_assert_uint_eq(here.origin.stats->counter[STATS_chat_messages], 1);
    ck_assert_uint_eq(here.said_length, 0);
    finish();
}
END_TEST

START_TEST(a_room_that_is_alone_tells_the_hub_no_lines)
{
    begin(1);
    join_many(2);
    say(&clients[0], "hello\n");
    expect(&clients[1], "a: hello\n");
    loop_for(here.set.base, 10);
    ck_assert_uint_eq(here.said_length, 0);
    finish();
}
END_TEST

/* In one round of events: who speaks gets the others' lines from around its own. */
START_TEST(own_lines_do_not_come_back)
{
    begin(2);
    join_many(4);
    say(&clients[0], "1\n");
    say(&clients[1], "2\n3\n");
    say(&clients[0], "4\n");
    say(&clients[2], "5\n");
    expect(&clients[3], "a: 1\na: 4\nb: 2\nb: 3\nc: 5\n");
    expect(&clients[0], "b: 2\nb: 3\nc: 5\n");
    expect(&clients[1], "a: 1\na: 4\nc: 5\n");
    expect(&clients[2], "a: 1\na: 4\nb: 2\nb: 3\n");
    expect_said("a: 1\na: 4\nb: 2\nb: 3\nc: 5\n");
    finish();
}
END_TEST

/* What was told before a newcomer has its name is not for it; what comes after is. */
START_TEST(a_newcomer_hears_from_its_name_on)
{
    begin(2);
    join_many(1);
    here.is_silent = true;
    here.asks[CHAT_JOIN] = 0;
    enter(1, 0);
    expect_asked(CHAT_JOIN);
    hear("* b joined\n");
    answer(2, "b", true, "* you are b\n");
    hear("x: welcome\n");
    expect(&clients[1], "* you are b\nx: welcome\n");
    expect(&clients[0], "* b joined\nx: welcome\n");
    enter(2, 0);
    expect_asked(CHAT_JOIN);
    say(&clients[0], "early\n"); /* in the same round of events */
    answer(3, "c", true, "* you are c\n");
    expect(&clients[2], "* you are c\n");
    expect(&clients[1], "a: early\n");
    expect_nothing(&clients[2]);
    finish();
}
END_TEST

START_TEST(a_new_name_is_for_new_lines)
{
    begin(2);
    join_many(2);
    here.is_silent = true;
    say(&clients[0], "before\n/nick z\nafter\n");
    expect_asked(CHAT_NICK);
    ck_assert_str_eq(here.nick, "z");
    ck_assert_uint_eq(here.asked, 1);
    ck_assert_uint_eq(here.said_before, strlen("a: before\n"));
    expect_said("a: before\n");
    expect(&clients[1], "a: before\n");
    expect_nothing(&clients[1]);
    hear("* a is now z\n");
    answer(1, "z", true, "");
    expect(&clients[1], "* a is now z\nz: after\n");
    expect(&clients[0], "* a is now z\n");
    expect_said("z: after\n");
    say(&clients[0], "/nick y\n");
    expect_asked(CHAT_NICK);
    answer(1, "", true, "* y is taken\n");
    expect(&clients[0], "* y is taken\n");
    say(&clients[0], "still\n");
    expect(&clients[1], "z: still\n");
    finish();
}
END_TEST

START_TEST(an_answer_may_come_in_parts)
{
    begin(2);
    join_many(2);
    here.is_silent = true;
    say(&clients[0], "/who\nhello\n");
    expect_asked(CHAT_WHO);
    answer(1, "", false, "* one\n");
    expect(&clients[0], "* one\n");
    expect_nothing(&clients[1]); /* it is not the last */
    answer(1, "", true, "* two\n");
    expect(&clients[0], "* two\n");
    expect(&clients[1], "a: hello\n");
    answer(77, "nobody", true, "* lost\n"); /* who has left meanwhile */
    hear("x: end\n");
    expect(&clients[0], "x: end\n");
    finish();
}
END_TEST

START_TEST(who_leaves_gets_what_was_said_until_then)
{
    begin(2);
    join_many(3);
    here.is_silent = true;
    here.asks[CHAT_LEAVE] = 0;
    say(&clients[0], "last words\n");
    say(&clients[1], "unfinished");
    shutdown(clients[1].fd, SHUT_WR);
    expect(&clients[1], "a: last words\n");
    ck_assert(is_at_end(&clients[1]) || loop_until(here.set.base, is_at_end, &clients[1]));
    expect(&clients[2], "a: last words\nb: unfinished\n");
    expect(&clients[0], "b: unfinished\n");
    expect_asked(CHAT_LEAVE);
    ck_assert_uint_eq(here.asked, 2);
    expect_said("a: last words\nb: unfinished\n");
    ck_assert_uint_eq(closed_for(CLOSE_EOF), 1);
    say(&clients[2], "/quit\nnot this\n");
    ck_assert(loop_until(here.set.base, is_at_end, &clients[2]));
    expect_nothing(&clients[0]);
    finish();
}
END_TEST

static bool is_received(void *bytes)
{
    return here.origin.stats->counter[STATS_received_bytes] >= *(size_t *) bytes;
}

/* As the drain does it: all in one go. What one of them said last the others still get. */
START_TEST(a_drain_passes_on_the_last_words)
{
    struct conn *conn, *next, *author;
    size_t bytes = strlen("unfinished");

    begin(2);
    join_many(3);
    author = TAILQ_FIRST(&here.set.active);
    say(&clients[0], "unfinished");
    ck_assert(loop_until(here.set.base, is_received, &bytes));
    conn_finish(author, CLOSE_DRAIN);
    for (conn = TAILQ_FIRST(&here.set.active); conn != NULL; conn = next) {
        next = conn_next(conn);
        conn_finish(conn, CLOSE_DRAIN);
    }
    for (int i = 1; i < 3; i++) {
        expect(&clients[i], "a: unfinished\n");
        ck_assert(loop_until(here.set.base, is_at_end, &clients[i]));
    }
    expect_said("a: unfinished\n");
    finish();
}
END_TEST

/* Who says what: lines with their number, of any length. */
struct author {
    struct client *client;
    unsigned said, lines;
    unsigned heard[MEMBERS_MOST]; /* lines of the others so far */
    char pending[400];
    size_t length, at;
    unsigned random;
};

static struct author authors[MEMBERS_MOST];

static unsigned draw(struct author *author)
{
    author->random = author->random * 1664525u + 1013904223u;
    return author->random >> 8;
}

static void speak(struct author *author)
{
    ssize_t written;

    while (author->at < author->length || author->said < author->lines) {
        if (author->at == author->length) {
            author->length =
                (size_t) snprintf(author->pending, sizeof(author->pending), "%u %0*u\n",
                                  author->said++, 1 + (int) (draw(author) % 300), 0u);
            author->at = 0;
        }
        written = write(author->client->fd, author->pending + author->at,
                        author->length - author->at);
        author->at += written > 0 ? (size_t) written : 0;
        if (author->at < author->length || draw(author) % 8 == 0)
            return;
    }
}

/* Each line is the next of its author, and none is one's own. */
static void listen_to_others(struct author *author)
{
    struct client *client = author->client;
    char *line = client->text, *end;

    take(client);
    while ((end = memchr(line, '\n', client->length - (size_t) (line - client->text))) != NULL) {
        int who = *line - 'a';
        unsigned number;

        ck_assert_int_eq(sscanf(line + 1, ": %u ", &number), 1);
        ck_assert_ptr_ne(&authors[who], author);
        ck_assert_uint_eq(number, author->heard[who]++);
        line = end + 1;
    }
    client->length -= (size_t) (line - client->text);
    memmove(client->text, line, client->length);
}

static bool is_all_heard(void *count)
{
    bool all = true;

    for (int i = 0; i < *(int *) count; i++)
        for (int k = 0; k < *(int *) count; k++)
            all = all && (i == k || authors[i].heard[k] == authors[k].lines);
    return all;
}

static bool talk(void *count)
{
    for (int i = 0; i < *(int *) count; i++) {
        speak(&authors[i]);
        listen_to_others(&authors[i]);
    }
    return is_all_heard(count);
}

static void talk_all(int count, unsigned lines, unsigned seed)
{
    memset(authors, 0, sizeof(authors));
    for (int i = 0; i < count; i++)
        authors[i] = (struct author){ .client = &clients[i], .lines = lines,
                                      .random = seed * 100 + (unsigned) i };
    ck_assert(loop_until(here.set.base, talk, &count));
    for (int i = 0; i < count; i++) {
        expect_nothing(&clients[i]);
        ck_assert_uint_eq(authors[i].heard[i], 0);
    }
}

START_TEST(each_gets_each_line_once_and_in_its_authors_order)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        begin(1);
        for (int i = 0; i < 8; i++)
            join(i, seed % 2 == 0 ? 4096 : 0);
        talk_all(8, 400, seed);
        ck_assert_uint_eq(here.closed, 0);
        finish();
    }
}
END_TEST

START_TEST(a_kernel_with_its_moods_changes_nothing)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        begin(1);
        join_many(4);
        inject_random(INJECT_READ, seed);
        inject_random(INJECT_WRITE, seed);
        talk_all(4, 100, seed);
        ck_assert_uint_eq(here.closed, 0);
        finish();
    }
}
END_TEST

static const char *lines_of(size_t length)
{
    static char text[CHANNEL_PAYLOAD_MAX + 1];

    memset(text, '.', length);
    text[length - 1] = '\n';
    text[length] = '\0';
    return text;
}

static bool has_much(void *client)
{
    return conn_pending(((struct client *) client)->conn) > CHAT_MUCH;
}

/* CLIENT takes nothing: until much waits for it the hub goes on; OTHERS read. */
static void stuff(struct client *client, int others)
{
    while (!has_much(client)) {
        hear(lines_of(8000));
        loop_for(here.set.base, 2);
        for (int i = 0; i < others; i++) {
            take(&clients[i]);
            clients[i].length = 0;
        }
    }
}

/* A frame waits at the hub, because the room does not take it. */
static bool is_deaf(void *context)
{
    (void) context;
    return channel_is_busy(here.hub);
}

static bool is_heard(void *context)
{
    (void) context;
    return !channel_is_busy(here.hub);
}

START_TEST(while_much_waits_the_bus_is_not_read)
{
    size_t total = 0;
    int64_t began;

    begin(2);
    join_many(1);
    join(1, 4096);
    stuff(&clients[1], 1);
    began = clock_ms();
    while (!is_deaf(NULL)) {
        hear(lines_of(16000));
        total += 16000;
        event_base_loop(here.set.base, EVLOOP_NONBLOCK);
    }
    while (clock_ms() - began < CHAT_MEMBER_PATIENCE_MS / 2) {
        event_base_loop(here.set.base, EVLOOP_NONBLOCK);
        ck_assert(is_deaf(NULL));
    }
    while (clients[0].length < total) { /* nothing is lost */
        loop_for(here.set.base, 1);
        take(&clients[0]);
        take(&clients[1]);
        ck_assert_int_lt(clock_ms() - began, DEADLINE_MS);
    }
    ck_assert_uint_eq(clients[0].length, total);
    ck_assert_uint_eq(here.closed, 0);
    finish();
}
END_TEST

/* One who makes progress, however slow, gets all, and no more waits than is much and a round. */
START_TEST(authors_are_as_fast_as_who_is_slow)
{
    int64_t began = clock_ms();
    int count = 2;

    begin(2);
    join(0, 0);
    join(1, 4096);
    memset(authors, 0, sizeof(authors));
    authors[0] = (struct author){ .client = &clients[0], .lines = 4000, .random = 1 };
    authors[1] = (struct author){ .client = &clients[1] };
    while (clock_ms() - began < 4 * CHAT_MEMBER_PATIENCE_MS) {
        loop_for(here.set.base, 5);
        speak(&authors[0]);
        listen_to_others(&authors[1]);
        ck_assert_uint_le(conn_pending(clients[1].conn), 3 * CHAT_MUCH);
    }
    ck_assert_uint_lt(authors[1].heard[0], 4000);
    ck_assert_uint_eq(here.closed, 0);
    ck_assert(loop_until(here.set.base, talk, &count));
    ck_assert_uint_eq(here.closed, 0);
    finish();
}
END_TEST

START_TEST(who_takes_nothing_holds_nobody_for_long_and_is_closed)
{
    struct client *author, *mute;
    int64_t began;

    begin(2);
    author = join(0, 0);
    mute = join(1, 4096);
    stuff(mute, 1);
    began = clock_ms();
    say(author, "hold\n");
    ck_assert(loop_until(here.set.base, has_said, (void *) "a: hold\n"));
    ck_assert_int_ge(clock_ms() - began, CHAT_MEMBER_PATIENCE_MS / 2);
    ck_assert_uint_eq(here.closed, 0); /* 64 KiB are no reason to close */
    while (here.closed == 0) {
        ck_assert_uint_le(conn_pending(mute->conn), CHAT_MOST);
        hear(lines_of(8000));
        loop_for(here.set.base, 2);
        take(author);
        author->length = 0;
    }
    ck_assert_uint_eq(closed_for(CLOSE_SLOW), 1);
    expect_asked(CHAT_LEAVE);
    ck_assert_uint_eq(here.asked, 2);
    finish();
}
END_TEST

/* Mute, and with little less than CHAT_MOST waiting for it. */
static void stuff_nearly(struct client *client, int others, size_t left)
{
    stuff(client, others);
    while (conn_pending(client->conn) + left < CHAT_MOST) {
        size_t more = CHAT_MOST - left - conn_pending(client->conn);

        ck_assert(loop_until(here.set.base, is_heard, NULL));
        hear(lines_of(more < 8000 ? more + 1 : 8000));
        loop_for(here.set.base, 2);
        for (int i = 0; i < others; i++) {
            take(&clients[i]);
            clients[i].length = 0;
        }
    }
    ck_assert_uint_eq(here.closed, 0);
}

/* In the round in which somebody says what is too much for it, it breaks: it is closed once. */
START_TEST(a_mute_one_breaks_as_it_is_judged)
{
    struct client *mute;

    begin(2);
    join_many(1);
    mute = join(1, 4096);
    stuff_nearly(mute, 1, 1000);
    say(&clients[0], lines_of(2000));
    abort_connection(mute->fd);
    mute->fd = -1;
    ck_assert(loop_until(here.set.base, is_any_closed, NULL));
    loop_for(here.set.base, 10);
    ck_assert_uint_eq(here.closed, 1);
    finish();
}
END_TEST

/* The same, and it is drained just then, in a queue that somebody walks along. */
START_TEST(a_mute_one_is_judged_as_others_are_drained)
{
    struct conn *conn, *next;
    struct client *mute;

    begin(2);
    join_many(2);
    mute = join(2, 4096);
    stuff_nearly(mute, 2, 1000);
    say(&clients[0], lines_of(2000));
    shutdown(clients[0].fd, SHUT_WR);
    say(&clients[1], "unfinished");
    loop_for(here.set.base, 1);
    for (conn = TAILQ_FIRST(&here.set.active); conn != NULL; conn = next) {
        next = conn_next(conn);
        conn_finish(conn, CLOSE_DRAIN);
    }
    loop_for(here.set.base, 10);
    finish();
}
END_TEST

START_TEST(one_that_ends_gets_its_last_lines_though_it_is_mute)
{
    struct client *mute;

    begin(2);
    join_many(1);
    mute = join(1, 4096);
    stuff_nearly(mute, 1, 1000);
    say(&clients[0], lines_of(2000)); /* not looked at yet */
    shutdown(mute->fd, SHUT_WR);
    loop_for(here.set.base, 10);
    mute->length = 0;
    ck_assert(loop_until(here.set.base, is_at_end, mute));
    ck_assert_uint_eq(here.closed, closed_for(CLOSE_EOF) + closed_for(CLOSE_SLOW));
    finish();
}
END_TEST

/* A client that asks, and does not read the answers, is not asked on. */
START_TEST(who_does_not_listen_is_not_answered_without_end)
{
    struct client *client;
    char *asks = malloc(60001);

    begin(2);
    client = join(0, 4096);
    for (int i = 0; i < 10000; i++)
        memcpy(asks + (size_t) i * 6, "/help\n", 6);
    for (int i = 0; i < 300 && here.closed == 0; i++) {
        (void) !write(client->fd, asks, 60000);
        loop_for(here.set.base, 2);
        if (here.closed == 0)
            ck_assert_uint_le(conn_pending(client->conn), CHAT_MOST + 65536);
    }
    free(asks);
    finish();
}
END_TEST

static bool has_answers(void *client)
{
    size_t lines = 0;

    take(client);
    for (size_t i = 0; i < ((struct client *) client)->length; i++)
        lines += (((struct client *) client)->text[i] == '\n');
    return lines == 5 * 1000 && here.said_length > 0;
}

/* It goes on where it was, once it listens. */
START_TEST(who_asked_too_much_is_heard_again)
{
    struct client *client;

    begin(2);
    client = join(0, 4096);
    for (int i = 0; i < 1000; i++)
        while (write(client->fd, "/help\n", 6) < 0)
            loop_for(here.set.base, 1);
    say(client, "hello\n");
    loop_for(here.set.base, 50);
    ck_assert_uint_eq(here.said_length, 0);
    ck_assert_uint_gt(conn_pending(client->conn), 0);
    ck_assert_uint_le(conn_pending(client->conn), CHAT_MUCH + 1000);
    ck_assert(loop_until(here.set.base, has_answers, client));
    expect_said("a: hello\n");
    ck_assert_uint_eq(here.closed, 0);
    finish();
}
END_TEST

static bool has_more(void *client)
{
    return conn_pending(((struct client *) client)->conn) > CHAT_MUCH + 8000;
}

/* What memory it takes that COUNT lines are heard, each in its round, by one that is mute. */
static size_t memory_for(int count, size_t length)
{
    size_t before, grown;
    struct client *mute;

    begin(2);
    mute = join(0, 4096);
    stuff(mute, 0);
    hear(lines_of(16000)); /* comes when it holds nobody back any more */
    ck_assert(loop_until(here.set.base, has_more, mute));
    before = mallinfo2().uordblks;
    for (int i = 0; i < count; i++) {
        hear(lines_of(length));
        event_base_loop(here.set.base, EVLOOP_NONBLOCK);
        event_base_loop(here.set.base, EVLOOP_NONBLOCK);
        ck_assert(is_heard(NULL));
    }
    grown = mallinfo2().uordblks - before;
    ck_assert_uint_eq(here.closed, 0);
    finish();
    return grown;
}

START_TEST(what_waits_takes_little_more_memory_than_it_has)
{
    ck_assert_uint_lt(memory_for(3000, 5), 3000 * 5 * 4 + 50000);
    ck_assert_uint_lt(memory_for(60, 1100), 60 * 1100 * 3);
}
END_TEST

/* One block for all: ten that are mute cost little more than one. */
START_TEST(what_waits_is_shared)
{
    size_t before, grown;

    begin(2);
    for (int i = 1; i <= 10; i++)
        join(i, 4096);
    before = mallinfo2().uordblks;
    while (!has_much(&clients[1])) {
        hear(lines_of(8000));
        loop_for(here.set.base, 2);
    }
    grown = mallinfo2().uordblks - before;
    ck_assert_uint_lt(grown, 5 * CHAT_MUCH);
    finish(); /* and is freed with the last of them: valgrind and ASan see to that */
}
END_TEST

/* The hub does not take what the room says: the authors wait, and nothing is lost. */
START_TEST(a_full_bus_holds_back_authors)
{
    size_t sent = 0, first;
    int64_t began = clock_ms();

    begin(2);
    join_many(1);
    channel_listen(here.hub, false);
    for (int i = 0; i < 200; i++) {
        const char *text = lines_of(4000);
        ssize_t written = write(clients[0].fd, text, 4000);

        if (written > 0)
            sent += (size_t) written;
        if (written < 4000)
            break;
        loop_for(here.set.base, 1);
    }
    first = here.origin.stats->counter[STATS_received_bytes];
    loop_for(here.set.base, 50);
    ck_assert_uint_le(here.origin.stats->counter[STATS_received_bytes], first + BULK_READ);
    ck_assert_uint_lt(here.origin.stats->counter[STATS_received_bytes], 4 * CHAT_MUCH);
    ck_assert_uint_gt(sent, 4 * CHAT_MUCH);
    channel_listen(here.hub, true);
    while (here.said_length < sent / 4000 * 4003 && clock_ms() - began < DEADLINE_MS)
        loop_for(here.set.base, 1);
    ck_assert_uint_ge(here.said_length, sent / 4000 * 4003);
    ck_assert_uint_eq(here.closed, 0);
    finish();
}
END_TEST

START_TEST(a_hub_that_is_gone_is_no_harm)
{
    begin(2);
    join_many(2);
    channel_free(here.hub);
    here.hub = NULL;
    loop_for(here.set.base, 10);
    say(&clients[0], "hello\n");
    expect(&clients[1], "a: hello\n");
    enter(2, 0);
    ck_assert(loop_until(here.set.base, is_any_closed, NULL)); /* nobody can name it */
    ck_assert_uint_eq(closed_for(CLOSE_ERROR), 1);
    say(&clients[0], "/who\n");
    ck_assert(loop_until(here.set.base, is_at_end, &clients[0])); /* nor answer */
    finish();
}
END_TEST

START_TEST(who_gets_no_name_is_closed)
{
    begin(2);
    here.is_silent = true;
    enter(0, 0);
    expect_asked(CHAT_JOIN);
    answer(1, "", true, "");
    ck_assert(loop_until(here.set.base, is_any_closed, NULL));
    ck_assert_uint_eq(closed_for(CLOSE_ERROR), 1);
    finish();
}
END_TEST

/* Frames that are none of ours, or are cut short. */
START_TEST(what_it_does_not_know_it_passes_over)
{
    begin(2);
    join_many(1);
    ck_assert(channel_send(here.hub, CHAT_ANSWER, "short", 5, -1));
    ck_assert(channel_send(here.hub, CHAT_SAY, "x: no\n", 6, -1));
    ck_assert(channel_send(here.hub, 99, "x", 1, STDERR_FILENO));
    hear("x: yes\n");
    expect(&clients[0], "x: yes\n");
    finish();
}
END_TEST

START_TEST(short_of_memory_there_is_no_room)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        int fds[2], before;

        prepare();
        before = open_descriptors();
        make_hub(fds);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        here.origin.service_state = chat_service.start(here.set.base, &here.options, fds[0]);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(here.origin.service_state == NULL, failed);
        ck_assert_int_eq(is_open(fds[0]), !failed);
        finish();
        ck_assert_int_lt(open_descriptors(), before);
    }
    room_free(NULL);
}
END_TEST

static bool is_told_or_closed(void *text)
{
    bool done = true;

    for (int i = 0; i < 3; i++) {
        take(&clients[i]);
        clients[i].text[clients[i].length] = '\0';
        done = done && (clients[i].at_end || strstr(clients[i].text, text) != NULL);
    }
    return done;
}

/* Each gets all, in order, or is closed: nobody is served with a gap, or waits for ever. */
START_TEST(short_of_memory_all_comes_or_it_ends)
{
    static const char *const wanted[] = { "b: three\nx: four\n",
                                          "a: one\na: two\nx: four\n",
                                          "a: one\na: two\nb: three\nx: four\n" };
    bool failed = true;
    unsigned nth;

    for (nth = 1; failed; nth++) {
        bool done;

        begin(2);
        join_many(3);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        (void) !write(clients[0].fd, "one\n/nick a\ntwo\n", 16);
        loop_for(here.set.base, 3);
        (void) !write(clients[1].fd, "/who\nthree\n/help\n", 17);
        loop_for(here.set.base, 3);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        hear("x: four\n");
        done = loop_until(here.set.base, is_told_or_closed, (void *) "x: four\n");
        ck_assert_msg(done, "allocation %u: somebody waits for ever", nth);
        for (int i = 0; i < 3 && here.closed == 0; i++)
            ck_assert_msg(i == 1 || strcmp(clients[i].text, wanted[i]) == 0,
                          "allocation %u: \"%s\"", nth, clients[i].text);
        for (int i = 0; i < 3 && here.closed == 1; i++)
            ck_assert_msg(i == 1 || !clients[i].at_end ||
                              strncmp(clients[i].text, wanted[i], clients[i].length) == 0,
                          "allocation %u: \"%s\" has a gap", nth, clients[i].text);
        ck_assert(here.closed == 0 || closed_for(CLOSE_ERROR) == here.closed);
        finish();
    }
    ck_assert_uint_gt(nth, 8);
}
END_TEST

START_TEST(short_of_memory_a_newcomer_joins_or_is_closed)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        struct pair pair = make_pair(0);
        struct client *client = &clients[1];
        bool made;

        begin(2);
        join_many(1);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        client->fd = pair.client;
        set_blocking(client->fd, false);
        made = conn_new(&here.set, &here.origin, pair.server, &pair.peer);
        loop_for(here.set.base, 3);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        client->wanted = "* welcome\n";
        if (!made)
            close(pair.server);
        else
            ck_assert(loop_until(here.set.base, has_all, client));
        ck_assert(failed || client->length == strlen(client->wanted));
        ck_assert_uint_eq(here.closed, closed_for(CLOSE_ERROR));
        finish();
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        who_has_no_name_yet_is_heard_later,
        a_line_goes_to_all_others_and_to_the_hub,
        a_room_that_is_alone_tells_the_hub_no_lines,
        own_lines_do_not_come_back,
        a_newcomer_hears_from_its_name_on,
        a_new_name_is_for_new_lines,
        an_answer_may_come_in_parts,
        who_leaves_gets_what_was_said_until_then,
        a_drain_passes_on_the_last_words,
        each_gets_each_line_once_and_in_its_authors_order,
        a_kernel_with_its_moods_changes_nothing,
        while_much_waits_the_bus_is_not_read,
        authors_are_as_fast_as_who_is_slow,
        who_takes_nothing_holds_nobody_for_long_and_is_closed,
        a_mute_one_breaks_as_it_is_judged,
        a_mute_one_is_judged_as_others_are_drained,
        one_that_ends_gets_its_last_lines_though_it_is_mute,
        who_does_not_listen_is_not_answered_without_end,
        who_asked_too_much_is_heard_again,
        what_waits_takes_little_more_memory_than_it_has,
        what_waits_is_shared,
        a_full_bus_holds_back_authors,
        a_hub_that_is_gone_is_no_harm,
        who_gets_no_name_is_closed,
        what_it_does_not_know_it_passes_over,
        short_of_memory_there_is_no_room,
        short_of_memory_all_comes_or_it_ends,
        short_of_memory_a_newcomer_joins_or_is_closed,
    };

    return HARNESS_RUN("chat_room", tests);
}
