/*
 * conn: one client's connection, from accept to the only close.
 *
 * A libevent bufferevent reads and writes; a service decides what. While output is pending the
 * connection does not read (if the service wants it so): memory stays bounded whatever the peer
 * does. A peer's FIN is a half-close: all that is owed is sent first (RFC 9293, 3.6).
 */
#ifndef ECHOD_CONN_H
#define ECHOD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "admission.h"
#include "endpoint.h"
#include "stats.h"

struct conn;
struct evbuffer;
struct access_list;
struct event_base;
struct service;
struct tls_context;

/* Where connections come from: one address that is served; outlives them all. */
struct conn_origin {
    const struct service *service;
    enum endpoint_transport transport;
    bool is_passed;            /* the service manager's socket: at the drain it is only let go */
    const char *name;          /* the endpoint, as in the log */
    struct stats_block *stats; /* its counters in this worker */
    void *service_state;       /* what the service has in this worker; NULL: nothing */
    /* Whose PROXY headers are believed, and have to come first; NULL: none is expected. */
    const struct access_list *proxies;
};

TAILQ_HEAD(conn_queue, conn);

/* All connections of one reactor, which owns and fills this. */
struct conn_set {
    struct event_base *base;
    struct stats *stats;
    struct admission admission;  /* of the clients that PROXY headers name, and of who leaves */
    struct conn_queue shaking;   /* a PROXY header or a TLS handshake is awaited; oldest first */
    struct conn_queue active;    /* handed to a service; least recently active first */
    struct conn_queue lingering; /* our FIN is sent */
    /* A connection has gone, and its descriptor with it. */
    void (*closed)(void *context);
    /* A connection joined `shaking`: it has a deadline. */
    void (*shakes)(void *context);
    /* A connection began to linger: conn_linger wants to be called now and then. */
    void (*lingers)(void *context);
    void *context;
    struct tls_context *tls; /* of new connections to tls endpoints; NULL: there are none */
    struct evbuffer *plain;  /* what TLS has deciphered, for a moment */
    struct conn *current;    /* whose it is; NULL: that one is closed */
};

/*
 * Serves the accepted, non-blocking socket FD, which it owns from then on, and whose peer has been
 * let in (admission.h) unless a PROXY header is to name another client. Returns false when memory
 * is short: nothing has happened then, and FD and the place are still the caller's.
 */
bool conn_new(struct conn_set *set, const struct conn_origin *origin, int fd,
              const struct address *peer);

/* For services. */

/*
 * Sends all of DATA, which is left empty: straight to the kernel when nothing is pending, the
 * rest when the peer takes it.
 */
void conn_send(struct conn *conn, struct evbuffer *data);

/* Sends what is pending, then FIN, and closes when the peer is done as well. */
void conn_finish(struct conn *conn, enum close_reason reason);

/* The only close: counts and logs it, and releases everything. */
void conn_close(struct conn *conn, enum close_reason reason);

void conn_set_state(struct conn *conn, void *state);
void *conn_state(const struct conn *conn);

/* What the service has in this worker, and its counters there. */
void *conn_service_state(const struct conn *conn);
struct stats_block *conn_stats(const struct conn *conn);

/*
 * Does not read from the peer until conn_go_on. One whose end had been read by then (of TLS it may
 * be) hears of it from conn_go_on, which may close the connection.
 */
void conn_hold(struct conn *conn);
void conn_go_on(struct conn *conn);

/* Bytes that wait for the peer, and a number that changes when it takes some of what we sent. */
size_t conn_pending(const struct conn *conn);
uint64_t conn_taken(const struct conn *conn);

/* For the reactor. NOW is clock_ms(). */

/* When it was accepted: the handshake timeout counts from there. */
int64_t conn_opened_at(const struct conn *conn);

/* When a byte last moved, either way. */
int64_t conn_last_active(const struct conn *conn);

/*
 * Have bytes left for the peer since it was last active, though we gave the kernel none? Those of
 * a slow reader wait there. If so it was active when the last of them left.
 */
bool conn_has_moved(struct conn *conn);

/* Nothing unread, nothing unsent, and no byte for QUIET_MS or a few round trips? */
bool conn_is_quiet(const struct conn *conn, int64_t now);

/* Looks at a lingering connection, and closes it when its peer has all, or is silent too long. */
void conn_linger(struct conn *conn, int64_t now, int64_t idle_timeout);

/* Cuts a connection at the drain's deadline; `forced` if anything was owed or still coming. */
void conn_cut(struct conn *conn, int64_t now);

/* The connection that is active after CONN; NULL: it is the last of its queue. */
struct conn *conn_next(const struct conn *conn);

#endif
