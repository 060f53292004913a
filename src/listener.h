/*
 * listener: accepts, admits, and pauses; the pattern's acceptor.
 *
 * All listening sockets of one worker. When descriptors or memory run out, or no slot of
 * --max-connections is free, all of them pause, and the kernel queues. The one connection that
 * was accepted when that showed is kept, unread, and is the first to be served.
 */
#ifndef ECHOD_LISTENER_H
#define ECHOD_LISTENER_H

#include <stdbool.h>

#include "conn.h"
#include "limits.h"

struct listeners;

/* What the listeners of a worker need from it. */
struct listener_hooks {
    void (*paused)(void *context, enum pause_reason reason);
    /* A slot came free that another worker may be waiting for. */
    void (*slot_free)(void *context);
    void *context;
};

/* No listeners yet, for worker number WORKER; accepted connections go to SET. NULL: no memory. */
struct listeners *listeners_new(struct conn_set *set, struct limits *limits, unsigned worker,
                                const struct listener_hooks *hooks);

/* Closes all of them, and the connection that waits, if any; there may be none. */
void listeners_close(struct listeners *listeners);
void listeners_free(struct listeners *listeners);

/*
 * Accepts at the listening socket FD, for ORIGIN, and owns it. GROUP is a name of the caller's
 * for listeners_remove. On failure returns false, and FD is closed.
 */
bool listeners_add(struct listeners *listeners, int fd, const struct conn_origin *origin,
                   unsigned group);

/* Stops accepting at the sockets that were added as GROUP, and closes them. */
void listeners_remove(struct listeners *listeners, unsigned group);

/* A connection of SET has been closed: its slot and its descriptor are free. */
void listeners_conn_closed(struct listeners *listeners);

/* A pause may be over: tries again, from the event loop. */
void listeners_retry(struct listeners *listeners);

/*
 * Closes the listeners without a loss: accepts what the kernel has queued, for as long as
 * handshakes under way may take. To be called every LOOPBACK_HANDSHAKE_MS until it returns true:
 * all are closed. Those of the service manager are only let go: whom the kernel has queued there
 * waits for the next instance.
 */
bool listeners_drain(struct listeners *listeners);

#endif
