#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/probe/defaults.h"
#include "src/probe/pattern.h"
#include "src/probe/stream.h"
#include "src/probe/tls.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define SECOND UINT64_C(1000000000)
#define NAMES "DNS:echo.test,IP:127.0.0.1"

/* What the client told its owner. */
static struct {
    unsigned opened, ended;
    uint64_t answered, corrupt;
    char why[128]; /* "": all is well */
} told;

static struct tally tally;
static struct client_setup setup;
static struct address address;
static struct endpoint endpoint;
static struct target target;
static struct client client;
static int listener;

/* The server's end, whose part we play: it gives back what it gets, and close_notify at the end. */
static struct {
    SSL_CTX *context;
    SSL *ssl; /* NULL: not accepted yet */
    int fd;
    bool is_rude;     /* it ends without close_notify */
    bool has_refused; /* it did not like what came, and sent an alert */
    int length, sent;
    char data[16384];
} server;

/* A certificate that signs itself, for NAMES, and its key. */
static char ca_file[] = "/tmp/check_probe_tls.XXXXXX";
static EVP_PKEY *key;
static X509 *certificate;

static void make_certificate(void)
{
    X509V3_CTX context;
    X509_EXTENSION *names;
    FILE *file;

    key = EVP_EC_gen("P-256");
    certificate = X509_new();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    names = X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, NAMES);
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    file = fdopen(mkstemp(ca_file), "w");
    if (X509_sign(certificate, key, EVP_sha256()) <= 0 || file == NULL ||
        PEM_write_X509(file, certificate) != 1 || fclose(file) != 0)
        abort(); /* no test runs yet that could fail */
}

static void on_opened(struct client *own)
{
    ck_assert_ptr_eq(own, &client);
    told.opened++;
}

static void on_answered(struct client *own, uint64_t first, uint64_t messages, uint64_t corrupt)
{
    (void) own;
    ck_assert_uint_eq(first, told.answered);
    told.answered += messages;
    told.corrupt += corrupt;
}

static void on_ended(struct client *own, const char *why)
{
    ck_assert_int_eq(own->phase, CLIENT_ENDED);
    told.ended++;
    strncpy(told.why, why != NULL ? why : "", sizeof(told.why) - 1);
}

static const struct client_handler handler = { .opened = on_opened, .answered = on_answered,
                                               .ended = on_ended };

