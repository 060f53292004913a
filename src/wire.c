#include "wire.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "fastpath.h"
#include "tcp.h"

/* Each chain of an evbuffer takes so much memory at least, however little it holds. */
enum { CHAIN_LEAST = 1024 };

bool wire_open(struct wire *wire, struct event_base *base, struct tls_context *tls)
{
    wire->bev = bufferevent_socket_new(base, wire->fd, 0);
    if (wire->bev == NULL)
        return false;
    fastpath_attach(wire->bev);
    if (tls == NULL)
        return true;
    wire->tls = tls_new(tls, wire->bev);
    return wire->tls != NULL;
}

void wire_end_tls(struct wire *wire)
{
    tls_free(wire->tls);
    wire->tls = NULL;
}

void wire_close(struct wire *wire)
{
    wire_end_tls(wire);
    if (wire->bev == NULL)
        return;
    /* libevent frees later; the descriptor must be free now, for those who wait for one. */
    bufferevent_disable(wire->bev, EV_READ | EV_WRITE);
    bufferevent_free(wire->bev);
    wire->bev = NULL;
}

struct evbuffer *wire_output(const struct wire *wire)
{
    return bufferevent_get_output(wire->bev);
}

bool wire_is_pending(const struct wire *wire)
{
    return wire->bev != NULL && evbuffer_get_length(wire_output(wire)) > 0;
}

/*
 * What TLS was given and the kernel has. A record tells only at its end how many bytes are in it:
 * of those that are on their way no more are taken for sent than must be.
 */
static size_t records_sent(struct wire *wire)
{
    size_t left = evbuffer_get_length(wire_output(wire));
    size_t sent = wire->unsent > left ? wire->unsent - left : 0;

    wire->unsent -= sent;
    return sent;
}

/* Appends DATA to what waits: what is less than a chain would take is copied to the end. */
static void append(struct evbuffer *output, struct evbuffer *data)
{
    char piece[CHAIN_LEAST];
    ssize_t length = evbuffer_get_length(data) <= sizeof(piece)
                         ? evbuffer_copyout(data, piece, sizeof(piece))
                         : -1;

    if (length > 0 && evbuffer_add(output, piece, (size_t) length) == 0)
        evbuffer_drain(data, (size_t) length);
    else
        evbuffer_add_buffer(output, data);
}

static size_t send_plain(struct wire *wire, struct evbuffer *data)
{
    size_t sent = wire_is_pending(wire) ? 0 : fastpath_send(wire->bev, data);

    if (evbuffer_get_length(data) > 0)
        append(wire_output(wire), data);
    return sent;
}

static size_t send_records(struct wire *wire, struct evbuffer *data)
{
    wire->unsent += evbuffer_get_length(data);
    if (!tls_send(wire->tls, data)) {
        evbuffer_drain(data, evbuffer_get_length(data));
        errno = ENOMEM;
        bufferevent_trigger_event(wire->bev, BEV_EVENT_WRITING | BEV_EVENT_ERROR,
                                  BEV_TRIG_DEFER_CALLBACKS);
    }
    return records_sent(wire);
}

size_t wire_send(struct wire *wire, struct evbuffer *data)
{
    return wire->tls != NULL ? send_records(wire, data) : send_plain(wire, data);
}

size_t wire_drained(struct wire *wire, size_t drained)
{
    return wire->tls != NULL ? records_sent(wire) : drained;
}

void wire_finish(struct wire *wire)
{
    if (wire->tls != NULL)
        tls_finish(wire->tls);
}

int wire_unacknowledged(const struct wire *wire)
{
    return wire->is_local ? 0 : tcp_unacknowledged(wire->fd);
}

bool wire_is_moving(const struct wire *wire, int fin)
{
    return wire_is_pending(wire) || tcp_unread(wire->fd) > 0 || wire_unacknowledged(wire) > fin ||
           (wire->tls != NULL && tls_is_midway(wire->tls));
}
