/*
 * client: one connection to the server: messages that are sent, come back, and are verified byte
 * by byte.
 *
 * Its owner allows messages; the client sends what is allowed as the socket takes it, and tells of
 * each message that is back. Here is what is the same for all transports, from the first attempt
 * to connect to the end; how messages travel is the transport's: a stream, or datagrams.
 */
#ifndef ECHOD_PROBE_CLIENT_H
#define ECHOD_PROBE_CLIENT_H

#include <event2/util.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "tally.h"
#include "target.h"
#include "window.h"

struct batch;
struct client;
struct event;
struct event_base;
struct security;
struct session;

enum client_phase {
    CLIENT_NEW,        /* has no socket yet */
    CLIENT_CONNECTING, /* to one of the addresses */
    CLIENT_SECURING,   /* connected; TLS's handshake is under way */
    CLIENT_OPEN,       /* bytes go both ways */
    CLIENT_FINISHING,  /* our FIN is sent; EOF is to come when all is back */
    CLIENT_ENDED,      /* the socket is closed */
};

struct client_handler {
    /* The connection has come about. */
    void (*opened)(struct client *client);
    /*
     * So many MESSAGES, from number FIRST (0, ...) on, are back, at client->moved_at; of these so
     * many are not what was sent.
     */
    void (*answered)(struct client *client, uint64_t first, uint64_t messages, uint64_t corrupt);
    /* That MESSAGE is lost; of transports that may lose one. */
    void (*lost)(struct client *client, uint64_t message);
    /* It is over: as it should be (WHY is NULL), or for a reason, a text that lasts the call. */
    void (*ended)(struct client *client, const char *why);
};

/* How messages travel; each function is called while there is a socket. */
struct client_transport {
    int type;   /* of the socket */
    bool loses; /* a message may be lost while others go on */
    /* The socket is connected; client_opened has to follow. */
    void (*connected)(struct client *client);
    /* The socket has something to read; a callback of libevent's, with the client. */
    void (*readable)(evutil_socket_t fd, short what, void *client);
    /* It takes bytes again; sends what is allowed. */
    void (*push)(struct client *client);
    /* is_last is set: when all is sent, FIN, and when all is back, the end. */
    void (*finish)(struct client *client);
    /* The socket is about to be closed; NULL: it does not care. */
    void (*closing)(struct client *client);
    /* Looks whether NOW, on clock_ns, it has waited too long, once connected; ends it then. */
    void (*check)(struct client *client, uint64_t now);
};

/* What the clients of a thread have in common. */
struct client_setup {
    struct event_base *base;
    const struct client_transport *transport;
    const struct target *target; /* its addresses are tried in turn until one connects */
    uint64_t size;               /* of a message */
    bool needs_eof;              /* at the end; else a server need not close */
    uint64_t timeout;            /* ns */
    const struct security *security; /* of streams; NULL: they are plain */
    proxy_writer *proxy;             /* of streams: the header that comes first; NULL: none does */
    unsigned char *buffer;       /* of streams: PIECE_MAX bytes to receive into */
    struct batch *batch;         /* of datagrams */
    struct tally *tally;
    const struct client_handler *handler;
    void *context; /* the owner's */
};

/* Owners read all of it, and write the last part. */
struct client {
    const struct client_setup *setup;
    struct event *readable, *writable; /* NULL without a socket */
    int fd;
    enum client_phase phase;
    size_t attempt;             /* index of the address */
    bool was_open;              /* or is */
    bool is_blocked;            /* waits until the socket takes more */
    bool is_last;               /* FIN follows what is allowed */
    uint64_t number;            /* of the connection: which pattern */
    uint64_t allowed, settled;  /* messages; settled: back, or lost (datagrams) */
    uint64_t moved_at;          /* a byte was last sent or received, on clock_ns */

    /* Of streams: */
    struct session *session; /* NULL: it is plain, or not open */
    uint64_t sent, received; /* bytes */
    uint64_t partial;        /* bytes of the message that is coming */
    bool is_spoilt;          /* that one is not exact */

    /* Of datagrams: */
    struct window window; /* those on their way */
    bool is_proven;       /* something came from this address */

    /* The owner's: */
    uint64_t target;    /* messages that it is to send */
    uint64_t scheduled; /* messages that were due so far, in the open loop */
    uint64_t given_up;  /* messages that count as lost, whatever comes */
    uint64_t *due;      /* when messages should have been sent: a ring */
};

/* Makes it connection NUMBER; SETUP stays the caller's, and there. */
void client_init(struct client *client, const struct client_setup *setup, uint64_t number);

/* Starts to connect; tells how it went, maybe at once. */
void client_connect(struct client *client);

/* So many messages more may be sent from NOW on, on clock_ns; client_push sends them. */
void client_allow(struct client *client, uint64_t messages, uint64_t now);

/* Sends what is allowed, as far as the socket takes it; the rest follows by itself. */
void client_push(struct client *client);

/* No more will be allowed: FIN follows what is. Then EOF has to come, if setup says so. */
void client_finish(struct client *client);

/* Ends it at once, for WHY (NULL: all is well), and tells. */
void client_end(struct client *client, const char *why);

/* Looks whether NOW, on clock_ns, it has waited too long; ends it then. */
void client_check(struct client *client, uint64_t now);

/* Is something on its way, or waits to be sent? */
static inline bool client_is_owed(const struct client *client)
{
    return client->settled < client->allowed;
}

/* For transports: */

/* Messages can be sent from now on; tells. */
void client_opened(struct client *client);

/* This address is none, for the reason ERROR; connects to the next one, or ends. */
void client_try_next(struct client *client, int error);

/* Calls push when the socket takes bytes again; or no longer. */
void client_wait_until_writable(struct client *client, bool wait);

#endif
