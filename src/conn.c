#include "conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "defaults.h"
#include "log.h"
#include "preface.h"
#include "proxy.h"
#include "service.h"
#include "tcp.h"
#include "wire.h"

enum conn_phase {
    PHASE_HANDSHAKE, /* what comes before the bytes that are the service's */
    PHASE_OPEN,      /* the service has it; bytes go both ways */
    PHASE_FINISHING, /* nothing more is asked of the service; FIN follows the pending output */
    PHASE_LINGERING, /* our FIN is sent; what still comes is thrown away */
};

/* What only those have that come by way of a load balancer. */
struct proxied {
    struct preface *preface; /* NULL: the PROXY header has been read */
    struct address via;      /* if it named a client, who is the peer then; else empty */
};

struct conn {
    TAILQ_ENTRY(conn) link; /* in its set, as queue_of says */
    struct conn_set *set;
    const struct conn_origin *origin;
    struct proxied *proxied; /* NULL: no PROXY header is expected */
    struct wire wire;        /* opened when that has come */
    void *state;             /* the service's */
    uint64_t number;
    uint64_t received, sent; /* bytes: read from and given to the kernel, without TLS's own */
    int64_t opened_at, received_at, last_active;
    int unacknowledged; /* bytes, when a byte last moved that we know of */
    struct address peer;
    enum conn_phase phase : 8;
    enum close_reason reason : 8; /* why it ends, once it does */
    bool peer_done : 1;           /* the peer's FIN was read, or its close_notify */
    bool was_let_in : 1;          /* and so the peer has one of its source's places */
    bool was_opened : 1;          /* the service knows of it */
    bool has_all : 1;             /* when it was done, the peer had all but what TLS adds */
    bool has_spoken : 1;          /* something came, be it only a handshake */
    bool is_held : 1;             /* the service does not want to hear of it for now... */
    bool has_ended : 1;           /* ... not even that the peer's close_notify was read */
};

/* Where it stands in its set, by its phase. */
static struct conn_queue *queue_of(const struct conn *conn)
{
    switch (conn->phase) {
    case PHASE_HANDSHAKE:
        return &conn->set->shaking;
    case PHASE_LINGERING:
        return &conn->set->lingering;
    case PHASE_OPEN:
    case PHASE_FINISHING:
        break;
    }
    return &conn->set->active;
}

/* The one place where the phase changes. */
static void set_phase(struct conn *conn, enum conn_phase phase)
{
    struct conn_queue *before = queue_of(conn);

    conn->phase = phase;
    if (queue_of(conn) == before)
        return;
    TAILQ_REMOVE(before, conn, link);
    TAILQ_INSERT_TAIL(queue_of(conn), conn, link);
}

/*
 * A byte has moved: to the end of the queue, unless it is among the last there already. Those whose
 * handshake is not done keep the order in which they began.
 */
static void touch(struct conn *conn)
{
    int64_t now = clock_ms();

    if (conn->last_active == now)
        return;
    conn->last_active = now;
    if (conn->phase == PHASE_HANDSHAKE)
        return;
    TAILQ_REMOVE(queue_of(conn), conn, link);
    TAILQ_INSERT_TAIL(queue_of(conn), conn, link);
}

static void count_sent(struct conn *conn, size_t bytes)
{
    conn->sent += bytes;
    stats_add(&conn->origin->stats->counter[STATS_sent_bytes], bytes);
    touch(conn);
}

/* The output changed; what left it was given to the kernel. */
static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info,
                      void *argument)
{
    struct conn *conn = argument;

    (void) output;
    if (info->n_deleted > 0)
        count_sent(conn, wire_drained(&conn->wire, info->n_deleted));
    conn->unacknowledged = wire_unacknowledged(&conn->wire);
}

/* Is anything on its way, in either direction? Our own FIN does not count. */
static bool is_moving(const struct conn *conn)
{
    return wire_is_moving(&conn->wire, conn->phase == PHASE_LINGERING ? 1 : 0);
}

