#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/datagram.h"
#include "src/defaults.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { OURS = 0, THEIRS = 1, OTHER_PORT = 40000, MOST = 65507 };

/* One worker's UDP sockets, and a client of the first. */
static struct {
    struct event_base *base;
    struct stats *stats;
    struct rates *rates;
    struct endpoint endpoint;
    struct listening list[2];
    struct sockets sockets;
    struct conn_origin origin;
    struct datagrams *datagrams;
    int client;
    uint16_t client_port;
} here;

/* A UDP socket of FAMILY at its loopback address; *PORT: at which port. */
static int open_socket(int family, uint16_t *port)
{
    struct address address = { .any.sa_family = (sa_family_t) family };
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (family == AF_INET6) {
        address.ip6.sin6_addr = in6addr_loopback;
        address.length = sizeof(address.ip6);
    } else {
        address.ip4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.length = sizeof(address.ip4);
    }
    ck_assert_int_eq(bind(fd, &address.any, address.length), 0);
    ck_assert_int_eq(getsockname(fd, &address.any, &address.length), 0);
    *port = address_port(&address);
    return fd;
}

/* The client talks to PORT from now on. */
static void connect_client(int family, uint16_t port)
{
    struct address address = { .any.sa_family = (sa_family_t) family };

    if (family == AF_INET6) {
        address.ip6.sin6_addr = in6addr_loopback;
        address.length = sizeof(address.ip6);
    } else {
        address.ip4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.length = sizeof(address.ip4);
    }
    address_set_port(&address, port);
    ck_assert_int_eq(connect(here.client, &address.any, address.length), 0);
}

/* RATE: of a source; 0: none. */
static void start_with(int family, uint64_t rate)
{
    const int room = 1 << 20;
    uint16_t port;
    int fd = open_socket(family, &port); /* blocking, as one that is passed */

    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.stats = stats_new(1, 1);
    here.rates = rate > 0 ? rates_new(rate, rate) : NULL;
    here.endpoint.transport = ENDPOINT_UDP;
    for (int i = 0; i < 2; i++)
        here.list[i].endpoint = &here.endpoint;
    here.list[0].address.any.sa_family = here.list[1].address.any.sa_family = AF_INET;
    address_set_port(&here.list[0].address, port);
    address_set_port(&here.list[1].address, OTHER_PORT);
    here.sockets = (struct sockets){ .list = here.list, .count = 2 };
    here.origin = (struct conn_origin){ .name = "udp://test:7",
                                        .stats = stats_block(here.stats, 0, 0) };
    here.datagrams = datagrams_new(here.base, NULL, here.rates, &here.sockets);
    ck_assert(datagrams_add(here.datagrams, fd, &here.origin, OURS));
    here.client = open_socket(family, &here.client_port);
    setsockopt(here.client, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    connect_client(family, port);
}

static void start(void)
{
    start_with(AF_INET, 0);
}

static void stop(void)
{
    inject_reset();
    datagrams_free(here.datagrams);
    event_base_free(here.base);
    rates_free(here.rates);
    stats_free(here.stats);
    close(here.client);
}

/* Sends datagram NUMBER, of SIZE bytes. */
static void send_one(unsigned number, size_t size)
{
    static char data[MOST];

    memset(data, (int) number, size);
    ck_assert_int_eq(write(here.client, data, size), (ssize_t) size);
}

static void send_many(unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++)
        send_one(i, size);
}

/* Does datagram NUMBER, of SIZE bytes, come next? */
static void expect(unsigned number, size_t size)
{
    static char data[MOST + 1], expected[MOST];
    struct pollfd ready = { .fd = here.client, .events = POLLIN };

    ck_assert_msg(poll(&ready, 1, 0) == 1, "number %u did not come", number);
    memset(expected, (int) number, size);
    ck_assert_int_eq(read(here.client, data, sizeof(data)), (ssize_t) size);
    ck_assert(memcmp(data, expected, size) == 0);
}

static void expect_nothing(void)
{
    struct pollfd ready = { .fd = here.client, .events = POLLIN };

    ck_assert_int_eq(poll(&ready, 1, 0), 0);
}

static uint64_t counted(enum stats_counter counter)
{
    return stats_sum_all(here.stats).counter[counter];
}

