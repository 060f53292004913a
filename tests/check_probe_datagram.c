#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/probe/batch.h"
#include "src/probe/datagram.h"
#include "src/probe/defaults.h"
#include "src/probe/pattern.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define SECOND UINT64_C(1000000000)

/* What the client told its owner. */
static struct {
    unsigned opened, ended;
    uint64_t answered, corrupt, lost;
    uint64_t last; /* message that was answered or lost */
    char why[64];  /* "": all is well */
} told;

static struct tally tally;
static struct client_setup setup;
static struct address addresses[2];
static struct endpoint endpoint;
static struct target target;
static struct client client;

/* The server's socket, whose part we play, and what it received last. */
static int server;
static struct sockaddr_storage peer;
static socklen_t peer_length;
static char data[65536];
static size_t length;

static void on_opened(struct client *own)
{
    ck_assert_ptr_eq(own, &client);
    told.opened++;
}

static void on_answered(struct client *own, uint64_t first, uint64_t messages, uint64_t corrupt)
{
    ck_assert_uint_eq(messages, 1);
    told.answered++;
    told.corrupt += corrupt;
    told.last = first;
    ck_assert_uint_eq(own->settled, told.answered + told.lost);
}

static void on_lost(struct client *own, uint64_t message)
{
    told.lost++;
    told.last = message;
    ck_assert_uint_eq(own->settled, told.answered + told.lost);
}

static void on_ended(struct client *own, const char *why)
{
    ck_assert_int_eq(own->phase, CLIENT_ENDED);
    told.ended++;
    strncpy(told.why, why != NULL ? why : "", sizeof(told.why) - 1);
}

static const struct client_handler handler = { on_opened, on_answered, on_lost, on_ended };

static int serve_anywhere(struct address *address)
{
    struct sockaddr_in ip4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(ip4);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *) &ip4, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &ip4, &size), 0);
    *address = address_from((struct sockaddr *) &ip4, size);
    return fd;
}

/* A client of messages of SIZE, which is open: nothing has to be waited for. */
static void set_up(uint64_t size)
{
    inject_reset();
    memset(&told, 0, sizeof(told));
    memset(&tally, 0, sizeof(tally));
    pattern_init();
    server = serve_anywhere(&addresses[0]);
    target = (struct target){ .endpoint = &endpoint, .addresses = addresses, .count = 1 };
    setup = (struct client_setup){ .base = reactor_new(NULL), .transport = &datagram_transport,
                                   .target = &target, .size = size, .timeout = SECOND,
                                   .batch = batch_new(size), .tally = &tally,
                                   .handler = &handler };
    client_init(&client, &setup, 7);
    client_connect(&client);
    ck_assert_int_eq(client.phase, CLIENT_OPEN);
    ck_assert_uint_eq(told.opened, 1);
}

static void tear_down(void)
{
    client_end(&client, NULL);
    ck_assert_int_eq(client.fd, -1);
    event_base_free(setup.base);
    free(setup.batch);
    close(server);
}

static void allow(uint64_t messages)
{
    client_allow(&client, messages, clock_ns());
    client_push(&client);
}

static bool receive(void *unused)
{
    ssize_t got;

    (void) unused;
    peer_length = sizeof(peer);
    got = recvfrom(server, data, sizeof(data), 0, (struct sockaddr *) &peer, &peer_length);
    length = got >= 0 ? (size_t) got : 0;
    return got >= 0;
}

static void answer(void)
{
    ck_assert_int_eq(sendto(server, data, length, 0, (struct sockaddr *) &peer, peer_length),
                     (ssize_t) length);
}

static bool is_settled(void *unused)
{
    (void) unused;
    return client.phase == CLIENT_ENDED || client.settled == client.allowed;
}

static bool echo_until_settled(void *unused)
{
    while (receive(NULL))
        answer();
    return is_settled(unused);
}

/* Handles what is there, and comes back. */
static void handle(void)
{
    loop_for(setup.base, 20);
}

START_TEST(everything_comes_back)
{
    const uint64_t sizes[] = { 0, 1, 2, 15, 64, 1400, 65507 };

    for (unsigned i = 0; i < 7; i++) {
        set_up(sizes[i]);
        for (unsigned j = 0; j < 30; j++) { /* with as many in flight as buffers hold */
            allow(sizes[i] > 1400 ? 2 : 40);
            ck_assert(loop_until(setup.base, echo_until_settled, NULL));
        }
        ck_assert_uint_eq(told.answered, client.allowed);
        ck_assert_uint_eq(told.corrupt + told.lost, 0);
        ck_assert_uint_eq(tally_get(&tally, TALLY_BYTES), client.allowed * sizes[i]);
        client_finish(&client);
        ck_assert_uint_eq(told.ended, 1);
        ck_assert_str_eq(told.why, "");
        tear_down();
    }
}
END_TEST