static void start_server(void)
{
    struct sockaddr_in ip4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    uint16_t port;

    memset(&server, 0, sizeof(server));
    server.fd = -1;
    server.context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(server.context, certificate);
    SSL_CTX_use_PrivateKey(server.context, key);
    SSL_CTX_set_mode(server.context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    listener = listen_anywhere(&port);
    set_blocking(listener, false);
    ip4.sin_port = htons(port);
    address = address_from((struct sockaddr *) &ip4, sizeof(ip4));
}

/* A client of messages of SIZE that connects to HOST, whom it trusts by FILE (NULL: blindly). */
static void set_up(uint64_t size, const char *host, const char *file)
{
    static unsigned char buffer[PIECE_MAX];
    struct tls_trust trust = { .host = host, .ca_file = file, .is_blind = file == NULL };
    const char *problem = NULL;

    inject_reset();
    memset(&told, 0, sizeof(told));
    memset(&tally, 0, sizeof(tally));
    pattern_init();
    start_server();
    target = (struct target){ .endpoint = &endpoint, .addresses = &address, .count = 1 };
    setup = (struct client_setup){ .base = reactor_new(NULL), .transport = &stream_transport,
                                   .target = &target, .size = size, .timeout = 10 * SECOND,
                                   .security = tls_client_new(&trust, &problem),
                                   .buffer = buffer, .tally = &tally, .handler = &handler };
    ck_assert_ptr_nonnull(setup.security);
    client_init(&client, &setup, 7);
    client_connect(&client);
}

static void tear_down(void)
{
    client_end(&client, NULL);
    ck_assert_ptr_null(client.session);
    tls_client_free((struct security *) setup.security);
    event_base_free(setup.base);
    SSL_free(server.ssl);
    SSL_CTX_free(server.context);
    if (server.fd >= 0)
        close(server.fd);
    close(listener);
}

static void accept_client(void)
{
    int on = 1;

    server.fd = accept(listener, NULL, NULL);
    if (server.fd < 0)
        return;
    setsockopt(server.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    set_blocking(server.fd, false);
    server.ssl = SSL_new(server.context);
    SSL_set_fd(server.ssl, server.fd);
    SSL_set_accept_state(server.ssl);
}

static void serve(void)
{
    if (server.ssl == NULL)
        accept_client();
    if (server.ssl == NULL)
        return;
    if (server.sent == server.length) {
        server.length = SSL_read(server.ssl, server.data, sizeof(server.data));
        server.sent = 0;
        if (server.length <= 0 && SSL_get_error(server.ssl, server.length) == SSL_ERROR_ZERO_RETURN &&
            (server.is_rude || SSL_shutdown(server.ssl) > 0))
            shutdown(server.fd, SHUT_WR);
        if (server.length < 0 && SSL_get_error(server.ssl, server.length) == SSL_ERROR_SSL)
            server.has_refused = true;
        if (server.length < 0)
            server.length = 0;
    }
    if (server.sent < server.length) {
        int sent = SSL_write(server.ssl, server.data + server.sent, server.length - server.sent);

        server.sent += sent > 0 ? sent : 0;
    }
}

static bool serve_until_opened(void *unused)
{
    (void) unused;
    serve();
    return told.opened > 0 || told.ended > 0;
}

static bool serve_until_ended(void *unused)
{
    (void) unused;
    serve();
    return told.ended > 0;
}

static bool serve_until_answered(void *unused)
{
    (void) unused;
    serve();
    return told.ended > 0 || !client_is_owed(&client);
}

/* Sends so many MESSAGES and close_notify; all come back, and the same. */
static void exchange(uint64_t messages)
{
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    ck_assert_str_eq(told.why, "");
    client_allow(&client, messages, clock_ns());
    client_push(&client);
    client_finish(&client);
    ck_assert(loop_until(setup.base, serve_until_ended, NULL));
}

START_TEST(everything_comes_back)
{
    const uint64_t sizes[] = { 1, 64, 16384, 65537, 3 << 20 };

    for (unsigned i = 0; i < 5; i++) {
        set_up(sizes[i], "echo.test", ca_file);
        setup.needs_eof = true;
        exchange(5);
        ck_assert_str_eq(told.why, "");
        ck_assert_uint_eq(told.answered, 5);
        ck_assert_uint_eq(told.corrupt, 0);
        ck_assert_uint_eq(tally_get(&tally, TALLY_BYTES), 5 * sizes[i]);
        tear_down();
    }
}
END_TEST

START_TEST(also_when_calls_are_short_or_have_to_wait)
{
    unsigned failures = 0;

    for (unsigned i = 0; i < 10; i++) {
        set_up(997, "echo.test", ca_file);
        setup.needs_eof = true;
        inject_random(INJECT_READ, i + 1);
        inject_random(INJECT_WRITE, i + 99);
        exchange(300);
        failures += inject_failures(INJECT_READ) + inject_failures(INJECT_WRITE);
        ck_assert_str_eq(told.why, "");
        ck_assert_uint_eq(told.answered, 300);
        ck_assert_uint_eq(told.corrupt, 0);
        tear_down();
    }
    ck_assert_uint_gt(failures, 0);
}
END_TEST

START_TEST(one_receive_an_event)
{
    set_up(64, "echo.test", ca_file);
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    for (unsigned i = 0; i < 3; i++) { /* the first brings tickets along */
        client_allow(&client, 1, clock_ns());
        client_push(&client);
        while (SSL_read(server.ssl, server.data, 64) != 64)
            continue;
        inject_reset();
        ck_assert_int_eq(SSL_write(server.ssl, server.data, 64), 64);
        event_base_loop(setup.base, EVLOOP_ONCE);
        ck_assert_uint_eq(inject_count(INJECT_READ), 1);
        ck_assert_uint_eq(told.answered, i + 1);
    }
    tear_down();
}
END_TEST

START_TEST(the_certificate_has_to_be_the_hosts)
{
    static const struct {
        const char *host, *why;
    } all[] = {
        { "echo.test", "" },
        { "echo.test.", "" },
        { "127.0.0.1", "" },
        { "other.test", "certificate verify failed: hostname mismatch" },
        { "127.0.0.2", "certificate verify failed: IP address mismatch" },
        { "::1", "certificate verify failed: IP address mismatch" },
        { "fe80::1%lo", "certificate verify failed: IP address mismatch" },
    };

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        set_up(64, all[i].host, ca_file);
        ck_assert(loop_until(setup.base, serve_until_opened, NULL));
        ck_assert_str_eq(told.why, all[i].why);
        tear_down();
    }
}
END_TEST

START_TEST(a_name_is_told_to_the_server_and_an_address_is_not)
{
    set_up(64, "echo.test.", ca_file);
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    ck_assert_str_eq(SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name), "echo.test");
    tear_down();
    set_up(64, "127.0.0.1", ca_file);
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    ck_assert_ptr_null(SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name));
    tear_down();
}
END_TEST

