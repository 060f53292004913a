/*
 * redisbus: messages to and from all who are on a channel of a Redis server, which may come and go.
 *
 * Publish and subscribe, over two connections. What is published while the server is away is
 * lost, and so may be what it has not confirmed when it goes away. Nothing here ever waits.
 * Configured without hiredis, redisbus_parse refuses whatever it is given, and nothing else is
 * called.
 */
#ifndef ECHOD_REDISBUS_H
#define ECHOD_REDISBUS_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "endpoint.h"

struct event_base;
struct redisbus;

/* What the user wrote, understood but not yet resolved. */
struct redisbus_address {
    struct endpoint server; /* TCP, at one port */
    const char *channel;    /* in TEXT, or the default */
};

/* How the bus is heard of, in the reactor's loop. None of these may free it. */
struct redisbus_handler {
    void (*up)(void *context);   /* from now on messages arrive, and can be published */
    void (*down)(void *context); /* after up: it is away, and is being tried again */
    /* Also what we published ourselves. DATA is not ours to keep. */
    void (*received)(void *context, const void *data, size_t length);
    void (*drained)(void *context); /* all that was published is confirmed */
    void *context;
};

#ifdef HAVE_HIREDIS

/*
 * Parses TEXT, `redis://HOST:PORT[/CHANNEL]`, into *ADDRESS, which keeps pointers into it. Returns
 * NULL, or what is wrong with TEXT as a static string; *ADDRESS is then undefined.
 */
const char *redisbus_parse(const char *text, struct redisbus_address *address);

/*
 * Connects, from BASE's loop on, to the first of the COUNT SERVERS (endpoint_resolve) that answers,
 * and joins CHANNEL there; tries again for as long as it lives. SERVERS and CHANNEL stay the
 * caller's, and outlive it. That it came, and that it is away, is a line in the log each. NULL: no
 * memory.
 */
struct redisbus *redisbus_new(struct event_base *base, const struct address *servers, size_t count,
                              const char *channel, const struct redisbus_handler *handler);
void redisbus_free(struct redisbus *bus);

/*
 * Sends DATA, any LENGTH bytes, to all who are on the channel. False: not sent, because it is away,
 * more than REDISBUS_PENDING_MOST bytes would be on their way, or memory is short.
 */
bool redisbus_publish(struct redisbus *bus, const void *data, size_t length);

/* Bytes that were published, and that the server has not confirmed. */
size_t redisbus_pending(const struct redisbus *bus);

#else

static inline const char *redisbus_parse(const char *text, struct redisbus_address *address)
{
    (void) text;
    (void) address;
    return "built without Redis";
}

static inline struct redisbus *redisbus_new(struct event_base *base, const struct address *servers,
                                            size_t count, const char *channel,
                                            const struct redisbus_handler *handler)
{
    (void) base;
    (void) servers;
    (void) count;
    (void) channel;
    (void) handler;
    return NULL;
}

static inline void redisbus_free(struct redisbus *bus)
{
    (void) bus;
}

static inline bool redisbus_publish(struct redisbus *bus, const void *data, size_t length)
{
    (void) bus;
    (void) data;
    (void) length;
    return false;
}

static inline size_t redisbus_pending(const struct redisbus *bus)
{
    (void) bus;
    return 0;
}

#endif
#endif
