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
#include "fastpath.h"
#include "log.h"
#include "service.h"
#include "tcp.h"

enum conn_phase {
    PHASE_HANDSHAKE, /* what comes before the bytes that are the service's */
    PHASE_OPEN,      /* the service has it; bytes go both ways */
    PHASE_FINISHING, /* nothing more is asked of the service; FIN follows the pending output */
    PHASE_LINGERING, /* our FIN is sent; what still comes is thrown away */
};

struct conn {
    TAILQ_ENTRY(conn) link; /* in its set: active, or lingering */
    struct conn_set *set;
    const struct conn_origin *origin;
    struct bufferevent *bev; /* NULL: not yet, the transport has to begin first */
    void *state;             /* the service's */
    enum conn_phase phase;
    enum close_reason reason; /* why it ends, once it does */
    bool peer_done;           /* the peer's FIN was read */
    uint64_t number;
    uint64_t received, sent; /* bytes: read from and given to the kernel */
    int64_t opened_at, received_at, last_active;
    int fd;
    int unacknowledged; /* bytes, when a byte last moved that we know of */
    struct address peer;
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

/* A byte has moved: to the end of the queue, unless it is among the last there already. */
static void touch(struct conn *conn)
{
    int64_t now = clock_ms();

    if (conn->last_active == now)
        return;
    conn->last_active = now;
    TAILQ_REMOVE(queue_of(conn), conn, link);
    TAILQ_INSERT_TAIL(queue_of(conn), conn, link);
}

static void count_sent(struct conn *conn, size_t bytes)
{
    conn->sent += bytes;
    stats_add(&conn->origin->stats->counter[STATS_sent_bytes], bytes);
    touch(conn);
}

static struct evbuffer *output_of(const struct conn *conn)
{
    return bufferevent_get_output(conn->bev);
}

static bool is_pending(const struct conn *conn)
{
    return conn->bev != NULL && evbuffer_get_length(output_of(conn)) > 0;
}

/* The output changed; what left it was given to the kernel. */
static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info,
                      void *argument)
{
    struct conn *conn = argument;

    (void) output;
    if (info->n_deleted > 0)
        count_sent(conn, info->n_deleted);
    conn->unacknowledged = tcp_unacknowledged(conn->fd);
}

