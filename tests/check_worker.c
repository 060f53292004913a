#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/access_map.h"
#include "src/channel.h"
#include "src/clock.h"
#include "src/defaults.h"
#include "src/echo.h"
#include "src/log.h"
#include "src/reactor.h"
#include "src/worker.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { WORKERS = 2, US = 0, THEM = 1, ADDRESSES = 2 };

static const struct service *const services[ENDPOINT_SERVICES] = {
    [ENDPOINT_ECHO] = &echo_service,
};

/* The supervisor's side of a worker that runs as a thread. */
static struct {
    struct options options;
    struct listening list[ADDRESSES];
    struct sockets sockets;
    struct worker_setup setup;
    struct event_base *base;
    struct channel *channel;
    struct spawned spawned;
    int listening; /* our copy of the socket at PORT */
    uint16_t port;
    unsigned ready, slots, beats, paused[PAUSE_REASONS];
    unsigned taken[2]; /* answers to access rules: not, and so */
    struct access_config access;
    bool ended;
    char cause[80];
    bool has_failed;
} here;

static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    uint32_t reason;

    (void) context;
    ck_assert_int_eq(fd, -1);
    if (type == FRAME_PAUSED) {
        ck_assert_uint_eq(length, sizeof(reason));
        memcpy(&reason, payload, sizeof(reason));
        ck_assert_uint_lt(reason, PAUSE_REASONS);
        here.paused[reason]++;
    }
    if (type == FRAME_ACCESS) {
        ck_assert_uint_eq(length, sizeof(bool));
        here.taken[*(const bool *) payload]++;
    }
    here.ready += type == FRAME_READY;
    here.slots += type == FRAME_SLOT;
    here.beats += type == FRAME_BEAT;
}

static void on_ended(void *context)
{
    (void) context;
    here.ended = true;
}

static const struct channel_handler handler = { .received = on_frame, .ended = on_ended };

static int run(void *argument, int fd)
{
    return worker_run(argument, US, fd);
}

static const struct endpoint endpoint = { .service = ENDPOINT_ECHO };
static const struct endpoint udp_endpoint = { .transport = ENDPOINT_UDP };

/* Fills in what a worker is given; tests change here.options first. */
static void prepare(void)
{
    memset(&here, 0, sizeof(here));
    here.options.workers = WORKERS;
    here.options.drain_timeout = 10000;
    for (size_t i = 0; i < ADDRESSES; i++)
        here.list[i] = (struct listening){ .endpoint = &endpoint, .name = "tcp://test:7" };
    here.sockets = (struct sockets){ .list = here.list, .count = ADDRESSES };
    here.listening = listen_anywhere(&here.port);
}

static void start(void)
{
    int fds[2];

    here.setup = (struct worker_setup){ .options = &here.options,
                                        .access = here.access.fd > 0 ? &here.access : NULL,
                                        .sockets = &here.sockets,
                                        .services = services,
                                        .stats = stats_new(WORKERS, ADDRESSES),
                                        .limits = limits_new(WORKERS,
                                                             here.options.max_connections) };
    here.base = reactor_new(NULL);
    ck_assert(channel_pair(fds));
    here.channel = channel_new(here.base, fds[0], &handler, NULL);
    ck_assert(spawn_start(&here.spawned, SPAWN_THREAD, run, &here.setup, fds[1]));
}

static void tell(enum worker_frame frame)
{
    ck_assert(channel_send(here.channel, frame, NULL, 0, -1));
}

static void tell_listen(uint32_t address, uint32_t owner, int fd)
{
    struct worker_listen listen = { .address = address, .owner = owner };

    ck_assert(channel_send(here.channel, FRAME_LISTEN, &listen, sizeof(listen), fd));
}

static bool is_ready(void *context)
{
    (void) context;
    return here.ready > 0;
}

static bool has_ended(void *context)
{
    (void) context;
    return spawn_has_ended(&here.spawned, here.cause, sizeof(here.cause), &here.has_failed);
}

/* Starts it, as the supervisor would. */
static void start_and_listen(void)
{
    start();
    tell_listen(0, US, here.listening);
    tell(FRAME_READY);
    ck_assert(loop_until(here.base, is_ready, NULL));
}