START_TEST(trust_may_be_blind)
{
    set_up(64, "other.test", NULL);
    exchange(2);
    ck_assert_str_eq(told.why, "");
    ck_assert_uint_eq(told.answered, 2);
    tear_down();
}
END_TEST

START_TEST(a_file_that_does_not_serve)
{
    static const struct {
        const char *file, *problem;
    } all[] = {
        { "/nonexistent", "No such file or directory" },
        { "/dev/null", "no certificate or crl found" },
    };

    for (unsigned i = 0; i < 2; i++) {
        struct tls_trust trust = { .host = "echo.test", .ca_file = all[i].file };
        const char *problem = NULL;

        ck_assert_ptr_null(tls_client_new(&trust, &problem));
        ck_assert_str_eq(problem, all[i].problem);
    }
}
END_TEST

START_TEST(old_versions_are_refused)
{
    set_up(64, "echo.test", ca_file);
    SSL_CTX_set_security_level(server.context, 0);
    SSL_CTX_set_max_proto_version(server.context, TLS1_1_VERSION);
    ck_assert(loop_until(setup.base, serve_until_ended, NULL));
    ck_assert_str_eq(told.why, "TLS handshake failed: tlsv1 alert protocol version");
    tear_down();
}
END_TEST

START_TEST(an_end_without_close_notify_is_told)
{
    for (unsigned i = 0; i < 2; i++) { /* unless nobody wants an end */
        set_up(64, "echo.test", ca_file);
        server.is_rude = true;
        setup.needs_eof = i == 0;
        exchange(3);
        ck_assert_uint_eq(told.answered, 3);
        ck_assert_str_eq(told.why, i == 0 ? "Connection closed without close_notify" : "");
        tear_down();
    }
}
END_TEST

START_TEST(an_end_that_comes_with_the_last_byte_is_seen)
{
    set_up(64, "echo.test", ca_file);
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    client_allow(&client, 1, clock_ns());
    client_push(&client);
    client_finish(&client);
    while (SSL_read(server.ssl, server.data, 64) != 64)
        continue;
    SSL_write(server.ssl, server.data, 64);
    SSL_shutdown(server.ssl); /* and no FIN */
    ck_assert(loop_until(setup.base, serve_until_ended, NULL));
    ck_assert_str_eq(told.why, "");
    ck_assert_uint_eq(told.answered, 1);
    tear_down();
}
END_TEST

START_TEST(who_breaks_off_is_told)
{
    set_up(64, "echo.test", ca_file);
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    client_allow(&client, 1, clock_ns());
    client_push(&client);
    ck_assert(loop_until(setup.base, serve_until_answered, NULL));
    abort_connection(server.fd);
    server.fd = -1;
    ck_assert(loop_until(setup.base, serve_until_ended, NULL));
    ck_assert_str_eq(told.why, strerror(ECONNRESET));
    tear_down();
}
END_TEST

static bool is_refused(void *unused)
{
    (void) unused;
    serve();
    return server.has_refused;
}