/* Is anything on its way, in either direction, that we know of? Our own FIN does not count. */
static bool is_moving(const struct conn *conn)
{
    int fin = conn->phase == PHASE_LINGERING ? 1 : 0;

    return is_pending(conn) || tcp_unread(conn->fd) > 0 ||
           tcp_unacknowledged(conn->fd) > fin;
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

/* One on which no byte came is a health probe, most likely: no noise. */
static void log_closed(const struct conn *conn, enum close_reason reason)
{
    int priority = conn->received > 0 ? LOG_INFO : LOG_DEBUG;
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

void conn_send(struct conn *conn, struct evbuffer *data)
{
    if (!is_pending(conn))
        count_sent(conn, fastpath_send(conn->bev, data));
    if (evbuffer_get_length(data) == 0)
        return;
    evbuffer_add_buffer(output_of(conn), data);
    /* It waits for that already, unless memory was short when it wanted to. */
    bufferevent_enable(conn->bev, EV_WRITE);
    if (conn->origin->service->output_stops_reading)
        bufferevent_disable(conn->bev, EV_READ);
}

/* Both sides are done, and the peer has all: closing loses nothing. */
static bool is_complete(const struct conn *conn)
{
    return conn->peer_done && tcp_unacknowledged(conn->fd) == 0;
}

/*
 * Our FIN goes out. What the peer has not acknowledged yet keeps the socket open: of one that is
 * closed the kernel gives up after a while, and a slow reader would lose the end.
 */
static void send_fin(struct conn *conn)
{
    if (!is_complete(conn))
        shutdown(conn->fd, SHUT_WR);
    if (is_complete(conn)) {
        conn_close(conn, conn->reason);
        return;
    }
    conn->last_active = clock_ms();
    set_phase(conn, PHASE_LINGERING);
    conn->set->lingers(conn->set->context);
}

void conn_finish(struct conn *conn, enum close_reason reason)
{
    const struct service *service = conn->origin->service;

    if (conn->phase == PHASE_HANDSHAKE) { /* nothing is owed */
        conn_close(conn, reason);
        return;
    }
    if (conn->phase != PHASE_OPEN)
        return;
    conn->reason = reason;
    set_phase(conn, PHASE_FINISHING);
    if (service->ending != NULL)
        service->ending(conn);
    if (!is_pending(conn))
        send_fin(conn);
}

static void on_readable(struct bufferevent *bev, void *argument)
{
    struct conn *conn = argument;
    struct evbuffer *input = bufferevent_get_input(bev);
    size_t bytes = evbuffer_get_length(input);

    conn->received += bytes;
    stats_add(&conn->origin->stats->counter[STATS_received_bytes], bytes);
    touch(conn);
    conn->received_at = conn->last_active;
    log_received(conn, input, bytes);
    if (conn->phase == PHASE_OPEN)
        conn->origin->service->received(conn, input);
    else
        evbuffer_drain(input, bytes);
}

static void on_writable(struct bufferevent *bev, void *argument)
{
    struct conn *conn = argument;

    if (!conn->peer_done)
        bufferevent_enable(bev, EV_READ);
    if (conn->phase == PHASE_FINISHING)
        send_fin(conn);
    else if (conn->origin->service->writable != NULL)
        conn->origin->service->writable(conn);
}

static void on_eof(struct conn *conn)
{
    conn->peer_done = true;
    if (conn->phase == PHASE_OPEN)
        conn_finish(conn, CLOSE_EOF);
    else if (conn->phase == PHASE_LINGERING)
        conn_close(conn, conn->reason);
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

static void on_event(struct bufferevent *bev, short what, void *argument)
{
    (void) bev;
    if (what & BEV_EVENT_EOF)
        on_eof(argument);
    else if (what & BEV_EVENT_ERROR)
        conn_close(argument, reason_of(errno));
}

/* A bufferevent over the socket, for bytes that go as they are. NULL: no memory. */
static struct bufferevent *new_plain(struct conn *conn)
{
    struct bufferevent *bev = bufferevent_socket_new(conn->set->base, conn->fd, 0);

    if (bev != NULL)
        fastpath_attach(bev);
    return bev;
}

/* The transport begins. False: no memory. */
static bool start(struct conn *conn)
{
    conn->bev = new_plain(conn);
    if (conn->bev == NULL)
        return false;
    bufferevent_setcb(conn->bev, on_readable, on_writable, on_event, conn);
    return evbuffer_add_cb(output_of(conn), on_output, conn) != NULL &&
           bufferevent_enable(conn->bev, EV_READ) == 0;
}

/* It is the service's from now on. */
static void open_service(struct conn *conn)
{
    conn->received_at = conn->last_active = clock_ms();
    set_phase(conn, PHASE_OPEN);
    log_accepted(conn);
    if (conn->origin->service->opened != NULL)
        conn->origin->service->opened(conn);
}

bool conn_new(struct conn_set *set, const struct conn_origin *origin, int fd,
              const struct address *peer)
{
    struct conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL)
        return false;
    *conn = (struct conn){ .set = set, .origin = origin, .fd = fd, .peer = *peer,
                           .opened_at = clock_ms(), .last_active = clock_ms() };
    if (!start(conn)) {
        if (conn->bev != NULL)
            bufferevent_free(conn->bev);
        free(conn);
        return false;
    }
    conn->number = atomic_fetch_add(&set->stats->connections, 1) + 1;
    stats_add(&origin->stats->counter[STATS_accepted], 1);
    TAILQ_INSERT_TAIL(&set->shaking, conn, link);
    open_service(conn);
    return true;
}

void conn_close(struct conn *conn, enum close_reason reason)
{
    struct conn_set *set = conn->set;
    const struct service *service = conn->origin->service;

    if (conn->phase != PHASE_HANDSHAKE && service->closed != NULL)
        service->closed(conn);
    log_closed(conn, reason);
    stats_add(&conn->origin->stats->closed[reason], 1);
    TAILQ_REMOVE(queue_of(conn), conn, link);
    /* libevent frees later; the descriptor must be free now, for those who wait for one. */
    bufferevent_disable(conn->bev, EV_READ | EV_WRITE);
    /* No FIN after a part: the peer would take that for all. */
    if (is_pending(conn) || reason == CLOSE_ERROR)
        tcp_reset_on_close(conn->fd);
    bufferevent_free(conn->bev);
    close(conn->fd);
    free(conn);
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
           silence >= (int64_t) tcp_round_trip_us(conn->fd) * QUIET_ROUND_TRIPS / 1000;
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
    int bytes = tcp_unacknowledged(conn->fd);
    int64_t when;

    if (bytes == conn->unacknowledged)
        return false;
    conn->unacknowledged = bytes;
    when = clock_ms() - tcp_since_sent_ms(conn->fd);
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
    } else if (tcp_is_closed(conn->fd, &error)) {
        conn_close(conn, error == 0 ? CLOSE_RESET : reason_of(error));
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
