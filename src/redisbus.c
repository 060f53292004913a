#include "redisbus.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"
#include "tcp.h"

/* What came on a connection; false: Redis says no such thing there. */
typedef bool taker(struct redisbus *bus, const redisReply *reply);

/* One of the two connections: who has subscribed may do nothing else (RESP2). */
struct side {
    struct redisbus *bus;
    taker *take;
    struct bufferevent *bev; /* NULL: the bus is away */
    redisReader *reader;
    bool is_ready;     /* it has answered what it was asked first */
    unsigned silent;   /* times that it was asked for a sign of life, since it gave one */
    size_t unfinished; /* bytes of a reply whose end has not come */
};

struct redisbus {
    struct event_base *base;
    const struct address *servers;
    size_t count;
    size_t at;    /* which of them */
    size_t tried; /* of them, in vain, since the last pause */
    const char *channel;
    struct redisbus_handler handler;
    struct side subscriber, publisher;
    struct evbuffer *sizes; /* a size_t for each message that is not confirmed, oldest first */
    size_t pending;         /* their sum */
    struct event *timer;    /* away: to try again; else to look for signs of life */
    int64_t retry_ms;
    bool is_up;
    bool is_told; /* in the log, that it is away */
};

const char *redisbus_parse(const char *text, struct redisbus_address *address)
{
    char server[sizeof("tcp://[]:65535") + ENDPOINT_HOST_MAX];
    const char *rest, *wrong;
    size_t length;

    if (strncmp(text, "redis://", 8) != 0)
        return "not redis://HOST:PORT[/CHANNEL]";
    rest = text + 8;
    length = strcspn(rest, "/");
    if (memchr(rest, '@', length) != NULL)
        return "a user or password cannot be given";
    if (length >= sizeof(server) - strlen("tcp://") || memchr(rest, '?', length) != NULL)
        return "malformed address";
    snprintf(server, sizeof(server), "tcp://%.*s", (int) length, rest);
    wrong = endpoint_parse(server, &address->server);
    if (wrong != NULL)
        return wrong;
    if (strcmp(address->server.host, "*") == 0)
        return "malformed address";
    if (address->server.port == 0)
        return "port out of range";
    address->server.text = text;
    address->channel = rest[length] == '/' ? rest + length + 1 : DEFAULT_BUS_CHANNEL;
    return address->channel[0] != '\0' ? NULL : "no channel after the /";
}

static void close_side(struct side *side)
{
    if (side->bev != NULL)
        bufferevent_free(side->bev);
    if (side->reader != NULL)
        redisReaderFree(side->reader);
    *side = (struct side){ .bus = side->bus, .take = side->take };
}

static void tell(const struct redisbus *bus, int priority, const char *event, const char *error)
{
    char server[ADDRESS_TEXT_MAX];
    struct log_line line;

    address_format(&bus->servers[bus->at], server);
    log_begin(&line, priority, event);
    log_text(&line, "server", server);
    if (error != NULL)
        log_text(&line, "error", error);
    log_end(&line);
}

/* How long to wait before the next try: not at all while an address was not tried. */
static int64_t next_try(struct redisbus *bus)
{
    int64_t pause = bus->retry_ms;

    if (!bus->is_up) {
        bus->at = (bus->at + 1) % bus->count;
        if (++bus->tried < bus->count)
            return 0;
    }
    bus->tried = 0;
    bus->retry_ms = pause * 2 < BUS_RETRY_MOST_MS ? pause * 2 : BUS_RETRY_MOST_MS;
    return pause;
}

/* The bus is away, or an address of it, and ERROR is why. */
static void lose(struct redisbus *bus, const char *error)
{
    bool was_up = bus->is_up;
    int64_t pause;

    if (!bus->is_told && (was_up || bus->tried + 1 == bus->count)) {
        tell(bus, LOG_WARNING, "bus-lost", error);
        bus->is_told = true;
    }
    close_side(&bus->subscriber);
    close_side(&bus->publisher);
    evbuffer_drain(bus->sizes, evbuffer_get_length(bus->sizes));
    bus->pending = 0;
    pause = next_try(bus);
    bus->is_up = false;
    reactor_start_timer(bus->timer, pause);
    if (was_up)
        bus->handler.down(bus->handler.context);
}