/* Before it can send, or when it waits for an answer. */
START_TEST(a_reason_that_comes_after_the_handshake_is_told)
{
    for (unsigned i = 0; i < 2; i++) {
        set_up(64, "echo.test", ca_file);
        SSL_CTX_set_verify(server.context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        ck_assert(loop_until(setup.base, serve_until_opened, NULL));
        ck_assert(wait_until(is_refused, NULL));
        client_allow(&client, 1, clock_ns());
        if (i == 0)
            inject_fail(INJECT_WRITE, 1, 1, EPIPE);
        client_push(&client);
        ck_assert(loop_until(setup.base, serve_until_ended, NULL));
        ck_assert_str_eq(told.why, "TLS: tlsv13 alert certificate required");
        tear_down();
    }
}
END_TEST

START_TEST(no_reason_but_the_sockets)
{
    set_up(64, "echo.test", ca_file);
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    client_allow(&client, 1, clock_ns());
    inject_fail(INJECT_WRITE, 1, 1, EPIPE);
    client_push(&client);
    ck_assert_str_eq(told.why, strerror(EPIPE));
    tear_down();
}
END_TEST

START_TEST(who_speaks_no_tls_is_told)
{
    static const struct {
        const char *text, *why;
    } all[] = {
        { "220 mail.test ESMTP\r\n", "TLS handshake failed: wrong version number" },
        { "", "TLS handshake failed: connection closed" },
    };

    for (unsigned i = 0; i < 2; i++) {
        int fd;

        set_up(64, "echo.test", ca_file);
        while ((fd = accept(listener, NULL, NULL)) < 0)
            continue;
        send_text(fd, all[i].text);
        shutdown(fd, SHUT_WR);
        loop_for(setup.base, 20);
        ck_assert(told.ended > 0 || loop_until(setup.base, serve_until_ended, NULL));
        ck_assert_str_eq(told.why, all[i].why);
        close(fd);
        tear_down();
    }
}
END_TEST

static bool is_securing(void *unused)
{
    (void) unused;
    return client.phase == CLIENT_SECURING;
}

START_TEST(a_handshake_that_failed_is_the_end)
{
    int fd;

    set_up(64, "echo.test", ca_file);
    ck_assert(loop_until(setup.base, is_securing, NULL));
    ck_assert_int_ge(fd = accept(listener, NULL, NULL), 0);
    inject_reset();
    send_text(fd, "220 mail.test ESMTP\r\n");
    ck_assert(loop_until(setup.base, serve_until_ended, NULL));
    ck_assert_uint_eq(inject_count(INJECT_READ), 1);
    close(fd);
    tear_down();
}
END_TEST

START_TEST(a_handshake_has_an_end)
{
    set_up(64, "echo.test", ca_file);
    loop_for(setup.base, 20); /* nobody answers */
    ck_assert_int_eq(client.phase, CLIENT_SECURING);
    client_check(&client, clock_ns() + 9 * SECOND);
    ck_assert_uint_eq(told.ended, 0);
    client_check(&client, clock_ns() + 11 * SECOND);
    ck_assert_str_eq(told.why, "TLS handshake timed out");
    ck_assert_uint_eq(told.opened, 0);
    tear_down();
}
END_TEST

START_TEST(no_memory_for_a_session)
{
    set_up(64, "echo.test", ca_file);
    client_end(&client, NULL);
    memset(&told, 0, sizeof(told));
    client_init(&client, &setup, 7);
    client_connect(&client);
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM); /* when it is connected */
    ck_assert(loop_until(setup.base, serve_until_opened, NULL));
    ck_assert_str_eq(told.why, strerror(ENOMEM));
    tear_down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        everything_comes_back,
        also_when_calls_are_short_or_have_to_wait,
        one_receive_an_event,
        the_certificate_has_to_be_the_hosts,
        a_name_is_told_to_the_server_and_an_address_is_not,
        trust_may_be_blind,
        a_file_that_does_not_serve,
        old_versions_are_refused,
        an_end_without_close_notify_is_told,
        an_end_that_comes_with_the_last_byte_is_seen,
        who_breaks_off_is_told,
        a_reason_that_comes_after_the_handshake_is_told,
        no_reason_but_the_sockets,
        who_speaks_no_tls_is_told,
        a_handshake_that_failed_is_the_end,
        a_handshake_has_an_end,
        no_memory_for_a_session,
    };
    int status;

    make_certificate();
    status = HARNESS_RUN("probe/tls", tests);
    unlink(ca_file);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return status;
}
