/* http: a small HTTP/1.1 server over evhttp, which bounds what anybody can make it do. */
#ifndef ECHOD_HTTP_H
#define ECHOD_HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;
struct event_base;
struct http;

/* One request and its answer. */
struct http_exchange {
    const char *accept;       /* the request's header; NULL: none */
    int status;               /* 200, unless it is set */
    const char *content_type; /* text/plain, unless it is set */
    const char *policy;       /* Content-Security-Policy: nothing, unless it is set */
    struct evbuffer *body;    /* empty, to be filled; libevent's */
};

/* What GET, and HEAD, of PATH are answered with. */
struct http_route {
    const char *path;
    void (*answer)(void *context, struct http_exchange *exchange);
};

/* Serves COUNT ROUTES, which have to outlive it, in BASE's loop. NULL: no memory. */
struct http *http_new(struct event_base *base, const struct http_route *routes, size_t count,
                      void *context);
void http_free(struct http *http);

/* Accepts at FD too: listening, non-blocking, and still the caller's. False: no memory. */
bool http_listen(struct http *http, int fd);

#endif
