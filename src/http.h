/*
 * http: a small HTTP/1.1 server over evhttp, which bounds what anybody can have it do.
 *
 * evhttp alone takes any number of connections, and each for as long as it lasts. Here there are
 * so many at most, and a request has to be there, and its answer taken, in time. When all places
 * are taken, or descriptors or memory, the one whose time is nearly over makes room, idle ones
 * first: whoever asks is answered soon, however many others hold on. A descriptor is held in
 * reserve, as threads that serve may have taken all. A process has one such server at a time.
 */
#ifndef ECHOD_HTTP_H
#define ECHOD_HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;
struct event_base;
struct http;

/* A request, and what it is answered with. */
struct http_exchange {
    const char *accept;       /* the request's header; NULL: none */
    int status;               /* 200... */
    const char *content_type; /* ... of text/plain... */
    const char *policy;       /* ... that may load nothing (Content-Security-Policy) */
    struct evbuffer *body;    /* empty, to be filled; libevent's */
};

/* Who answers GET and HEAD of PATH. */
struct http_route {
    const char *path;
    void (*answer)(void *context, struct http_exchange *exchange);
};

/* Serves COUNT ROUTES, which have to outlive it, in BASE's loop. NULL: no memory. */
struct http *http_new(struct event_base *base, const struct http_route *routes, size_t count,
                      void *context);
void http_free(struct http *http);

/*
 * Accepts at FD too, a TCP socket that listens and does not block, and that stays the caller's.
 * False: no memory, or the event demultiplexer does not take it.
 */
bool http_listen(struct http *http, int fd);

#endif
