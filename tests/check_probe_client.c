#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/probe/client.h"
#include "src/probe/defaults.h"
#include "src/probe/pattern.h"
#include "src/probe/stream.h"
#include "src/proxy.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define SECOND UINT64_C(1000000000)

/* What the client told its owner. */
static struct {
    unsigned opened, ended;
    uint64_t answered, corrupt;
    char why[64]; /* "": all is well */
} told;

static struct tally tally;
static struct client_setup setup;
static struct address addresses[2];
static struct endpoint endpoint;
static struct target target;
static struct client client;
static int listener;

/* The server's end, whose part we play: it gives back what it gets, one byte of it changed. */
static struct {
    int fd;          /* -1: not accepted yet */
    int64_t flipped; /* position of that byte; -1: none */
    int64_t position;
    size_t length, sent; /* bytes of what follows */
    char data[65536];
} server;

static void on_opened(struct client *own)
{
    ck_assert_ptr_eq(own, &client);
    told.opened++;
}

static void on_answered(struct client *own, uint64_t first, uint64_t messages, uint64_t corrupt)
{
    ck_assert_uint_eq(first, told.answered);
    told.answered += messages;
    told.corrupt += corrupt;
    ck_assert_uint_eq(own->settled, told.answered);
}

static void on_ended(struct client *own, const char *why)
{
    ck_assert_int_eq(own->phase, CLIENT_ENDED);
    told.ended++;
    strncpy(told.why, why != NULL ? why : "", sizeof(told.why) - 1);
}

static const struct client_handler handler = { .opened = on_opened, .answered = on_answered,
                                               .ended = on_ended };

