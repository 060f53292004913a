#include "worker.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

#ifdef HAVE_MALLOC_TRIM
#include <malloc.h>
#endif

#include "access_map.h"
#include "channel.h"
#include "clock.h"
#include "conn.h"
#include "datagram.h"
#include "defaults.h"
#include "listener.h"
#include "log.h"
#include "reactor.h"
#include "sandbox.h"
#include "spare.h"

struct worker {
    const struct worker_setup *setup;
    unsigned number;
    struct event_base *base;
    struct channel *channel;
    struct conn_set conns;
    struct access_map access; /* who is let in */
    struct conn_origin *origins; /* by index in the list of sockets */
    void *states[ENDPOINT_SERVICES]; /* what services that have a bus have here */
    struct listeners *listeners;
    struct datagrams *datagrams;
    struct event *shake;  /* looks at the connection whose handshake began first */
    struct event *trim;   /* gives back what handshakes have left */
    struct event *idle;   /* looks at the connection that was active longest ago */
    struct event *linger; /* looks at those that linger... */
    int64_t linger_tick;  /* ... in so many ms */
    struct event *drain;  /* ticks while we drain */
    int64_t deadline;     /* of the drain; 0: not draining */
    int status;
};

static void tell(struct worker *worker, enum worker_frame frame)
{
    channel_send(worker->channel, frame, NULL, 0, -1);
}

static void on_paused(void *context, enum pause_reason reason)
{
    struct worker *worker = context;
    uint32_t payload = reason;

    channel_send(worker->channel, FRAME_PAUSED, &payload, sizeof(payload), -1);
}

/* If the supervisor is busy, the word it has waiting will do, and those who wait also look. */
static void on_slot_free(void *context)
{
    struct worker *worker = context;

    if (!channel_is_busy(worker->channel))
        tell(worker, FRAME_SLOT);
}

static void on_conn_closed(void *context)
{
    struct worker *worker = context;

    listeners_conn_closed(worker->listeners);
}

static void on_conn_shakes(void *context)
{
    struct worker *worker = context;

    if (!event_pending(worker->shake, EV_TIMEOUT, NULL))
        reactor_start_timer(worker->shake, (int64_t) worker->setup->options->handshake_timeout);
    if (worker->conns.tls != NULL && !event_pending(worker->trim, EV_TIMEOUT, NULL))
        reactor_start_timer(worker->trim, TRIM_MS);
}

/* The queue is in order of beginning, and all have the same time. */
static void on_shake(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    int64_t timeout = (int64_t) worker->setup->options->handshake_timeout, now = clock_ms();
    struct conn *conn;

    (void) fd;
    (void) what;
    while ((conn = TAILQ_FIRST(&worker->conns.shaking)) != NULL) {
        int64_t left = conn_opened_at(conn) + timeout - now;

        if (left > 0) {
            reactor_start_timer(worker->shake, left);
            return;
        }
        conn_close(conn, CLOSE_HANDSHAKE);
    }
}

/* Of many handshakes at a time much memory is left free, between what their connections keep. */
static void on_trim(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;

    (void) fd;
    (void) what;
#ifdef HAVE_MALLOC_TRIM
    malloc_trim(0);
#endif
    if (!TAILQ_EMPTY(&worker->conns.shaking))
        reactor_start_timer(worker->trim, TRIM_MS);
}

static void on_conn_lingers(void *context)
{
    struct worker *worker = context;
    bool is_due = event_pending(worker->linger, EV_TIMEOUT, NULL) &&
                  worker->linger_tick <= LINGER_TICK_MS;

    if (is_due) /* starting it again each time would put it off for ever */
        return;
    worker->linger_tick = LINGER_TICK_MS;
    reactor_start_timer(worker->linger, worker->linger_tick);
}

/* The queue is in order of last activity: whoever is idle too long stands in front. */
static void on_idle(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    int64_t timeout = (int64_t) worker->setup->options->idle_timeout, now = clock_ms();
    int64_t next = timeout;
    struct conn *conn;

    (void) fd;
    (void) what;
    while ((conn = TAILQ_FIRST(&worker->conns.active)) != NULL) {
        next = conn_last_active(conn) + timeout - now;
        if (next > 0)
            break;
        if (!conn_has_moved(conn))
            conn_close(conn, CLOSE_IDLE);
        next = timeout;
    }
    reactor_start_timer(worker->idle, next);
}

