#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/access.h"
#include "src/clock.h"
#include "src/conn.h"
#include "src/defaults.h"
#include "src/echo.h"
#include "src/log.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* The reactor that connections are in, as a worker would have it. */
static struct {
    struct conn_set set;
    struct conn_origin origin;
    unsigned closed, lingers, shakes;
    struct access_list proxies;
} here;

static struct quota *quota; /* of the next reactors, NULL: none */

static void on_closed(void *context)
{
    (void) context;
    here.closed++;
}

static void on_lingers(void *context)
{
    (void) context;
    here.lingers++;
}

static void on_shakes(void *context)
{
    (void) context;
    here.shakes++;
}

static void make_reactor(const struct service *service)
{
    memset(&here, 0, sizeof(here));
    here.set.base = reactor_new(NULL);
    here.set.stats = stats_new(1, 1);
    TAILQ_INIT(&here.set.shaking);
    TAILQ_INIT(&here.set.active);
    TAILQ_INIT(&here.set.lingering);
    here.set.admission.quota = quota;
    here.set.closed = on_closed;
    here.set.lingers = on_lingers;
    here.set.shakes = on_shakes;
    here.origin = (struct conn_origin){ .service = service,
                                        .name = "tcp://127.0.0.1:7777",
                                        .stats = stats_block(here.set.stats, 0, 0) };
}

/* Nothing may be left that the test did not see closed. */
static void free_reactor(void)
{
    inject_reset();
    ck_assert(TAILQ_EMPTY(&here.set.shaking));
    ck_assert(TAILQ_EMPTY(&here.set.active));
    ck_assert(TAILQ_EMPTY(&here.set.lingering));
    event_base_loop(here.set.base, EVLOOP_NONBLOCK); /* libevent frees later */
    event_base_free(here.set.base);
    stats_free(here.set.stats);
}

/* Serves one end of a new connection, which is then the only one; returns the client's. */
static int serve_pair(int buffer)
{
    struct pair pair = make_pair(buffer);

    ck_assert(conn_new(&here.set, &here.origin, pair.server, &pair.peer));
    return pair.client;
}

static struct conn *only(void)
{
    struct conn *conn = TAILQ_FIRST(&here.set.active);

    if (conn == NULL)
        conn = TAILQ_FIRST(&here.set.shaking);
    return conn != NULL ? conn : TAILQ_FIRST(&here.set.lingering);
}

static bool is_closed(void *context)
{
    (void) context;
    return here.closed > 0;
}

static bool is_lingering(void *context)
{
    (void) context;
    return !TAILQ_EMPTY(&here.set.lingering);
}

/* Closed? As the worker's timer does, looks at who lingers. */
static bool is_peer_gone(void *context)
{
    (void) context;
    if (is_lingering(NULL))
        conn_linger(only(), clock_ms(), 0);
    return here.closed > 0;
}

static uint64_t counted(enum stats_counter counter)
{
    return here.origin.stats->counter[counter];
}

static bool has_received(void *bytes)
{
    return counted(STATS_received_bytes) >= *(uint64_t *) bytes;
}

static bool has_sent(void *bytes)
{
    return counted(STATS_sent_bytes) >= *(uint64_t *) bytes;
}

static void receive(uint64_t bytes)
{
    ck_assert(loop_until(here.set.base, has_received, &bytes));
}

/* Runs until one connection is closed, for REASON and no other. */
static void expect_closed(enum close_reason reason)
{
    ck_assert(loop_until(here.set.base, is_closed, NULL));
    ck_assert_uint_eq(here.closed, 1);
    for (int i = 0; i < CLOSE_REASONS; i++)
        ck_assert_msg(here.origin.stats->closed[i] == (i == (int) reason), "closed as %s, not %s",
                      close_reason_name((enum close_reason) i), close_reason_name(reason));
    here.closed = 0;
    here.origin.stats->closed[reason] = 0;
}

/* TOTAL bytes there and back in pieces, with a half-close at the end, all verified. */
static void check_exact(struct peer peer)
{
    uint64_t before = counted(STATS_sent_bytes), read_before = counted(STATS_received_bytes);

    ck_assert(loop_until(here.set.base, peer_step, &peer));
    ck_assert_msg(peer.error == 0, "after %zu of %zu bytes: %s", peer.received, peer.total,
                  peer.error < 0 ? "not what was sent" : strerror(peer.error));
    ck_assert_uint_eq(counted(STATS_sent_bytes) - before, peer.total);
    ck_assert_uint_eq(counted(STATS_received_bytes) - read_before, peer.total);
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL)); /* our FIN is acknowledged */
    close(peer.fd);
    expect_closed(CLOSE_EOF);
}

START_TEST(bytes_come_back_and_are_counted)
{
    int client;

    make_reactor(&echo_service);
    client = serve_pair(0);
    ck_assert_uint_eq(counted(STATS_accepted), 1);
    send_text(client, "hello");
    receive(5);
    expect_text(client, "hello");
    send_text(client, "again");
    receive(10);
    expect_text(client, "again");
    ck_assert_uint_eq(counted(STATS_sent_bytes), 10);
    close(client);
    expect_closed(CLOSE_EOF);
    free_reactor();
}
END_TEST

START_TEST(a_half_close_loses_nothing)
{
    make_reactor(&echo_service);
    for (unsigned i = 0; i < 4; i++) {
        struct peer peer = peer_new(serve_pair(0), i * 3000000, i + 1);

        peer.piece = 65536;
        peer.late = i * 500000;
        check_exact(peer);
    }
    free_reactor();
}
END_TEST