/* Begins a line with who is at the other end, and where. */
static void begin_line(struct log_line *line, const struct conn *conn, int priority,
                       const char *event)
{
    char peer[ADDRESS_TEXT_MAX];

    address_format(&conn->peer, peer);
    log_begin(line, priority, event);
    log_number(line, "conn", conn->number);
    log_text(line, "peer", peer);
    log_text(line, "endpoint", conn->origin->name);
    if (conn->proxied != NULL && conn->proxied->via.length > 0) {
        address_format(&conn->proxied->via, peer);
        log_text(line, "via", peer);
    }
}

static void log_accepted(const struct conn *conn)
{
    struct log_line line;

    if (!log_wants(LOG_DEBUG))
        return;
    begin_line(&line, conn, LOG_DEBUG, "accepted");
    log_end(&line);
}

static void log_received(const struct conn *conn, struct evbuffer *input, size_t bytes)
{
    struct log_line line;
    char data[LOG_DATA_MAX];
    ssize_t shown;

    if (!log_wants(LOG_DEBUG))
        return;
    shown = evbuffer_copyout(input, data, sizeof(data));
    log_begin(&line, LOG_DEBUG, "received");
    log_number(&line, "conn", conn->number);
    log_number(&line, "bytes", bytes);
    log_bytes(&line, "data", data, shown > 0 ? (size_t) shown : 0);
    log_end(&line);
}

/* What is wrong with a TLS handshake or a PROXY header: for who looks for the cause. */
static void log_handshake_failed(const struct conn *conn, const char *why)
{
    struct log_line line;

    if (!log_wants(LOG_DEBUG))
        return;
    log_begin(&line, LOG_DEBUG, "handshake-failed");
    log_number(&line, "conn", conn->number);
    log_text(&line, "error", why);
    log_end(&line);
}

/*
 * One on which no byte came is a health probe, most likely: no noise. But who says something, and
 * does not get through the handshake, is none.
 */
static int priority_of(const struct conn *conn, enum close_reason reason)
{
    bool has_failed =
        reason == CLOSE_HANDSHAKE || reason == CLOSE_TLS || reason == CLOSE_PROXY;

    return conn->received > 0 || (has_failed && conn->has_spoken) ? LOG_INFO : LOG_DEBUG;
}

static void log_closed(const struct conn *conn, enum close_reason reason)
{
    int priority = priority_of(conn, reason);
    struct log_line line;

    if (!log_wants(priority))
        return;
    begin_line(&line, conn, priority, "closed");
    log_number(&line, "in", conn->received);
    log_number(&line, "out", conn->sent);
    log_duration(&line, "duration", clock_ms() - conn->opened_at);
    log_text(&line, "reason", close_reason_name(reason));
    log_end(&line);
}

/*
 * Waits for EV_READ or EV_WRITE. If the kernel has no room for that nothing would ever happen on
 * it: it is closed, but not here, where we may be deep inside a callback of its own.
 */
