#include "listener.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access.h"
#include "clock.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"
#include "tcp.h"
#include "unixsocket.h"

/* One listening socket. */
struct listener {
    TAILQ_ENTRY(listener) link; /* in the order of whose turn it is to be accepted at */
    struct listeners *all;
    struct evconnlistener *acceptor;
    const struct conn_origin *origin;
    unsigned group;
};

struct listeners {
    TAILQ_HEAD(listener_queue, listener) queue;
    unsigned count;
    struct conn_set *set;
    struct limits *limits;
    unsigned worker;
    struct listener_hooks hooks;
    struct event *retry;
    struct event *turn;  /* goes on accepting when others have had their turn */
    unsigned in_a_row;   /* accepted since then */
    uint32_t paused;     /* why: a bit, 1 << enum pause_reason; 0: it is not */
    int64_t drain_until; /* handshakes under way may end so long; 0: not draining */
    /* Accepted, but not admitted yet; fd -1: none. */
    struct {
        int fd;
        struct address peer;
        const struct conn_origin *origin;
    } parked;
};

enum admittance { SERVED, NO_SLOT, NO_MEMORY };

/* Of somebody who has been let in, if not to be named first. */
static enum admittance serve(struct listeners *listeners, int fd, const struct address *peer,
                          const struct conn_origin *origin)
{
    if (!limits_take(listeners->limits, listeners->worker, clock_ms()))
        return NO_SLOT;
    /* Who was queued before we were started has inherited nothing of ours. */
    if (origin->is_passed)
        tcp_set_defaults(fd);
    if (conn_new(listeners->set, origin, fd, peer))
        return SERVED;
    limits_give(listeners->limits, listeners->worker);
    return NO_MEMORY;
}

/* False: the kernel has no room for what it takes to be told of clients. */
static bool start_accepting(struct listeners *listeners)
{
    struct listener *one;

    TAILQ_FOREACH(one, &listeners->queue, link)
        if (evconnlistener_enable(one->acceptor) != 0)
            return false;
    return true;
}

static void stop_accepting(struct listeners *listeners)
{
    struct listener *one;

    TAILQ_FOREACH(one, &listeners->queue, link)
        evconnlistener_disable(one->acceptor);
}

static void set_paused(struct listeners *listeners, enum pause_reason reason)
{
    uint32_t bit = 1u << reason;

    reactor_start_timer(listeners->retry,
                        reason == PAUSE_DESCRIPTORS ? RETRY_DESCRIPTORS_MS : RETRY_SLOT_MS);
    if (listeners->paused == bit)
        return;
    if (listeners->paused == 0)
        stop_accepting(listeners);
    listeners->paused = bit;
    limits_set_paused(listeners->limits, listeners->worker, bit);
    atomic_fetch_add(&listeners->set->stats->paused[reason], 1);
    listeners->hooks.paused(listeners->hooks.context, reason);
}

/*
 * Of a load balancer is asked only whether it is believed: what holds for its clients is asked when
 * they are known.
 */
static unsigned judge(const struct listeners *listeners, const struct address *peer,
                      const struct conn_origin *origin)
{
    if (origin->proxies == NULL)
        return admission_enter(&listeners->set->admission, peer, clock_ms());
    return access_contains(origin->proxies, &peer->any) ? ADMITTED : REFUSE_UNTRUSTED_PROXY;
}

static void refuse(int fd, const struct address *peer, const struct conn_origin *origin,
                   enum refuse_reason reason)
{
    close(fd);
    admission_refuse(origin->stats, peer, NULL, reason);
}

/*
 * Serves the connection, or parks it: then nobody who came later gets past it, for we are paused.
 */
static bool serve_or_park(struct listeners *listeners, int fd, const struct address *peer,
                          const struct conn_origin *origin)
{
    enum admittance result = serve(listeners, fd, peer, origin);

    if (result == SERVED) {
        /* It is out of the queue for slots: more may be free for those behind it. */
        if (listeners->paused != 0 && limits_others_wait(listeners->limits, listeners->worker))
            listeners->hooks.slot_free(listeners->hooks.context);
        return true;
    }
    listeners->parked.fd = fd;
    listeners->parked.peer = *peer;
    listeners->parked.origin = origin;
    set_paused(listeners, result == NO_SLOT ? PAUSE_MAX_CONNECTIONS : PAUSE_DESCRIPTORS);
    return false;
}

/* False: it is parked. */
static bool admit(struct listeners *listeners, int fd, const struct address *peer,
                  const struct conn_origin *origin)
{
    unsigned verdict = judge(listeners, peer, origin);

    if (verdict == ADMITTED)
        return serve_or_park(listeners, fd, peer, origin);
    refuse(fd, peer, origin, (enum refuse_reason) verdict);
    return true;
}

