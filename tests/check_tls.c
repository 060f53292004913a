#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/fastpath.h"
#include "src/reactor.h"
#include "src/selfsigned.h"
#include "src/spare.h"
#include "src/tls.h"
#include "tests/harness.h"
#include "tests/inject.h"
#include "tests/inject_openssl.h"

/* What the server shows; made once. */
static struct credentials credentials;

/* The server's side, as a connection would have it, and the client's. */
static struct {
    struct event_base *base;
    struct tls_context *context;
    struct bufferevent *bev;
    struct tls *tls;
    struct evbuffer *plain; /* what came */
    enum tls_result result;
    int fd; /* the server's end */
    SSL_CTX *client_context;
    SSL *client;
    BIO *out; /* the client's records, on their way */
    int client_fd;
} here;

static void on_readable(struct bufferevent *bev, void *unused)
{
    (void) bev;
    (void) unused;
    here.result = tls_receive(here.tls, here.plain);
    if (here.result == TLS_FAILED)
        bufferevent_disable(bev, EV_READ);
}

/* Memory was short even for reading. */
static void on_event(struct bufferevent *bev, short what, void *unused)
{
    (void) bev;
    (void) what;
    (void) unused;
    here.result = TLS_FAILED;
}

static void begin(void)
{
    struct tls_problem problem;

    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.context = tls_context_new(&credentials, &problem);
    ck_assert_ptr_nonnull(here.context);
    here.plain = evbuffer_new();
    inject_spare_openssl(true);
    here.client_context = SSL_CTX_new(TLS_client_method());
    inject_spare_openssl(false);
}

/* The client's side of a new connection that speaks at most VERSION. */
static void make_client(int version, int fd)
{
    inject_spare_openssl(true);
    here.client = SSL_new(here.client_context);
    SSL_set_max_proto_version(here.client, version);
    here.out = BIO_new(BIO_s_mem());
    SSL_set_bio(here.client, BIO_new_socket(fd, BIO_NOCLOSE), here.out);
    SSL_set_connect_state(here.client);
    here.client_fd = fd;
    set_blocking(fd, false);
    inject_spare_openssl(false);
}

/* False: no memory. */
static bool make_server(int fd)
{
    here.result = TLS_MORE;
    here.fd = fd;
    here.bev = bufferevent_socket_new(here.base, fd, 0);
    if (here.bev == NULL)
        return false;
    fastpath_attach(here.bev);
    here.tls = tls_new(here.context, here.bev);
    bufferevent_setcb(here.bev, on_readable, NULL, on_event, NULL);
    return here.tls != NULL && bufferevent_enable(here.bev, EV_READ) == 0;
}