static void on_linger(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    struct conn *conn = TAILQ_FIRST(&worker->conns.lingering), *next;
    int64_t now = clock_ms();

    (void) fd;
    (void) what;
    for (; conn != NULL; conn = next) {
        next = conn_next(conn);
        conn_linger(conn, now, (int64_t) worker->setup->options->idle_timeout);
    }
    /* Most are gone at the first look; those that take their time are looked at less often. */
    if (worker->linger_tick < LINGER_TICK_MOST_MS && worker->deadline == 0)
        worker->linger_tick *= 2;
    if (!TAILQ_EMPTY(&worker->conns.lingering))
        reactor_start_timer(worker->linger, worker->linger_tick);
}

static void cut_queue(struct conn_queue *queue, int64_t now)
{
    struct conn *conn;

    while ((conn = TAILQ_FIRST(queue)) != NULL)
        conn_cut(conn, now);
}

static void cut_all(struct worker *worker, int64_t now)
{
    listeners_close(worker->listeners);
    datagrams_close(worker->datagrams);
    cut_queue(&worker->conns.shaking, now);
    cut_queue(&worker->conns.active, now);
    cut_queue(&worker->conns.lingering, now);
}

/* Returns the one after CONN, which may be gone. */
static struct conn *finish_if_quiet(struct conn *conn, int64_t now)
{
    struct conn *next = conn_next(conn);

    if (conn_is_quiet(conn, now))
        conn_finish(conn, CLOSE_DRAIN);
    return next;
}

static void finish_quiet(const struct conn_set *conns, int64_t now)
{
    struct conn *conn = TAILQ_FIRST(&conns->shaking);

    while (conn != NULL)
        conn = finish_if_quiet(conn, now);
    conn = TAILQ_FIRST(&conns->active);
    /* In order of last activity: who follows one that is too young is younger still. */
    while (conn != NULL && now - conn_last_active(conn) >= QUIET_MS)
        conn = finish_if_quiet(conn, now);
}

/* All connections are gone, and nothing of what they did is left to be told. */
static bool is_empty(const struct worker *worker)
{
    const struct conn_set *conns = &worker->conns;

    for (int i = 0; i < ENDPOINT_SERVICES; i++)
        if (worker->states[i] != NULL && !worker->setup->services[i]->is_done(worker->states[i]))
            return false;
    return TAILQ_EMPTY(&conns->shaking) && TAILQ_EMPTY(&conns->active) &&
           TAILQ_EMPTY(&conns->lingering);
}

static void on_drain(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    int64_t now = clock_ms();
    bool is_closed = listeners_drain(worker->listeners);

    (void) fd;
    (void) what;
    is_closed = datagrams_drain(worker->datagrams) && is_closed;
    finish_quiet(&worker->conns, now);
    if (now >= worker->deadline)
        cut_all(worker, now);
    if (now >= worker->deadline || (is_closed && is_empty(worker)))
        event_base_loopbreak(worker->base);
    else
        reactor_start_timer(worker->drain, is_closed ? DRAIN_TICK_MS : LOOPBACK_HANDSHAKE_MS);
}

static void start_drain(struct worker *worker)
{
    if (worker->deadline != 0)
        return;
    worker->linger_tick = LINGER_TICK_MS;
    worker->deadline = clock_ms() + (int64_t) worker->setup->options->drain_timeout;
    on_drain(-1, EV_TIMEOUT, worker);
}

static void stop(struct worker *worker, const char *what)
{
    log_failure(LOG_ERR, "worker-failed", what, errno);
    worker->status = 1;
    event_base_loopbreak(worker->base);
}

/* NULL with errno set: no memory, or FD, which it closes, found no room here. */
static struct tls_context *make_tls_context(int fd)
{
    struct tls_context *context = NULL;
    struct credentials credentials;
    struct tls_problem problem;

    if (fd < 0) {
        errno = EMFILE;
        return NULL;
    }
    if (credentials_unseal(&credentials, fd)) {
        context = tls_context_new(&credentials, &problem);
        credentials_clear(&credentials);
    }
    close(fd);
    errno = ENOMEM; /* they have been tried before they were sent */
    return context;
}