/* Has libevent, which would go on until nobody is queued, leave off for a moment. */
static void give_turn(struct listeners *listeners)
{
    listeners->in_a_row = 0;
    if (listeners->paused != 0)
        return;
    stop_accepting(listeners);
    event_active(listeners->turn, EV_TIMEOUT, 0); /* behind all that are ready */
}

static void on_turn(evutil_socket_t fd, short what, void *context)
{
    struct listeners *listeners = context;

    (void) fd;
    (void) what;
    if (listeners->paused == 0 && listeners->drain_until == 0 && !start_accepting(listeners))
        set_paused(listeners, PAUSE_DESCRIPTORS);
}

static void on_accepted(struct evconnlistener *acceptor, evutil_socket_t fd,
                        struct sockaddr *from, int length, void *context)
{
    struct listener *listener = context;
    struct address peer = address_of_peer(fd, from, (socklen_t) length);

    (void) acceptor;
    admit(listener->all, fd, &peer, listener->origin);
    if (++listener->all->in_a_row >= ACCEPT_BATCH)
        give_turn(listener->all);
}

/* accept(2): what has befallen the connection, not the listening socket. */
static bool is_of_connection(int error)
{
    static const int passing[] = { EAGAIN,       EINTR,     ECONNABORTED, EPROTO,      EPERM,
                                   ENOPROTOOPT,  EHOSTDOWN, ENONET,       EHOSTUNREACH,
                                   ENETUNREACH,  ENETDOWN,  EOPNOTSUPP };

    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        if (error == passing[i])
            return true;
    return false;
}

/* Out of descriptors or memory; without a pause the reactor would spin on this socket. */
static void on_accept_failed(struct evconnlistener *acceptor, void *context)
{
    struct listener *listener = context;

    (void) acceptor;
    if (!is_of_connection(errno))
        set_paused(listener->all, PAUSE_DESCRIPTORS);
}

enum outcome { NOBODY, DONE, PARKED, FAILED };

/* Accepts the first that is queued at LISTENER. */
static enum outcome accept_one(struct listener *listener)
{
    struct sockaddr_storage from;
    socklen_t length;
    int fd;

    /* Whom the kernel has queued at a socket that was passed waits for the next instance. */
    if (listener->origin->is_passed && listener->all->drain_until != 0)
        return NOBODY;
    do {
        length = sizeof(from);
        fd = accept4(evconnlistener_get_fd(listener->acceptor), (struct sockaddr *) &from,
                     &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno != EAGAIN && is_of_connection(errno));
    if (fd >= 0) {
        struct address peer = address_of_peer(fd, (struct sockaddr *) &from, length);

        return admit(listener->all, fd, &peer, listener->origin) ? DONE : PARKED;
    }
    if (errno == EAGAIN)
        return NOBODY;
    set_paused(listener->all, PAUSE_DESCRIPTORS);
    return FAILED;
}

/*
 * Accepts one at each address in turn, until nobody is queued: who waits at one is not passed by
 * all who come to another. False: still or again paused; or there were many, and who is served has
 * a turn before it goes on.
 */
static bool accept_in_turn(struct listeners *listeners)
{
    unsigned accepted = 0;

    for (unsigned empty = 0; empty < listeners->count; accepted++) {
        struct listener *next = TAILQ_FIRST(&listeners->queue);
        enum outcome outcome;

        if (accepted == ACCEPT_BATCH && listeners->drain_until == 0) {
            reactor_start_timer(listeners->retry, 0);
            return false;
        }
        outcome = accept_one(next);
        if (outcome == FAILED)
            return false;
        TAILQ_REMOVE(&listeners->queue, next, link);
        TAILQ_INSERT_TAIL(&listeners->queue, next, link);
        if (outcome == PARKED)
            return false;
        empty = outcome == NOBODY ? empty + 1 : 0;
    }
    return true;
}

/* Serves whom we let wait: the parked connection, then the queues. False: somebody still waits. */
static bool serve_waiting(struct listeners *listeners)
{
    struct address peer = listeners->parked.peer;
    int fd = listeners->parked.fd;

    listeners->parked.fd = -1;
    if (fd >= 0 && !serve_or_park(listeners, fd, &peer, listeners->parked.origin))
        return false;
    return accept_in_turn(listeners);
}

/* The pause is over when nobody waits any more: until then every slot goes to who does. */
static void on_retry(evutil_socket_t fd, short what, void *context)
{
    struct listeners *listeners = context;

    (void) fd;
    (void) what;
    if (listeners->paused == 0 || !serve_waiting(listeners))
        return;
    event_del(listeners->retry);
    listeners->paused = 0;
    limits_set_paused(listeners->limits, listeners->worker, 0);
    if (listeners->drain_until == 0 && !start_accepting(listeners))
        set_paused(listeners, PAUSE_DESCRIPTORS);
}

struct listeners *listeners_new(struct conn_set *set, struct limits *limits, unsigned worker,
                                const struct listener_hooks *hooks)
{
    struct listeners *listeners = calloc(1, sizeof(*listeners));

    if (listeners == NULL)
        return NULL;
    TAILQ_INIT(&listeners->queue);
    listeners->set = set;
    listeners->limits = limits;
    listeners->worker = worker;
    listeners->hooks = *hooks;
    listeners->parked.fd = -1;
    listeners->retry = event_new(set->base, -1, 0, on_retry, listeners);
    listeners->turn = event_new(set->base, -1, 0, on_turn, listeners);
    if (listeners->retry != NULL && listeners->turn != NULL)
        return listeners;
    reactor_free_event(listeners->retry);
    reactor_free_event(listeners->turn);
    free(listeners);
    return NULL;
}

static void listener_free(struct listener *listener)
{
    TAILQ_REMOVE(&listener->all->queue, listener, link);
    listener->all->count--;
    evconnlistener_free(listener->acceptor);
    free(listener);
}

static void close_all(struct listeners *listeners)
{
    struct listener *one = TAILQ_FIRST(&listeners->queue), *next;

    for (; one != NULL; one = next) {
        next = TAILQ_NEXT(one, link);
        listener_free(one);
    }
}

static void drop_parked(struct listeners *listeners)
{
    if (listeners->parked.fd < 0)
        return;
    close(listeners->parked.fd);
    listeners->parked.fd = -1;
    if (listeners->parked.origin->proxies == NULL)
        admission_leave(&listeners->set->admission, &listeners->parked.peer);
}

void listeners_close(struct listeners *listeners)
{
    if (listeners == NULL)
        return;
    close_all(listeners);
    drop_parked(listeners);
    limits_leave_queue(listeners->limits, listeners->worker);
    limits_set_paused(listeners->limits, listeners->worker, 0);
}

void listeners_free(struct listeners *listeners)
{
    if (listeners == NULL)
        return;
    listeners_close(listeners);
    event_free(listeners->retry);
    event_free(listeners->turn);
    free(listeners);
}

bool listeners_add(struct listeners *listeners, int fd, const struct conn_origin *origin,
                   unsigned group)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    /* Enabled below: evconnlistener_new would not tell that it could not. */
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED;

