#include "datagram.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"
#include "udp.h"

enum { PORTS = 65536, RESERVED_PORTS = 1024, NFS_PORT = 2049 };

/* What one recvmmsg(2) fills: of the memory only what datagrams need is ever touched. */
struct batch {
    struct mmsghdr headers[DATAGRAM_BATCH];
    struct iovec pieces[DATAGRAM_BATCH];
    struct address peers[DATAGRAM_BATCH];
    _Alignas(struct cmsghdr) char control[DATAGRAM_BATCH][UDP_CONTROL_SIZE];
    char data[DATAGRAM_BATCH][DATAGRAM_ROOM];
};

struct receiver {
    TAILQ_ENTRY(receiver) link;
    struct datagrams *all;
    int fd;
    struct event *event;
    const struct conn_origin *origin;
    unsigned group;
};

struct datagrams {
    TAILQ_HEAD(receiver_list, receiver) list;
    struct event_base *base;
    const struct access_rules *access;
    struct rates *rates;
    struct batch *batch;                 /* NULL until there is a socket */
    int64_t drain_until;                 /* 0: not draining */
    unsigned char unanswered[PORTS / 8]; /* a bit for each port that a source may not have */
};

/* What is not dropped. */
enum { ANSWERED = DROP_REASONS };

static void set_unanswered(struct datagrams *datagrams, unsigned port)
{
    datagrams->unanswered[port / 8] |= (unsigned char) (1u << port % 8);
}

static bool is_unanswered(const struct datagrams *datagrams, unsigned port)
{
    return datagrams->unanswered[port / 8] >> port % 8 & 1;
}

/* Makes the first COUNT places of the batch ready to be received into. */
static void clear(struct batch *batch, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        batch->pieces[i] = (struct iovec){ batch->data[i], DATAGRAM_ROOM };
        batch->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->peers[i].any,
            .msg_namelen = sizeof(batch->peers[i].ip6),
            .msg_iov = &batch->pieces[i],
            .msg_iovlen = 1,
            .msg_control = batch->control[i],
            .msg_controllen = sizeof(batch->control[i]),
        };
    }
}

static bool is_one(const struct address *address)
{
    const struct in6_addr *ip6 = &address->ip6.sin6_addr;
    uint32_t ip4;

    if (address->any.sa_family == AF_INET)
        ip4 = address->ip4.sin_addr.s_addr;
    else if (IN6_IS_ADDR_V4MAPPED(ip6))
        memcpy(&ip4, &ip6->s6_addr[12], sizeof(ip4));
    else
        return !IN6_IS_ADDR_MULTICAST(ip6);
    return !IN_MULTICAST(ntohl(ip4)) && ip4 != INADDR_BROADCAST;
}

/* What becomes of a datagram at NOW; if it is ANSWERED, MESSAGE is the answer. */
static unsigned judge(struct datagrams *datagrams, struct msghdr *message,
                      const struct address *peer, int64_t now)
{
    if (is_unanswered(datagrams, address_port(peer)))
        return DROP_PORT;
    if (!is_one(peer) || !udp_turn_round(message))
        return DROP_MULTICAST;
    if (datagrams->access != NULL && !access_permits(datagrams->access, &peer->any))
        return DROP_DENY;
    if (datagrams->rates != NULL && !rates_take(datagrams->rates, peer, now))
        return DROP_RATE;
    return ANSWERED;
}

static void log_received(const struct receiver *receiver, const struct mmsghdr *header,
                         struct address *peer, unsigned verdict)
{
    const struct iovec *piece = header->msg_hdr.msg_iov;
    size_t shown = header->msg_len < LOG_DATA_MAX ? header->msg_len : LOG_DATA_MAX;
    char text[ADDRESS_TEXT_MAX];
    struct log_line line;

    if (!log_wants(LOG_DEBUG))
        return;
    peer->length = header->msg_hdr.msg_namelen;
    address_format(peer, text);
    log_begin(&line, LOG_DEBUG, "received");
    log_text(&line, "peer", text);
    log_text(&line, "endpoint", receiver->origin->name);
    log_number(&line, "bytes", header->msg_len);
    log_bytes(&line, "data", piece->iov_base, shown);
    if (verdict != ANSWERED)
        log_text(&line, "dropped", drop_reason_name((enum drop_reason) verdict));
    log_end(&line);
}

static void drop(const struct receiver *receiver, enum drop_reason reason)
{
    stats_add(&receiver->origin->stats->dropped[reason], 1);
}

/* Sends COUNT answers, which stand in front in the batch. One that fails holds no other up. */
static void send_answers(const struct receiver *receiver, unsigned count)
{
    struct mmsghdr *next = receiver->all->batch->headers;
    uint64_t sent = 0, bytes = 0;

    while (count > 0) {
        int taken = sendmmsg(receiver->fd, next, count, MSG_DONTWAIT);

        for (int i = 0; i < taken; i++)
            bytes += next[i].msg_len;
        if (taken > 0) {
            sent += (unsigned) taken;
        } else {
            drop(receiver, DROP_FULL);
            taken = 1;
        }
        next += taken;
        count -= (unsigned) taken;
    }
    stats_add(&receiver->origin->stats->counter[STATS_datagrams_sent], sent);
    stats_add(&receiver->origin->stats->counter[STATS_sent_bytes], bytes);
}

