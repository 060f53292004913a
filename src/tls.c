#include "tls.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "defaults.h"
#include "fastpath.h"
#include "spare.h"

/* The most that is sent in one record. */
#define RECORD_MOST SSL3_RT_MAX_PLAIN_LENGTH

/* What contexts have in common: made once, and never freed. */
static struct {
    pthread_once_t once;
    BIO_METHOD *wire;
    int tickets_index; /* where a context has its struct tickets */
} common = { .once = PTHREAD_ONCE_INIT };

/* They live as long as OpenSSL's context, which connections hold on to. */
struct tickets {
    struct ticket_key current, previous;
    EVP_CIPHER *cipher;
};

struct tls_context {
    SSL_CTX *ssl;
};

/* A struct tls is OpenSSL's own, so that it costs no more than that. */
static SSL *ssl_of(const struct tls *tls)
{
    return (SSL *) tls;
}

/* The wire is the bufferevent; reading from it gives what has come, and never waits. */
static int wire_read(BIO *bio, char *data, int length)
{
    int got = evbuffer_remove(bufferevent_get_input(BIO_get_data(bio)), data, (size_t) length);

    BIO_clear_retry_flags(bio);
    if (got > 0)
        return got;
    BIO_set_retry_read(bio);
    return -1;
}

static int wire_write(BIO *bio, const char *data, int length)
{
    struct bufferevent *bev = BIO_get_data(bio);
    struct evbuffer *output = bufferevent_get_output(bev);
    size_t taken = 0;

    BIO_clear_retry_flags(bio);
    if (evbuffer_get_length(output) == 0)
        taken = fastpath_write(bev, data, (size_t) length);
    if (taken < (size_t) length && evbuffer_add(output, data + taken, (size_t) length - taken) != 0)
        return -1;
    return length;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
    (void) bio;
    (void) number;
    (void) pointer;
    return command == BIO_CTRL_FLUSH; /* nothing is held back */
}

static void free_tickets(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
                         void *pointer)
{
    struct tickets *tickets = data;

    (void) parent;
    (void) all;
    (void) index;
    (void) number;
    (void) pointer;
    if (tickets == NULL)
        return;
    EVP_CIPHER_free(tickets->cipher);
    OPENSSL_cleanse(tickets, sizeof(*tickets));
    free(tickets);
}

static void make_common(void)
{
    common.tickets_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_tickets);
    common.wire = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bufferevent");
    if (common.wire == NULL)
        return;
    BIO_meth_set_read(common.wire, wire_read);
    BIO_meth_set_write(common.wire, wire_write);
    BIO_meth_set_ctrl(common.wire, wire_control);
}

/* KEY for a ticket, and its IV, to CIPHER and MAC. */
static bool set_ticket_key(const struct ticket_key *key, const EVP_CIPHER *algorithm,
                           unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int making)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *) key->mac, sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *) "SHA256", 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_CipherInit_ex(cipher, algorithm, NULL, key->cipher, iv, making) == 1 &&
           EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb has it: 1: the key is set; 2: but make a new ticket. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int making)
{
    const struct tickets *tickets =
        SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), common.tickets_index);
    const struct ticket_key *key = &tickets->current;
    int result = 1;

    if (making) {
        memcpy(name, key->name, sizeof(key->name));
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets->cipher)) != 1)
            return -1;
    } else if (memcmp(name, key->name, sizeof(key->name)) != 0) {
        key = &tickets->previous;
        result = 2;
        if (memcmp(name, key->name, sizeof(key->name)) != 0)
            return 0;
    }
    return set_ticket_key(key, tickets->cipher, iv, cipher, mac, making) ? result : -1;
}

static bool set_tickets(SSL_CTX *ssl, const struct credentials *credentials)
{
    struct tickets *tickets = malloc(sizeof(*tickets));

    if (tickets == NULL)
        return false;
    tickets->current = credentials->current; /* one by one: no copy of all is left on the stack */
    tickets->previous = credentials->previous;
    tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (tickets->cipher == NULL ||
        SSL_CTX_set_ex_data(ssl, common.tickets_index, tickets) != 1) {
        free_tickets(NULL, tickets, NULL, 0, 0, NULL);
        return false;
    }
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_ticket) == 1;
}

/* Sessions are for those who ask clients for the same certificates: others must not take them. */
static bool set_session_context(SSL_CTX *ssl, const struct blob *client_ca)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length;

    return EVP_Digest(client_ca->data, client_ca->length, digest, &length, EVP_sha256(), NULL) ==
               1 &&
           SSL_CTX_set_session_id_context(ssl, digest, length) == 1;
}

static bool set_modes(SSL_CTX *ssl, bool is_13_least)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* clients keep them, in tickets */
    return SSL_CTX_set_min_proto_version(ssl, is_13_least ? TLS1_3_VERSION : TLS1_2_VERSION) == 1;
}