    if (listener == NULL)
        goto fail;
    /* Backlog 0: it listens already, and the backlog stays what it is. */
    listener->acceptor =
        evconnlistener_new(listeners->set->base, on_accepted, listener, flags, 0, fd);
    if (listener->acceptor == NULL)
        goto fail;
    evconnlistener_set_error_cb(listener->acceptor, on_accept_failed);
    listener->all = listeners;
    listener->origin = origin;
    listener->group = group;
    TAILQ_INSERT_TAIL(&listeners->queue, listener, link);
    listeners->count++;
    if (listeners->paused != 0 || evconnlistener_enable(listener->acceptor) == 0)
        return true;
    listener_free(listener);
    return false;
fail:
    free(listener);
    close(fd);
    return false;
}

void listeners_remove(struct listeners *listeners, unsigned group)
{
    struct listener *one = TAILQ_FIRST(&listeners->queue), *next;

    for (; one != NULL; one = next) {
        next = TAILQ_NEXT(one, link);
        if (one->group == group)
            listener_free(one);
    }
}

void listeners_conn_closed(struct listeners *listeners)
{
    limits_give(listeners->limits, listeners->worker);
    listeners_retry(listeners);
    if (limits_others_wait(listeners->limits, listeners->worker))
        listeners->hooks.slot_free(listeners->hooks.context);
}

void listeners_retry(struct listeners *listeners)
{
    /* From the loop, not from here: this may be deep inside a connection's callback. */
    if (listeners->paused != 0)
        event_active(listeners->retry, EV_TIMEOUT, 0);
}

static void stop_queueing(struct listeners *listeners)
{
    int64_t handshake = LOOPBACK_HANDSHAKE_MS;
    struct listener *one;

    stop_accepting(listeners);
    TAILQ_FOREACH(one, &listeners->queue, link) {
        int fd = evconnlistener_get_fd(one->acceptor);

        if (one->origin->is_passed)
            continue;
        if (one->origin->transport == ENDPOINT_UNIX)
            unixsocket_stop_queueing(fd);
        else
            tcp_stop_queueing(fd);
        if (!tcp_is_loopback(fd))
            handshake = HANDSHAKE_MS;
    }
    listeners->drain_until = clock_ms() + handshake;
}

bool listeners_drain(struct listeners *listeners)
{
    /* Asked before accepting: what comes in meanwhile is for the next time. */
    bool is_time = listeners->drain_until != 0 && clock_ms() >= listeners->drain_until;

    if (listeners->drain_until == 0)
        stop_queueing(listeners);
    if (listeners->paused != 0 || !accept_in_turn(listeners) || !is_time)
        return false;
    close_all(listeners);
    return true;
}