/* Of COUNT datagrams in the batch, moves to the front what is to be answered; returns how many. */
static unsigned keep_answered(const struct receiver *receiver, unsigned count)
{
    struct batch *batch = receiver->all->batch;
    int64_t now = clock_ms();
    uint64_t bytes = 0;
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++) {
        struct mmsghdr *header = &batch->headers[i];
        unsigned verdict = judge(receiver->all, &header->msg_hdr, &batch->peers[i], now);

        bytes += header->msg_len;
        log_received(receiver, header, &batch->peers[i], verdict);
        batch->pieces[i].iov_len = header->msg_len;
        if (verdict == ANSWERED)
            batch->headers[kept++] = *header;
        else
            drop(receiver, (enum drop_reason) verdict);
    }
    stats_add(&receiver->origin->stats->counter[STATS_datagrams_received], count);
    stats_add(&receiver->origin->stats->counter[STATS_received_bytes], bytes);
    return kept;
}

/* Answers what is queued, a batch at most; returns how many there were, or -1 with errno set. */
static int answer_batch(const struct receiver *receiver)
{
    struct batch *batch = receiver->all->batch;
    int count = recvmmsg(receiver->fd, batch->headers, DATAGRAM_BATCH, MSG_DONTWAIT, NULL);

    if (count <= 0)
        return count;
    send_answers(receiver, keep_answered(receiver, (unsigned) count));
    clear(batch, (unsigned) count);
    return count;
}

/* Where all workers share a socket, another one has often been faster. */
static void on_readable(evutil_socket_t fd, short what, void *context)
{
    const struct receiver *receiver = context;

    (void) fd;
    (void) what;
    for (int i = 0; i < DATAGRAM_ROUNDS; i++)
        if (answer_batch(receiver) < DATAGRAM_BATCH)
            break;
}

struct datagrams *datagrams_new(struct event_base *base, const struct access_rules *access,
                                struct rates *rates, const struct sockets *sockets)
{
    struct datagrams *datagrams = calloc(1, sizeof(*datagrams));

    if (datagrams == NULL)
        return NULL;
    TAILQ_INIT(&datagrams->list);
    datagrams->base = base;
    datagrams->access = access;
    datagrams->rates = rates;
    for (unsigned port = 0; port < RESERVED_PORTS; port++)
        set_unanswered(datagrams, port);
    set_unanswered(datagrams, NFS_PORT);
    for (size_t i = 0; i < sockets->count; i++)
        if (sockets->list[i].endpoint->transport == ENDPOINT_UDP)
            set_unanswered(datagrams, address_port(&sockets->list[i].address));
    return datagrams;
}

static void close_receiver(struct receiver *receiver)
{
    TAILQ_REMOVE(&receiver->all->list, receiver, link);
    reactor_free_event(receiver->event);
    close(receiver->fd);
    free(receiver);
}

void datagrams_close(struct datagrams *datagrams)
{
    struct receiver *receiver = datagrams != NULL ? TAILQ_FIRST(&datagrams->list) : NULL, *next;

    for (; receiver != NULL; receiver = next) {
        next = TAILQ_NEXT(receiver, link);
        close_receiver(receiver);
    }
}

void datagrams_free(struct datagrams *datagrams)
{
    datagrams_close(datagrams);
    if (datagrams != NULL)
        free(datagrams->batch);
    free(datagrams);
}

static bool make_batch(struct datagrams *datagrams)
{
    if (datagrams->batch == NULL) {
        datagrams->batch = malloc(sizeof(*datagrams->batch));
        if (datagrams->batch != NULL)
            clear(datagrams->batch, DATAGRAM_BATCH);
    }
    return datagrams->batch != NULL;
}

bool datagrams_add(struct datagrams *datagrams, int fd, const struct conn_origin *origin,
                   unsigned group)
{
    struct receiver *receiver = calloc(1, sizeof(*receiver));
    int error;

    if (receiver == NULL) {
        close(fd);
        errno = ENOMEM;
        return false;
    }
    *receiver = (struct receiver){ .all = datagrams, .fd = fd, .origin = origin, .group = group };
    TAILQ_INSERT_TAIL(&datagrams->list, receiver, link);
    errno = ENOMEM;
    if (make_batch(datagrams) && udp_set_defaults(fd))
        receiver->event =
            event_new(datagrams->base, fd, EV_READ | EV_PERSIST, on_readable, receiver);
    if (receiver->event != NULL && event_add(receiver->event, NULL) == 0)
        return true;
    error = errno;
    close_receiver(receiver);
    errno = error;
    return false;
}

void datagrams_remove(struct datagrams *datagrams, unsigned group)
{
    struct receiver *receiver = TAILQ_FIRST(&datagrams->list), *next;

    for (; receiver != NULL; receiver = next) {
        next = TAILQ_NEXT(receiver, link);
        if (receiver->group == group)
            close_receiver(receiver);
    }
}

/* Nothing is queued any more? Looks at so much at a time as an event does. */
static bool is_dry(const struct receiver *receiver)
{
    for (int i = 0; i < DATAGRAM_ROUNDS; i++)
        if (answer_batch(receiver) < 0 && errno == EAGAIN)
            return true;
    return false;
}

bool datagrams_drain(struct datagrams *datagrams)
{
    struct receiver *receiver = TAILQ_FIRST(&datagrams->list), *next;
    int64_t now = clock_ms();

    if (datagrams->drain_until == 0)
        datagrams->drain_until = now + DATAGRAM_DRAIN_MS;
    for (; receiver != NULL; receiver = next) {
        next = TAILQ_NEXT(receiver, link);
        if (receiver->origin->is_passed || is_dry(receiver) || now >= datagrams->drain_until)
            close_receiver(receiver);
    }
    return TAILQ_EMPTY(&datagrams->list);
}
