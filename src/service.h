/*
 * service: what is done with a connection's bytes; the pattern's event handler.
 *
 * A service is a table of callbacks, all run by the one reactor that the connection belongs to.
 * A callback may end the connection (conn_finish, conn_close): it then returns at once, and none
 * comes after it but closed. One that is NULL is not called.
 */
#ifndef ECHOD_SERVICE_H
#define ECHOD_SERVICE_H

#include <stdbool.h>

struct conn;
struct evbuffer;
struct event_base;
struct options;
struct stats;

/*
 * The centre of a star, in the supervisor, of a service whose workers have to hear of each other:
 * each has a bus to it, a channel of its own (channel.h), so that nothing else waits behind that.
 */
struct service_hub {
    /* Returns the hub, which the other functions get; NULL: no memory. */
    void *(*start)(struct event_base *base, const struct options *options, struct stats *stats);
    /* Worker WORKER begins; FD is this end of its bus. False: no memory, and FD is closed. */
    bool (*join)(void *hub, unsigned worker, int fd);
    /* It is gone, if it ever joined. */
    void (*leave)(void *hub, unsigned worker);
    void (*stop)(void *hub);
};

struct service {
    const char *name;

    /*
     * Does pending output stop the reading? If true, received is not called while anything that
     * was sent waits for the peer, and memory per connection is bounded by one read. If false,
     * the service has to bound it.
     */
    bool output_stops_reading;

    /* A client is there. Its state, if any, is kept with conn_set_state. */
    void (*opened)(struct conn *conn);
    /* Bytes came. The service takes all of INPUT, or drains what it does not want. */
    void (*received)(struct conn *conn, struct evbuffer *input);
    /* All that was pending has gone to the kernel. */
    void (*writable)(struct conn *conn);
    /*
     * The peer has sent all that it will, or we drain: the last occasion to send. It ends nothing
     * itself. False: not yet; the service then calls conn_finish as soon as it can, and is asked
     * again.
     */
    bool (*ending)(struct conn *conn);
    /* The connection is going away: release its state. Nothing can be sent. */
    void (*closed)(struct conn *conn);

    /*
     * Those that share something among the connections of a worker have a hub, and these too. What
     * start returns is given to them by conn_service_state; NULL: no memory. BUS is the worker's
     * end of its bus, and start's to close.
     */
    void *(*start)(struct event_base *base, const struct options *options, int bus);
    void (*stop)(void *state);
    /* Has the hub all that it is to have? A worker that drains waits for that. */
    bool (*is_done)(const void *state);
    const struct service_hub *hub;
};

#endif