/* It has ended: for CAUSE; what the test made goes as well. */
static void finish(const char *cause)
{
    ck_assert_str_eq(here.cause, cause);
    channel_free(here.channel);
    event_base_free(here.base);
    stats_free(here.setup.stats);
    limits_free(here.setup.limits);
    if (here.listening >= 0)
        close(here.listening);
}

/* Waits for that. */
static void expect_end(const char *cause)
{
    ck_assert(loop_until(here.base, has_ended, NULL));
    finish(cause);
}

/* As the supervisor's drain begins. */
static void tell_drain(void)
{
    close(here.listening);
    here.listening = -1;
    tell(FRAME_DRAIN);
}

static void drain(void)
{
    tell_drain();
    expect_end("exited with status 0");
}

static void expect_echo(int client)
{
    send_text(client, "hello");
    expect_text(client, "hello");
}

static uint64_t closed_for(enum close_reason reason)
{
    return stats_sum_all(here.setup.stats).closed[reason];
}

static bool is_any_closed(void *reason)
{
    return closed_for(*(enum close_reason *) reason) > 0;
}

static void wait_closed(enum close_reason reason)
{
    ck_assert(loop_until(here.base, is_any_closed, &reason));
}

START_TEST(it_listens_says_so_serves_and_drains)
{
    int client;

    prepare();
    start_and_listen();
    client = connect_to(here.port);
    expect_echo(client);
    ck_assert_uint_eq(stats_sum_all(here.setup.stats).active, 1);
    ck_assert_uint_eq(stats_block(here.setup.stats, US, 0)->counter[STATS_accepted], 1);
    tell_drain();
    ck_assert(reads_eof(client)); /* our FIN, and no reset */
    close(client);
    wait_closed(CLOSE_DRAIN);
    ck_assert_int_eq(connect_to(here.port), -1);
    expect_end("exited with status 0");
    ck_assert(here.ended || !here.has_failed);
}
END_TEST

START_TEST(ready_is_said_after_the_sockets)
{
    prepare();
    start();
    tell(FRAME_READY); /* no socket at all is no error of the worker's */
    ck_assert(loop_until(here.base, is_ready, NULL));
    drain();
}
END_TEST

START_TEST(each_socket_has_its_own_counters)
{
    uint16_t port;
    int other = listen_anywhere(&port), first, second;

    prepare();
    start_and_listen();
    tell_listen(1, US, other);
    close(other);
    first = connect_to(here.port);
    second = connect_to(port);
    expect_echo(first);
    send_text(second, "other");
    expect_text(second, "other");
    ck_assert_uint_eq(stats_block(here.setup.stats, US, 0)->counter[STATS_sent_bytes], 5);
    ck_assert_uint_eq(stats_block(here.setup.stats, US, 1)->counter[STATS_accepted], 1);
    close(first);
    close(second);
    drain();
}
END_TEST

/* A bound UDP socket, or a client of PORT if that is not 0; *PORT: the socket's own. */
static int open_udp(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                   .sin_port = htons(*port) };
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (*port != 0) {
        ck_assert_int_eq(connect(fd, (struct sockaddr *) &address, length), 0);
    } else {
        ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, length), 0);
        ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &length), 0);
        *port = ntohs(address.sin_port);
    }
    return fd;
}

static bool is_answer_counted(void *context)
{
    (void) context;
    return stats_block(here.setup.stats, US, 1)->counter[STATS_datagrams_sent] == 1;
}

START_TEST(datagrams_are_answered_until_the_drain)
{
    uint16_t port = 0;
    int ours = open_udp(&port), client = open_udp(&port);

    prepare();
    here.list[1].endpoint = &udp_endpoint;
    start_and_listen();
    tell_listen(1, US, ours);
    close(ours);
    expect_echo(client);
    ck_assert(loop_until(here.base, is_answer_counted, NULL));
    drain();
    ck_assert_int_eq(write(client, "x", 1), 1);
    ck_assert_int_eq(write(client, "x", 1), -1); /* port unreachable */
    close(client);
}
END_TEST

