#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../endpoint.h"

struct tls_client {
    struct security security; /* the first member */
    SSL_CTX *context;
    BIO_METHOD *method;
    bool is_numeric;
    char host[ENDPOINT_HOST_MAX + 1];
};

struct session {
    SSL *ssl;
    int fd;
    int error;      /* errno of the last call that failed */
    bool is_eof;    /* the socket's end was read */
    bool has_read;  /* the socket gave what it gives at a time */
    bool is_secure; /* the handshake is done */
};

/* OpenSSL's own socket calls would raise SIGPIPE. */
static int write_bio(BIO *bio, const char *data, int length)
{
    struct session *session = BIO_get_data(bio);
    ssize_t sent = send(session->fd, data, (size_t) length, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    session->error = sent < 0 ? errno : 0;
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int) sent;
}

/* Once an event, as without TLS: whoever sends without end shall not keep others waiting. */
static int read_bio(BIO *bio, char *data, int length)
{
    struct session *session = BIO_get_data(bio);
    ssize_t got = -1;

    BIO_clear_retry_flags(bio);
    if (session->has_read)
        errno = EAGAIN;
    else
        got = recv(session->fd, data, (size_t) length, 0);
    session->error = got < 0 ? errno : 0;
    session->has_read = true;
    session->is_eof = got == 0;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int) got;
}

static long control_bio(BIO *bio, int command, long number, void *pointer)
{
    struct session *session = BIO_get_data(bio);

    (void) number;
    (void) pointer;
    if (command == BIO_CTRL_EOF)
        return session->is_eof;
    return command == BIO_CTRL_FLUSH; /* there is nothing to flush; it does nothing else */
}

static const char *reason(void)
{
    unsigned long error = ERR_peek_error(); /* the first one, which is the cause */
    const char *text =
        ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error)) : ERR_reason_error_string(error);

    return text != NULL ? text : "unknown error";
}

/* A socket's error is told as without TLS, once that is open. */
static const char *why(struct session *session)
{
    static _Thread_local char text[200];
    const char *what = session->is_secure ? "TLS: " : "TLS handshake failed: ";
    const char *verdict = X509_verify_cert_error_string(SSL_get_verify_result(session->ssl));

    if (session->is_eof)
        return session->is_secure ? "Connection closed without close_notify"
                                  : "TLS handshake failed: connection closed";
    if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        snprintf(text, sizeof(text), "%s: %s", reason(), verdict);
    else if (ERR_peek_error() != 0)
        snprintf(text, sizeof(text), "%s%s", what, reason());
    else
        snprintf(text, sizeof(text), "%s%s", session->is_secure ? "" : what,
                 strerror(session->error));
    return text;
}

/* errno is EAGAIN if RESULT, of a call of SESSION's, only asks for patience. */
static enum security_step judge(struct session *session, int result)
{
    switch (SSL_get_error(session->ssl, result)) {
    case SSL_ERROR_NONE:
        return SECURITY_DONE;
    case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        return SECURITY_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return SECURITY_WANTS_WRITE;
    default:
        errno = EPROTO;
        return SECURITY_FAILED;
    }
}

/* Before each call: what others left would be taken for its error. */
static void begin_call(struct session *session)
{
    ERR_clear_error();
    session->error = 0;
}

static enum security_step handshake(struct session *session)
{
    enum security_step step;

    begin_call(session);
    session->has_read = false;
    step = judge(session, SSL_do_handshake(session->ssl));
    session->is_secure = step == SECURITY_DONE;
    session->has_read = false;
    return step;
}

/* Whoever broke off, so that we cannot send, may have told why before: that is to be read yet. */
static void look_for_alert(struct session *session)
{
    int error = session->error;
    size_t got;
    char byte;

    session->has_read = false;
    SSL_peek_ex(session->ssl, &byte, 1, &got);
    if (ERR_peek_error() != 0 && !session->is_eof)
        return;
    ERR_clear_error();
    session->is_eof = false;
    session->error = error;
}

/* A record a call, so that what is counted as sent is what the peer can read. */
static ssize_t send_all(struct session *session, const void *data, size_t length)
{
    const char *from = data;
    size_t sent = 0, one;

    begin_call(session);
    while (sent < length && SSL_write_ex(session->ssl, from + sent, length - sent, &one) == 1)
        sent += one;
    if (sent > 0)
        return (ssize_t) sent;
    if (judge(session, 0) == SECURITY_FAILED) {
        look_for_alert(session);
        errno = EPROTO;
    }
    return -1;
}