static void hang_up(void)
{
    inject_spare_openssl(true);
    SSL_set_shutdown(here.client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* a good session */
    SSL_free(here.client);
    inject_spare_openssl(false);
    close(here.client_fd);
    tls_free(here.tls);
    if (here.bev != NULL)
        bufferevent_free(here.bev);
    close(here.fd);
    here.tls = NULL;
    here.bev = NULL;
    evbuffer_drain(here.plain, evbuffer_get_length(here.plain));
    event_base_loop(here.base, EVLOOP_NONBLOCK); /* libevent frees later */
}

static void finish(void)
{
    SSL_CTX_free(here.client_context);
    tls_context_free(here.context);
    evbuffer_free(here.plain);
    event_base_free(here.base);
    spare_release();
}

/*
 * Puts what the client has to send onto the wire; at most LIMIT bytes of it. No assertion here, nor
 * in what else is called while memory is short: libcheck takes some for each.
 */
static void flush_client(size_t limit)
{
    unsigned char data[65536];
    int length = BIO_read(here.out, data, (int) (limit < sizeof(data) ? limit : sizeof(data)));

    if (length > 0 && write(here.client_fd, data, (size_t) length) != length)
        abort();
}

/* Is the handshake over for both, or broken? */
static bool has_shaken(void *unused)
{
    (void) unused;
    inject_spare_openssl(true);
    SSL_do_handshake(here.client);
    inject_spare_openssl(false);
    flush_client(SIZE_MAX);
    return (SSL_is_init_finished(here.client) && tls_is_open(here.tls)) ||
           here.result == TLS_FAILED;
}

static void connect_both(int version, int buffer)
{
    struct pair pair = make_pair(buffer);

    make_client(version, pair.client);
    ck_assert(make_server(pair.server));
    ck_assert(loop_until(here.base, has_shaken, NULL));
    ck_assert_int_eq(here.result, TLS_MORE);
    ck_assert_int_eq(SSL_version(here.client), version);
}

static void client_writes(const void *data, size_t length)
{
    inject_spare_openssl(true);
    if (SSL_write(here.client, data, (int) length) != (int) length)
        abort();
    inject_spare_openssl(false);
}

/* What SSL_read gives, once it gives anything but "not yet". */
static int client_reads(void *data, int size)
{
    int got;

    inject_spare_openssl(true);
    while ((got = SSL_read(here.client, data, size)) <= 0 &&
           SSL_get_error(here.client, got) == SSL_ERROR_WANT_READ) {
        struct pollfd ready = { .fd = here.client_fd, .events = POLLIN };

        event_base_loop(here.base, EVLOOP_NONBLOCK);
        ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    }
    inject_spare_openssl(false);
    return got;
}

static bool has_plain(void *bytes)
{
    return evbuffer_get_length(here.plain) >= *(size_t *) bytes || here.result != TLS_MORE;
}

static void expect_plain(const void *data, size_t length)
{
    ck_assert(loop_until(here.base, has_plain, &length));
    ck_assert_uint_eq(evbuffer_get_length(here.plain), length);
    ck_assert_mem_eq(evbuffer_pullup(here.plain, -1), data, length);
    evbuffer_drain(here.plain, length);
}

static bool has_result(void *result)
{
    return here.result == *(enum tls_result *) result;
}

static void expect_result(enum tls_result result)
{
    ck_assert(loop_until(here.base, has_result, &result));
}

static bool send_all(const void *data, size_t length)
{
    struct evbuffer *buffer = evbuffer_new();
    bool sent;

    ck_assert_int_eq(evbuffer_add(buffer, data, length), 0);
    sent = tls_send(here.tls, buffer);
    ck_assert(!sent || evbuffer_get_length(buffer) == 0);
    evbuffer_free(buffer);
    return sent;
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
enum { VERSIONS = 2 };

START_TEST(bytes_go_both_ways)
{
    char answer[16];

    begin();
    for (int i = 0; i < VERSIONS; i++) {
        connect_both(versions[i], 0);
        client_writes("hello", 5);
        flush_client(SIZE_MAX);
        expect_plain("hello", 5);
        ck_assert(send_all("answer", 6));
        ck_assert_int_eq(client_reads(answer, sizeof(answer)), 6);
        ck_assert_mem_eq(answer, "answer", 6);
        hang_up();
    }
    finish();
}
END_TEST

/* What came of it so far is nothing; and it is known that there is something. */
static void expect_midway(bool is_midway)
{
    loop_for(here.base, 2);
    ck_assert_int_eq(tls_is_midway(here.tls), is_midway);
    ck_assert_uint_eq(evbuffer_get_length(here.plain), 0);
}

START_TEST(a_part_of_a_record_is_known_as_such)
{
    begin();
    for (int i = 0; i < VERSIONS; i++) {
        connect_both(versions[i], 0);
        expect_midway(false);
        client_writes("hello", 5);
        for (int bytes = 0; bytes < 24; bytes++) { /* the header has 5 */
            flush_client(1);
            expect_midway(true);
        }
        flush_client(SIZE_MAX);
        expect_plain("hello", 5);
        expect_midway(false);
        hang_up();
    }
    finish();
}
END_TEST

START_TEST(records_beyond_one_buffer_are_all_taken)
{
    static char data[300000];
    size_t sent = 0;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char) (i * 31 + i / 253);
    begin();
    connect_both(TLS1_3_VERSION, 0);
    client_writes(data, sizeof(data));
    while (BIO_pending(here.out) > 0) {
        unsigned char piece[7001];
        int length = BIO_read(here.out, piece, sizeof(piece));
        ssize_t written = write(here.client_fd, piece, (size_t) length);

        ck_assert_int_eq(written, length); /* the server reads as we go */
        event_base_loop(here.base, EVLOOP_NONBLOCK);
        sent += (size_t) length;
    }
    ck_assert_uint_gt(sent, sizeof(data));
    expect_plain(data, sizeof(data));
    hang_up();
    finish();
}
END_TEST

START_TEST(what_the_kernel_does_not_take_waits_in_order)
{
    static char data[400000], got[400000];
    size_t length = 0;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char) (i * 17 + i / 251);
    begin();
    connect_both(TLS1_2_VERSION, 8192);
    ck_assert(send_all(data, sizeof(data) / 2));
    ck_assert_uint_gt(evbuffer_get_length(bufferevent_get_output(here.bev)), 0);
    ck_assert(send_all(data + sizeof(data) / 2, sizeof(data) / 2));
    tls_finish(here.tls);
    for (int more; (more = client_reads(got + length, (int) (sizeof(got) - length))) > 0;)
        length += (size_t) more;
    ck_assert_uint_eq(length, sizeof(data));
    ck_assert_mem_eq(got, data, sizeof(data));
    ck_assert_int_eq(SSL_get_shutdown(here.client), SSL_RECEIVED_SHUTDOWN);
    hang_up();
    finish();
}
END_TEST

