#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "src/access.h"
#include "src/clock.h"
#include "src/defaults.h"
#include "src/echo.h"
#include "src/listener.h"
#include "src/log.h"
#include "src/reactor.h"
#include "src/tcp.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { WORKERS = 2, US = 0, THEM = 1 };

/* One worker's reactor, as far as listeners are concerned; nothing else runs. */
static struct {
    struct conn_set set;
    struct conn_origin origin;
    struct limits *limits;
    struct listeners *listeners;
    uint16_t port;
    unsigned paused[PAUSE_REASONS], slots_free;
    bool tell_closed;
} here;

static void on_closed(void *context)
{
    (void) context;
    if (here.tell_closed)
        listeners_conn_closed(here.listeners);
}

static void on_lingers(void *context)
{
    (void) context;
}

static void on_paused(void *context, enum pause_reason reason)
{
    (void) context;
    here.paused[reason]++;
}

static void on_slot_free(void *context)
{
    (void) context;
    here.slots_free++;
}

static void start(uint64_t max_connections)
{
    static const struct listener_hooks hooks = { on_paused, on_slot_free, NULL };
    int fd;

    memset(&here, 0, sizeof(here));
    here.tell_closed = true;
    here.set.base = reactor_new(NULL);
    here.set.stats = stats_new(WORKERS, 1);
    TAILQ_INIT(&here.set.shaking);
    TAILQ_INIT(&here.set.active);
    TAILQ_INIT(&here.set.lingering);
    here.set.closed = on_closed;
    here.set.lingers = on_lingers;
    here.origin = (struct conn_origin){ .service = &echo_service,
                                        .name = "tcp://127.0.0.1:7777",
                                        .stats = stats_block(here.set.stats, US, 0) };
    here.limits = limits_new(WORKERS, max_connections);
    here.listeners = listeners_new(&here.set, here.limits, US, &hooks);
    ck_assert_ptr_nonnull(here.listeners);
    fd = listen_anywhere(&here.port);
    ck_assert(listeners_add(here.listeners, fd, &here.origin, 0));
}

static void stop(void)
{
    struct conn *conn;

    inject_reset();
    listeners_free(here.listeners);
    here.tell_closed = false;
    while ((conn = TAILQ_FIRST(&here.set.active)) != NULL)
        conn_close(conn, CLOSE_FORCED);
    event_base_loop(here.set.base, EVLOOP_NONBLOCK);
    event_base_free(here.set.base);
    limits_free(here.limits);
    stats_free(here.set.stats);
}

static uint64_t accepted(void)
{
    return here.origin.stats->counter[STATS_accepted];
}

static uint64_t active(void)
{
    return stats_sum_all(here.set.stats).active;
}

static bool has_accepted(void *count)
{
    return accepted() >= *(unsigned *) count;
}

static void wait_accepted(unsigned count)
{
    ck_assert(loop_until(here.set.base, has_accepted, &count));
}

static bool is_paused(void *context)
{
    (void) context;
    return limits_paused(here.limits) != 0;
}

static bool is_not_paused(void *context)
{
    return !is_paused(context);
}

static void wait_paused(enum pause_reason reason)
{
    ck_assert(loop_until(here.set.base, is_paused, NULL));
    ck_assert_uint_eq(limits_paused(here.limits), 1u << reason);
}

static bool echoes(void *context)
{
    struct pollfd ready = { .fd = *(int *) context, .events = POLLIN };

    return poll(&ready, 1, 0) == 1;
}

static void expect_echo(int client)
{
    send_text(client, "hello");
    ck_assert(loop_until(here.set.base, echoes, &client));
    expect_text(client, "hello");
}

static bool has_gone(void *count)
{
    return accepted() - active() >= *(uint64_t *) count;
}

static void disconnect(int client)
{
    uint64_t gone = accepted() - active() + 1;

    close(client);
    ck_assert(loop_until(here.set.base, has_gone, &gone));
}