static ssize_t receive(struct session *session, void *data, size_t length)
{
    size_t got;

    begin_call(session);
    if (SSL_read_ex(session->ssl, data, length, &got) == 1)
        return (ssize_t) got;
    session->has_read = false;
    if (SSL_get_error(session->ssl, 0) == SSL_ERROR_ZERO_RETURN)
        return 0;
    judge(session, 0);
    return -1;
}

static bool has_more(struct session *session)
{
    if (SSL_has_pending(session->ssl))
        return true;
    session->has_read = false;
    return false;
}

/* Other failures than that there is no room are told when we read. */
static bool finish(struct session *session)
{
    int result;

    begin_call(session);
    result = SSL_shutdown(session->ssl);
    return result >= 0 || judge(session, result) != SECURITY_WANTS_WRITE;
}

static void end(struct session *session)
{
    SSL_free(session->ssl);
    free(session);
}

/* For its name; a number is verified too, but not sent (RFC 6066, 3). */
static bool ask_for_host(const struct tls_client *client, SSL *ssl)
{
    if (client->is_numeric)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), client->host) == 1;
    return SSL_set1_host(ssl, client->host) == 1 &&
           SSL_set_tlsext_host_name(ssl, client->host) == 1;
}

static struct session *begin(const struct security *security, int fd)
{
    const struct tls_client *client = (const struct tls_client *) security;
    struct session *session = calloc(1, sizeof(*session));
    BIO *bio;

    if (session == NULL)
        return NULL;
    session->fd = fd;
    session->ssl = SSL_new(client->context);
    bio = BIO_new(client->method);
    if (session->ssl == NULL || bio == NULL || !ask_for_host(client, session->ssl)) {
        BIO_free(bio);
        end(session);
        return NULL;
    }
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_connect_state(session->ssl);
    return session;
}

static const struct security functions = {
    .begin = begin,
    .end = end,
    .handshake = handshake,
    .send = send_all,
    .receive = receive,
    .has_more = has_more,
    .finish = finish,
    .why = why,
};

/* A name's last dot, and an address's zone, are not in certificates. */
static void take_host(struct tls_client *client, const char *host)
{
    struct in6_addr address;
    size_t length = strcspn(host, "%");

    if (length > 0 && host[length - 1] == '.')
        length--;
    memcpy(client->host, host, length);
    client->is_numeric = inet_pton(AF_INET, client->host, &address) == 1 ||
                         inet_pton(AF_INET6, client->host, &address) == 1;
}

static bool make_method(struct tls_client *client)
{
    client->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "echoprobe");
    return client->method != NULL && BIO_meth_set_write(client->method, write_bio) == 1 &&
           BIO_meth_set_read(client->method, read_bio) == 1 &&
           BIO_meth_set_ctrl(client->method, control_bio) == 1;
}

static bool make_context(struct tls_client *client, const struct tls_trust *trust)
{
    client->context = SSL_CTX_new(TLS_client_method());
    if (client->context == NULL)
        return false;
    SSL_CTX_set_options(client->context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(client->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                          SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                          SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(client->context, 1);
    SSL_CTX_set_verify(client->context, trust->is_blind ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_set_min_proto_version(client->context, TLS1_2_VERSION) != 1)
        return false;
    if (trust->is_blind)
        return true;
    return trust->ca_file != NULL
               ? SSL_CTX_load_verify_file(client->context, trust->ca_file) == 1
               : SSL_CTX_set_default_verify_paths(client->context) == 1;
}

struct security *tls_client_new(const struct tls_trust *trust, const char **problem)
{
    struct tls_client *client = calloc(1, sizeof(*client));

    ERR_clear_error();
    if (client != NULL) {
        client->security = functions;
        take_host(client, trust->host);
        if (make_method(client) && make_context(client, trust))
            return &client->security;
    }
    *problem = client != NULL ? reason() : strerror(ENOMEM);
    tls_client_free(client != NULL ? &client->security : NULL);
    return NULL;
}

void tls_client_free(struct security *security)
{
    struct tls_client *client = (struct tls_client *) security;

    if (client == NULL)
        return;
    SSL_CTX_free(client->context);
    BIO_meth_free(client->method);
    free(client);
}
