/*
 * fastpath: a message's way through a bufferevent, from the kernel and straight back into it.
 *
 * An echo as textbooks write it costs seven system calls a message: epoll_wait, ioctl(FIONREAD),
 * readv; and since an output is written when the socket is reported writable, epoll_ctl,
 * epoll_wait, writev, epoll_ctl. And libevent 2.1 reads 4096 bytes at a time. Here a bufferevent
 * receives as much as a raw loop would, in one call, without asking first how much there is; and
 * what is sent while nothing is pending goes to the socket at once. Three calls are left. All
 * else is the bufferevent's: its callbacks, its output, what it enables and disables.
 */
#ifndef ECHOD_FASTPATH_H
#define ECHOD_FASTPATH_H

#include <stddef.h>

struct bufferevent;
struct evbuffer;

/*
 * Has BEV, a new one over a plain socket, read by one recv(2) of up to BULK_READ bytes an event;
 * its callbacks are called as ever. To be called before it is enabled for reading.
 */
void fastpath_attach(struct bufferevent *bev);

/*
 * Writes from the front of DATA to the socket of BEV, whose output has to be empty, or else bytes
 * would overtake each other. Returns how many the kernel took, and these are gone from DATA. An
 * error is reported to BEV's event callback, from the event loop.
 */
size_t fastpath_send(struct bufferevent *bev, struct evbuffer *data);

/* The same of LENGTH bytes at DATA; returns how many of them the kernel took. */
size_t fastpath_write(struct bufferevent *bev, const void *data, size_t length);

#endif