START_TEST(each_side_ends_for_itself)
{
    char byte;

    begin();
    for (int i = 0; i < VERSIONS; i++) {
        connect_both(versions[i], 0);
        client_writes("last", 4);
        inject_spare_openssl(true);
        SSL_shutdown(here.client);
        inject_spare_openssl(false);
        flush_client(SIZE_MAX);
        expect_result(TLS_END);
        expect_plain("last", 4);
        ck_assert(send_all("reply", 5)); /* the other direction is open still */
        tls_finish(here.tls);
        for (int bytes = 0; bytes < 5; bytes++)
            ck_assert_int_eq(client_reads(&byte, 1), 1);
        ck_assert_int_eq(client_reads(&byte, 1), 0);
        ck_assert_int_eq(SSL_get_shutdown(here.client),
                         SSL_RECEIVED_SHUTDOWN | SSL_SENT_SHUTDOWN);
        ck_assert_int_eq(write(here.client_fd, "more", 4), 4); /* which nobody may send */
        loop_for(here.base, 2);
        ck_assert_int_eq(here.result, TLS_END);
        ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(here.bev)), 0);
        hang_up();
    }
    finish();
}
END_TEST

START_TEST(what_is_no_tls_fails)
{
    static const char *const texts[] = { "GET / HTTP/1.0\r\n\r\n", "just a line\n", "h",
                                         "\x16\x03\x01\x70\x70 too long" };

    begin();
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct pair pair = make_pair(0);

        make_client(TLS1_3_VERSION, pair.client);
        ck_assert(make_server(pair.server));
        send_text(pair.client, texts[i]);
        expect_result(TLS_FAILED);
        ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(here.bev)), 0);
        ck_assert(!tls_is_open(here.tls));
        ck_assert_str_ne(tls_failure(), "out of memory");
        ck_assert(!tls_is_own_failure());
        hang_up();
    }
    finish();
}
END_TEST

START_TEST(garbage_in_a_conversation_fails)
{
    static const char record[5 + 32] = "\x17\x03\x03\0\x20 and so on, no record of ours";
    char byte;
    int got;

    begin();
    for (int i = 0; i < VERSIONS; i++) {
        connect_both(versions[i], 0);
        client_writes("hello", 5);
        flush_client(SIZE_MAX);
        ck_assert_int_eq(write(here.client_fd, record, sizeof(record)), sizeof(record));
        expect_result(TLS_FAILED);
        got = client_reads(&byte, 1);
        ck_assert_int_eq(SSL_get_error(here.client, got), SSL_ERROR_SSL); /* it is told so */
        hang_up();
    }
    finish();
}
END_TEST

/* With OTHER's ticket keys, does the server go on with the client's SESSION? */
static bool is_resumed(const struct credentials *other, SSL_SESSION *session, int version)
{
    struct tls_problem problem;
    struct pair pair = make_pair(0);
    bool resumed;

    tls_context_free(here.context);
    here.context = tls_context_new(other, &problem);
    ck_assert_ptr_nonnull(here.context);
    make_client(version, pair.client);
    inject_spare_openssl(true);
    ck_assert_int_eq(SSL_set_session(here.client, session), 1);
    inject_spare_openssl(false);
    ck_assert(make_server(pair.server));
    ck_assert(loop_until(here.base, has_shaken, NULL));
    resumed = SSL_session_reused(here.client);
    hang_up();
    return resumed;
}

START_TEST(tickets_are_good_for_two_keys)
{
    for (int i = 0; i < VERSIONS; i++) {
        struct credentials now = credentials;
        SSL_SESSION *session;
        char answer[8];

        begin();
        connect_both(versions[i], 0);
        ck_assert(send_all("hello", 5)); /* with 1.3 tickets come before it */
        ck_assert_int_eq(client_reads(answer, sizeof(answer)), 5);
        session = SSL_get1_session(here.client);
        hang_up();
        ck_assert(is_resumed(&now, session, versions[i]));
        now.previous = now.current;
        memset(&now.current, 'n', sizeof(now.current));
        ck_assert(is_resumed(&now, session, versions[i]));
        now.previous = now.current;
        memset(&now.current, 'm', sizeof(now.current));
        ck_assert(!is_resumed(&now, session, versions[i]));
        now = credentials;
        memset(&now.current.mac, 'x', sizeof(now.current.mac)); /* its name tells nothing */
        ck_assert(!is_resumed(&now, session, versions[i]));
        now = credentials;
        now.client_ca = now.chain; /* who asks for certificates takes no session without one */
        if (versions[i] == TLS1_2_VERSION) /* with 1.3 the client does not know of it yet */
            ck_assert(!is_resumed(&now, session, versions[i]));
        SSL_SESSION_free(session);
        finish();
    }
}
END_TEST