static uint64_t dropped(enum drop_reason reason)
{
    return stats_sum_all(here.stats).dropped[reason];
}

static bool are_received(void *count)
{
    return counted(STATS_datagrams_received) >= *(unsigned *) count;
}

/* Waits until COUNT in all were received: then they are answered as well. */
static void wait_received(unsigned count)
{
    ck_assert(loop_until(here.base, are_received, &count));
    ck_assert_uint_eq(counted(STATS_datagrams_received), count);
}

START_TEST(every_datagram_comes_back_as_it_was)
{
    static const size_t sizes[] = { 0, 1, 2, 511, 1472, 1473, 9000, 65506, MOST };
    static const int families[] = { AF_INET, AF_INET6 };
    const unsigned count = sizeof(sizes) / sizeof(sizes[0]);
    uint64_t bytes = 0;

    for (int k = 0; k < 2; k++) {
        start_with(families[k], 0);
        bytes = 0;
        for (unsigned i = 0; i < count; i++) {
            send_one(i, sizes[i]);
            wait_received(i + 1);
            expect(i, sizes[i]);
            bytes += sizes[i];
        }
        ck_assert_uint_eq(counted(STATS_received_bytes), bytes);
        ck_assert_uint_eq(counted(STATS_sent_bytes), bytes);
        ck_assert_uint_eq(counted(STATS_datagrams_sent), count);
        expect_nothing();
        stop();
    }
}
END_TEST

START_TEST(batches_of_mixed_sizes)
{
    enum { TOTAL = 3 * DATAGRAM_BATCH + 5 };

    start();
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < TOTAL; i++)
            send_one(i, (i * 37 + round) % 90);
        wait_received((round + 1) * TOTAL);
        for (unsigned i = 0; i < TOTAL; i++)
            expect(i, (i * 37 + round) % 90);
    }
    ck_assert_uint_eq(counted(STATS_datagrams_sent), 5 * TOTAL);
    stop();
}
END_TEST

START_TEST(one_that_fails_does_not_lose_the_others)
{
    static const int errors[] = { EPERM, EINVAL, ENETUNREACH, EAGAIN, ENOBUFS, ECONNREFUSED };

    for (unsigned k = 0; k < sizeof(errors) / sizeof(errors[0]); k++) {
        for (unsigned nth = 1; nth <= 5; nth++) {
            start();
            send_many(5, 10);
            inject_fail(INJECT_WRITE, nth, 1, errors[k]);
            wait_received(5);
            for (unsigned i = 0; i < 5; i++)
                if (i + 1 != nth)
                    expect(i, 10);
            expect_nothing();
            ck_assert_uint_eq(dropped(DROP_FULL), 1);
            ck_assert_uint_eq(counted(STATS_datagrams_sent), 4);
            ck_assert_uint_eq(counted(STATS_sent_bytes), 40);
            stop();
        }
    }
}
END_TEST

START_TEST(what_the_kernel_does_not_take_is_dropped)
{
    enum { COUNT = DATAGRAM_BATCH + 3 };

    start();
    send_many(COUNT, 100);
    inject_fail_each(INJECT_WRITE, 1, EAGAIN);
    wait_received(COUNT);
    ck_assert_uint_eq(dropped(DROP_FULL), COUNT);
    ck_assert_uint_eq(counted(STATS_datagrams_sent), 0);
    inject_reset();
    loop_for(here.base, 20);
    expect_nothing(); /* none was kept for later */
    send_many(1, 100);
    wait_received(COUNT + 1);
    expect(0, 100);
    stop();
}
END_TEST

START_TEST(errors_of_the_socket_do_no_harm)
{
    static const int errors[] = { ECONNREFUSED, EHOSTUNREACH, EINTR, ENOMEM };

    for (unsigned k = 0; k < sizeof(errors) / sizeof(errors[0]); k++) {
        start();
        send_many(3, 10);
        inject_fail(INJECT_READ, 1, 2, errors[k]);
        wait_received(3);
        for (unsigned i = 0; i < 3; i++)
            expect(i, 10);
        stop();
    }
}
END_TEST

/* Another worker has been faster at the socket that they share. */
START_TEST(nothing_there_is_no_error)
{
    start();
    send_many(1, 10);
    inject_fail(INJECT_READ, 1, 1, EAGAIN);
    wait_received(1);
    expect(0, 10);
    stop();
}
END_TEST