static void await(struct conn *conn, short what)
{
    if (bufferevent_enable(conn->wire.bev, what) == 0)
        return;
    errno = ENOMEM;
    bufferevent_trigger_event(conn->wire.bev, BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
}

/* It waits for the kernel to take what is pending already, unless there was no room for that. */
static void await_output(struct conn *conn)
{
    if (wire_is_pending(&conn->wire))
        await(conn, EV_WRITE);
}

void conn_send(struct conn *conn, struct evbuffer *data)
{
    count_sent(conn, wire_send(&conn->wire, data));
    if (!wire_is_pending(&conn->wire))
        return;
    await(conn, EV_WRITE); /* as it does already, unless there was no room for that */
    if (conn->origin->service->output_stops_reading)
        bufferevent_disable(conn->wire.bev, EV_READ);
}

/* Both sides are done, and the peer has all: closing loses nothing. */
static bool is_complete(const struct conn *conn)
{
    return conn->peer_done && wire_unacknowledged(&conn->wire) == 0;
}

/*
 * Our FIN goes out. What the peer has not acknowledged yet keeps the socket open: of one that is
 * closed the kernel gives up after a while, and a slow reader would lose the end.
 */
static void send_fin(struct conn *conn)
{
    if (!is_complete(conn))
        shutdown(conn->wire.fd, SHUT_WR);
    if (is_complete(conn)) {
        conn_close(conn, conn->reason);
        return;
    }
    conn->last_active = clock_ms();
    set_phase(conn, PHASE_LINGERING);
    conn->set->lingers(conn->set->context);
}

/*
 * Nothing that comes from now on is of use, and nothing is owed; but a close would answer it with
 * a reset, and take away what was said last. So we linger.
 */
static void refuse(struct conn *conn, enum close_reason reason)
{
    wire_end_tls(&conn->wire);
    if (wire_is_pending(&conn->wire) || conn->phase == PHASE_LINGERING) {
        conn_close(conn, reason);
        return;
    }
    conn->reason = reason;
    send_fin(conn);
}

/* It is the service's from now on. */
static void open_service(struct conn *conn)
{
    conn->received_at = conn->last_active = clock_ms();
    set_phase(conn, PHASE_OPEN);
    conn->was_opened = true;
    if (!conn->origin->service->output_stops_reading)
        tcp_limit_unsent(conn->wire.fd);
    if (conn->origin->service->opened != NULL)
        conn->origin->service->opened(conn);
}

static void on_eof(struct conn *conn)
{
    conn->peer_done = true;
    if (conn->phase == PHASE_LINGERING)
        conn_close(conn, conn->reason);
    else if (conn->phase == PHASE_HANDSHAKE) /* nothing is owed */
        conn_close(conn, CLOSE_EOF);
    else
        conn_finish(conn, CLOSE_EOF);
}

/* The peer's bytes are here. */
static void on_received(struct conn *conn, struct evbuffer *data)
{
    size_t bytes = evbuffer_get_length(data);

    conn->received += bytes;
    stats_add(&conn->origin->stats->counter[STATS_received_bytes], bytes);
    stats_add(&conn->origin->stats->counter[STATS_reads], 1);
    touch(conn);
    conn->received_at = conn->last_active;
    log_received(conn, data, bytes);
    if (conn->phase == PHASE_OPEN)
        conn->origin->service->received(conn, data);
    else
        evbuffer_drain(data, bytes);
}

/* The peer does not speak TLS, or not ours; an alert has told it so, if it speaks any. */
static void on_tls_failed(struct conn *conn)
{
    log_handshake_failed(conn, tls_failure());
    if (tls_is_own_failure())
        conn_close(conn, CLOSE_ERROR);
    else
        refuse(conn, CLOSE_TLS);
}

/* Records came, or parts of some. */
static void on_records(struct conn *conn)
{
    struct conn_set *set = conn->set;
    size_t pending = evbuffer_get_length(wire_output(&conn->wire));
    enum tls_result result = tls_receive(conn->wire.tls, set->plain);

    conn->has_spoken = true;
    touch(conn);
    /* TLS has answered by itself; who asks without end, and does not read, is to wait. */
    if (evbuffer_get_length(wire_output(&conn->wire)) > pending)
        bufferevent_disable(conn->wire.bev, EV_READ);
    await_output(conn);
    set->current = conn; /* until something below closes it */
    if (result == TLS_FAILED) /* and nothing can be sent in answer to what came before */
        on_tls_failed(conn);
    else if (conn->phase == PHASE_HANDSHAKE && tls_is_open(conn->wire.tls))
        open_service(conn);
    if (result != TLS_FAILED && set->current == conn && evbuffer_get_length(set->plain) > 0)
        on_received(conn, set->plain);
    if (set->current == conn && result == TLS_END && !conn->peer_done) {
        bufferevent_disable(conn->wire.bev, EV_READ);
        conn->has_ended = conn->is_held;
        if (!conn->is_held)
            on_eof(conn);
    }
    evbuffer_drain(set->plain, evbuffer_get_length(set->plain));
}

static void on_readable(struct bufferevent *bev, void *argument)
{
    struct evbuffer *input = bufferevent_get_input(bev);
    struct conn *conn = argument;

    if (conn->wire.tls != NULL)
        on_records(conn);
    else if (conn->reason == CLOSE_TLS || !conn->was_opened) /* refused */
        evbuffer_drain(input, evbuffer_get_length(input));
    else
        on_received(conn, input);
}

static void on_writable(struct bufferevent *bev, void *argument)
{
    struct conn *conn = argument;

    (void) bev;
    if (!conn->peer_done && !conn->is_held)
        await(conn, EV_READ);
    if (conn->phase == PHASE_FINISHING)
        send_fin(conn);
    else if (conn->phase == PHASE_OPEN && conn->origin->service->writable != NULL)
        conn->origin->service->writable(conn);
}

static enum close_reason reason_of(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
        return CLOSE_RESET;
    case ETIMEDOUT:
    case EHOSTUNREACH: /* what keepalive leaves when routers said so meanwhile */
    case ENETUNREACH:
        return CLOSE_TIMEOUT;
    default:
        return CLOSE_ERROR;
    }
}