/* ARGV's LENGTHS may be NULL: it is text. False, with errno set: no memory. */
static bool send_command(struct side *side, int argc, const char **argv, const size_t *lengths)
{
    char *command;
    long long length = redisFormatCommandArgv(&command, argc, argv, lengths);
    bool sent = length >= 0 && bufferevent_write(side->bev, command, (size_t) length) == 0;

    if (length >= 0)
        redisFreeCommand(command);
    if (!sent)
        errno = ENOMEM;
    return sent;
}

static bool send_ping(struct side *side)
{
    const char *argv[] = { "PING" };

    return send_command(side, 1, argv, NULL);
}

static bool send_subscribe(struct side *side)
{
    const char *argv[] = { "SUBSCRIBE", side->bus->channel };

    return send_command(side, 2, argv, NULL);
}

static void become_ready(struct redisbus *bus, struct side *side)
{
    side->is_ready = true;
    if (bus->is_up || !bus->subscriber.is_ready || !bus->publisher.is_ready)
        return;
    bus->is_up = true;
    bus->is_told = false;
    bus->tried = 0;
    tell(bus, LOG_NOTICE, "bus-connected", NULL);
    bus->handler.up(bus->handler.context);
}

static bool is_word(const redisReply *reply, const char *word)
{
    return reply->type == REDIS_REPLY_STRING && strcmp(reply->str, word) == 0;
}

/* `subscribe CHANNEL 1`, `message CHANNEL DATA`, or `pong ""`. */
static bool take_message(struct redisbus *bus, const redisReply *reply)
{
    const redisReply *data;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return false;
    if (reply->elements == 2)
        return is_word(reply->element[0], "pong");
    data = reply->element[2];
    if (is_word(reply->element[0], "subscribe"))
        become_ready(bus, &bus->subscriber);
    else if (!is_word(reply->element[0], "message") || data->type != REDIS_REPLY_STRING)
        return false;
    else if (bus->is_up)
        bus->handler.received(bus->handler.context, data->str, data->len);
    return true;
}

/* PONG, or how many have got the oldest message that is not confirmed. */
static bool take_confirmation(struct redisbus *bus, const redisReply *reply)
{
    size_t length;

    if (reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "PONG") == 0) {
        become_ready(bus, &bus->publisher);
        return true;
    }
    if (reply->type != REDIS_REPLY_INTEGER || evbuffer_get_length(bus->sizes) == 0)
        return false;
    evbuffer_remove(bus->sizes, &length, sizeof(length));
    bus->pending -= length;
    return true;
}

static void take(struct side *side, const redisReply *reply)
{
    side->unfinished = 0;
    if (reply->type == REDIS_REPLY_ERROR)
        lose(side->bus, reply->str);
    else if (!side->take(side->bus, reply))
        lose(side->bus, "not an answer of Redis");
}

/* The next pieces of what SIDE says, which may end it. */
static void receive(struct side *side, const char *data, size_t length)
{
    int result = redisReaderFeed(side->reader, data, length);
    void *reply;

    side->unfinished += length;
    while (result == REDIS_OK) {
        result = redisReaderGetReply(side->reader, &reply);
        if (result != REDIS_OK || reply == NULL)
            break;
        take(side, reply);
        freeReplyObject(reply);
        if (side->bev == NULL)
            return;
    }
    if (result != REDIS_OK)
        lose(side->bus, side->reader->errstr);
    else if (side->unfinished > BUS_REPLY_MOST)
        lose(side->bus, "an answer without end");
}

static void on_read(struct bufferevent *bev, void *context)
{
    struct side *side = context;
    struct redisbus *bus = side->bus;
    char piece[4096];
    size_t length;

    side->silent = 0;
    while (side->bev != NULL && (length = bufferevent_read(bev, piece, sizeof(piece))) > 0)
        receive(side, piece, length);
    if (side == &bus->publisher && side->bev != NULL && bus->pending == 0)
        bus->handler.drained(bus->handler.context);
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
    struct side *side = context;
    const char *error = what & BEV_EVENT_EOF ? "closed by the server" : strerror(errno);

    (void) bev;
    lose(side->bus, error);
}

