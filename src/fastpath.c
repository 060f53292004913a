#include "fastpath.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "config.h"
#include "defaults.h"

/* What one call sends is in so many pieces at most: a first read, and what came after it. */
enum { PARTS_MOST = 4 };

void fastpath_release(struct fastpath *path)
{
    if (path->more != NULL)
        evbuffer_free(path->more);
    free(path->spare);
    *path = (struct fastpath){ 0 };
}

void fastpath_prepare(struct bufferevent *bev)
{
#ifdef HAVE_EVBUFFER_SET_MAX_READ
    evbuffer_set_max_read(bufferevent_get_input(bev), FIRST_READ);
#else
    (void) bev;
#endif
}

/* errno is for the event callback, as if libevent had met the error itself. */
static void report_error(struct bufferevent *bev, short direction)
{
    if (errno != EAGAIN && errno != EINTR)
        bufferevent_trigger_event(bev, direction | BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS);
}

/*
 * A buffer that was received into is no longer referred to. Mostly that is so before the callback
 * returns; but what the peer does not take refers to it for as long as it is pending.
 */
static void give_back(const void *buffer, size_t length, void *argument)
{
    struct fastpath *path = argument;

    (void) length;
    if (path->spare == NULL)
        path->spare = (void *) buffer;
    else
        free((void *) buffer);
}

/* Appends to MORE what else has arrived, without copying it. */
static void receive_more(struct fastpath *path, struct bufferevent *bev)
{
    void *buffer = path->spare != NULL ? path->spare : malloc(BULK_READ);
    ssize_t bytes;

    path->spare = NULL;
    if (buffer == NULL)
        return;
    bytes = recv(bufferevent_getfd(bev), buffer, BULK_READ, 0);
    if (bytes > 0 &&
        evbuffer_add_reference(path->more, buffer, (size_t) bytes, give_back, path) == 0)
        return;
    if (bytes != 0) /* 0, the end, is told again at the next read */
        report_error(bev, BEV_EVENT_READING);
    give_back(buffer, 0, path);
}

struct evbuffer *fastpath_receive(struct fastpath *path, struct bufferevent *bev)
{
    struct evbuffer *input = bufferevent_get_input(bev);

    if (evbuffer_get_length(input) < FIRST_READ)
        return input;
    if (path->more == NULL)
        path->more = evbuffer_new();
    if (path->more == NULL)
        return input;
    evbuffer_drain(path->more, evbuffer_get_length(path->more)); /* what a callback left behind */
    evbuffer_add_buffer(path->more, input);
    receive_more(path, bev);
    return path->more;
}

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
    if (bytes < 0) {
        report_error(bev, BEV_EVENT_WRITING);
        return 0;
    }
    evbuffer_drain(data, (size_t) bytes);
    return (size_t) bytes;
}
