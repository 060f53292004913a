#include "fastpath.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "config.h"
#include "defaults.h"
#include "spare.h"

/* What one call sends is in so many pieces at most. */
enum { PARTS_MOST = 4 };

#ifdef HAVE_EVBUFFER_SET_MAX_READ

/* From libevent 2.2 on it can be told how much to read at a time. */
void fastpath_attach(struct bufferevent *bev)
{
    bufferevent_set_max_single_read(bev, BULK_READ);
    evbuffer_set_max_read(bufferevent_get_input(bev), BULK_READ);
}

#else

#include <event2/bufferevent_struct.h> /* nothing of it is needed above */

/* Receives into INPUT, without a copy. Returns what recv(2) does. */
static ssize_t receive(int fd, struct evbuffer *input)
{
    void *buffer = spare_take();
    ssize_t bytes;
    bool appended;

    if (buffer == NULL)
        return -1;
    bytes = recv(fd, buffer, BULK_READ, 0);
    if (bytes <= 0) {
        spare_give_back(buffer);
        return bytes;
    }
    evbuffer_unfreeze(input, 0); /* only a bufferevent itself may add to its input */
    appended = spare_append(input, buffer, (size_t) bytes);
    evbuffer_freeze(input, 0);
    if (appended)
        return bytes;
    errno = ENOMEM;
    return -1;
}

/* As libevent's own callback: nothing is read any more, and that is told. */
static void report_end(struct bufferevent *bev, short what)
{
    int error = errno;

    bufferevent_disable(bev, EV_READ);
    errno = error; /* the event callback asks for it */
    bufferevent_trigger_event(bev, BEV_EVENT_READING | what, 0);
}

/* In place of libevent's own callback for a socket that is readable. */
static void on_ready(evutil_socket_t fd, short what, void *argument)
{
    struct bufferevent *bev = argument;
    ssize_t bytes = receive(fd, bufferevent_get_input(bev));

    (void) what;
    if (bytes > 0)
        bufferevent_trigger(bev, EV_READ, 0);
    else if (bytes == 0)
        report_end(bev, BEV_EVENT_EOF);
    else if (errno != EAGAIN && errno != EINTR)
        report_end(bev, BEV_EVENT_ERROR);
}

/*
 * A bufferevent's read event is its own affair, and no function gives access to it. But its place
 * has not changed in libevent 2.1 and will not, and what it costs to leave it alone is a seventh
 * of the speed: see HACKING. The argument has to stay the bufferevent, which is freed by way of
 * it.
 */
void fastpath_attach(struct bufferevent *bev)
{
    event_assign(&bev->ev_read, bufferevent_get_base(bev), bufferevent_getfd(bev),
                 EV_READ | EV_PERSIST | EV_FINALIZE, on_ready, bev);
}

#endif

/* BYTES is what a call to send returned; an error is told later: we are inside a callback. */
static size_t taken(struct bufferevent *bev, ssize_t bytes)
{
    if (bytes >= 0)
        return (size_t) bytes;
    if (errno != EAGAIN && errno != EINTR)
        bufferevent_trigger_event(bev, BEV_EVENT_WRITING | BEV_EVENT_ERROR,
                                  BEV_TRIG_DEFER_CALLBACKS);
    return 0;
}

size_t fastpath_write(struct bufferevent *bev, const void *data, size_t length)
{
    return taken(bev, send(bufferevent_getfd(bev), data, length, MSG_NOSIGNAL));
}

size_t fastpath_send(struct bufferevent *bev, struct evbuffer *data)
{
    struct evbuffer_iovec parts[PARTS_MOST];
    int count = evbuffer_peek(data, -1, NULL, parts, PARTS_MOST);
    struct msghdr message = { .msg_iov = parts,
                              .msg_iovlen = (size_t) (count < PARTS_MOST ? count : PARTS_MOST) };
    size_t bytes;

    if (count == 1) /* costs less than the general call, and is by far the most frequent */
        bytes = fastpath_write(bev, parts[0].iov_base, parts[0].iov_len);
    else
        bytes = taken(bev, sendmsg(bufferevent_getfd(bev), &message, MSG_NOSIGNAL));
    evbuffer_drain(data, bytes);
    return bytes;
}
