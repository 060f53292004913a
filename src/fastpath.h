/*
 * fastpath: a message's way through a bufferevent, from the kernel and straight back into it.
 *
 * An echo as textbooks write it, with bufferevent_write_buffer in the read callback, costs seven
 * system calls a message: epoll_wait, ioctl(FIONREAD), readv; and since the output is only written
 * when the socket is reported writable, epoll_ctl, epoll_wait, writev, epoll_ctl. And libevent 2.1
 * reads 4096 bytes at a time. Here the read callback writes the input straight to the socket, so
 * three calls are left; and where a first read came back full it receives what else there is in
 * one piece, which goes out in the same call.
 */
#ifndef ECHOD_FASTPATH_H
#define ECHOD_FASTPATH_H

#include <stdbool.h>
#include <sys/types.h>

struct bufferevent;
struct evbuffer;

/* What the connections of one reactor share; all zero at first. */
struct fastpath {
    struct evbuffer *more; /* a first piece, and what was received after it */
    void *spare;           /* a buffer to receive into; NULL: in use, or not made yet */
};

/* Releases what *PATH holds, after all buffers that came from it. */
void fastpath_release(struct fastpath *path);

/* Has BEV, a new one, read as much at a time as this libevent can be told to. */
void fastpath_prepare(struct bufferevent *bev);

/*
 * In the read callback of BEV, a plain socket's: all that came, and more if more is there. To be
 * emptied within the callback, or moved to another buffer as a whole. Valid until the next call
 * for any connection of the reactor, also when BEV is gone meanwhile.
 */
struct evbuffer *fastpath_receive(struct fastpath *path, struct bufferevent *bev);

/*
 * Writes from the front of DATA to the socket of BEV, whose output has to be empty, or else bytes
 * would overtake each other. Returns how many the kernel took, and these are gone from DATA. An
 * error is reported to BEV's event callback, soon, as any other.
 */
size_t fastpath_send(struct bufferevent *bev, struct evbuffer *data);

#endif