/* The connection broke, for REASON; but if the peer just did not wait for our close_notify. */
static enum close_reason reason_of_break(const struct conn *conn, enum close_reason reason)
{
    return conn->peer_done && conn->has_all ? conn->reason : reason;
}

static void on_event(struct bufferevent *bev, short what, void *argument)
{
    (void) bev;
    if (what & BEV_EVENT_EOF)
        on_eof(argument);
    else if (what & BEV_EVENT_ERROR)
        conn_close(argument, reason_of_break(argument, reason_of(errno)));
}

/* Bytes come and go from now on, in TLS records unless that is NULL. False: no memory. */
static bool open_wire(struct conn *conn, struct tls_context *tls)
{
    if (!wire_open(&conn->wire, conn->set->base, tls))
        return false;
    bufferevent_setcb(conn->wire.bev, on_readable, on_writable, on_event, conn);
    return evbuffer_add_cb(wire_output(&conn->wire), on_output, conn) != NULL &&
           bufferevent_enable(conn->wire.bev, EV_READ) == 0;
}

/* The transport begins. False: no memory, or no credentials: never in the clear then. */
static bool start(struct conn *conn)
{
    if (conn->origin->transport != ENDPOINT_TLS)
        return open_wire(conn, NULL);
    return conn->set->tls != NULL && open_wire(conn, conn->set->tls);
}

/* The transport has begun; with bytes that go as they are, so does the service. */
static void proceed(struct conn *conn)
{
    log_accepted(conn);
    if (conn->wire.tls == NULL)
        open_service(conn);
    else
        conn->set->shakes(conn->set->context);
}

/*
 * Who comes by way of a load balancer is the client that the header names, from now on; access
 * lists, limits and rates hold for that one. False: it is refused.
 */
static bool set_client(struct conn *conn, const struct proxy_header *header)
{
    unsigned verdict;

    if (!header->has_client)
        return true;
    conn->proxied->via = conn->peer;
    conn->peer = address_unmapped(header->client);
    verdict = admission_enter(&conn->set->admission, &conn->peer, clock_ms());
    conn->was_let_in = verdict == ADMITTED;
    if (!conn->was_let_in)
        admission_refuse(conn->origin->stats, &conn->peer, &conn->proxied->via,
                         (enum refuse_reason) verdict);
    return conn->was_let_in;
}

static void on_preface(void *context, enum preface_event event,
                       const struct proxy_header *header)
{
    struct conn *conn = context;

    if (event != PREFACE_PART)
        conn->proxied->preface = NULL;
    /* The load balancer's header, once it is whole, is not a byte of the client's. */
    conn->has_spoken = event == PREFACE_PART || event == PREFACE_MALFORMED;
    touch(conn);
    switch (event) {
    case PREFACE_PART:
        break;
    case PREFACE_WHOLE:
        if (!set_client(conn, header))
            conn_close(conn, CLOSE_PROXY);
        else if (start(conn))
            proceed(conn);
        else
            conn_close(conn, CLOSE_ERROR);
        break;
    case PREFACE_MALFORMED:
        log_handshake_failed(conn, header->wrong);
        conn_close(conn, CLOSE_PROXY);
        break;
    case PREFACE_EOF:
        conn_close(conn, CLOSE_EOF);
        break;
    case PREFACE_ERROR:
        conn_close(conn, reason_of(errno));
        break;
    }
}