/* A socket on its way to SERVER; -1 with errno set: there is none. */
static int open_socket(const struct address *server)
{
    int fd = socket(server->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -1;
    tcp_set_defaults(fd);
    if (connect(fd, &server->any, server->length) == 0 || errno == EINPROGRESS)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* False, with errno set: it cannot be; what was made is left to close_side. */
static bool open_side(struct side *side)
{
    int fd = open_socket(&side->bus->servers[side->bus->at]);

    if (fd < 0)
        return false;
    side->bev = bufferevent_socket_new(side->bus->base, fd, BEV_OPT_CLOSE_ON_FREE);
    side->reader = redisReaderCreate();
    if (side->bev == NULL)
        close(fd);
    if (side->bev == NULL || side->reader == NULL) {
        errno = ENOMEM;
        return false;
    }
    side->reader->maxbuf = 0; /* it would let go of a large buffer, and abort if it gets no other */
    bufferevent_setcb(side->bev, on_read, NULL, on_event, side);
    return bufferevent_enable(side->bev, EV_READ) == 0;
}

/* What is asked goes out once there is a connection; that there is none shows then, too. */
static bool open_sides(struct redisbus *bus)
{
    return open_side(&bus->subscriber) && send_subscribe(&bus->subscriber) &&
           open_side(&bus->publisher) && send_ping(&bus->publisher);
}

/* Is there still someone? Ask again. */
static bool ask_sides(struct redisbus *bus)
{
    bus->subscriber.silent++;
    bus->publisher.silent++;
    return send_ping(&bus->subscriber) && send_ping(&bus->publisher);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct redisbus *bus = context;
    bool is_away = bus->subscriber.bev == NULL;

    (void) fd;
    (void) what;
    if (bus->is_up)
        bus->retry_ms = BUS_RETRY_FIRST_MS; /* it did not go away at once */
    if (bus->subscriber.silent == BUS_SILENT_MOST || bus->publisher.silent == BUS_SILENT_MOST)
        lose(bus, "no answer");
    else if (is_away ? open_sides(bus) : ask_sides(bus))
        reactor_start_timer(bus->timer, BUS_PING_MS);
    else
        lose(bus, strerror(errno));
}

struct redisbus *redisbus_new(struct event_base *base, const struct address *servers, size_t count,
                              const char *channel, const struct redisbus_handler *handler)
{
    struct redisbus *bus = calloc(1, sizeof(*bus));

    if (bus == NULL)
        return NULL;
    *bus = (struct redisbus){
        .base = base,
        .servers = servers,
        .count = count,
        .channel = channel,
        .handler = *handler,
        .subscriber = { .bus = bus, .take = take_message },
        .publisher = { .bus = bus, .take = take_confirmation },
        .sizes = evbuffer_new(),
        .timer = event_new(base, -1, 0, on_timer, bus),
        .retry_ms = BUS_RETRY_FIRST_MS,
    };
    if (bus->timer != NULL)
        reactor_start_timer(bus->timer, 0);
    if (bus->sizes != NULL && bus->timer != NULL && evtimer_pending(bus->timer, NULL))
        return bus; /* the timer has its place in the heap, and from now on never fails */
    redisbus_free(bus);
    return NULL;
}

/* What was published in this turn of the loop goes out, as far as there is room. */
static void flush(struct bufferevent *bev)
{
    struct evbuffer *output = bufferevent_get_output(bev);

    evbuffer_unfreeze(output, 1); /* only a bufferevent itself may take from its output */
    (void) evbuffer_write(output, bufferevent_getfd(bev));
}

void redisbus_free(struct redisbus *bus)
{
    if (bus == NULL)
        return;
    if (bus->is_up)
        flush(bus->publisher.bev);
    close_side(&bus->subscriber);
    close_side(&bus->publisher);
    reactor_free_event(bus->timer);
    if (bus->sizes != NULL)
        evbuffer_free(bus->sizes);
    free(bus);
}

bool redisbus_publish(struct redisbus *bus, const void *data, size_t length)
{
    const char *argv[] = { "PUBLISH", bus->channel, data };
    const size_t lengths[] = { strlen(argv[0]), strlen(argv[1]), length };
    struct evbuffer_iovec place;

    if (!bus->is_up || length > REDISBUS_PENDING_MOST - bus->pending)
        return false;
    if (evbuffer_reserve_space(bus->sizes, sizeof(length), &place, 1) != 1 ||
        !send_command(&bus->publisher, 3, argv, lengths))
        return false;
    memcpy(place.iov_base, &length, sizeof(length));
    place.iov_len = sizeof(length);
    evbuffer_commit_space(bus->sizes, &place, 1);
    bus->pending += length;
    return true;
}

size_t redisbus_pending(const struct redisbus *bus)
{
    return bus->pending;
}