START_TEST(too_many_from_one_source_are_dropped)
{
    start_with(AF_INET, 3);
    send_many(10, 1);
    wait_received(10);
    for (unsigned i = 0; i < 3; i++)
        expect(i, 1);
    ck_assert_uint_eq(dropped(DROP_RATE), 7);
    ck_assert_uint_eq(counted(STATS_received_bytes), 10);
    ck_assert_uint_eq(counted(STATS_sent_bytes), 3);
    stop();
}
END_TEST

START_TEST(who_is_denied_gets_no_answer_and_costs_no_rate)
{
    struct access_rules rules = { 0 };
    struct access_item item;
    uint16_t port;

    ck_assert_ptr_null(access_parse(&rules.deny, "127.0.0.1", 9, &item));
    access_compile(&rules.deny);
    start_with(AF_INET, 3);
    datagrams_free(here.datagrams);
    here.datagrams = datagrams_new(here.base, &rules, here.rates, &here.sockets);
    ck_assert(datagrams_add(here.datagrams, open_socket(AF_INET, &port), &here.origin, OURS));
    connect_client(AF_INET, port);
    send_many(10, 1);
    wait_received(10);
    expect_nothing();
    ck_assert_uint_eq(dropped(DROP_DENY), 10);
    access_release(&rules.deny); /* as when they are loaded anew */
    send_many(3, 1);
    wait_received(13);
    for (unsigned i = 0; i < 3; i++)
        expect(i, 1);
    stop();
}
END_TEST

START_TEST(what_is_dropped_leaves_no_gap_in_its_batch)
{
    struct sockaddr_in other = { .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1) };
    struct address server = { .length = sizeof(server.ip4) };
    int first;

    start_with(AF_INET, 1);
    first = here.client;
    ck_assert_int_eq(getpeername(first, &server.any, &server.length), 0);
    send_many(4, 9);
    here.client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(here.client, (struct sockaddr *) &other, sizeof(other)), 0);
    ck_assert_int_eq(connect(here.client, &server.any, server.length), 0);
    send_one(5, 7);
    wait_received(5);
    expect(5, 7);
    close(here.client);
    here.client = first;
    expect(0, 9);
    expect_nothing();
    stop();
}
END_TEST

/* What comes from HOST at PORT is dropped for REASON. */
static void check_source(const char *host, uint16_t port, enum drop_reason reason)
{
    struct address source = { 0 };
    uint64_t before = dropped(reason);

    if (inet_pton(AF_INET, host, &source.ip4.sin_addr) == 1) {
        source.any.sa_family = AF_INET;
        source.length = sizeof(source.ip4);
    } else {
        ck_assert_int_eq(inet_pton(AF_INET6, host, &source.ip6.sin6_addr), 1);
        source.any.sa_family = AF_INET6;
        source.length = sizeof(source.ip6);
    }
    address_set_port(&source, port);
    inject_source(&source, source.length);
    send_many(1, 5);
    wait_received((unsigned) counted(STATS_datagrams_received) + 1);
    ck_assert_msg(dropped(reason) == before + 1, "from %s at %u", host, port);
    ck_assert_uint_eq(inject_count(INJECT_WRITE), 0);
}

START_TEST(ports_that_could_start_a_loop_get_no_answer)
{
    start();
    check_source("127.0.0.1", 0, DROP_PORT);
    check_source("127.0.0.1", 1, DROP_PORT);
    check_source("127.0.0.1", 7, DROP_PORT);
    check_source("127.0.0.1", 53, DROP_PORT);
    check_source("127.0.0.1", 1023, DROP_PORT);
    check_source("127.0.0.1", 2049, DROP_PORT);
    check_source("10.0.0.1", address_port(&here.list[0].address), DROP_PORT);
    check_source("10.0.0.1", OTHER_PORT, DROP_PORT);
    check_source("::1", OTHER_PORT, DROP_PORT);
    check_source("::1", 1023, DROP_PORT);
    ck_assert_uint_eq(counted(STATS_datagrams_sent), 0);
    stop();
}
END_TEST