START_TEST(any_schedule_is_exact)
{
    make_reactor(&echo_service);
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct peer peer = peer_new(serve_pair(seed % 3 == 0 ? 4096 : 0), seed * 700, seed);

        peer.piece = seed % 5 == 0 ? 10 : seed % 5 * 3000;
        peer.late = seed % 4 == 0 ? peer.total / 2 : 0;
        if (peer.late > 3000)
            peer.late = 3000; /* less than what fits on the way */
        inject_random(INJECT_WRITE, seed);
        inject_random(INJECT_READ, seed * 77);
        check_exact(peer);
        inject_reset();
    }
    free_reactor();
}
END_TEST

START_TEST(short_writes_are_exact)
{
    static const size_t limits[] = { 1, 2, 4095, 4096, 4097 };

    make_reactor(&echo_service);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        inject_short(INJECT_WRITE, limits[i]);
        check_exact(peer_new(serve_pair(0), limits[i] * 2000 > 500000 ? 500000 : 5000, 1));
        inject_reset();
    }
    inject_short(INJECT_READ, 1);
    check_exact(peer_new(serve_pair(0), 3000, 1));
    inject_short(INJECT_WRITE, 1);
    check_exact(peer_new(serve_pair(0), 3000, 2));
    free_reactor();
}
END_TEST

START_TEST(a_kernel_that_is_full_at_any_step)
{
    make_reactor(&echo_service);
    for (unsigned nth = 1; nth <= 20; nth++) {
        struct peer peer = peer_new(serve_pair(0), 40000, nth);

        peer.piece = 5000;
        inject_fail(INJECT_WRITE, nth, 3, EAGAIN);
        check_exact(peer);
        inject_reset();
    }
    inject_fail_each(INJECT_WRITE, 2, EAGAIN);
    inject_fail_each(INJECT_READ, 2, EINTR);
    check_exact(peer_new(serve_pair(0), 100000, 3));
    free_reactor();
}
END_TEST

START_TEST(a_broken_socket_has_its_reason)
{
    static const struct {
        enum inject_call call;
        int error;
        enum close_reason reason;
    } table[] = {
        { INJECT_READ, ECONNRESET, CLOSE_RESET },
        { INJECT_READ, ETIMEDOUT, CLOSE_TIMEOUT },
        { INJECT_READ, EHOSTUNREACH, CLOSE_TIMEOUT },
        { INJECT_READ, ENETUNREACH, CLOSE_TIMEOUT },
        { INJECT_READ, EIO, CLOSE_ERROR },
        { INJECT_WRITE, EPIPE, CLOSE_RESET },
        { INJECT_WRITE, ECONNRESET, CLOSE_RESET },
        { INJECT_WRITE, ETIMEDOUT, CLOSE_TIMEOUT },
        { INJECT_WRITE, ENETDOWN, CLOSE_ERROR },
    };

    make_reactor(&echo_service);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        int client = serve_pair(0);

        inject_fail(table[i].call, 1, 1000, table[i].error);
        send_text(client, "x");
        expect_closed(table[i].reason);
        inject_reset();
        close(client);
    }
    free_reactor();
}
END_TEST

START_TEST(a_peer_that_aborts)
{
    int client;

    make_reactor(&echo_service);
    client = serve_pair(0);
    send_text(client, "x");
    receive(1);
    abort_connection(client);
    expect_closed(CLOSE_RESET);
    client = serve_pair(0); /* before a byte came */
    abort_connection(client);
    expect_closed(CLOSE_RESET);
    free_reactor();
}
END_TEST

/* Fills both ways until the server can neither read nor write on. */
static void fill(int client)
{
    static char data[65536];
    uint64_t before;

    set_blocking(client, false);
    do {
        before = counted(STATS_received_bytes);
        while (write(client, data, sizeof(data)) > 0)
            continue;
        loop_for(here.set.base, 30);
    } while (counted(STATS_received_bytes) > before);
}

START_TEST(while_output_is_pending_it_does_not_read)
{
    int client;
    uint64_t held;

    make_reactor(&echo_service);
    client = serve_pair(4096);
    fill(client);
    held = counted(STATS_received_bytes) - counted(STATS_sent_bytes);
    ck_assert_uint_gt(held, 0);
    ck_assert_uint_le(held, 160 * 1024);
    abort_connection(client);
    expect_closed(CLOSE_RESET);
    free_reactor();
}
END_TEST

START_TEST(a_peer_that_is_gone_while_output_is_pending)
{
    int client;

    make_reactor(&echo_service);
    client = serve_pair(4096);
    fill(client);
    ck_assert(!conn_is_quiet(only(), clock_ms() + 3600000));
    conn_close(only(), CLOSE_IDLE); /* by us */
    expect_closed(CLOSE_IDLE);
    close(client);
    free_reactor();
}
END_TEST

/* conn_new with the NTH allocation failing; true if one did. */
static bool try_conn_new(struct pair *pair, unsigned nth, bool *made)
{
    bool failed;

    inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
    *made = conn_new(&here.set, &here.origin, pair->server, &pair->peer);
    failed = inject_failures(INJECT_MEMORY) > 0;
    inject_reset(); /* libcheck's own memory must not fail */
    return failed;
}