START_TEST(also_when_calls_are_short_or_have_to_wait)
{
    unsigned failures = 0;

    for (unsigned i = 0; i < 10; i++) {
        set_up(99);
        inject_random(INJECT_READ, i + 1);
        inject_random(INJECT_WRITE, i + 99);
        for (unsigned j = 0; j < 20; j++) {
            allow(100);
            ck_assert(loop_until(setup.base, echo_until_settled, NULL));
        }
        failures += inject_failures(INJECT_READ) + inject_failures(INJECT_WRITE);
        ck_assert_uint_eq(told.answered, 2000);
        ck_assert_uint_eq(told.corrupt + told.lost, 0);
        tear_down();
    }
    ck_assert_uint_gt(failures, 0);
}
END_TEST

START_TEST(many_go_in_one_call)
{
    set_up(64);
    inject_reset();
    allow(BATCH_DATAGRAMS);
    while (receive(NULL))
        answer();
    event_base_loop(setup.base, EVLOOP_ONCE);
    ck_assert_uint_eq(inject_count(INJECT_READ), 1);
    ck_assert_uint_eq(told.answered, BATCH_DATAGRAMS);
    tear_down();
}
END_TEST

START_TEST(answers_come_in_any_order)
{
    char first[64];

    set_up(64);
    allow(2);
    ck_assert(receive(NULL));
    memcpy(first, data, sizeof(first));
    ck_assert(receive(NULL));
    answer();
    handle();
    ck_assert_uint_eq(told.answered, 1);
    ck_assert_uint_eq(told.last, 1);
    memcpy(data, first, sizeof(first));
    answer();
    ck_assert(loop_until(setup.base, is_settled, NULL));
    ck_assert_uint_eq(told.last, 0);
    ck_assert_uint_eq(told.corrupt, 0);
    tear_down();
}
END_TEST

START_TEST(a_second_answer_is_no_corruption)
{
    const uint64_t sizes[] = { 0, 1, 64 };

    for (unsigned i = 0; i < 3; i++) {
        set_up(sizes[i]);
        allow(1);
        ck_assert(receive(NULL));
        answer();
        answer();
        handle();
        ck_assert_uint_eq(told.answered, 1);
        ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 0);
        ck_assert_uint_eq(tally_get(&tally, TALLY_BYTES), sizes[i]);
        tear_down();
    }
}
END_TEST

START_TEST(any_change_is_one_corrupt_message)
{
    for (size_t changed = 0; changed < 66; changed++) {
        set_up(64);
        allow(1);
        ck_assert(receive(NULL));
        if (changed < 64)
            data[changed] ^= 1;
        else
            length += changed == 64 ? 1 : (size_t) -1; /* longer, shorter */
        answer();
        ck_assert(loop_until(setup.base, is_settled, NULL));
        ck_assert_uint_eq(told.answered, 1);
        ck_assert_uint_eq(told.corrupt, 1);
        ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 1);
        tear_down();
    }
}
END_TEST

START_TEST(what_nobody_asked_for_is_corrupt)
{
    set_up(64);
    allow(1);
    ck_assert(receive(NULL));
    answer();
    ck_assert(loop_until(setup.base, is_settled, NULL));
    strcpy(data, "Hello");
    length = 5;
    answer();
    handle();
    ck_assert_uint_eq(told.answered, 1);
    ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 1);
    ck_assert_uint_eq(told.ended, 0);
    tear_down();
}
END_TEST

START_TEST(what_does_not_come_is_lost_and_the_others_go_on)
{
    uint64_t now;

    set_up(64);
    allow(2);
    now = clock_ns();
    ck_assert(receive(NULL)); /* number 0 is not answered */
    ck_assert(receive(NULL));
    answer();
    handle();
    client_check(&client, now + SECOND / 2);
    ck_assert_uint_eq(told.lost, 0);
    client_check(&client, now + SECOND);
    ck_assert_uint_eq(told.lost, 1);
    ck_assert_uint_eq(told.last, 0);
    allow(1);
    ck_assert(receive(NULL));
    answer();
    ck_assert(loop_until(setup.base, is_settled, NULL));
    ck_assert_uint_eq(told.answered, 2);
    ck_assert_uint_eq(told.ended, 0);
    tear_down();
}
END_TEST

