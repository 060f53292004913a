/*
 * wire: a connection's bytes on their way between a service and the kernel: as they are, or in TLS
 * records. A bufferevent carries both; what counts here is what the service sends and receives.
 */
#ifndef ECHOD_WIRE_H
#define ECHOD_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "tls.h"

struct bufferevent;
struct evbuffer;
struct event_base;

/* The fields are wire's own, but to be read. All zero but for fd: not open yet. */
struct wire {
    struct bufferevent *bev;
    struct tls *tls; /* NULL: bytes go as they are */
    size_t unsent;   /* with TLS: bytes that it was given, but not all to the kernel */
    int fd;          /* the owner's, who closes it */
    bool is_local;   /* a unix socket */
};

/* Opens it in BASE, over WIRE->fd; with TLS if that is not NULL. False, no memory: to be closed. */
bool wire_open(struct wire *wire, struct event_base *base, struct tls_context *tls);

/* TLS has failed: what comes and goes from now on is of no service. */
void wire_end_tls(struct wire *wire);

/* No event comes any more, and all but the descriptor is released. */
void wire_close(struct wire *wire);

/* What waits to be given to the kernel, on the wire. */
struct evbuffer *wire_output(const struct wire *wire);
bool wire_is_pending(const struct wire *wire);

/*
 * Sends all of DATA, which is left empty: to the kernel when nothing is pending, else to the
 * output. Returns how many bytes the kernel has by now that it had not before. That memory is
 * short is told to the bufferevent's event callback, from the event loop.
 */
size_t wire_send(struct wire *wire, struct evbuffer *data);

/* The output has given DRAINED bytes to the kernel: returns how many of what was sent that was. */
size_t wire_drained(struct wire *wire, size_t drained);

/* Nothing more will be sent: says so within TLS (close_notify). The socket's FIN is not sent. */
void wire_finish(struct wire *wire);

/*
 * Bytes given to the kernel that the peer's has not got. At a unix socket it has them at once, and
 * they survive our close, however late they are read.
 */
int wire_unacknowledged(const struct wire *wire);

/* Is anything on its way, in either direction, that we know of, beside FIN bytes of our own FIN? */
bool wire_is_moving(const struct wire *wire, int fin);

#endif