START_TEST(without_memory_nothing_has_happened)
{
    bool failed = true, made;
    unsigned nth;

    make_reactor(&echo_service);
    for (nth = 1; failed; nth++) {
        struct pair pair = make_pair(0);
        uint64_t accepted = counted(STATS_accepted);

        failed = try_conn_new(&pair, nth, &made);
        ck_assert(made || failed);
        if (!made) {
            ck_assert(is_open(pair.server));
            ck_assert_int_ne(fcntl(pair.server, F_GETFL) & O_NONBLOCK, 0);
            ck_assert(TAILQ_EMPTY(&here.set.active));
            ck_assert_uint_eq(counted(STATS_accepted), accepted);
            ck_assert_uint_eq(here.set.stats->connections, accepted);
            ck_assert_uint_eq(here.closed, 0);
            event_base_loop(here.set.base, EVLOOP_NONBLOCK);
            ck_assert(conn_new(&here.set, &here.origin, pair.server, &pair.peer));
        }
        /* One that was made must serve, also when output has to wait. */
        inject_fail_each(INJECT_WRITE, 2, EAGAIN);
        check_exact(peer_new(pair.client, 10000, nth));
        inject_reset();
        ck_assert(!is_open(pair.server));
    }
    ck_assert_uint_gt(nth, 5);
    free_reactor();
}
END_TEST

START_TEST(short_of_memory_later_it_is_exact_or_closed)
{
    make_reactor(&echo_service);
    for (unsigned nth = 1; nth <= 40; nth++) {
        struct peer peer = peer_new(serve_pair(4096), 60000, nth);
        bool done;

        peer.piece = 8000;
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        done = loop_until(here.set.base, peer_step, &peer);
        inject_reset();
        ck_assert(done);
        ck_assert_msg(peer.at_eof || peer.received < peer.total, "lost or made up bytes");
        close(peer.fd);
        ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
        here.closed = 0;
    }
    free_reactor();
}
END_TEST

START_TEST(our_fin_then_what_comes_is_thrown_away)
{
    int client;

    make_reactor(&echo_service);
    client = serve_pair(0);
    conn_finish(only(), CLOSE_DRAIN);
    ck_assert(reads_eof(client));
    ck_assert_uint_eq(here.lingers, 1);
    ck_assert(is_lingering(NULL));
    ck_assert(TAILQ_EMPTY(&here.set.active));
    conn_finish(only(), CLOSE_EOF); /* twice does nothing */
    conn_linger(only(), clock_ms() + LINGER_MS / 2, 0);
    send_text(client, "too late");
    receive(8);
    ck_assert_uint_eq(counted(STATS_sent_bytes), 0);
    ck_assert_uint_eq(here.closed, 0);
    close(client);
    expect_closed(CLOSE_DRAIN);
    free_reactor();
}
END_TEST

START_TEST(a_peer_that_never_closes_is_closed)
{
    int64_t last;
    int client;

    make_reactor(&echo_service);
    client = serve_pair(0);
    conn_finish(only(), CLOSE_DRAIN);
    last = conn_last_active(only());
    conn_linger(only(), last + LINGER_MS - 1, 0);
    ck_assert_uint_eq(here.closed, 0);
    conn_linger(only(), last + LINGER_MS, 0);
    expect_closed(CLOSE_DRAIN);
    close(client);
    free_reactor();
}
END_TEST