/* In place of others it can fail without harm: it goes on with those, and is sent these again. */
static void take_credentials(struct worker *worker, int fd)
{
    struct tls_context *context = make_tls_context(fd);
    bool has_taken = context != NULL;

    if (has_taken) {
        tls_context_free(worker->conns.tls);
        worker->conns.tls = context;
    } else if (worker->conns.tls == NULL) {
        stop(worker, "tls");
        return;
    } else {
        log_failure(LOG_ERR, "tls-failed", "credentials", errno);
    }
    channel_send(worker->channel, FRAME_TLS, &has_taken, sizeof(has_taken), -1);
}

/* Closes FD. False with errno set. */
static bool open_access(struct access_map *map, int fd)
{
    bool is_open;
    int error;

    errno = EMFILE; /* it was sent, and found no room here */
    if (fd < 0)
        return false;
    is_open = access_map_open(map, fd);
    error = errno;
    close(fd);
    errno = error;
    return is_open;
}

/* The same with access rules: it goes on with the old ones, but without any it lets nobody in. */
static void take_access(struct worker *worker, int fd)
{
    bool has_taken = open_access(&worker->access, fd);

    if (!has_taken && worker->access.memory == NULL) {
        stop(worker, "access");
        return;
    }
    if (!has_taken)
        log_failure(LOG_ERR, "access-failed", "lists", errno);
    channel_send(worker->channel, FRAME_ACCESS, &has_taken, sizeof(has_taken), -1);
}

static bool add_socket(struct worker *worker, int fd, const struct worker_listen *listen)
{
    const struct conn_origin *origin = &worker->origins[listen->address];

    if (origin->transport == ENDPOINT_UDP)
        return datagrams_add(worker->datagrams, fd, origin, listen->owner);
    return listeners_add(worker->listeners, fd, origin, listen->owner);
}

static void start_service(struct worker *worker, const void *payload, int bus)
{
    const struct service *service;
    uint32_t number;

    memcpy(&number, payload, sizeof(number));
    service = worker->setup->services[number];
    errno = EMFILE;
    if (bus >= 0)
        worker->states[number] = service->start(worker->base, worker->setup->options, bus);
    if (worker->states[number] == NULL) {
        stop(worker, service->name);
        return;
    }
    for (size_t i = 0; i < worker->setup->sockets->count; i++)
        if (worker->origins[i].service == service)
            worker->origins[i].service_state = worker->states[number];
}

/* At the start, or in place of a worker that died: then it can fail without harm. */
static void listen_at(struct worker *worker, const void *payload, int fd)
{
    struct worker_listen listen;

    memcpy(&listen, payload, sizeof(listen));
    if (fd < 0)
        errno = EMFILE; /* it was sent, and found no room here */
    else if (add_socket(worker, fd, &listen))
        return;
    if (listen.owner == worker->number)
        stop(worker, "listen");
}

static void release(struct worker *worker, const void *payload)
{
    uint32_t owner;

    memcpy(&owner, payload, sizeof(owner));
    listeners_remove(worker->listeners, owner);
    datagrams_remove(worker->datagrams, owner);
}

static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct worker *worker = context;

    (void) length;
    switch ((enum worker_frame) type) {
    case FRAME_TLS:
        take_credentials(worker, fd);
        break;
    case FRAME_ACCESS:
        take_access(worker, fd);
        break;
    case FRAME_BUS:
        start_service(worker, payload, fd);
        break;
    case FRAME_LISTEN:
        listen_at(worker, payload, fd);
        break;
    case FRAME_RELEASE:
        release(worker, payload);
        break;
    case FRAME_READY:
        tell(worker, FRAME_READY);
        break;
    case FRAME_DRAIN:
        start_drain(worker);
        break;
    case FRAME_SLOT:
        listeners_retry(worker->listeners);
        break;
    case FRAME_BEAT:
        tell(worker, FRAME_BEAT);
        break;
    case FRAME_PAUSED: /* never sent to a worker */
        break;
    }
}

/* The supervisor is gone: nobody would replace us, or tell us to stop. */
static void on_channel_ended(void *context)
{
    start_drain(context);
}

static const struct channel_handler channel_handler = { .received = on_frame,
                                                        .ended = on_channel_ended };

static bool make_origins(struct worker *worker)
{
    const struct sockets *sockets = worker->setup->sockets;

    worker->origins = calloc(sockets->count, sizeof(*worker->origins));
    for (size_t i = 0; worker->origins != NULL && i < sockets->count; i++)
        worker->origins[i] = (struct conn_origin){
            .service = worker->setup->services[sockets->list[i].endpoint->service],
            .transport = sockets->list[i].endpoint->transport,
            .proxies = options_proxies(worker->setup->options, sockets->list[i].endpoint),
            .is_passed = sockets->list[i].is_passed,
            .name = sockets->list[i].name,
            .stats = stats_block(worker->setup->stats, worker->number, (unsigned) i),
        };
    return worker->origins != NULL;
}

