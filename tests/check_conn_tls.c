#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/conn.h"
#include "src/defaults.h"
#include "src/echo.h"
#include "src/reactor.h"
#include "src/selfsigned.h"
#include "src/spare.h"
#include "src/tcp.h"
#include "src/tls.h"
#include "src/wire.h"
#include "tests/harness.h"
#include "tests/inject.h"
#include "tests/inject_openssl.h"

/* The reactor that connections are in, as a worker would have it, and one client. */
static struct {
    struct conn_set set;
    struct conn_origin origin;
    unsigned closed, shakes, lingers;
    unsigned opened, ended; /* as the service counts */
    SSL_CTX *context;
    SSL *client;
    int fd;
} here;

static struct credentials credentials;

static void on_closed(void *context)
{
    (void) context;
    here.closed++;
}

static void on_shakes(void *context)
{
    (void) context;
    here.shakes++;
}

static void on_lingers(void *context)
{
    (void) context;
    here.lingers++;
}

static void begin(const struct service *service)
{
    struct tls_problem problem;

    memset(&here, 0, sizeof(here));
    here.set.base = reactor_new(NULL);
    here.set.stats = stats_new(1, 1);
    here.set.plain = evbuffer_new();
    here.set.tls = tls_context_new(&credentials, &problem);
    TAILQ_INIT(&here.set.shaking);
    TAILQ_INIT(&here.set.active);
    TAILQ_INIT(&here.set.lingering);
    here.set.closed = on_closed;
    here.set.shakes = on_shakes;
    here.set.lingers = on_lingers;
    here.origin = (struct conn_origin){ .service = service,
                                        .transport = ENDPOINT_TLS,
                                        .name = "tls://127.0.0.1:7777",
                                        .stats = stats_block(here.set.stats, 0, 0) };
    inject_spare_openssl(true);
    here.context = SSL_CTX_new(TLS_client_method());
    inject_spare_openssl(false);
}

static void finish(void)
{
    ck_assert(TAILQ_EMPTY(&here.set.shaking));
    ck_assert(TAILQ_EMPTY(&here.set.active));
    ck_assert(TAILQ_EMPTY(&here.set.lingering));
    ck_assert_uint_eq(evbuffer_get_length(here.set.plain), 0);
    event_base_loop(here.set.base, EVLOOP_NONBLOCK); /* libevent frees later */
    SSL_CTX_free(here.context);
    tls_context_free(here.set.tls);
    evbuffer_free(here.set.plain);
    event_base_free(here.set.base);
    stats_free(here.set.stats);
    spare_release();
}