static struct address loopback(uint16_t port)
{
    struct sockaddr_in ip4 = { .sin_family = AF_INET, .sin_port = htons(port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    return address_from((struct sockaddr *) &ip4, sizeof(ip4));
}

/* A client of messages of SIZE, not yet connected, and somebody who listens. */
static void set_up(uint64_t size)
{
    static unsigned char buffer[PIECE_MAX];
    uint16_t port;

    inject_reset();
    memset(&told, 0, sizeof(told));
    memset(&tally, 0, sizeof(tally));
    memset(&server, 0, sizeof(server));
    server.fd = -1;
    server.flipped = -1;
    pattern_init();
    listener = listen_anywhere(&port);
    addresses[0] = loopback(port);
    target = (struct target){ .endpoint = &endpoint, .addresses = addresses, .count = 1 };
    setup = (struct client_setup){ .base = reactor_new(NULL), .transport = &stream_transport,
                                   .target = &target, .size = size, .timeout = 10 * SECOND,
                                   .buffer = buffer, .tally = &tally, .handler = &handler };
    client_init(&client, &setup, 7);
}

static bool is_opened(void *unused)
{
    (void) unused;
    return told.opened > 0 || told.ended > 0;
}

static bool is_ended(void *unused)
{
    (void) unused;
    return told.ended > 0;
}

static void connect_client(void)
{
    client_connect(&client);
    ck_assert(loop_until(setup.base, is_opened, NULL));
    ck_assert_uint_eq(told.opened, 1);
    server.fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(server.fd, 0);
    set_blocking(server.fd, false);
}

static void tear_down(void)
{
    client_end(&client, NULL);
    ck_assert_int_eq(client.fd, -1);
    event_base_free(setup.base);
    if (server.fd >= 0)
        close(server.fd);
    close(listener);
}

static void receive_as_server(void)
{
    ssize_t got = read(server.fd, server.data, sizeof(server.data));

    server.length = got > 0 ? (size_t) got : 0;
    server.sent = 0;
    if (got == 0)
        shutdown(server.fd, SHUT_WR);
    if (server.flipped >= server.position &&
        server.flipped < server.position + (int64_t) server.length)
        server.data[server.flipped - server.position] ^= 1;
    server.position += (int64_t) server.length;
}

static bool echo_until_ended(void *unused)
{
    ssize_t sent;

    if (server.sent == server.length)
        receive_as_server();
    sent = write(server.fd, server.data + server.sent, server.length - server.sent);
    server.sent += sent > 0 ? (size_t) sent : 0;
    return is_ended(unused);
}

/* Sends so many MESSAGES and FIN; all come back, and EOF. */
static void exchange(uint64_t messages)
{
    client_allow(&client, messages, clock_ns());
    client_push(&client);
    client_finish(&client);
    ck_assert(loop_until(setup.base, echo_until_ended, NULL));
    ck_assert_str_eq(told.why, "");
    ck_assert_uint_eq(told.answered, messages);
    ck_assert_uint_eq(client.received, messages * setup.size);
    ck_assert_uint_eq(tally_get(&tally, TALLY_BYTES), client.received);
}

START_TEST(everything_comes_back)
{
    const uint64_t sizes[] = { 1, 64, 65537, 3 << 20 };

    for (unsigned i = 0; i < 4; i++) {
        set_up(sizes[i]);
        connect_client();
        exchange(5);
        ck_assert_uint_eq(told.corrupt, 0);
        tear_down();
    }
}
END_TEST

START_TEST(also_when_calls_are_short_or_have_to_wait)
{
    unsigned failures = 0;

    for (unsigned i = 0; i < 10; i++) {
        set_up(997);
        connect_client();
        inject_random(INJECT_READ, i + 1);
        inject_random(INJECT_WRITE, i + 99);
        exchange(200);
        failures += inject_failures(INJECT_READ) + inject_failures(INJECT_WRITE);
        ck_assert_uint_eq(told.corrupt, 0);
        tear_down();
    }
    ck_assert_uint_gt(failures, 0);
}
END_TEST

START_TEST(one_send_and_one_receive_an_event)
{
    uint64_t now = clock_ns();

    set_up(64);
    connect_client();
    inject_reset();
    client_allow(&client, 3, now);
    client_push(&client);
    ck_assert_uint_eq(inject_count(INJECT_WRITE), 1);
    client_push(&client); /* all is sent */
    ck_assert_uint_eq(inject_count(INJECT_WRITE), 1);
    ck_assert_uint_eq(client.sent, 192);
    ck_assert_int_eq(write(server.fd, pattern_at(7, 0), 192), 192);
    event_base_loop(setup.base, EVLOOP_ONCE);
    ck_assert_uint_eq(inject_count(INJECT_READ), 1);
    ck_assert_uint_eq(told.answered, 3);
    tear_down();
}
END_TEST

START_TEST(a_changed_byte_spoils_its_message_only)
{
    for (unsigned i = 1; i < 4; i++) {
        set_up(100);
        connect_client();
        inject_short(INJECT_READ, i);
        server.flipped = 299;
        exchange(10);
        ck_assert_uint_eq(told.corrupt, 1);
        ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 1);
        tear_down();
    }
}
END_TEST

START_TEST(half_a_message_that_is_wrong_is_corrupt)
{
    set_up(64);
    connect_client();
    client_allow(&client, 1, clock_ns());
    client_push(&client);
    ck_assert_int_eq(write(server.fd, "?", 1), 1);
    shutdown(server.fd, SHUT_WR);
    ck_assert(loop_until(setup.base, is_ended, NULL));
    ck_assert_str_eq(told.why, "Connection closed early");
    ck_assert_uint_eq(told.answered, 0);
    ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 1);
    tear_down();
}
END_TEST

START_TEST(more_than_was_sent)
{
    set_up(64);
    connect_client();
    client_allow(&client, 1, clock_ns());
    client_push(&client);
    ck_assert_int_eq(write(server.fd, pattern_at(7, 0), 65), 65);
    ck_assert(loop_until(setup.base, is_ended, NULL));
    ck_assert_str_eq(told.why, "More came back than was sent");
    ck_assert_uint_eq(told.answered, 1); /* and this one is exact */
    ck_assert_uint_eq(told.corrupt, 0);
    ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 1);
    tear_down();
}
END_TEST

START_TEST(a_proxy_header_comes_first_and_names_both_ends)
{
    char header[PROXY_V1_MOST + 1], wanted[PROXY_V1_MOST + 1];
    struct sockaddr_in own = { 0 };
    socklen_t length = sizeof(own);

    set_up(64);
    setup.proxy = proxy_write_v1;
    connect_client();
    ck_assert_int_eq(getsockname(client.fd, (struct sockaddr *) &own, &length), 0);
    snprintf(wanted, sizeof(wanted), "PROXY TCP4 127.0.0.1 127.0.0.1 %u %u\r\n",
             ntohs(own.sin_port), address_port(&addresses[0]));
    ck_assert_int_eq(read(server.fd, header, sizeof(header)), (ssize_t) strlen(wanted));
    ck_assert_mem_eq(header, wanted, strlen(wanted));
    exchange(3);
    tear_down();
}
END_TEST