static bool fail(struct tls_problem *problem, enum tls_part part, const char *what)
{
    problem->part = part;
    snprintf(problem->what, sizeof(problem->what), "%s", what);
    return false;
}

/* OpenSSL says that it is WHAT, unless it failed for want of memory. */
static bool fail_by(struct tls_problem *problem, enum tls_part part, const char *what)
{
    return tls_is_own_failure() ? fail(problem, TLS_MEMORY, "") : fail(problem, part, what);
}

static bool contains(const struct blob *pem, const char *text)
{
    return pem->length > 0 && memmem(pem->data, pem->length, text, strlen(text)) != NULL;
}

static BIO *open_pem(const struct blob *pem)
{
    return BIO_new_mem_buf(pem->length > 0 ? (const void *) pem->data : "", (int) pem->length);
}

/* Asked for a passphrase: OpenSSL's own answer would be a prompt on the terminal. */
static int no_passphrase(char *buffer, int size, int is_writing, void *was_asked)
{
    (void) buffer;
    (void) size;
    (void) is_writing;
    if (was_asked != NULL)
        *(bool *) was_asked = true;
    return -1;
}

/* What is done with each certificate of a file; NUMBER counts from 0. It has to add a reference. */
typedef int certificate_user(SSL_CTX *ssl, X509 *certificate, unsigned number);

static bool use_certificates(SSL_CTX *ssl, const struct blob *pem, certificate_user *use,
                             struct tls_problem *problem, enum tls_part part)
{
    BIO *bio = open_pem(pem);
    char refused[sizeof(problem->what)];
    unsigned count = 0;
    X509 *certificate;
    bool used = true;

    ERR_clear_error();
    while (used && bio != NULL &&
           (certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        used = use(ssl, certificate, count++) == 1;
        X509_free(certificate);
    }
    BIO_free(bio);
    if (!used) {
        snprintf(refused, sizeof(refused), "certificate refused (%s)", tls_failure());
        return fail_by(problem, part, refused);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return fail_by(problem, part, "malformed certificate");
    ERR_clear_error();
    return count > 0 || fail(problem, part, "no certificate in file");
}

static int use_in_chain(SSL_CTX *ssl, X509 *certificate, unsigned number)
{
    return number == 0 ? SSL_CTX_use_certificate(ssl, certificate)
                       : (int) SSL_CTX_add1_chain_cert(ssl, certificate);
}

static int use_as_client_ca(SSL_CTX *ssl, X509 *certificate, unsigned number)
{
    (void) number;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), certificate) == 1 &&
           SSL_CTX_add_client_CA(ssl, certificate) == 1;
}

/* Why a key that was read does not serve, or none was. */
static const char *what_is_wrong(const struct blob *pem, bool was_read, bool was_asked)
{
    if (was_read)
        return "private key does not match the certificate";
    if (was_asked)
        return "private key is encrypted";
    return contains(pem, "PRIVATE KEY-----") ? "malformed private key" : "no private key in file";
}

static bool use_key(SSL_CTX *ssl, const struct blob *pem, struct tls_problem *problem)
{
    bool was_asked = false, was_read, used;
    BIO *bio = open_pem(pem);
    EVP_PKEY *key = NULL;

    ERR_clear_error();
    if (bio != NULL)
        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked);
    BIO_free(bio);
    was_read = key != NULL;
    used = was_read && SSL_CTX_use_PrivateKey(ssl, key) == 1 &&
           SSL_CTX_check_private_key(ssl) == 1;
    EVP_PKEY_free(key);
    return used || fail_by(problem, TLS_KEY, what_is_wrong(pem, was_read, was_asked));
}