START_TEST(a_deputys_datagrams_are_left_as_well)
{
    uint16_t port = 0;
    int theirs = open_udp(&port), client = open_udp(&port);
    char byte;

    prepare();
    here.list[1].endpoint = &udp_endpoint;
    start_and_listen();
    tell_listen(1, THEM, theirs);
    expect_echo(client);
    ck_assert(channel_send(here.channel, FRAME_RELEASE, &(uint32_t){ THEM }, sizeof(uint32_t), -1));
    here.ready = 0;
    tell(FRAME_READY); /* answered after the release */
    ck_assert(loop_until(here.base, is_ready, NULL));
    ck_assert_int_eq(write(client, "x", 1), 1); /* is queued for its owner */
    loop_for(here.base, 20);
    ck_assert_int_eq(read(theirs, &byte, 1), 1);
    close(client);
    close(theirs);
    drain();
}
END_TEST

START_TEST(the_end_of_the_channel_is_a_drain)
{
    int client;

    prepare();
    start_and_listen();
    client = connect_to(here.port);
    expect_echo(client);
    channel_free(here.channel); /* the supervisor is gone */
    here.channel = NULL;
    close(here.listening);
    here.listening = -1;
    ck_assert(reads_eof(client));
    close(client);
    expect_end("exited with status 0");
}
END_TEST

START_TEST(a_drain_serves_who_is_queued_and_who_still_sends)
{
    int clients[10];

    prepare();
    start_and_listen();
    for (int i = 0; i < 10; i++)
        clients[i] = connect_to(here.port);
    tell_drain();
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 10; i++)
            expect_echo(clients[i]);
    for (int i = 0; i < 10; i++) {
        shutdown(clients[i], SHUT_WR);
        ck_assert(reads_eof(clients[i]));
        close(clients[i]);
    }
    expect_end("exited with status 0");
}
END_TEST

START_TEST(at_the_deadline_the_rest_are_cut)
{
    static char data[65536];
    int64_t began;
    int client;

    prepare();
    here.options.drain_timeout = 300;
    start_and_listen();
    client = connect_slowly(here.port, 4096);
    set_blocking(client, false);
    for (int idle = 0; idle < 50; idle++) { /* until both ways are full */
        while (write(client, data, sizeof(data)) > 0)
            idle = 0;
        loop_for(here.base, 2);
    }
    began = clock_ms();
    tell_drain();
    wait_closed(CLOSE_FORCED);
    expect_end("exited with status 0");
    ck_assert_int_ge(clock_ms() - began, 300 - 10);
    close(client);
}
END_TEST

START_TEST(a_client_that_never_closes_holds_it_up_for_a_while_only)
{
    int64_t began;
    int client;

    prepare();
    start_and_listen();
    client = connect_to(here.port);
    expect_echo(client);
    began = clock_ms();
    drain();
    ck_assert_int_lt(clock_ms() - began, 10000); /* the deadline */
    ck_assert_int_ge(clock_ms() - began, LINGER_MS - 50);
    ck_assert(reads_eof(client));
    close(client);
}
END_TEST

START_TEST(who_is_idle_is_closed_and_others_are_not)
{
    int64_t began, ended;
    int idle, busy;

    prepare();
    here.options.idle_timeout = 200;
    start_and_listen();
    idle = connect_to(here.port);
    busy = connect_to(here.port);
    expect_echo(idle);
    began = clock_ms();
    for (;;) {
        struct pollfd ready = { .fd = idle, .events = POLLIN };

        expect_echo(busy);
        if (poll(&ready, 1, 5) == 1)
            break;
        ck_assert_int_lt(clock_ms() - began, DEADLINE_MS);
    }
    ended = clock_ms();
    ck_assert(reads_eof(idle));
    ck_assert_int_ge(ended - began, 200 - 10);
    expect_echo(busy);
    ck_assert_uint_eq(closed_for(CLOSE_IDLE), 1);
    close(idle);
    close(busy);
    drain();
}
END_TEST