START_TEST(ports_beside_those_do)
{
    static const uint16_t ports[] = { 1024, 2048, 2050, OTHER_PORT - 1, OTHER_PORT + 1, 65535 };

    start();
    for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        struct sockaddr_in source = { .sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                      .sin_port = htons(ports[i]) };

        inject_source(&source, sizeof(source));
        send_many(1, 5);
        wait_received(i + 1);
        ck_assert_uint_eq(counted(STATS_datagrams_sent), i + 1);
    }
    stop();
}
END_TEST

/* Only UDP endpoints bounce datagrams. */
START_TEST(ports_of_other_transports_do)
{
    struct endpoint tcp = { .transport = ENDPOINT_TCP };
    uint16_t port;

    start();
    datagrams_free(here.datagrams);
    here.list[1].endpoint = &tcp;
    address_set_port(&here.list[1].address, here.client_port);
    here.datagrams = datagrams_new(here.base, NULL, NULL, &here.sockets);
    ck_assert(datagrams_add(here.datagrams, open_socket(AF_INET, &port), &here.origin, OURS));
    connect_client(AF_INET, port);
    send_many(1, 5);
    wait_received(1);
    expect(0, 5);
    stop();
}
END_TEST

START_TEST(sources_that_are_many_get_no_answer)
{
    start();
    check_source("255.255.255.255", 5000, DROP_MULTICAST);
    check_source("224.0.0.1", 5000, DROP_MULTICAST);
    check_source("239.255.255.255", 5000, DROP_MULTICAST);
    check_source("ff02::1", 5000, DROP_MULTICAST);
    check_source("::ffff:224.0.0.1", 5000, DROP_MULTICAST);
    check_source("::ffff:255.255.255.255", 5000, DROP_MULTICAST);
    stop();
}
END_TEST