/* A certificate of a client is good if any of those in PEM has signed it, root or not. */
static bool demand_certificates(SSL_CTX *ssl, const struct blob *pem, struct tls_problem *problem)
{
    if (pem->length == 0)
        return true;
    if (!use_certificates(ssl, pem, use_as_client_ca, problem, TLS_CLIENT_CA))
        return false;
    X509_STORE_set_flags(SSL_CTX_get_cert_store(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return true;
}

struct tls_context *tls_context_new(const struct credentials *credentials,
                                    struct tls_problem *problem)
{
    struct tls_context *context = calloc(1, sizeof(*context));

    pthread_once(&common.once, make_common);
    fail(problem, TLS_MEMORY, "");
    if (context == NULL)
        return NULL;
    context->ssl = SSL_CTX_new(TLS_server_method());
    if (context->ssl != NULL && common.wire != NULL &&
        set_modes(context->ssl, credentials->is_13_least) &&
        set_tickets(context->ssl, credentials) &&
        set_session_context(context->ssl, &credentials->client_ca) &&
        use_certificates(context->ssl, &credentials->chain, use_in_chain, problem, TLS_CHAIN) &&
        use_key(context->ssl, &credentials->key, problem) &&
        demand_certificates(context->ssl, &credentials->client_ca, problem))
        return context;
    ERR_clear_error();
    tls_context_free(context);
    return NULL;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

struct tls *tls_new(struct tls_context *context, struct bufferevent *bev)
{
    SSL *ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(common.wire);

    if (ssl == NULL || bio == NULL) {
        SSL_free(ssl);
        BIO_free(bio);
        return NULL;
    }
    BIO_set_data(bio, bev);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    return (struct tls *) ssl;
}

void tls_free(struct tls *tls)
{
    SSL_free(ssl_of(tls));
}

/* OpenSSL tells of errors that earlier calls left, too. To look is cheaper than to clear. */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

static struct evbuffer *input_of(SSL *ssl)
{
    return bufferevent_get_input(BIO_get_data(SSL_get_rbio(ssl)));
}

/* Is there anything to ask SSL_read() for? It takes its time to find that there is not. */
static bool has_input(SSL *ssl)
{
    return evbuffer_get_length(input_of(ssl)) > 0 || SSL_has_pending(ssl);
}

/* Fills BUFFER from records that have come, if there are so many; *LENGTH: how far. */
static enum tls_result read_records(SSL *ssl, char *buffer, size_t size, size_t *length)
{
    int got = 1;

    for (*length = 0; *length < size && has_input(ssl); *length += (size_t) got) {
        got = SSL_read(ssl, buffer + *length, (int) (size - *length));
        if (got <= 0)
            break;
    }
    if (got > 0)
        return TLS_MORE;
    switch (SSL_get_error(ssl, got)) {
    case SSL_ERROR_WANT_READ:
        return TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_END;
    default:
        return TLS_FAILED;
    }
}

/* What comes after the end is nobody's. */
static void drop_input(SSL *ssl)
{
    evbuffer_drain(input_of(ssl), evbuffer_get_length(input_of(ssl)));
}

/*
 * Is the first byte not that of a handshake's record? OpenSSL would wait for a whole header, and
 * take the hello of SSL 2 (RFC 8446, D.5).
 */
static bool is_foreign(SSL *ssl)
{
    unsigned char type;

    return SSL_in_before(ssl) && evbuffer_copyout(input_of(ssl), &type, 1) == 1 &&
           type != SSL3_RT_HANDSHAKE;
}

enum tls_result tls_receive(struct tls *tls, struct evbuffer *plain)
{
    enum tls_result result;
    size_t length;

    forget_errors();
    if (is_foreign(ssl_of(tls))) {
        ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER); /* as OpenSSL calls it */
        drop_input(ssl_of(tls));
        return TLS_FAILED;
    }
    do {
        void *buffer = spare_take();

        if (buffer == NULL)
            return TLS_FAILED;
        result = read_records(ssl_of(tls), buffer, BULK_READ, &length);
        if (length == 0)
            spare_give_back(buffer);
        else if (!spare_append(plain, buffer, length))
            return TLS_FAILED;
    } while (result == TLS_MORE && length == BULK_READ);
    if (result != TLS_MORE)
        drop_input(ssl_of(tls));
    return result;
}

bool tls_is_open(const struct tls *tls)
{
    return SSL_is_init_finished(ssl_of(tls));
}

bool tls_is_midway(const struct tls *tls)
{
    /* Bytes of a header or a body; or exactly a header: its body is being read. */
    return SSL_has_pending(ssl_of(tls)) || strcmp(SSL_rstate_string(ssl_of(tls)), "RB") == 0;
}

bool tls_send(struct tls *tls, struct evbuffer *data)
{
    size_t left;

    forget_errors();
    while ((left = evbuffer_get_length(data)) > 0) {
        size_t length = left < RECORD_MOST ? left : RECORD_MOST;
        /* What is in one piece is not copied. */
        const unsigned char *bytes = evbuffer_pullup(data, (ev_ssize_t) length);

        if (bytes == NULL || SSL_write(ssl_of(tls), bytes, (int) length) != (int) length)
            return false;
        evbuffer_drain(data, length);
    }
    return true;
}

void tls_finish(struct tls *tls)
{
    ERR_clear_error();
    (void) SSL_shutdown(ssl_of(tls));
    ERR_clear_error();
}

/*
 * The first error is the cause, the last what came of it. There is none where OpenSSL did not fail,
 * but we. Fatal are the want of memory and what OpenSSL thinks impossible; of what else comes of a
 * want of memory OpenSSL 3.0 does not always say why.
 */
bool tls_is_own_failure(void)
{
    unsigned long first = ERR_peek_error();

    return first == 0 || ERR_FATAL_ERROR(first) || ERR_FATAL_ERROR(ERR_peek_last_error());
}

const char *tls_failure(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    return reason != NULL ? reason : "out of memory";
}