START_TEST(a_deputys_sockets_are_released)
{
    uint16_t port;
    int theirs = listen_anywhere(&port), client, late;

    prepare();
    start_and_listen();
    tell_listen(1, THEM, theirs);
    client = connect_to(port);
    expect_echo(client);
    ck_assert(channel_send(here.channel, FRAME_RELEASE, &(uint32_t){ THEM }, sizeof(uint32_t), -1));
    here.ready = 0;
    tell(FRAME_READY); /* answered after the release */
    ck_assert(loop_until(here.base, is_ready, NULL));
    late = connect_to(port); /* is queued for its owner */
    ck_assert_int_ge(late, 0);
    expect_echo(client); /* who was accepted stays */
    ck_assert_uint_eq(stats_sum_all(here.setup.stats).counter[STATS_accepted], 1);
    close(late);
    close(client);
    close(theirs);
    drain();
}
END_TEST

START_TEST(it_ends_if_its_own_socket_did_not_come)
{
    const char *text;

    prepare();
    capture_log_begin(LOG_NOTICE);
    start();
    tell_listen(0, US, -1);
    ck_assert(loop_until(here.base, has_ended, NULL));
    text = capture_end();
    ck_assert_ptr_nonnull(strstr(text, "Z error worker-failed what=listen error="));
    finish("exited with status 1");
}
END_TEST

/* Lets in whom the list TEXT does not name. */
static void tell_denied(const char *text)
{
    struct access_rules rules = { 0 };
    struct access_item item;
    int fd;

    ck_assert_ptr_null(access_parse(&rules.deny, text, strlen(text), &item));
    access_compile(&rules.deny);
    fd = access_map_seal(&rules);
    ck_assert(channel_send(here.channel, FRAME_ACCESS, NULL, 0, fd));
    close(fd);
    access_release(&rules.deny);
}

static bool has_answered(void *count)
{
    return here.taken[false] + here.taken[true] >= *(unsigned *) count;
}

static void wait_answers(unsigned taken, unsigned not_taken)
{
    unsigned count = taken + not_taken;

    ck_assert(loop_until(here.base, has_answered, &count));
    ck_assert_uint_eq(here.taken[true], taken);
    ck_assert_uint_eq(here.taken[false], not_taken);
}

static void expect_refused(void)
{
    int client = connect_to(here.port);

    ck_assert(reads_eof(client));
    close(client);
}

static void expect_served(void)
{
    int client = connect_to(here.port);

    expect_echo(client);
    close(client);
}

START_TEST(access_rules_are_taken_one_after_the_other)
{
    prepare();
    here.access.fd = here.listening; /* is not looked at: what counts is what comes */
    capture_log_begin(LOG_NOTICE);
    start();
    tell_denied("127.0.0.1");
    tell_listen(0, US, here.listening);
    expect_refused();
    tell_denied("::1");
    wait_answers(2, 0);
    expect_served();
    ck_assert(channel_send(here.channel, FRAME_ACCESS, NULL, 0, -1));
    ck_assert(channel_send(here.channel, FRAME_ACCESS, NULL, 0, STDIN_FILENO));
    wait_answers(2, 2);
    expect_served(); /* as before */
    tell_denied("127.0.0.1");
    wait_answers(3, 2);
    expect_refused();
    drain();
    ck_assert_ptr_nonnull(strstr(capture_end(), "Z error access-failed what=lists error="));
}
END_TEST

START_TEST(without_its_access_rules_nobody_is_let_in)
{
    prepare();
    here.access.fd = here.listening;
    capture_log_begin(LOG_NOTICE);
    start_and_listen();
    expect_refused();
    ck_assert(channel_send(here.channel, FRAME_ACCESS, NULL, 0, -1));
    ck_assert(loop_until(here.base, has_ended, NULL));
    ck_assert_ptr_nonnull(strstr(capture_end(), "Z error worker-failed what=access error="));
    finish("exited with status 1");
}
END_TEST

START_TEST(it_goes_on_if_somebody_elses_did_not_come)
{
    int client;

    prepare();
    start_and_listen();
    tell_listen(1, THEM, -1);
    client = connect_to(here.port);
    expect_echo(client);
    close(client);
    drain();
}
END_TEST

static bool is_paused_told(void *reason)
{
    return here.paused[*(enum pause_reason *) reason] > 0;
}

static bool is_slot_told(void *context)
{
    (void) context;
    return here.slots > 0;
}

