/*
 * tls: TLS 1.2 and 1.3, as a server, over a bufferevent that knows nothing of it (RFC 8446, 5246).
 *
 * The bufferevent reads and writes what is on the wire, as it does for plain TCP. Records are
 * taken from its input; those that we send go straight to its socket, or to its output while that
 * holds something. So nothing here ever waits for the network in one direction to go on in the
 * other. With selfsigned the only file that knows OpenSSL. Configured without it, what is here
 * always fails, and is never called: the command line refuses what would need it.
 */
#ifndef ECHOD_TLS_H
#define ECHOD_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "credentials.h"

struct bufferevent;
struct evbuffer;

/* What all connections of a worker have in common. */
struct tls_context;

/* One connection's side of the conversation. */
struct tls;

/* What is wrong with credentials: "WHAT:" and the file that PART came from. */
struct tls_problem {
    enum tls_part { TLS_CHAIN, TLS_KEY, TLS_CLIENT_CA, TLS_MEMORY } part;
    char what[128];
};

enum tls_result {
    TLS_MORE,   /* and there may come more */
    TLS_END,    /* the peer sent close_notify: it sends nothing more */
    TLS_FAILED, /* what came is not TLS, or not as it has to be: our alert is on its way; or we are
                   short of memory */
};

#ifdef HAVE_OPENSSL

/* NULL: *PROBLEM says why. CREDENTIALS are not needed any more. */
struct tls_context *tls_context_new(const struct credentials *credentials,
                                    struct tls_problem *problem);
/* Connections that were made with it go on. */
void tls_context_free(struct tls_context *context);

/* Over BEV, a plain bufferevent that outlives it. NULL: no memory. */
struct tls *tls_new(struct tls_context *context, struct bufferevent *bev);
/* Sends nothing. */
void tls_free(struct tls *tls);

/*
 * Takes all of the bufferevent's input; appends to PLAIN the peer's bytes that it holds. Sends
 * what the handshake wants.
 */
enum tls_result tls_receive(struct tls *tls, struct evbuffer *plain);

/* Is the handshake done? */
bool tls_is_open(const struct tls *tls);

/* Has a part of a record come, of which the rest has not? */
bool tls_is_midway(const struct tls *tls);

/* Sends all of DATA, which is left empty. False: no memory; what the peer gets is then cut. */
bool tls_send(struct tls *tls, struct evbuffer *data);

/* Sends close_notify: after it nothing can be sent. */
void tls_finish(struct tls *tls);

/* Why the last call here, of this thread, failed: a static string. */
const char *tls_failure(void);

/* Was that no fault of the peer's, but most likely want of memory? */
bool tls_is_own_failure(void);

#else

static inline struct tls_context *tls_context_new(const struct credentials *credentials,
                                                  struct tls_problem *problem)
{
    (void) credentials;
    problem->part = TLS_MEMORY;
    problem->what[0] = '\0';
    return NULL;
}

static inline void tls_context_free(struct tls_context *context)
{
    (void) context;
}

static inline struct tls *tls_new(struct tls_context *context, struct bufferevent *bev)
{
    (void) context;
    (void) bev;
    return NULL;
}

static inline void tls_free(struct tls *tls)
{
    (void) tls;
}

static inline enum tls_result tls_receive(struct tls *tls, struct evbuffer *plain)
{
    (void) tls;
    (void) plain;
    return TLS_FAILED;
}

static inline bool tls_is_open(const struct tls *tls)
{
    (void) tls;
    return false;
}

static inline bool tls_is_midway(const struct tls *tls)
{
    (void) tls;
    return false;
}

static inline bool tls_send(struct tls *tls, struct evbuffer *data)
{
    (void) tls;
    (void) data;
    return false;
}

static inline void tls_finish(struct tls *tls)
{
    (void) tls;
}

static inline const char *tls_failure(void)
{
    return "";
}

static inline bool tls_is_own_failure(void)
{
    return false;
}

#endif
#endif