START_TEST(a_context_outlives_its_owner)
{
    char answer[16];

    begin();
    connect_both(TLS1_3_VERSION, 0);
    tls_context_free(here.context);
    here.context = NULL;
    client_writes("hello", 5);
    flush_client(SIZE_MAX);
    expect_plain("hello", 5);
    ck_assert(send_all("answer", 6));
    ck_assert_int_eq(client_reads(answer, sizeof(answer)), 6);
    hang_up();
    finish();
}
END_TEST

START_TEST(a_context_says_what_is_wrong)
{
    static char text[] = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n";
    static char key[] = "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n";
    const struct blob nothing = { 0 }, bad = { (unsigned char *) text, sizeof(text) - 1 },
                      bad_key = { (unsigned char *) key, sizeof(key) - 1 };
    const struct {
        struct blob chain, key, client_ca;
        enum tls_part part;
        const char *what;
    } table[] = {
        { nothing, credentials.key, nothing, TLS_CHAIN, "no certificate in file" },
        { credentials.key, credentials.key, nothing, TLS_CHAIN, "no certificate in file" },
        { bad, credentials.key, nothing, TLS_CHAIN, "malformed certificate" },
        { credentials.chain, nothing, nothing, TLS_KEY, "no private key in file" },
        { credentials.chain, credentials.chain, nothing, TLS_KEY, "no private key in file" },
        { credentials.chain, bad_key, nothing, TLS_KEY, "malformed private key" },
        { credentials.chain, credentials.key, credentials.key, TLS_CLIENT_CA,
          "no certificate in file" },
        { credentials.chain, credentials.key, bad, TLS_CLIENT_CA, "malformed certificate" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct credentials wrong = { .chain = table[i].chain, .key = table[i].key,
                                     .client_ca = table[i].client_ca };
        struct tls_problem problem;

        ck_assert_ptr_null(tls_context_new(&wrong, &problem));
        ck_assert_int_eq(problem.part, table[i].part);
        ck_assert_str_eq(problem.what, table[i].what);
    }
}
END_TEST

/* A connection in which memory is short at one point or another: it breaks, and no more. */
static bool survives(unsigned nth)
{
    struct pair pair = make_pair(0);
    size_t length = 5;
    bool has_failed;

    make_client(nth % 2 == 0 ? TLS1_2_VERSION : TLS1_3_VERSION, pair.client);
    inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
    if (make_server(pair.server) && loop_until(here.base, has_shaken, NULL) &&
        here.result != TLS_FAILED) {
        client_writes("hello", 5);
        flush_client(SIZE_MAX);
        loop_until(here.base, has_plain, &length);
        if (here.result != TLS_FAILED && tls_send(here.tls, here.plain))
            tls_finish(here.tls);
    }
    has_failed = inject_failures(INJECT_MEMORY) > 0;
    inject_reset();
    hang_up();
    return has_failed;
}

START_TEST(a_connection_breaks_where_memory_is_short)
{
    begin();
    for (unsigned nth = 1; survives(nth); nth += 1 + nth / 16)
        continue;
    connect_both(TLS1_3_VERSION, 0); /* others are as ever */
    hang_up();
    finish();
}
END_TEST

/* OpenSSL does not say that it was memory which it lacked for a certificate's key. */
static bool is_for_memory(const struct tls_problem *problem)
{
    return problem->part == TLS_MEMORY || strncmp(problem->what, "certificate refused", 19) == 0;
}

START_TEST(a_context_needs_memory)
{
    struct credentials all = credentials; /* which has what it points to */
    bool has_failed = true;

    all.client_ca = credentials.chain;
    for (unsigned nth = 1; has_failed; nth += 1 + nth / 16) {
        struct tls_context *context;
        struct tls_problem problem;

        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        context = tls_context_new(&all, &problem);
        has_failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_msg(context != NULL || is_for_memory(&problem), "%u: %s", nth, problem.what);
        tls_context_free(context); /* maybe it could do without that piece */
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        bytes_go_both_ways,
        a_part_of_a_record_is_known_as_such,
        records_beyond_one_buffer_are_all_taken,
        what_the_kernel_does_not_take_waits_in_order,
        each_side_ends_for_itself,
        what_is_no_tls_fails,
        garbage_in_a_conversation_fails,
        tickets_are_good_for_two_keys,
        a_context_outlives_its_owner,
        a_context_says_what_is_wrong,
        a_connection_breaks_where_memory_is_short,
        a_context_needs_memory,
    };
    char fingerprint[FINGERPRINT_MAX];
    int status;

    if (!inject_openssl() || !selfsigned_make(&credentials, fingerprint))
        return 1;
    memset(&credentials.current, 'c', sizeof(credentials.current));
    memset(&credentials.previous, 'p', sizeof(credentials.previous));
    status = HARNESS_RUN("tls", tests);
    credentials_clear(&credentials);
    return status;
}