START_TEST(who_connects_is_served)
{
    int clients[50];

    start(0);
    for (int i = 0; i < 50; i++)
        clients[i] = connect_to(here.port);
    wait_accepted(50);
    for (int i = 0; i < 50; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    stop();
}
END_TEST

/* Each round of events takes a batch of those who are queued, then whoever is served is answered. */
START_TEST(a_long_queue_does_not_hold_up_who_is_served)
{
    enum { QUEUED = 2 * ACCEPT_BATCH + 10 };
    int first, clients[QUEUED];

    start(0);
    first = connect_to(here.port);
    expect_echo(first);
    for (int i = 0; i < QUEUED; i++)
        clients[i] = connect_to(here.port);
    send_text(first, "hello");
    event_base_loop(here.set.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    ck_assert_uint_le(accepted(), 1 + ACCEPT_BATCH);
    event_base_loop(here.set.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    ck_assert(echoes(&first));
    ck_assert_uint_le(accepted(), 1 + 2 * ACCEPT_BATCH);
    wait_accepted(1 + QUEUED);
    expect_text(first, "hello");
    for (int i = 0; i < QUEUED; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    close(first);
    stop();
}
END_TEST

START_TEST(nor_does_one_after_a_pause)
{
    enum { QUEUED = 2 * ACCEPT_BATCH + 10 };
    int first, second, clients[QUEUED];

    start(0);
    first = connect_to(here.port);
    second = connect_to(here.port);
    wait_accepted(2);
    inject_fail(INJECT_ACCEPT, 1, 1000, EMFILE);
    for (int i = 0; i < QUEUED; i++)
        clients[i] = connect_to(here.port);
    wait_paused(PAUSE_DESCRIPTORS);
    inject_reset();
    close(second);
    while (accepted() == 2)
        event_base_loop(here.set.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    ck_assert_uint_le(accepted(), 2 + ACCEPT_BATCH);
    send_text(first, "hello");
    event_base_loop(here.set.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    ck_assert(echoes(&first));
    ck_assert_uint_le(accepted(), 2 + 2 * ACCEPT_BATCH);
    wait_accepted(2 + QUEUED);
    ck_assert(loop_until(here.set.base, is_not_paused, NULL));
    for (int i = 0; i < QUEUED; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    close(first);
    stop();
}
END_TEST

START_TEST(a_pause_may_begin_while_others_have_their_turn)
{
    enum { QUEUED = ACCEPT_BATCH + 1 };
    int clients[QUEUED];

    start(ACCEPT_BATCH);
    for (int i = 0; i < QUEUED; i++)
        clients[i] = connect_to(here.port);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    ck_assert_uint_eq(accepted(), ACCEPT_BATCH);
    close(clients[0]);
    wait_accepted(QUEUED);
    ck_assert(loop_until(here.set.base, is_not_paused, NULL));
    for (int i = 1; i < QUEUED; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    stop();
}
END_TEST

/* The descriptor, here, of the connection whose other end is CLIENT. */
static int server_of(int client)
{
    struct sockaddr_in own, peer;
    socklen_t length = sizeof(own);

    ck_assert_int_eq(getsockname(client, (struct sockaddr *) &own, &length), 0);
    for (int fd = 0; fd < 1024; fd++) {
        length = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *) &peer, &length) == 0 &&
            peer.sin_family == AF_INET && peer.sin_port == own.sin_port)
            return fd;
    }
    ck_abort_msg("it was not accepted");
    return -1;
}

static int keeps_alive(int fd)
{
    socklen_t length = sizeof(int);
    int value = -1;

    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &length), 0);
    return value;
}

START_TEST(who_was_queued_at_a_passed_socket_has_the_same_options)
{
    int fd, client;

    start(0);
    fd = listen_anywhere(&here.port);
    client = connect_to(here.port);
    tcp_set_defaults(fd); /* too late for this one */
    here.origin.is_passed = true;
    ck_assert(listeners_add(here.listeners, fd, &here.origin, 0));
    expect_echo(client);
    ck_assert_int_eq(keeps_alive(server_of(client)), 1);
    close(client);
    stop();
}
END_TEST

START_TEST(a_shortage_pauses_until_something_is_given_back)
{
    static const int errors[] = { EMFILE, ENFILE, ENOBUFS, ENOMEM };

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        int first, second;
        unsigned calls;

        start(0);
        first = connect_to(here.port);
        wait_accepted(1);
        inject_fail(INJECT_ACCEPT, 1, 1000, errors[i]);
        second = connect_to(here.port);
        wait_paused(PAUSE_DESCRIPTORS);
        calls = inject_count(INJECT_ACCEPT);
        expect_echo(first); /* who is served goes on */
        loop_for(here.set.base, 100);
        ck_assert_uint_eq(inject_count(INJECT_ACCEPT), calls); /* and nothing spins */
        ck_assert_uint_eq(here.paused[PAUSE_DESCRIPTORS], 1);
        ck_assert_uint_eq(here.set.stats->paused[PAUSE_DESCRIPTORS], 1);
        inject_reset();
        close(first);
        wait_accepted(2); /* long before the retry timer */
        ck_assert(is_not_paused(NULL));
        expect_echo(second);
        close(second);
        stop();
    }
}
END_TEST

START_TEST(a_shortage_of_others_making_is_tried_again)
{
    int64_t began = clock_ms();
    int client;

    start(0);
    inject_fail(INJECT_ACCEPT, 1, 2, EMFILE); /* and once more, at the first retry */
    client = connect_to(here.port);
    wait_accepted(1);
    ck_assert_int_ge(clock_ms() - began, RETRY_DESCRIPTORS_MS);
    ck_assert(loop_until(here.set.base, is_not_paused, NULL));
    expect_echo(client);
    close(client);
    stop();
}
END_TEST

START_TEST(real_exhaustion_of_descriptors)
{
    enum { CLIENTS = 20 };
    int clients[CLIENTS];
    struct rlimit before, few;
    const char *mode = getenv("CK_FORK");

    if (mode != NULL && strcmp(mode, "no") == 0)
        return; /* valgrind does not give a limit back */
    start(0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(here.port);
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = (rlim_t) clients[CLIENTS - 1] + 5;
    setrlimit(RLIMIT_NOFILE, &few);
    wait_paused(PAUSE_DESCRIPTORS);
    ck_assert_uint_lt(accepted(), CLIENTS);
    for (int i = 0; i < CLIENTS; i++) { /* each that leaves lets others in */
        expect_echo(clients[i]);
        disconnect(clients[i]);
    }
    setrlimit(RLIMIT_NOFILE, &before);
    ck_assert_uint_eq(accepted(), CLIENTS);
    stop();
}
END_TEST

START_TEST(what_befell_a_connection_does_not_pause)
{
    static const int errors[] = { ECONNABORTED, EINTR,       EPROTO,       EPERM,    EAGAIN,
                                  ENETDOWN,     EHOSTUNREACH, ENETUNREACH, ENOPROTOOPT };

    start(0);
    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        int client;

        inject_fail(INJECT_ACCEPT, 1, 1, errors[i]);
        client = connect_to(here.port);
        wait_accepted(i + 1);
        ck_assert_uint_eq(inject_failures(INJECT_ACCEPT), 1);
        ck_assert(is_not_paused(NULL));
        close(client);
        inject_reset();
    }
    ck_assert_uint_eq(here.paused[PAUSE_DESCRIPTORS], 0);
    stop();
}
END_TEST

START_TEST(without_memory_a_connection_waits)
{
    int client;

    start(1); /* its slot is given back meanwhile */
    client = connect_to(here.port);
    send_text(client, "early");
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM); /* of conn_new */
    wait_paused(PAUSE_DESCRIPTORS);
    inject_reset();
    ck_assert_uint_eq(active(), 0);
    listeners_retry(here.listeners);
    wait_accepted(1);
    ck_assert(loop_until(here.set.base, echoes, &client));
    expect_text(client, "early");
    ck_assert(is_not_paused(NULL));
    close(client);
    stop();
}
END_TEST

START_TEST(beyond_the_limit_all_wait_in_order)
{
    enum { CLIENTS = 12, MOST = 3 };
    int clients[CLIENTS];

    start(MOST);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(here.port);
    wait_accepted(MOST);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    for (int i = 0; i < CLIENTS; i++) {
        int next = i + MOST;

        expect_echo(clients[i]);
        ck_assert_uint_eq(active(), (unsigned) (CLIENTS - i < MOST ? CLIENTS - i : MOST));
        if (next < CLIENTS) { /* it waits, whatever it sends */
            send_text(clients[next], "waiting");
            loop_for(here.set.base, 10);
            ck_assert(!echoes(&clients[next]));
        }
        close(clients[i]);
        if (next < CLIENTS) {
            wait_accepted((unsigned) next + 1);
            ck_assert(loop_until(here.set.base, echoes, &clients[next]));
            expect_text(clients[next], "waiting");
        }
    }
    ck_assert(loop_until(here.set.base, is_not_paused, NULL));
    stop();
}
END_TEST

static bool has_refused(void *count)
{
    return here.origin.stats->refused[REFUSE_UNTRUSTED_PROXY] >= *(unsigned *) count;
}

static bool has_had_too_many(void *context)
{
    (void) context;
    return here.origin.stats->refused[REFUSE_MAX_PER_SOURCE] > 0;
}

START_TEST(who_is_not_trusted_is_refused_and_takes_no_slot)
{
    struct access_list proxies = { 0 };
    struct access_item item;
    const char *log;
    int client;

    start(1);
    ck_assert_ptr_null(access_parse(&proxies, "192.0.2.0/24", 12, &item));
    access_compile(&proxies);
    here.origin.proxies = &proxies;
    capture_log_begin(LOG_INFO);
    for (unsigned i = 1; i <= 20; i++) {
        client = connect_to(here.port);
        ck_assert(loop_until(here.set.base, has_refused, &i));
        ck_assert(reads_eof(client));
        close(client);
        ck_assert_uint_eq(active(), 0);
    }
    log = capture_end();
    ck_assert_uint_eq(count_lines(log), 20);
    ck_assert_ptr_nonnull(strstr(log, "Z info refused peer=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(log, " reason=untrusted-proxy\n"));
    ck_assert_uint_eq(accepted() + here.paused[PAUSE_MAX_CONNECTIONS], 0);
    here.origin.proxies = NULL;
    client = connect_to(here.port);
    expect_echo(client);
    close(client);
    access_release(&proxies);
    stop();
}
END_TEST

START_TEST(who_has_too_many_is_refused_until_one_leaves)
{
    struct quota *quota = quota_new(WORKERS, 1);
    int clients[3];

    start(0);
    here.set.admission.quota = quota;
    clients[0] = connect_to(here.port);
    wait_accepted(1);
    clients[1] = connect_to(here.port);
    ck_assert(loop_until(here.set.base, has_had_too_many, NULL));
    ck_assert(reads_eof(clients[1]));
    expect_echo(clients[0]);
    disconnect(clients[0]);
    clients[2] = connect_to(here.port);
    expect_echo(clients[2]);
    ck_assert_uint_eq(accepted(), 2);
    close(clients[1]);
    close(clients[2]);
    stop();
    quota_free(quota);
}
END_TEST

/* Both have a place of their source's, which has no more; one waits for a slot. */
static struct quota *serve_one_of_two(int clients[2])
{
    struct quota *quota = quota_new(WORKERS, 2);

    start(1);
    here.set.admission.quota = quota;
    clients[0] = connect_to(here.port);
    wait_accepted(1);
    clients[1] = connect_to(here.port);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    return quota;
}

START_TEST(who_waits_for_a_slot_has_its_sources_place)
{
    struct address source = ip4(0x7f000001, 1);
    int clients[2];
    struct quota *quota = serve_one_of_two(clients);

    ck_assert(!quota_take(quota, THEM, &source));
    disconnect(clients[0]); /* the other one is served, and takes no second place */
    expect_echo(clients[1]);
    ck_assert(quota_take(quota, THEM, &source));
    ck_assert(!quota_take(quota, THEM, &source));
    close(clients[1]);
    stop();
    quota_free(quota);
}
END_TEST

START_TEST(who_waited_in_vain_gives_its_sources_place_back)
{
    struct address source = ip4(0x7f000001, 1);
    int clients[2];
    struct quota *quota = serve_one_of_two(clients);

    listeners_close(here.listeners);
    ck_assert(quota_take(quota, THEM, &source));
    ck_assert(!quota_take(quota, THEM, &source));
    close(clients[0]);
    close(clients[1]);
    stop();
    quota_free(quota);
}
END_TEST

START_TEST(a_slot_of_another_worker)
{
    int client;

    start(1);
    ck_assert(limits_take(here.limits, THEM, clock_ms()));
    client = connect_to(here.port);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    ck_assert_uint_eq(here.paused[PAUSE_MAX_CONNECTIONS], 1);
    limits_give(here.limits, THEM);
    listeners_retry(here.listeners); /* the word came */
    wait_accepted(1);
    ck_assert(!limits_take(here.limits, THEM, clock_ms()));
    /* Now they wait for ours: somebody has to be told. */
    disconnect(client);
    ck_assert_uint_ge(here.slots_free, 1);
    ck_assert(limits_take(here.limits, THEM, clock_ms()));
    /* And if the word is lost, a timer looks. */
    client = connect_to(here.port);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    limits_give(here.limits, THEM);
    wait_accepted(2);
    close(client);
    stop();
}
END_TEST

START_TEST(a_place_in_the_queue_is_given_up_at_the_end)
{
    int client;

    start(1);
    ck_assert(limits_take(here.limits, THEM, clock_ms()));
    client = connect_to(here.port);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    ck_assert(limits_is_waiting(here.limits, US));
    listeners_free(here.listeners);
    here.listeners = NULL;
    ck_assert(!limits_is_waiting(here.limits, US));
    ck_assert_uint_eq(limits_paused(here.limits), 0);
    ck_assert(!echoes(&client) || reads_eof(client));
    close(client);
    stop();
}
END_TEST

/* As the worker's timer does. */
static bool has_drained(void *context)
{
    (void) context;
    return listeners_drain(here.listeners);
}

START_TEST(a_drain_serves_who_is_queued_then_closes)
{
    int clients[20];

    start(0);
    for (int i = 0; i < 20; i++) {
        clients[i] = connect_to(here.port);
        send_text(clients[i], "queued");
    }
    inject_fail(INJECT_ACCEPT, 1, 1, ECONNABORTED); /* of somebody else: no matter */
    ck_assert(!listeners_drain(here.listeners));    /* once is not enough */
    ck_assert(is_not_paused(NULL));
    ck_assert_uint_eq(accepted(), 20);
    ck_assert(loop_until(here.set.base, has_drained, NULL));
    ck_assert_int_eq(connect_to(here.port), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    for (int i = 0; i < 20; i++) {
        ck_assert(loop_until(here.set.base, echoes, &clients[i]));
        expect_text(clients[i], "queued");
        close(clients[i]);
    }
    ck_assert(listeners_drain(here.listeners)); /* nothing left to do */
    stop();
}
END_TEST

START_TEST(a_drain_in_a_shortage_still_serves_who_is_queued)
{
    int clients[4];

    start(2);
    for (int i = 0; i < 4; i++)
        clients[i] = connect_to(here.port);
    wait_paused(PAUSE_MAX_CONNECTIONS);
    loop_for(here.set.base, 20);
    for (int i = 0; i < 3; i++)
        ck_assert(!listeners_drain(here.listeners));
    for (int i = 0; i < 4; i++) {
        unsigned served = i < 2 ? (unsigned) i + 3 : 4;

        expect_echo(clients[i]);
        close(clients[i]);
        for (int64_t end = clock_ms() + DEADLINE_MS; accepted() < served;) {
            ck_assert(clock_ms() < end);
            listeners_drain(here.listeners);
            loop_for(here.set.base, 2);
        }
    }
    ck_assert(loop_until(here.set.base, has_drained, NULL));
    stop();
}
END_TEST

START_TEST(a_drain_leaves_the_queue_of_a_passed_socket)
{
    struct conn_origin passed;
    uint16_t port;
    int fd, managers, queued, ours;

    start(0);
    passed = here.origin;
    passed.is_passed = true;
    fd = listen_anywhere(&port);
    managers = dup(fd);
    ck_assert(listeners_add(here.listeners, fd, &passed, 7));
    queued = connect_to(port);
    ours = connect_to(here.port);
    ck_assert(!listeners_drain(here.listeners));
    ck_assert(loop_until(here.set.base, has_drained, NULL));
    ck_assert_uint_eq(accepted(), 1); /* at our own socket */
    expect_echo(ours);
    fd = accept(managers, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    close(fd);
    fd = connect_to(port); /* it listens still */
    ck_assert_int_ge(fd, 0);
    close(fd);
    close(queued);
    close(ours);
    close(managers);
    stop();
}
END_TEST

START_TEST(a_group_is_removed_alone)
{
    uint16_t others_port;
    int first, second, client;

    start(0);
    first = listen_anywhere(&others_port);
    second = dup(first); /* the supervisor's copy */
    ck_assert(listeners_add(here.listeners, first, &here.origin, 7));
    client = connect_to(others_port);
    wait_accepted(1);
    listeners_remove(here.listeners, 7);
    ck_assert(!is_open(first));
    expect_echo(client);
    close(client);
    client = connect_to(others_port); /* queued, for whoever comes next */
    ck_assert_int_ge(client, 0);
    loop_for(here.set.base, 20);
    ck_assert_uint_eq(accepted(), 1);
    close(client);
    close(second);
    client = connect_to(here.port); /* the other is still served */
    wait_accepted(2);
    close(client);
    stop();
}
END_TEST

START_TEST(who_joins_in_a_pause_pauses)
{
    uint16_t port;
    int client, late;

    start(0);
    inject_fail(INJECT_ACCEPT, 1, 1000, EMFILE);
    client = connect_to(here.port);
    wait_paused(PAUSE_DESCRIPTORS);
    ck_assert(listeners_add(here.listeners, listen_anywhere(&port), &here.origin, 1));
    late = connect_to(port);
    inject_reset();
    loop_for(here.set.base, 20);
    ck_assert_uint_eq(accepted(), 0);
    listeners_retry(here.listeners);
    wait_accepted(2);
    close(client);
    close(late);
    stop();
}
END_TEST

START_TEST(without_memory_a_listener_is_not_there)
{
    unsigned nth;
    bool failed = true;

    start(0);
    for (nth = 1; failed; nth++) {
        uint16_t port;
        int fd = listen_anywhere(&port);
        bool added;

        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        added = listeners_add(here.listeners, fd, &here.origin, 1);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(added, !failed);
        ck_assert_int_eq(is_open(fd), added);
    }
    ck_assert_uint_gt(nth, 2);
    stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        who_connects_is_served,
        a_long_queue_does_not_hold_up_who_is_served,
        nor_does_one_after_a_pause,
        a_pause_may_begin_while_others_have_their_turn,
        who_was_queued_at_a_passed_socket_has_the_same_options,
        a_shortage_pauses_until_something_is_given_back,
        a_shortage_of_others_making_is_tried_again,
        real_exhaustion_of_descriptors,
        what_befell_a_connection_does_not_pause,
        without_memory_a_connection_waits,
        beyond_the_limit_all_wait_in_order,
        who_is_not_trusted_is_refused_and_takes_no_slot,
        who_has_too_many_is_refused_until_one_leaves,
        who_waits_for_a_slot_has_its_sources_place,
        who_waited_in_vain_gives_its_sources_place_back,
        a_slot_of_another_worker,
        a_place_in_the_queue_is_given_up_at_the_end,
        a_drain_serves_who_is_queued_then_closes,
        a_drain_in_a_shortage_still_serves_who_is_queued,
        a_drain_leaves_the_queue_of_a_passed_socket,
        a_group_is_removed_alone,
        who_joins_in_a_pause_pauses,
        without_memory_a_listener_is_not_there,
    };

    return HARNESS_RUN("listener", tests);
}