START_TEST(slots_are_waited_for_and_told_of)
{
    enum pause_reason reason = PAUSE_MAX_CONNECTIONS;
    int client;

    prepare();
    here.options.max_connections = 1;
    start();
    ck_assert(limits_take(here.setup.limits, THEM, clock_ms()));
    tell_listen(0, US, here.listening);
    client = connect_to(here.port);
    ck_assert(loop_until(here.base, is_paused_told, &reason));
    limits_give(here.setup.limits, THEM);
    tell(FRAME_SLOT);
    expect_echo(client);
    ck_assert(!limits_take(here.setup.limits, THEM, clock_ms())); /* now they wait */
    close(client);
    ck_assert(loop_until(here.base, is_slot_told, NULL));
    ck_assert(limits_take(here.setup.limits, THEM, clock_ms()));
    drain();
}
END_TEST

static bool are_answered(void *context)
{
    return here.beats == *(const unsigned *) context;
}

START_TEST(each_question_for_a_sign_of_life_is_answered)
{
    unsigned wanted = 3;

    prepare();
    start();
    for (unsigned i = 0; i < wanted; i++) /* also before it serves */
        tell(FRAME_BEAT);
    tell_listen(0, US, here.listening);
    tell(FRAME_READY);
    ck_assert(loop_until(here.base, are_answered, &wanted));
    ck_assert(loop_until(here.base, is_ready, NULL));
    wanted++;
    tell(FRAME_BEAT);
    ck_assert(loop_until(here.base, are_answered, &wanted));
    drain();
}
END_TEST

START_TEST(a_shortage_is_told_of)
{
    enum pause_reason reason = PAUSE_DESCRIPTORS;
    int client;

    prepare();
    start_and_listen();
    inject_fail(INJECT_ACCEPT, 1, 1, EMFILE);
    client = connect_to(here.port);
    ck_assert(loop_until(here.base, is_paused_told, &reason));
    ck_assert_uint_ne(limits_paused(here.setup.limits), 0);
    expect_echo(client); /* a second later */
    inject_reset();
    close(client);
    drain();
}
END_TEST

START_TEST(short_of_memory_at_the_start_it_ends)
{
    unsigned nth;
    bool failed = true;

    for (nth = 1; failed; nth++) {
        int fds[2], status, before = open_descriptors();

        prepare();
        here.setup = (struct worker_setup){ .options = &here.options,
                                            .sockets = &here.sockets,
                                            .services = services,
                                            .stats = stats_new(WORKERS, ADDRESSES),
                                            .limits = limits_new(WORKERS, 0) };
        ck_assert(channel_pair(fds));
        close(fds[0]); /* the end of the channel: it drains at once, if it starts */
        capture_log_begin(LOG_NOTICE);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        status = worker_run(&here.setup, US, fds[1]);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        capture_end();
        ck_assert(status == 0 || failed);
        stats_free(here.setup.stats);
        limits_free(here.setup.limits);
        close(here.listening);
        ck_assert_msg(open_descriptors() == before, "allocation %u left a descriptor", nth);
    }
    ck_assert_uint_gt(nth, 10);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_listens_says_so_serves_and_drains,
        ready_is_said_after_the_sockets,
        each_socket_has_its_own_counters,
        datagrams_are_answered_until_the_drain,
        a_deputys_datagrams_are_left_as_well,
        the_end_of_the_channel_is_a_drain,
        a_drain_serves_who_is_queued_and_who_still_sends,
        at_the_deadline_the_rest_are_cut,
        a_client_that_never_closes_holds_it_up_for_a_while_only,
        who_is_idle_is_closed_and_others_are_not,
        a_deputys_sockets_are_released,
        it_ends_if_its_own_socket_did_not_come,
        access_rules_are_taken_one_after_the_other,
        without_its_access_rules_nobody_is_let_in,
        it_goes_on_if_somebody_elses_did_not_come,
        slots_are_waited_for_and_told_of,
        each_question_for_a_sign_of_life_is_answered,
        a_shortage_is_told_of,
        short_of_memory_at_the_start_it_ends,
    };

    return HARNESS_RUN("worker", tests);
}
