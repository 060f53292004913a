#include "fastpath.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "config.h"
#include "defaults.h"

/* What one call sends is in so many pieces at most. */
enum { PARTS_MOST = 4 };

#ifdef HAVE_EVBUFFER_SET_MAX_READ

/* From libevent 2.2 on it can be told how much to read at a time. */
void fastpath_attach(struct bufferevent *bev)
{
    bufferevent_set_max_single_read(bev, BULK_READ);
    evbuffer_set_max_read(bufferevent_get_input(bev), BULK_READ);
}

void fastpath_release(void)
{
}

#else

#include <event2/bufferevent_struct.h> /* nothing of it is needed above */

/* To receive into; NULL: in use, or not made yet. A reactor has a thread to itself. */
static _Thread_local void *spare;

/*
 * A buffer that was received into is no longer referred to. Mostly that is so before the read
 * callback returns; but what the peer does not take refers to it for as long as it is pending.
 */
static void give_back(const void *buffer, size_t length, void *unused)
{
    (void) length;
    (void) unused;
    if (spare == NULL)
        spare = (void *) buffer;
    else
        free((void *) buffer);
}

/* Receives into INPUT, without a copy. Returns what recv(2) does. */
static ssize_t receive(int fd, struct evbuffer *input)
{
    void *buffer = spare != NULL ? spare : malloc(BULK_READ);
    ssize_t bytes;
    int failed;

    if (buffer == NULL)
        return -1;
    spare = NULL;
    bytes = recv(fd, buffer, BULK_READ, 0);
    if (bytes > 0) {
        evbuffer_unfreeze(input, 0); /* only a bufferevent itself may add to its input */
        failed = evbuffer_add_reference(input, buffer, (size_t) bytes, give_back, NULL);
        evbuffer_freeze(input, 0);
        if (failed == 0)
            return bytes;
        errno = ENOMEM;
        bytes = -1;
    }
    give_back(buffer, 0, NULL);
    return bytes;
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

void fastpath_release(void)
{
    free(spare);
    spare = NULL;
}

#endif

size_t fastpath_send(struct bufferevent *bev, struct evbuffer *data)
{
    struct evbuffer_iovec parts[PARTS_MOST];
    int count = evbuffer_peek(data, -1, NULL, parts, PARTS_MOST);
    struct msghdr message = { .msg_iov = parts,
                              .msg_iovlen = (size_t) (count < PARTS_MOST ? count : PARTS_MOST) };
    ssize_t bytes;

    if (count == 1) /* costs less than the general call, and is by far the most frequent */
        bytes = send(bufferevent_getfd(bev), parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL);
    else
        bytes = sendmsg(bufferevent_getfd(bev), &message, MSG_NOSIGNAL);
    if (bytes >= 0) {
        evbuffer_drain(data, (size_t) bytes);
        return (size_t) bytes;
    }
    if (errno != EAGAIN && errno != EINTR) /* later: we are inside a callback of the service */
        bufferevent_trigger_event(bev, BEV_EVENT_WRITING | BEV_EVENT_ERROR,
                                  BEV_TRIG_DEFER_CALLBACKS);
    return 0;
}