START_TEST(each_datagram_is_a_line_when_asked_for)
{
    const char *text;

    start_with(AF_INET, 2);
    capture_log_begin(LOG_DEBUG);
    ck_assert_int_eq(write(here.client, "a \n", 3), 3);
    send_many(1, 0);
    send_many(1, 300);
    wait_received(3);
    text = capture_end();
    ck_assert_uint_eq(count_lines(text), 3);
    ck_assert_ptr_nonnull(strstr(text, "Z debug received peer=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(text, " endpoint=udp://test:7 bytes=3 data=\"a \\n\"\n"));
    ck_assert_ptr_nonnull(strstr(text, " endpoint=udp://test:7 bytes=0 data=\"\"\n"));
    ck_assert_ptr_nonnull(strstr(text, " bytes=300 data=\"\\x00"));
    ck_assert_ptr_nonnull(strstr(text, "\" dropped=rate\n"));
    stop();
}
END_TEST

START_TEST(without_being_asked_there_is_none)
{
    start();
    capture_log_begin(LOG_INFO);
    send_many(1, 3);
    wait_received(1);
    ck_assert_str_eq(capture_end(), "");
    stop();
}
END_TEST

START_TEST(a_full_queue_does_not_starve_others)
{
    enum { AT_ONCE = DATAGRAM_BATCH * DATAGRAM_ROUNDS, COUNT = AT_ONCE + 10 };

    start();
    send_many(COUNT, 1);
    event_base_loop(here.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    ck_assert_uint_eq(counted(STATS_datagrams_received), AT_ONCE);
    event_base_loop(here.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    ck_assert_uint_eq(counted(STATS_datagrams_received), COUNT);
    stop();
}
END_TEST

START_TEST(a_drain_answers_what_is_queued_and_closes)
{
    enum { COUNT = DATAGRAM_BATCH + 5 };
    int before;

    start();
    before = open_descriptors();
    send_many(COUNT, 20);
    ck_assert(datagrams_drain(here.datagrams));
    for (unsigned i = 0; i < COUNT; i++)
        expect(i, 20);
    ck_assert_int_eq(open_descriptors(), before - 1);
    ck_assert(datagrams_drain(here.datagrams));
    ck_assert_int_eq(write(here.client, "x", 1), 1);
    ck_assert_int_eq(write(here.client, "x", 1), -1); /* ICMP says so at once on loopback */
    ck_assert_int_eq(errno, ECONNREFUSED);
    stop();
}
END_TEST

START_TEST(a_drain_leaves_the_queue_of_a_passed_socket)
{
    struct conn_origin passed;
    uint16_t port;
    int fd = open_socket(AF_INET, &port), managers = dup(fd);
    char data[8];

    start();
    passed = here.origin;
    passed.is_passed = true;
    ck_assert(datagrams_add(here.datagrams, fd, &passed, THEIRS));
    connect_client(AF_INET, port);
    send_many(1, 5);
    ck_assert(datagrams_drain(here.datagrams));
    ck_assert_uint_eq(counted(STATS_datagrams_received), 0);
    ck_assert_int_eq(read(managers, data, sizeof(data)), 5);
    close(managers);
    stop();
}
END_TEST

START_TEST(a_drain_ends_though_more_and_more_comes)
{
    int64_t began = clock_ms();
    uint64_t answered = 0;

    start();
    do {
        while (counted(STATS_datagrams_received) + 2 * DATAGRAM_BATCH * DATAGRAM_ROUNDS > answered) {
            send_many(1, 1);
            answered++;
        }
        ck_assert_int_lt(clock_ms() - began, DEADLINE_MS);
    } while (!datagrams_drain(here.datagrams));
    ck_assert_int_ge(clock_ms() - began, DATAGRAM_DRAIN_MS - 5);
    stop();
}
END_TEST

START_TEST(a_group_is_removed)
{
    uint16_t port;
    int theirs = open_socket(AF_INET, &port), before;

    start();
    before = open_descriptors();
    ck_assert(datagrams_add(here.datagrams, theirs, &here.origin, THEIRS));
    datagrams_remove(here.datagrams, THEIRS);
    ck_assert_int_eq(open_descriptors(), before - 1); /* it was open before */
    send_many(1, 1);
    wait_received(1);
    expect(0, 1);
    datagrams_remove(here.datagrams, OURS);
    ck_assert_int_eq(open_descriptors(), before - 2);
    stop();
    datagrams_free(NULL);
}
END_TEST

START_TEST(short_of_memory_nothing_is_left_open)
{
    struct datagrams *datagrams;
    unsigned nth;
    bool added = false;

    start();
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    ck_assert_ptr_null(datagrams_new(here.base, NULL, NULL, &here.sockets));
    for (nth = 1; !added; nth++) {
        uint16_t port;
        int fd = open_socket(AF_INET, &port);

        datagrams = datagrams_new(here.base, NULL, NULL, &here.sockets);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        errno = 0;
        added = datagrams_add(datagrams, fd, &here.origin, OURS);
        inject_reset();
        if (!added) {
            ck_assert_int_eq(errno, ENOMEM);
            ck_assert(!is_open(fd));
        }
        datagrams_free(datagrams);
    }
    ck_assert_uint_gt(nth, 3);
    stop();
}
END_TEST

START_TEST(what_is_no_socket_is_refused)
{
    int pipes[2];

    start();
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert(!datagrams_add(here.datagrams, pipes[0], &here.origin, OURS));
    ck_assert_int_eq(errno, ENOTSOCK);
    ck_assert(!is_open(pipes[0]));
    close(pipes[1]);
    send_many(1, 1);
    wait_received(1);
    expect(0, 1);
    stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_datagram_comes_back_as_it_was,
        batches_of_mixed_sizes,
        one_that_fails_does_not_lose_the_others,
        what_the_kernel_does_not_take_is_dropped,
        errors_of_the_socket_do_no_harm,
        nothing_there_is_no_error,
        too_many_from_one_source_are_dropped,
        who_is_denied_gets_no_answer_and_costs_no_rate,
        what_is_dropped_leaves_no_gap_in_its_batch,
        ports_that_could_start_a_loop_get_no_answer,
        ports_beside_those_do,
        ports_of_other_transports_do,
        sources_that_are_many_get_no_answer,
        each_datagram_is_a_line_when_asked_for,
        without_being_asked_there_is_none,
        a_full_queue_does_not_starve_others,
        a_drain_answers_what_is_queued_and_closes,
        a_drain_leaves_the_queue_of_a_passed_socket,
        a_drain_ends_though_more_and_more_comes,
        a_group_is_removed,
        short_of_memory_nothing_is_left_open,
        what_is_no_socket_is_refused,
    };

    return HARNESS_RUN("datagram", tests);
}