/* All is given to the kernel, both are done, and the client has taken nothing yet. */
static int serve_lazy_client(size_t bytes)
{
    static char data[65536];
    int client = serve_pair(0), small = 2048, large = 1 << 20;
    uint64_t sent = counted(STATS_sent_bytes) + bytes;

    setsockopt(client, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    ck_assert_int_eq(write(client, data, bytes), (ssize_t) bytes);
    shutdown(client, SHUT_WR);
    ck_assert(loop_until(here.set.base, has_sent, &sent));
    ck_assert(loop_until(here.set.base, is_lingering, NULL));
    return client;
}

START_TEST(a_peer_that_reads_late_has_all_the_time)
{
    static char data[65536];
    int client;
    size_t got = 0;
    ssize_t length;

    make_reactor(&echo_service);
    client = serve_lazy_client(60000);
    conn_linger(only(), clock_ms() + 3600000, 0);
    conn_linger(only(), clock_ms() + 7200000, 0);
    ck_assert_uint_eq(here.closed, 0);
    while ((length = read(client, data, sizeof(data))) > 0)
        got += (size_t) length;
    ck_assert_int_eq(length, 0);
    ck_assert_uint_eq(got, 60000);
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    expect_closed(CLOSE_EOF);
    close(client);
    free_reactor();
}
END_TEST

static bool has_moved(void *context)
{
    (void) context;
    return conn_has_moved(only());
}

/* Until both kernels are full, and nothing moves any more. */
static void settle(void)
{
    for (int i = 0; i < 20 && has_moved(NULL); i++)
        loop_for(here.set.base, 50);
    ck_assert(!has_moved(NULL));
}

START_TEST(a_slow_reader_moves)
{
    char data[30000];
    int client;

    make_reactor(&echo_service);
    client = serve_lazy_client(60000);
    settle();
    conn_linger(only(), conn_last_active(only()) + 999, 1000);
    ck_assert_uint_eq(here.closed, 0);
    set_blocking(client, false);
    while (read(client, data, sizeof(data)) > 0) /* all, or else its window may stay closed */
        continue;
    ck_assert(loop_until(here.set.base, has_moved, NULL));
    ck_assert_int_le(clock_ms() - conn_last_active(only()), 100);
    abort_connection(client);
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    expect_closed(CLOSE_RESET);
    free_reactor();
}
END_TEST

START_TEST(a_peer_that_never_reads_is_idle)
{
    int64_t last;
    int client;

    make_reactor(&echo_service);
    client = serve_lazy_client(60000);
    settle();
    last = conn_last_active(only());
    conn_linger(only(), last + 4999, 5000);
    ck_assert_uint_eq(here.closed, 0);
    conn_linger(only(), last + 5000, 5000);
    expect_closed(CLOSE_IDLE);
    close(client);
    free_reactor();
}
END_TEST

START_TEST(a_peer_that_throws_the_rest_away)
{
    int client;

    make_reactor(&echo_service);
    client = serve_lazy_client(60000);
    close(client); /* with bytes unread: a reset */
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    expect_closed(CLOSE_RESET);
    free_reactor();
}
END_TEST

START_TEST(quiet_is_nothing_unread_unsent_and_no_byte)
{
    int64_t last;
    int client;

    make_reactor(&echo_service);
    client = serve_pair(0);
    send_text(client, "x");
    receive(1);
    expect_text(client, "x");
    loop_for(here.set.base, 50); /* the acknowledgement */
    last = conn_last_active(only());
    ck_assert(!conn_is_quiet(only(), last));
    ck_assert(!conn_is_quiet(only(), last + QUIET_MS - 1));
    ck_assert(conn_is_quiet(only(), last + 10 * QUIET_MS));
    send_text(client, "unread"); /* the loop does not run */
    ck_assert(!conn_is_quiet(only(), last + 10 * QUIET_MS));
    abort_connection(client);
    ck_assert(loop_until(here.set.base, is_closed, NULL));
    free_reactor();
}
END_TEST

START_TEST(cut_is_forced_only_if_something_was_owed)
{
    int client;

    make_reactor(&echo_service);
    client = serve_pair(0);
    conn_cut(only(), conn_last_active(only()) + QUIET_MS);
    expect_closed(CLOSE_DRAIN);
    close(client);
    client = serve_pair(0); /* it may be still sending */
    conn_cut(only(), conn_last_active(only()) + QUIET_MS - 1);
    expect_closed(CLOSE_FORCED);
    close(client);
    client = serve_pair(0);
    send_text(client, "unread");
    conn_cut(only(), conn_last_active(only()) + QUIET_MS);
    expect_closed(CLOSE_FORCED);
    close(client);
    client = serve_pair(4096);
    fill(client);
    conn_cut(only(), clock_ms() + 3600000);
    expect_closed(CLOSE_FORCED);
    close(client);
    free_reactor();
}
END_TEST

START_TEST(the_queue_is_in_order_of_last_activity)
{
    int clients[3];
    struct conn *conns[3];

    make_reactor(&echo_service);
    for (int i = 0; i < 3; i++) {
        clients[i] = serve_pair(0);
        conns[i] = TAILQ_LAST(&here.set.active, conn_queue);
    }
    loop_for(here.set.base, 20); /* the clock ticks: within a tick there is no order */
    send_text(clients[0], "x");
    receive(1);
    ck_assert_ptr_eq(TAILQ_FIRST(&here.set.active), conns[1]);
    ck_assert_ptr_eq(conn_next(conns[1]), conns[2]);
    ck_assert_ptr_eq(conn_next(conns[2]), conns[0]);
    ck_assert_ptr_null(conn_next(conns[0]));
    ck_assert_int_le(conn_last_active(conns[1]), conn_last_active(conns[0]));
    for (int i = 0; i < 3; i++) {
        conn_close(conns[i], CLOSE_IDLE);
        close(clients[i]);
    }
    ck_assert_uint_eq(here.closed, 3);
    free_reactor();
}
END_TEST

START_TEST(a_descriptor_is_free_before_it_is_told)
{
    struct pair pair = make_pair(0);

    make_reactor(&echo_service);
    ck_assert(conn_new(&here.set, &here.origin, pair.server, &pair.peer));
    conn_close(only(), CLOSE_IDLE);
    ck_assert(!is_open(pair.server)); /* without the loop having run */
    ck_assert(reads_eof(pair.client));
    close(pair.client);
    free_reactor();
}
END_TEST

/* A service that notes what it is told, and does as it is told by the peer. */
static char noted[256];

static void note(struct conn *conn, const char *what)
{
    ck_assert_str_eq(conn_state(conn), "state");
    strcat(noted, what);
    strcat(noted, " ");
}

static void probe_opened(struct conn *conn)
{
    conn_set_state(conn, (void *) (uintptr_t) "state");
    note(conn, "opened");
}

/* The first byte by itself. */
static void send_first(struct conn *conn, struct evbuffer *input)
{
    struct evbuffer *first = evbuffer_new();

    evbuffer_remove_buffer(input, first, 1);
    conn_send(conn, first);
    evbuffer_free(first);
}

static void probe_received(struct conn *conn, struct evbuffer *input)
{
    char command;

    evbuffer_copyout(input, &command, 1);
    note(conn, "received");
    if (command == 't')
        send_first(conn, input);
    if (command == 'e' || command == 't')
        conn_send(conn, input);
    else
        evbuffer_drain(input, evbuffer_get_length(input));
    if (command == 'f')
        conn_finish(conn, CLOSE_EOF);
    else if (command == 'c')
        conn_close(conn, CLOSE_ERROR);
}

static bool puts_off; /* the end, once */

static bool probe_ending(struct conn *conn)
{
    struct evbuffer *last = evbuffer_new();

    note(conn, "ending");
    if (puts_off) {
        evbuffer_free(last);
        puts_off = false;
        return false;
    }
    evbuffer_add(last, "bye", 3);
    conn_send(conn, last);
    ck_assert_uint_eq(evbuffer_get_length(last), 0);
    evbuffer_free(last);
    return true;
}

static void probe_writable(struct conn *conn)
{
    note(conn, "writable");
}

static void probe_closed(struct conn *conn)
{
    note(conn, "closed");
}

static const struct service probe = { .name = "probe",
                                      .output_stops_reading = true,
                                      .opened = probe_opened,
                                      .received = probe_received,
                                      .writable = probe_writable,
                                      .ending = probe_ending,
                                      .closed = probe_closed };

static int serve_probe(void)
{
    noted[0] = '\0';
    make_reactor(&probe);
    return serve_pair(0);
}

START_TEST(a_service_is_told_in_order)
{
    int client = serve_probe();

    send_text(client, "e1");
    receive(2);
    inject_fail(INJECT_WRITE, 1, 1, EAGAIN); /* so that output is pending */
    send_text(client, "e2");
    receive(4);
    expect_text(client, "e1");
    loop_for(here.set.base, 20);
    expect_text(client, "e2");
    shutdown(client, SHUT_WR);
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    expect_closed(CLOSE_EOF);
    expect_text(client, "bye");
    ck_assert(reads_eof(client));
    close(client);
    ck_assert_str_eq(noted, "opened received received writable ending closed ");
    free_reactor();
}
END_TEST

START_TEST(a_service_may_put_off_the_end)
{
    int client = serve_probe();

    puts_off = true;
    shutdown(client, SHUT_WR);
    loop_for(here.set.base, 20);
    ck_assert_str_eq(noted, "opened ending ");
    conn_finish(only(), CLOSE_EOF);
    expect_text(client, "bye");
    ck_assert(reads_eof(client));
    expect_closed(CLOSE_EOF);
    close(client);
    ck_assert_str_eq(noted, "opened ending ending closed ");
    free_reactor();
}
END_TEST

/* Holds from its first byte on. */
static void holding_received(struct conn *conn, struct evbuffer *input)
{
    probe_received(conn, input);
    conn_hold(conn);
}

static const struct service holding = { .name = "holding",
                                        .opened = probe_opened,
                                        .received = holding_received,
                                        .writable = probe_writable,
                                        .ending = probe_ending,
                                        .closed = probe_closed };

static int serve_holding(void)
{
    noted[0] = '\0';
    make_reactor(&holding);
    return serve_pair(0);
}

START_TEST(who_is_held_is_not_read_from)
{
    int client = serve_holding();

    send_text(client, "e1");
    receive(2);
    expect_text(client, "e1"); /* but it is sent to */
    send_text(client, "e2");
    shutdown(client, SHUT_WR);
    loop_for(here.set.base, 20);
    ck_assert_str_eq(noted, "opened received ");
    ck_assert(!conn_is_quiet(only(), clock_ms() + 10 * QUIET_MS)); /* something is unread */
    conn_go_on(only());
    conn_go_on(only()); /* twice is once */
    receive(4);
    expect_text(client, "e2");
    loop_for(here.set.base, 20);
    ck_assert_str_eq(noted, "opened received received "); /* held again, before the end was seen */
    conn_go_on(only());
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    expect_closed(CLOSE_EOF);
    ck_assert_str_eq(noted, "opened received received ending closed ");
    close(client);
    free_reactor();
}
END_TEST

START_TEST(that_all_is_sent_does_not_let_it_go_on)
{
    int client = serve_holding();

    inject_fail(INJECT_WRITE, 1, 1, EAGAIN); /* so that output is pending, and then is not */
    send_text(client, "e1");
    receive(2);
    send_text(client, "e2");
    loop_for(here.set.base, 20);
    expect_text(client, "e1");
    ck_assert_str_eq(noted, "opened received writable ");
    conn_close(only(), CLOSE_IDLE);
    expect_closed(CLOSE_IDLE);
    close(client);
    free_reactor();
}
END_TEST

START_TEST(who_is_held_may_be_finished)
{
    int client = serve_holding();

    send_text(client, "e1");
    receive(2);
    conn_finish(only(), CLOSE_DRAIN);
    expect_text(client, "e1bye");
    ck_assert(reads_eof(client));
    send_text(client, "late"); /* is read, and thrown away: no reset */
    receive(6);
    shutdown(client, SHUT_WR);
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    expect_closed(CLOSE_DRAIN);
    ck_assert_str_eq(noted, "opened received ending closed ");
    close(client);
    free_reactor();
}
END_TEST

/* The service decides how much may wait; what does, and what the peer takes of it, can be asked. */
START_TEST(what_waits_and_what_was_taken)
{
    static char data[30000];
    struct evbuffer *out = evbuffer_new();
    int client = serve_holding();
    uint64_t taken;
    size_t pending;

    close(client);
    conn_close(only(), CLOSE_IDLE);
    client = serve_pair(4096);
    ck_assert_uint_eq(conn_pending(only()), 0);
    for (int i = 0; i < 20; i++) {
        evbuffer_add(out, data, sizeof(data));
        conn_send(only(), out);
        ck_assert_uint_eq(evbuffer_get_length(out), 0);
    }
    do { /* until its kernel has no room, which also probes of the window may find */
        taken = conn_taken(only());
        loop_for(here.set.base, 300);
    } while (conn_taken(only()) != taken);
    pending = conn_pending(only());
    ck_assert_uint_gt(pending, 10 * sizeof(data));
    set_blocking(client, false);
    for (int i = 0; i < 100 && conn_taken(only()) == taken; i++) {
        (void) !read(client, data, sizeof(data));
        loop_for(here.set.base, 5);
    }
    ck_assert_uint_gt(conn_taken(only()), taken);
    ck_assert_uint_lt(conn_pending(only()), pending);
    send_text(client, "e1"); /* it may speak while it does not listen */
    receive(2);
    conn_close(only(), CLOSE_SLOW);
    ck_assert_uint_eq(here.origin.stats->closed[CLOSE_SLOW], 1);
    close(client);
    evbuffer_free(out);
    free_reactor();
}
END_TEST

/* Many small pieces that wait are together what was sent, in order. */
START_TEST(small_pieces_that_wait_keep_their_order)
{
    struct evbuffer *out = evbuffer_new();
    char piece[3001] = "", wanted[4096] = "", text[8];
    int client = serve_holding();

    inject_fail(INJECT_WRITE, 1, 1000, EAGAIN);
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof(text), "%d,", i);
        evbuffer_add(out, text, strlen(text));
        strcat(wanted, text);
        conn_send(only(), out);
        if (i != 100)
            continue;
        memset(piece, 'x', sizeof(piece) - 1); /* a large one in between is moved */
        evbuffer_add(out, piece, strlen(piece));
        strcat(wanted, piece);
        conn_send(only(), out);
    }
    ck_assert_uint_eq(conn_pending(only()), strlen(wanted));
    inject_reset();
    loop_for(here.set.base, 20);
    expect_text(client, wanted);
    conn_close(only(), CLOSE_IDLE);
    close(client);
    evbuffer_free(out);
    free_reactor();
}
END_TEST