/* A client of a new connection, which is the only one; false: that found no memory. */
static bool connect_over(struct pair pair)
{
    bool served;

    tcp_set_defaults(pair.server);
    tcp_set_defaults(pair.client);

    inject_spare_openssl(true);
    here.client = SSL_new(here.context);
    SSL_set_fd(here.client, pair.client);
    SSL_set_connect_state(here.client);
    SSL_set_mode(here.client, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    inject_spare_openssl(false);
    here.fd = pair.client;
    set_blocking(here.fd, false);
    served = conn_new(&here.set, &here.origin, pair.server, &pair.peer);
    if (!served)
        close(pair.server);
    return served;
}

static void connect_client(int buffer)
{
    ck_assert(connect_over(make_pair(buffer)));
}

/* What was not read, tickets say, would make a reset of it. */
static void hang_up(void)
{
    char data[16];

    inject_spare_openssl(true);
    (void) SSL_read(here.client, data, sizeof(data));
    SSL_free(here.client);
    inject_spare_openssl(false);
    close(here.fd);
}

static bool has_shaken(void *unused)
{
    int done;

    (void) unused;
    inject_spare_openssl(true);
    done = SSL_do_handshake(here.client);
    inject_spare_openssl(false);
    return (done == 1 && !TAILQ_EMPTY(&here.set.active)) || here.closed > 0 ||
           !TAILQ_EMPTY(&here.set.lingering);
}

static struct conn *only(void)
{
    struct conn *conn = TAILQ_FIRST(&here.set.active);

    if (conn == NULL)
        conn = TAILQ_FIRST(&here.set.lingering);
    return conn != NULL ? conn : TAILQ_FIRST(&here.set.shaking);
}

static bool is_lingering(void *unused)
{
    (void) unused;
    return !TAILQ_EMPTY(&here.set.lingering);
}

/* As the worker's timer does, looks at who lingers. */
static bool is_closed(void *unused)
{
    (void) unused;
    if (is_lingering(NULL))
        conn_linger(only(), clock_ms(), 0);
    return here.closed > 0;
}

static void expect_closed(enum close_reason reason)
{
    ck_assert(loop_until(here.set.base, is_closed, NULL));
    for (int i = CLOSE_REASONS; i-- > 0;)
        ck_assert_msg(here.origin.stats->closed[i] == (i == (int) reason),
                      "%d closed as %s, not %s", (int) here.origin.stats->closed[i],
                      close_reason_name((enum close_reason) i), close_reason_name(reason));
    here.closed = 0;
    here.origin.stats->closed[reason] = 0;
}

static void on_opened(struct conn *conn)
{
    (void) conn;
    here.opened++;
}

static void on_received(struct conn *conn, struct evbuffer *input)
{
    conn_send(conn, input);
}

static void on_ended(struct conn *conn)
{
    (void) conn;
    here.ended++;
}

static const struct service counting = { .name = "counting", .output_stops_reading = true,
                                         .opened = on_opened, .received = on_received,
                                         .closed = on_ended };

START_TEST(a_service_knows_of_it_after_the_handshake)
{
    begin(&counting);
    connect_client(0);
    ck_assert_uint_eq(here.shakes, 1);
    ck_assert_ptr_eq(TAILQ_FIRST(&here.set.shaking), only());
    loop_for(here.set.base, 2);
    ck_assert_uint_eq(here.opened, 0);
    ck_assert(loop_until(here.set.base, has_shaken, NULL));
    ck_assert_uint_eq(here.opened, 1);
    hang_up();
    expect_closed(CLOSE_EOF);
    ck_assert_uint_eq(here.ended, 1);
    finish();
}
END_TEST

START_TEST(a_service_hears_nothing_of_who_never_shook_hands)
{
    begin(&counting);
    connect_client(0);
    conn_close(only(), CLOSE_HANDSHAKE);
    expect_closed(CLOSE_HANDSHAKE);
    hang_up();
    connect_client(0);
    hang_up();
    expect_closed(CLOSE_EOF);
    connect_client(0);
    conn_finish(only(), CLOSE_DRAIN);
    ck_assert(is_lingering(NULL)); /* whose hello comes late is not answered by a reset */
    ck_assert_int_eq(write(here.fd, "\x16\x03\x01\0\1\1", 6), 6);
    expect_closed(CLOSE_DRAIN);
    hang_up();
    ck_assert_uint_eq(here.opened + here.ended, 0);
    finish();
}
END_TEST

/* Our alert and FIN are out: what still comes does not put off the end. */
START_TEST(who_fails_gets_an_alert_and_not_much_time)
{
    char alert[64];
    int64_t began;

    begin(&counting);
    connect_client(0);
    ck_assert_int_eq(write(here.fd, "\x16\x03\x01\x70\x70 too long", 14), 14);
    ck_assert(loop_until(here.set.base, is_lingering, NULL));
    ck_assert_int_eq(read(here.fd, alert, sizeof(alert)), 7);
    ck_assert_int_eq(alert[0], SSL3_RT_ALERT);
    ck_assert_int_eq(read(here.fd, alert, sizeof(alert)), 0);
    began = conn_last_active(only());
    while (clock_ms() == began)
        loop_for(here.set.base, 1);
    ck_assert_int_eq(write(here.fd, "and longer", 10), 10);
    loop_for(here.set.base, 5);
    ck_assert_int_eq(conn_last_active(only()), began);
    conn_linger(only(), began + LINGER_MS - 1, 0);
    ck_assert_uint_eq(here.closed, 0);
    conn_linger(only(), began + LINGER_MS, 0);
    expect_closed(CLOSE_TLS);
    ck_assert_uint_eq(here.opened + here.ended, 0);
    hang_up();
    finish();
}
END_TEST

START_TEST(what_came_with_garbage_is_not_answered)
{
    static const char garbage[5 + 32] = "\x17\x03\x03\0\x20 and so on, no record of ours";
    char data[64];

    begin(&counting);
    connect_client(0);
    ck_assert(loop_until(here.set.base, has_shaken, NULL));
    inject_spare_openssl(true);
    ck_assert_int_eq(SSL_write(here.client, "hello", 5), 5);
    ck_assert_int_eq(write(here.fd, garbage, sizeof(garbage)), sizeof(garbage));
    ck_assert(loop_until(here.set.base, is_lingering, NULL));
    ck_assert_int_le(SSL_read(here.client, data, sizeof(data)), 0);
    inject_spare_openssl(false);
    hang_up();
    expect_closed(CLOSE_TLS);
    ck_assert_uint_eq(here.opened, 1);
    ck_assert_uint_eq(here.ended, 1);
    finish();
}
END_TEST

/* Has the server stopped reading, so that the client's kernel takes no more? */
static bool is_stopped(void *unused)
{
    static int times;
    bool stopped;

    (void) unused;
    inject_spare_openssl(true);
    SSL_key_update(here.client, SSL_KEY_UPDATE_REQUESTED);
    stopped = SSL_do_handshake(here.client) != 1;
    inject_spare_openssl(false);
    times = stopped ? times + 1 : 0;
    return times > 100; /* and not just not yet */
}

START_TEST(answers_to_key_updates_do_not_pile_up)
{
    begin(&echo_service);
    connect_client(8192);
    ck_assert(loop_until(here.set.base, has_shaken, NULL));
    ck_assert(loop_until(here.set.base, is_stopped, NULL));
    ck_assert_uint_eq(here.closed, 0);
    conn_cut(only(), clock_ms());
    expect_closed(CLOSE_FORCED);
    hang_up();
    finish();
}
END_TEST

START_TEST(bytes_are_counted_when_they_are_gone)
{
    static char data[300000];
    _Atomic uint64_t *counter;
    size_t got = 0;

    begin(&echo_service);
    counter = here.origin.stats->counter;
    connect_client(8192);
    ck_assert(loop_until(here.set.base, has_shaken, NULL));
    inject_spare_openssl(true);
    for (size_t sent = 0; got < sizeof(data);) {
        int written = sent < sizeof(data) ? SSL_write(here.client, data + sent, 1000) : -1;
        int read = SSL_read(here.client, data, 700);

        sent += written > 0 ? (size_t) written : 0;
        got += read > 0 ? (size_t) read : 0;
        ck_assert_uint_le(counter[STATS_sent_bytes], counter[STATS_received_bytes]);
        ck_assert_uint_le(got, counter[STATS_sent_bytes] + 16384);
        inject_spare_openssl(false);
        event_base_loop(here.set.base, EVLOOP_NONBLOCK);
        inject_spare_openssl(true);
    }
    inject_spare_openssl(false);
    ck_assert_uint_eq(counter[STATS_received_bytes], sizeof(data));
    ck_assert_uint_eq(counter[STATS_sent_bytes], sizeof(data));
    hang_up();
    expect_closed(CLOSE_EOF);
    finish();
}
END_TEST

static void on_received_once(struct conn *conn, struct evbuffer *input)
{
    conn_send(conn, input);
    conn_hold(conn);
}

static bool on_ending(struct conn *conn)
{
    (void) conn;
    here.ended++;
    return true;
}

static const struct service holding = { .name = "holding", .opened = on_opened,
                                        .received = on_received_once, .ending = on_ending };

static bool has_received(void *bytes)
{
    return here.origin.stats->counter[STATS_received_bytes] >= *(uint64_t *) bytes;
}

/* The client says `hello`, and that this is all, in one piece; the service holds it meanwhile. */
static void hold_at_the_end(void)
{
    uint64_t bytes = 5;

    begin(&holding);
    connect_client(0);
    ck_assert(loop_until(here.set.base, has_shaken, NULL));
    inject_spare_openssl(true);
    ck_assert_int_eq(SSL_write(here.client, "hello", 5), 5);
    SSL_shutdown(here.client);
    inject_spare_openssl(false);
    ck_assert(loop_until(here.set.base, has_received, &bytes));
    loop_for(here.set.base, 10);
    ck_assert_uint_eq(here.ended, 0);
    ck_assert_uint_eq(here.closed, 0);
    ck_assert(!is_lingering(NULL));
}

/* The client reads so many BYTES, and no more. */
static bool reads(void *bytes)
{
    int *left = bytes, got;
    char data[16];

    inject_spare_openssl(true);
    got = SSL_read(here.client, data, *left);
    inject_spare_openssl(false);
    *left -= got > 0 ? got : 0;
    return *left == 0;
}

static bool reads_end(void *unused)
{
    char byte;
    int error;

    (void) unused;
    inject_spare_openssl(true);
    error = SSL_get_error(here.client, SSL_read(here.client, &byte, 1));
    inject_spare_openssl(false);
    return error == SSL_ERROR_ZERO_RETURN;
}

START_TEST(who_is_held_hears_of_the_end_when_it_goes_on)
{
    hold_at_the_end();
    conn_go_on(only());
    ck_assert_uint_eq(here.ended, 1);
    ck_assert(loop_until(here.set.base, reads, &(int){ 5 }));
    ck_assert(loop_until(here.set.base, reads_end, NULL));
    hang_up();
    expect_closed(CLOSE_EOF);
    finish();
}
END_TEST

START_TEST(who_is_held_and_has_ended_is_drained)
{
    int64_t began;

    hold_at_the_end();
    began = clock_ms();
    conn_finish(only(), CLOSE_DRAIN);
    ck_assert_uint_eq(here.ended, 1);
    expect_closed(CLOSE_DRAIN); /* at once: the client has said that it is done */
    ck_assert_int_lt(clock_ms() - began, LINGER_MS / 2);
    hang_up();
    finish();
}
END_TEST

START_TEST(who_is_held_is_not_read_from)
{
    uint64_t bytes = 5;

    begin(&holding);
    connect_client(0);
    ck_assert(loop_until(here.set.base, has_shaken, NULL));
    for (int i = 0; i < 2; i++) {
        inject_spare_openssl(true);
        ck_assert_int_eq(SSL_write(here.client, "hello", 5), 5);
        inject_spare_openssl(false);
        ck_assert(loop_until(here.set.base, has_received, &bytes));
    }
    loop_for(here.set.base, 10);
    ck_assert_uint_eq(here.origin.stats->counter[STATS_received_bytes], bytes);
    conn_go_on(only());
    bytes = 10;
    ck_assert(loop_until(here.set.base, has_received, &bytes));
    ck_assert(loop_until(here.set.base, reads, &(int){ 10 }));
    conn_go_on(only());
    hang_up();
    expect_closed(CLOSE_EOF);
    finish();
}
END_TEST

/* Has the message come back, or is it over? */
static bool has_echoed(void *unused)
{
    char data[16];
    int got;

    (void) unused;
    inject_spare_openssl(true);
    got = SSL_read(here.client, data, sizeof(data));
    inject_spare_openssl(false);
    return got > 0 || here.closed > 0 || is_lingering(NULL);
}

/*
 * A connection in which memory is short at one point or another. No assertion meanwhile: libcheck
 * takes memory for each.
 */
static bool survives(unsigned nth)
{
    struct pair pair = make_pair(0);
    bool has_failed;

    inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
    if (connect_over(pair)) {
        loop_until(here.set.base, has_shaken, NULL);
        inject_spare_openssl(true);
        (void) SSL_write(here.client, "hello", 5);
        inject_spare_openssl(false);
        loop_until(here.set.base, has_echoed, NULL);
        if (only() != NULL)
            conn_finish(only(), CLOSE_DRAIN);
    }
    has_failed = inject_failures(INJECT_MEMORY) > 0;
    inject_reset();
    hang_up();
    if (only() != NULL)
        loop_until(here.set.base, is_closed, NULL);
    event_base_loop(here.set.base, EVLOOP_NONBLOCK);
    here.closed = 0;
    return has_failed;
}

START_TEST(a_connection_breaks_where_memory_is_short)
{
    _Atomic uint64_t *closed;

    begin(&counting);
    closed = here.origin.stats->closed;
    for (unsigned nth = 1; survives(nth); nth += 1 + nth / 16)
        ck_assert_uint_eq(here.opened, here.ended);
    ck_assert_uint_eq(here.origin.stats->counter[STATS_accepted],
                      closed[CLOSE_TLS] + closed[CLOSE_ERROR] + closed[CLOSE_DRAIN]);
    ck_assert_uint_gt(closed[CLOSE_DRAIN], 0);
    ck_assert_uint_gt(closed[CLOSE_ERROR], 4 * closed[CLOSE_TLS]); /* OpenSSL often knows why */
    finish();
}
END_TEST

/* What has not come to a worker must not make its TLS a plain connection. */
START_TEST(without_credentials_nobody_is_served)
{
    struct tls_context *context;
    struct pair pair;

    begin(&echo_service);
    context = here.set.tls;
    here.set.tls = NULL;
    pair = make_pair(0);
    ck_assert(!conn_new(&here.set, &here.origin, pair.server, &pair.peer));
    ck_assert_uint_eq(here.origin.stats->counter[STATS_accepted], 0);
    close(pair.server);
    close(pair.client);
    here.set.tls = context;
    finish();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_service_knows_of_it_after_the_handshake,
        a_service_hears_nothing_of_who_never_shook_hands,
        who_fails_gets_an_alert_and_not_much_time,
        what_came_with_garbage_is_not_answered,
        answers_to_key_updates_do_not_pile_up,
        who_is_held_hears_of_the_end_when_it_goes_on,
        who_is_held_and_has_ended_is_drained,
        who_is_held_is_not_read_from,
        bytes_are_counted_when_they_are_gone,
        a_connection_breaks_where_memory_is_short,
        without_credentials_nobody_is_served,
    };
    char fingerprint[FINGERPRINT_MAX];
    int status;

    if (!inject_openssl() || !selfsigned_make(&credentials, fingerprint))
        return 1;
    status = HARNESS_RUN("conn_tls", tests);
    credentials_clear(&credentials);
    return status;
}