/* Waits for a PROXY header. False: no memory. */
static bool await_header(struct conn *conn)
{
    conn->proxied = calloc(1, sizeof(*conn->proxied));
    if (conn->proxied != NULL)
        conn->proxied->preface =
            preface_new(conn->set->base, conn->wire.fd, on_preface, conn);
    return conn->proxied != NULL && conn->proxied->preface != NULL;
}

static void release(struct conn *conn)
{
    if (conn->proxied != NULL)
        preface_free(conn->proxied->preface);
    free(conn->proxied);
    wire_close(&conn->wire);
    free(conn);
}

bool conn_new(struct conn_set *set, const struct conn_origin *origin, int fd,
              const struct address *peer)
{
    struct conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL)
        return false;
    *conn = (struct conn){ .set = set, .origin = origin, .peer = *peer,
                           .wire = { .fd = fd,
                                     .is_local = origin->transport == ENDPOINT_UNIX },
                           .opened_at = clock_ms(), .last_active = clock_ms(),
                           .was_let_in = origin->proxies == NULL };
    if (!(origin->proxies != NULL ? await_header(conn) : start(conn))) {
        release(conn);
        return false;
    }
    conn->number = atomic_fetch_add(&set->stats->connections, 1) + 1;
    TAILQ_INSERT_TAIL(&set->shaking, conn, link);
    stats_add(&origin->stats->counter[STATS_accepted], 1);
    if (origin->proxies != NULL)
        set->shakes(set->context);
    else
        proceed(conn);
    return true;
}

/* The handshake will not end. */
static void abandon(struct conn *conn, enum close_reason reason)
{
    if (conn->wire.bev == NULL) {
        preface_free(conn->proxied->preface);
        conn->proxied->preface = NULL;
        if (!open_wire(conn, NULL)) {
            conn_close(conn, reason);
            return;
        }
    }
    refuse(conn, reason);
}

/* What comes is read again, and thrown away. */
static void stop_holding(struct conn *conn)
{
    if (!conn->is_held)
        return;
    conn->is_held = false;
    conn->peer_done |= conn->has_ended;
    if (!conn->peer_done)
        await(conn, EV_READ);
}

void conn_finish(struct conn *conn, enum close_reason reason)
{
    const struct service *service = conn->origin->service;

    if (conn->phase == PHASE_HANDSHAKE) {
        abandon(conn, reason);
        return;
    }
    if (conn->phase != PHASE_OPEN || (service->ending != NULL && !service->ending(conn)))
        return;
    conn->reason = reason;
    stop_holding(conn);
    set_phase(conn, PHASE_FINISHING);
    conn->has_all = !wire_is_pending(&conn->wire) && wire_unacknowledged(&conn->wire) == 0;
    wire_finish(&conn->wire);
    await_output(conn);
    if (!wire_is_pending(&conn->wire))
        send_fin(conn);
}

void conn_close(struct conn *conn, enum close_reason reason)
{
    struct conn_set *set = conn->set;
    const struct service *service = conn->origin->service;
    int fd = conn->wire.fd;

    if (set->current == conn)
        set->current = NULL;
    if (conn->was_opened && service->closed != NULL)
        service->closed(conn);
    log_closed(conn, reason);
    stats_add(&conn->origin->stats->closed[reason], 1);
    if (conn->was_let_in)
        admission_leave(&set->admission, &conn->peer);
    TAILQ_REMOVE(queue_of(conn), conn, link);
    /* No FIN after a part: the peer would take that for all. (A unix socket has nothing else.) */
    if (wire_is_pending(&conn->wire) || reason == CLOSE_ERROR)
        tcp_reset_on_close(fd);
    release(conn);
    close(fd);
    set->closed(set->context);
}