START_TEST(what_is_sent_keeps_its_order)
{
    int client = serve_probe();

    inject_fail(INJECT_WRITE, 1, 1, EAGAIN); /* of the first byte alone */
    send_text(client, "two");
    receive(3);
    loop_for(here.set.base, 20);
    expect_text(client, "two");
    abort_connection(client);
    expect_closed(CLOSE_RESET);
    free_reactor();
}
END_TEST

START_TEST(a_service_may_end_the_connection)
{
    int client = serve_probe();
    uint64_t bye = 3;

    inject_fail(INJECT_WRITE, 1, 1, EAGAIN); /* so that the FIN has to wait for the last words */
    send_text(client, "f");
    receive(1);
    ck_assert(loop_until(here.set.base, has_sent, &bye));
    expect_text(client, "bye");
    ck_assert(reads_eof(client));
    send_text(client, "more"); /* not its business any more */
    receive(5);
    close(client);
    expect_closed(CLOSE_EOF);
    ck_assert_str_eq(noted, "opened received ending closed ");
    free_reactor();

    client = serve_probe();
    send_text(client, "c");
    expect_closed(CLOSE_ERROR);
    ck_assert_str_eq(noted, "opened received closed ");
    close(client);
    free_reactor();
}
END_TEST

/* Everything that is logged of a connection on which TEXT comes, or nothing. */
static const char *log_of(int threshold, const char *text)
{
    int client;

    make_reactor(&echo_service);
    capture_log_begin(threshold);
    client = serve_pair(0);
    send_text(client, text);
    receive(strlen(text));
    close(client);
    ck_assert(loop_until(here.set.base, is_closed, NULL));
    free_reactor();
    return capture_end();
}