static bool make_timers(struct worker *worker)
{
    worker->shake = event_new(worker->base, -1, 0, on_shake, worker);
    worker->trim = event_new(worker->base, -1, 0, on_trim, worker);
    worker->idle = event_new(worker->base, -1, 0, on_idle, worker);
    worker->linger = event_new(worker->base, -1, 0, on_linger, worker);
    worker->drain = event_new(worker->base, -1, 0, on_drain, worker);
    if (worker->shake == NULL || worker->trim == NULL || worker->idle == NULL ||
        worker->linger == NULL || worker->drain == NULL)
        return false;
    if (worker->setup->options->idle_timeout > 0)
        reactor_start_timer(worker->idle, (int64_t) worker->setup->options->idle_timeout);
    return true;
}

/* Fills what is zero but for setup and number; on false worker_release gets the half-made one. */
static bool worker_init(struct worker *worker, int fd)
{
    const struct listener_hooks hooks = { on_paused, on_slot_free, worker };
    const struct access_rules *access =
        worker->setup->access != NULL ? &worker->access.rules : NULL;

    worker->base = reactor_new(worker->setup->options->backend);
    if (worker->base != NULL)
        worker->channel = channel_new(worker->base, fd, &channel_handler, worker);
    if (worker->channel == NULL) {
        close(fd);
        return false;
    }
    channel_go_first(worker->channel);
    TAILQ_INIT(&worker->conns.shaking);
    TAILQ_INIT(&worker->conns.active);
    TAILQ_INIT(&worker->conns.lingering);
    worker->conns.base = worker->base;
    worker->conns.stats = worker->setup->stats;
    worker->access.rules.is_closed = true; /* until there are some nobody is let in */
    worker->conns.admission = (struct admission){ .worker = worker->number,
                                                  .access = access,
                                                  .quota = worker->setup->quota,
                                                  .rates = worker->setup->accept_rates };
    worker->conns.plain = evbuffer_new();
    worker->conns.closed = on_conn_closed;
    worker->conns.shakes = on_conn_shakes;
    worker->conns.lingers = on_conn_lingers;
    worker->conns.context = worker;
    worker->listeners =
        listeners_new(&worker->conns, worker->setup->limits, worker->number, &hooks);
    worker->datagrams = datagrams_new(worker->base, access, worker->setup->datagram_rates,
                                      worker->setup->sockets);
    return worker->conns.plain != NULL && worker->listeners != NULL &&
           worker->datagrams != NULL && make_origins(worker) && make_timers(worker);
}

static void worker_release(struct worker *worker)
{
    cut_all(worker, clock_ms());
    listeners_free(worker->listeners);
    datagrams_free(worker->datagrams);
    for (int i = 0; i < ENDPOINT_SERVICES; i++)
        if (worker->states[i] != NULL)
            worker->setup->services[i]->stop(worker->states[i]);
    reactor_free_event(worker->shake);
    reactor_free_event(worker->trim);
    reactor_free_event(worker->idle);
    reactor_free_event(worker->linger);
    reactor_free_event(worker->drain);
    channel_free(worker->channel);
    free(worker->origins);
    access_map_close(&worker->access);
    tls_context_free(worker->conns.tls);
    if (worker->conns.plain != NULL)
        evbuffer_free(worker->conns.plain);
    if (worker->base != NULL)
        event_base_free(worker->base); /* which frees bufferevents, and their buffers, at last */
    spare_release();
}

int worker_run(const struct worker_setup *setup, unsigned number, int fd)
{
    struct worker worker = { .setup = setup, .number = number };

    if (!worker_init(&worker, fd)) {
        log_failure(LOG_ERR, "worker-failed", "start", errno);
        worker.status = 1;
    } else if (setup->is_sandboxed && !sandbox_enter_worker()) {
        log_failure(LOG_ERR, "worker-failed", "sandbox", errno);
        worker.status = 1;
    } else if (event_base_dispatch(worker.base) != 0 && worker.status == 0) {
        log_failure(LOG_ERR, "worker-failed", "event loop", errno);
        worker.status = 1;
    }
    worker_release(&worker);
    return worker.status;
}