START_TEST(an_answer_that_is_late_is_none)
{
    set_up(64);
    allow(1);
    ck_assert(receive(NULL));
    client_check(&client, clock_ns() + SECOND);
    ck_assert_uint_eq(told.lost, 1);
    answer();
    handle();
    ck_assert_uint_eq(told.answered, 0);
    ck_assert_uint_eq(tally_get(&tally, TALLY_CORRUPT), 0);
    tear_down();
}
END_TEST

/* Three hundred, which is more than a byte has numbers, are on their way. */
START_TEST(short_messages_are_told_apart_as_far_as_they_can_be)
{
    static char all[300][2];
    const uint64_t sizes[] = { 0, 1, 2 };

    for (unsigned i = 0; i < 3; i++) {
        set_up(sizes[i]);
        for (unsigned j = 0; j < 300; j++) {
            allow(1);
            ck_assert(receive(NULL));
            memcpy(all[j], data, length);
        }
        for (unsigned j = 0; j < 300; j++) {
            memcpy(data, all[j], length);
            answer();
            event_base_loop(setup.base, EVLOOP_ONCE);
        }
        ck_assert_uint_eq(told.answered, 300);
        ck_assert_uint_eq(told.corrupt, 0);
        tear_down();
    }
}
END_TEST

START_TEST(without_memory_the_oldest_is_lost)
{
    set_up(64);
    allow(WINDOW_LEAST);
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    allow(1);
    ck_assert_uint_eq(told.lost, 1);
    ck_assert_uint_eq(told.last, 0);
    ck_assert_uint_eq(client.window.next, WINDOW_LEAST + 1);
    ck_assert_uint_eq(client.window.oldest, 1);
    tear_down();
}
END_TEST

START_TEST(without_memory_for_the_first_it_ends)
{
    set_up(64);
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    allow(1);
    ck_assert_uint_eq(told.ended, 1);
    ck_assert_str_eq(told.why, strerror(ENOMEM));
    tear_down();
}
END_TEST

START_TEST(nobody_is_there)
{
    set_up(64);
    close(server);
    allow(3);
    ck_assert(loop_until(setup.base, is_settled, NULL));
    ck_assert_uint_eq(told.ended, 1);
    ck_assert_str_eq(told.why, strerror(ECONNREFUSED));
    server = -1;
    tear_down();
}
END_TEST

START_TEST(the_next_address_gets_what_the_first_did_not_want)
{
    set_up(64);
    close(server);
    server = serve_anywhere(&addresses[1]);
    target.count = 2;
    allow(3);
    ck_assert(loop_until(setup.base, echo_until_settled, NULL));
    ck_assert_uint_eq(told.opened, 1);
    ck_assert_uint_eq(told.ended, 0);
    ck_assert_uint_eq(told.answered, 3);
    ck_assert_uint_eq(client.attempt, 1);
    tear_down();
}
END_TEST

START_TEST(who_once_answered_is_not_left_for_another)
{
    set_up(64);
    allow(1);
    ck_assert(loop_until(setup.base, echo_until_settled, NULL));
    close(server);
    server = serve_anywhere(&addresses[1]);
    target.count = 2;
    allow(1);
    ck_assert(loop_until(setup.base, is_settled, NULL));
    ck_assert_str_eq(told.why, strerror(ECONNREFUSED));
    tear_down();
}
END_TEST

START_TEST(errors_end_it)
{
    set_up(64);
    inject_fail(INJECT_WRITE, 1, 1, EPERM);
    allow(1);
    ck_assert_str_eq(told.why, strerror(EPERM));
    tear_down();
    set_up(64);
    inject_fail(INJECT_READ, 1, 1, ENETDOWN);
    allow(1);
    ck_assert(loop_until(setup.base, echo_until_settled, NULL));
    ck_assert_str_eq(told.why, strerror(ENETDOWN));
    tear_down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        everything_comes_back,
        also_when_calls_are_short_or_have_to_wait,
        many_go_in_one_call,
        answers_come_in_any_order,
        a_second_answer_is_no_corruption,
        any_change_is_one_corrupt_message,
        what_nobody_asked_for_is_corrupt,
        what_does_not_come_is_lost_and_the_others_go_on,
        an_answer_that_is_late_is_none,
        short_messages_are_told_apart_as_far_as_they_can_be,
        without_memory_the_oldest_is_lost,
        without_memory_for_the_first_it_ends,
        nobody_is_there,
        the_next_address_gets_what_the_first_did_not_want,
        who_once_answered_is_not_left_for_another,
        errors_end_it,
    };

    return HARNESS_RUN("probe/datagram", tests);
}