void conn_set_state(struct conn *conn, void *state)
{
    conn->state = state;
}

void *conn_state(const struct conn *conn)
{
    return conn->state;
}

void *conn_service_state(const struct conn *conn)
{
    return conn->origin->service_state;
}

struct stats_block *conn_stats(const struct conn *conn)
{
    return conn->origin->stats;
}

void conn_hold(struct conn *conn)
{
    conn->is_held = true;
    bufferevent_disable(conn->wire.bev, EV_READ);
}

void conn_go_on(struct conn *conn)
{
    if (!conn->is_held)
        return;
    conn->is_held = false;
    if (conn->has_ended)
        on_eof(conn);
    else
        await(conn, EV_READ);
}

size_t conn_pending(const struct conn *conn)
{
    return evbuffer_get_length(wire_output(&conn->wire));
}

uint64_t conn_taken(const struct conn *conn)
{
    return conn->sent - (uint64_t) tcp_unacknowledged(conn->wire.fd);
}

int64_t conn_opened_at(const struct conn *conn)
{
    return conn->opened_at;
}

int64_t conn_last_active(const struct conn *conn)
{
    return conn->last_active;
}

bool conn_is_quiet(const struct conn *conn, int64_t now)
{
    int64_t silence = now - conn->last_active;

    return silence >= QUIET_MS && !is_moving(conn) &&
           silence >= (int64_t) tcp_round_trip_us(conn->wire.fd) * QUIET_ROUND_TRIPS / 1000;
}

/* To its place in the order of last activity, which is sought from the end. */
static void reorder(struct conn *conn)
{
    struct conn_queue *queue = queue_of(conn);
    struct conn *before = TAILQ_LAST(queue, conn_queue);

    while (before != NULL && (before == conn || before->last_active > conn->last_active))
        before = TAILQ_PREV(before, conn_queue, link);
    TAILQ_REMOVE(queue, conn, link);
    if (before != NULL)
        TAILQ_INSERT_AFTER(queue, before, conn, link);
    else
        TAILQ_INSERT_HEAD(queue, conn, link);
}

bool conn_has_moved(struct conn *conn)
{
    int bytes = wire_unacknowledged(&conn->wire);
    int64_t when;

    if (bytes == conn->unacknowledged)
        return false;
    conn->unacknowledged = bytes;
    when = clock_ms() - tcp_since_sent_ms(conn->wire.fd);
    if (when <= conn->last_active)
        return false;
    conn->last_active = when;
    reorder(conn);
    return true;
}

/*
 * The peer's FIN was read: it is closed when the peer has acknowledged all, and nothing but the
 * idle timeout hurries it; no event tells that it broke. Else the peer has LINGER_MS from its last
 * byte to send its own FIN.
 */
void conn_linger(struct conn *conn, int64_t now, int64_t idle_timeout)
{
    int error;

    if (!conn->peer_done) {
        if (now - conn->last_active >= LINGER_MS)
            conn_close(conn, conn->reason);
    } else if (is_complete(conn)) {
        conn_close(conn, conn->reason);
    } else if (tcp_is_closed(conn->wire.fd, &error)) {
        conn_close(conn, reason_of_break(conn, error == 0 ? CLOSE_RESET : reason_of(error)));
    } else if (!conn_has_moved(conn) && idle_timeout > 0 &&
               now - conn->last_active >= idle_timeout) {
        conn_close(conn, CLOSE_IDLE);
    }
}

void conn_cut(struct conn *conn, int64_t now)
{
    bool is_sending = !conn->peer_done && now - conn->received_at < QUIET_MS;

    conn_close(conn, is_moving(conn) || is_sending ? CLOSE_FORCED : CLOSE_DRAIN);
}

struct conn *conn_next(const struct conn *conn)
{
    return TAILQ_NEXT(conn, link);
}