START_TEST(a_proxy_header_that_cannot_be_sent)
{
    set_up(64);
    setup.proxy = proxy_write_v2;
    inject_fail(INJECT_WRITE, 1, 1, ECONNRESET);
    client_connect(&client);
    ck_assert(loop_until(setup.base, is_ended, NULL));
    ck_assert_str_eq(told.why, strerror(ECONNRESET));
    ck_assert_uint_eq(told.opened, 0);
    tear_down();
}
END_TEST

START_TEST(errors_end_it)
{
    for (unsigned i = 0; i < 2; i++) {
        set_up(64);
        connect_client();
        client_allow(&client, 2, clock_ns());
        inject_fail(i == 0 ? INJECT_WRITE : INJECT_READ, 1, 1, ECONNRESET);
        client_push(&client);
        ck_assert_int_eq(write(server.fd, "x", 1), 1);
        ck_assert(loop_until(setup.base, is_ended, NULL));
        ck_assert_str_eq(told.why, strerror(ECONNRESET));
        tear_down();
    }
}
END_TEST

START_TEST(the_next_address_is_tried)
{
    uint16_t port;

    set_up(64);
    addresses[1] = addresses[0];
    close(listen_anywhere(&port));
    addresses[0] = loopback(port);
    target.count = 2;
    connect_client();
    ck_assert_uint_eq(client.attempt, 1);
    exchange(3);
    tear_down();
}
END_TEST

START_TEST(nobody_listens)
{
    uint16_t port;

    set_up(64);
    close(listen_anywhere(&port));
    addresses[0] = loopback(port);
    client_connect(&client);
    ck_assert(loop_until(setup.base, is_ended, NULL));
    ck_assert_uint_eq(told.opened, 0);
    ck_assert_str_eq(told.why, strerror(ECONNREFUSED));
    tear_down();
}
END_TEST

START_TEST(no_descriptor_or_no_memory)
{
    int before;

    for (unsigned i = 0; i < 3; i++) {
        set_up(64);
        before = open_descriptors();
        if (i == 0)
            inject_fail(INJECT_SOCKET, 1, 1, EMFILE);
        else
            inject_fail(INJECT_MEMORY, i, 1, ENOMEM);
        client_connect(&client);
        ck_assert_uint_eq(told.ended, 1);
        ck_assert_str_eq(told.why, strerror(i == 0 ? EMFILE : ENOMEM));
        ck_assert_int_eq(open_descriptors(), before);
        tear_down();
    }
}
END_TEST

START_TEST(patience_has_an_end)
{
    uint64_t now;

    set_up(64);
    connect_client();
    now = clock_ns();
    client_check(&client, now + 11 * SECOND); /* it waits for nothing */
    ck_assert_uint_eq(told.ended, 0);
    client_allow(&client, 1, now);
    client_push(&client);
    client_check(&client, now + 9 * SECOND);
    ck_assert_uint_eq(told.ended, 0);
    client_check(&client, now + 11 * SECOND);
    ck_assert_str_eq(told.why, strerror(ETIMEDOUT));
    tear_down();
}
END_TEST

START_TEST(who_does_not_close_is_let_go_if_that_is_allowed)
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t now = clock_ns();

        set_up(64);
        setup.needs_eof = i == 1;
        connect_client();
        client_finish(&client);
        ck_assert_int_eq(client.phase, CLIENT_FINISHING);
        client_check(&client, now + SECOND);
        ck_assert_uint_eq(told.ended, i == 1 ? 0 : 1);
        client_check(&client, now + 11 * SECOND);
        ck_assert_uint_eq(told.ended, 1);
        ck_assert_str_eq(told.why, i == 1 ? strerror(ETIMEDOUT) : "");
        tear_down();
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        everything_comes_back,
        also_when_calls_are_short_or_have_to_wait,
        one_send_and_one_receive_an_event,
        a_changed_byte_spoils_its_message_only,
        half_a_message_that_is_wrong_is_corrupt,
        more_than_was_sent,
        a_proxy_header_comes_first_and_names_both_ends,
        a_proxy_header_that_cannot_be_sent,
        errors_end_it,
        the_next_address_is_tried,
        nobody_listens,
        no_descriptor_or_no_memory,
        patience_has_an_end,
        who_does_not_close_is_let_go_if_that_is_allowed,
    };

    return HARNESS_RUN("probe/client", tests);
}