START_TEST(the_log_of_a_connection)
{
    const char *text = log_of(LOG_DEBUG, "a\x1b[2Jb\n");

    ck_assert_uint_eq(count_lines(text), 3);
    ck_assert_ptr_nonnull(strstr(text, "Z debug accepted conn=1 peer=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(text, " endpoint=tcp://127.0.0.1:7777\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "Z debug received conn=1 bytes=7 data=\"a\\x1b[2Jb\\n\"\n"));
    ck_assert_ptr_nonnull(strstr(text, "Z info closed conn=1 peer=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(text, " endpoint=tcp://127.0.0.1:7777 in=7 out=7 duration=0."));
    ck_assert_ptr_nonnull(strstr(text, " reason="));
    text = log_of(LOG_INFO, "x");
    ck_assert_uint_eq(count_lines(text), 1);
    ck_assert_ptr_nonnull(strstr(text, "Z info closed "));
    ck_assert_str_eq(log_of(LOG_NOTICE, "x"), "");
}
END_TEST

START_TEST(a_health_probe_makes_no_noise)
{
    ck_assert_str_eq(log_of(LOG_INFO, ""), "");
    ck_assert_ptr_nonnull(strstr(log_of(LOG_DEBUG, ""), "Z debug closed conn=1 "));
}
END_TEST

START_TEST(received_data_is_shown_up_to_a_limit)
{
    char data[1001];
    const char *text, *shown;

    memset(data, 'x', 1000);
    data[1000] = '\0';
    text = log_of(LOG_DEBUG, data);
    ck_assert_ptr_nonnull(strstr(text, " bytes=1000 data=xxx"));
    shown = strstr(text, "data=") + 5;
    ck_assert_uint_eq(strspn(shown, "x"), LOG_DATA_MAX);
}
END_TEST

#define HEADER "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7777\r\n"
#define NO_CLIENT "PROXY UNKNOWN\r\n"

/* A connection that owes a PROXY header; the client's end. */
static int serve_proxied(const struct service *service)
{
    make_reactor(service);
    here.origin.proxies = &here.proxies; /* whose it is was asked before */
    return serve_pair(0);
}

static bool is_open_now(void *context)
{
    (void) context;
    return !TAILQ_EMPTY(&here.set.active);
}

/* Lets the peer's TEXT, and its FIN, come in before the reactor has a turn; the log down to debug. */
static const char *log_of_proxied(const char *text, enum close_reason reason)
{
    const char *log;
    int client = serve_proxied(&echo_service);

    capture_log_begin(LOG_DEBUG);
    send_text(client, text);
    shutdown(client, SHUT_WR);
    ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
    log = capture_end();
    expect_closed(reason);
    close(client);
    free_reactor();
    return log;
}

START_TEST(the_client_that_a_header_names_is_the_peer)
{
    const char *log = log_of_proxied(HEADER "hello", CLOSE_EOF);
    const char *who = " conn=1 peer=192.0.2.7:4711 endpoint=tcp://127.0.0.1:7777 via=127.0.0.1:";

    ck_assert_ptr_nonnull(strstr(log, "Z debug accepted"));
    ck_assert_ptr_nonnull(strstr(strstr(log, "accepted"), who));
    ck_assert_ptr_nonnull(strstr(strstr(log, "Z info closed"), who));
    ck_assert_ptr_nonnull(strstr(strstr(log, "Z info closed"), " in=5 out=5 "));
    log = log_of_proxied(NO_CLIENT "hello", CLOSE_EOF);
    ck_assert_ptr_nonnull(strstr(log, "Z debug accepted conn=1 peer=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(log, "Z info closed conn=1 peer=127.0.0.1:"));
    ck_assert_ptr_null(strstr(log, " via="));
}
END_TEST

/* It is not the load balancer that the limits hold for; who names nobody is no client either. */
START_TEST(the_client_that_a_header_names_has_to_be_let_in)
{
    struct address client = ip4(0xc0000207, 1); /* HEADER's */

    quota = quota_new(1, 1);
    ck_assert_ptr_nonnull(strstr(log_of_proxied(HEADER "hello", CLOSE_EOF), " in=5 out=5 "));
    ck_assert(quota_take(quota, 0, &client)); /* it had left */
    ck_assert_ptr_nonnull(strstr(log_of_proxied(HEADER "hello", CLOSE_PROXY),
                                 "Z info refused peer=192.0.2.7:4711 "
                                 "reason=max-per-source via=127.0.0.1:"));
    ck_assert_ptr_null(strstr(log_of_proxied(HEADER "hello", CLOSE_PROXY), "accepted"));
    ck_assert_ptr_nonnull(strstr(log_of_proxied(NO_CLIENT "hello", CLOSE_EOF), " in=5 out=5 "));
    ck_assert(!quota_take(quota, 0, &client));
    quota_free(quota);
    quota = NULL;
}
END_TEST

START_TEST(a_header_is_not_a_byte)
{
    const char *log = log_of_proxied(HEADER, CLOSE_EOF);

    ck_assert_ptr_nonnull(strstr(log, "Z debug closed"));
    ck_assert_ptr_nonnull(strstr(log, " in=0 out=0 "));
    log = log_of_proxied("", CLOSE_EOF);
    ck_assert_ptr_nonnull(strstr(log, "Z debug closed"));
    ck_assert_ptr_null(strstr(log, "accepted")); /* nobody knows who it was to be */
}
END_TEST

START_TEST(a_malformed_header_closes_and_is_told)
{
    const char *log = log_of_proxied("PROXY me\r\nhello", CLOSE_PROXY);

    ck_assert_ptr_nonnull(strstr(log, "Z info closed conn=1 peer=127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(log, " in=0 out=0 "));
    ck_assert_ptr_nonnull(strstr(log, "handshake-failed conn=1 error=\"unknown protocol\"\n"));
    log = log_of_proxied("PROXY TCP4", CLOSE_PROXY);
    ck_assert_ptr_nonnull(strstr(log, "Z info closed "));
    ck_assert_ptr_nonnull(strstr(log, " error=\"the header ends early\"\n"));
}
END_TEST

/* The header's first part was looked at, and taken. */
static bool has_taken(void *context)
{
    (void) context;
    return inject_count(INJECT_READ) >= 2;
}

/* The worker's deadline comes when TEXT has; LEVEL begins the line that says so. */
static void expect_late(const char *text, const char *level)
{
    int client = serve_proxied(&echo_service);

    ck_assert_uint_eq(here.shakes, 1);
    inject_reset();
    send_text(client, text);
    ck_assert(*text == '\0' || loop_until(here.set.base, has_taken, NULL));
    ck_assert_ptr_eq(only(), TAILQ_FIRST(&here.set.shaking));
    capture_log_begin(LOG_DEBUG);
    conn_close(only(), CLOSE_HANDSHAKE);
    ck_assert_ptr_nonnull(strstr(capture_end(), level));
    expect_closed(CLOSE_HANDSHAKE);
    close(client);
    free_reactor();
}

START_TEST(who_is_late_with_a_part_is_told_more_loudly_than_who_is_silent)
{
    expect_late("", "Z debug closed ");
    expect_late("PROXY ", "Z info closed ");
}
END_TEST

START_TEST(the_service_knows_nothing_before_the_header)
{
    int client = serve_proxied(&probe);

    noted[0] = '\0';
    inject_reset();
    send_text(client, "PROXY UNK");
    ck_assert(loop_until(here.set.base, has_taken, NULL));
    ck_assert_str_eq(noted, "");
    send_text(client, "NOWN\r\n");
    ck_assert(loop_until(here.set.base, is_open_now, NULL));
    ck_assert_str_eq(noted, "opened ");
    conn_close(only(), CLOSE_DRAIN);
    ck_assert_str_eq(noted, "opened closed ");
    expect_closed(CLOSE_DRAIN);
    close(client);
    free_reactor();
}
END_TEST

/* What comes too late is not answered by a reset, nor is it anybody's. */
START_TEST(before_the_header_it_ends_with_a_fin)
{
    static const char *const parts[] = { "", "PROXY UNK" };

    for (int i = 0; i < 2; i++) {
        int client = serve_proxied(&probe);

        noted[0] = '\0';
        inject_reset();
        send_text(client, parts[i]);
        ck_assert(*parts[i] == '\0' || loop_until(here.set.base, has_taken, NULL));
        conn_finish(only(), CLOSE_DRAIN);
        ck_assert(reads_eof(client));
        send_text(client, "NOWN\r\nlate");
        loop_for(here.set.base, 5);
        ck_assert_uint_eq(here.closed, 0);
        shutdown(client, SHUT_WR);
        expect_closed(CLOSE_DRAIN);
        ck_assert_uint_eq(counted(STATS_received_bytes), 0);
        ck_assert_str_eq(noted, "");
        close(client);
        free_reactor();
    }
}
END_TEST

START_TEST(a_reset_before_the_header)
{
    int client = serve_proxied(&echo_service);

    send_text(client, "PROXY ");
    abort_connection(client);
    expect_closed(CLOSE_RESET);
    free_reactor();
}
END_TEST

START_TEST(what_follows_the_header_is_exact)
{
    for (unsigned seed = 1; seed <= 20; seed++) {
        int client = serve_proxied(&echo_service);

        inject_random(INJECT_READ, seed);
        inject_random(INJECT_WRITE, seed);
        send_text(client, HEADER);
        check_exact(peer_new(client, 200000, seed));
        free_reactor();
    }
}
END_TEST

static bool has_answer(void *client)
{
    struct pollfd ready = { .fd = *(int *) client, .events = POLLIN };

    return is_closed(NULL) || poll(&ready, 1, 0) == 1;
}

START_TEST(short_of_memory_a_header_is_not_lost)
{
    bool failed = true;

    for (unsigned nth = 1; failed || nth < 12; nth++) {
        struct pair pair = make_pair(0);
        bool made, answered;

        make_reactor(&echo_service);
        here.origin.proxies = &here.proxies;
        failed = try_conn_new(&pair, nth, &made);
        if (!made) {
            ck_assert(TAILQ_EMPTY(&here.set.shaking));
            ck_assert_uint_eq(counted(STATS_accepted), 0);
            ck_assert(conn_new(&here.set, &here.origin, pair.server, &pair.peer));
        }
        send_text(pair.client, HEADER "hello");
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM); /* while it is read, and what follows begun */
        answered = loop_until(here.set.base, has_answer, &pair.client);
        failed = inject_failures(INJECT_MEMORY) > 0 || failed;
        inject_reset();
        ck_assert(answered);
        if (here.closed == 0) {
            expect_text(pair.client, "hello");
            close(pair.client);
            ck_assert(loop_until(here.set.base, is_peer_gone, NULL));
        } else {
            ck_assert_uint_eq(here.origin.stats->closed[CLOSE_ERROR], 1);
            close(pair.client);
        }
        ck_assert(!is_open(pair.server));
        free_reactor();
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        bytes_come_back_and_are_counted,
        a_half_close_loses_nothing,
        any_schedule_is_exact,
        short_writes_are_exact,
        a_kernel_that_is_full_at_any_step,
        a_broken_socket_has_its_reason,
        a_peer_that_aborts,
        while_output_is_pending_it_does_not_read,
        a_peer_that_is_gone_while_output_is_pending,
        without_memory_nothing_has_happened,
        short_of_memory_later_it_is_exact_or_closed,
        our_fin_then_what_comes_is_thrown_away,
        a_peer_that_never_closes_is_closed,
        a_peer_that_reads_late_has_all_the_time,
        a_peer_that_never_reads_is_idle,
        a_peer_that_throws_the_rest_away,
        quiet_is_nothing_unread_unsent_and_no_byte,
        cut_is_forced_only_if_something_was_owed,
        the_queue_is_in_order_of_last_activity,
        a_descriptor_is_free_before_it_is_told,
        a_service_is_told_in_order,
        a_service_may_put_off_the_end,
        who_is_held_is_not_read_from,
        that_all_is_sent_does_not_let_it_go_on,
        who_is_held_may_be_finished,
        what_waits_and_what_was_taken,
        small_pieces_that_wait_keep_their_order,
        what_is_sent_keeps_its_order,
        a_service_may_end_the_connection,
        a_slow_reader_moves,
        the_log_of_a_connection,
        a_health_probe_makes_no_noise,
        received_data_is_shown_up_to_a_limit,
        the_client_that_a_header_names_is_the_peer,
        the_client_that_a_header_names_has_to_be_let_in,
        a_header_is_not_a_byte,
        a_malformed_header_closes_and_is_told,
        who_is_late_with_a_part_is_told_more_loudly_than_who_is_silent,
        the_service_knows_nothing_before_the_header,
        before_the_header_it_ends_with_a_fin,
        a_reset_before_the_header,
        what_follows_the_header_is_exact,
        short_of_memory_a_header_is_not_lost,
    };

    return HARNESS_RUN("conn", tests);
}
