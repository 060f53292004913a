#include "http.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>

struct http {
    struct event_base *base;
    struct evhttp *server;
    const struct http_route *routes;
    size_t count;
    void *context;
};

static const struct http_route *find_route(const struct http *http, struct evhttp_request *request)
{
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));

    for (size_t i = 0; path != NULL && i < http->count; i++)
        if (strcmp(http->routes[i].path, path) == 0)
            return &http->routes[i];
    return NULL;
}

static void on_request(struct evhttp_request *request, void *context)
{
    struct http *http = context;
    const struct http_route *route = find_route(http, request);
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct http_exchange exchange = {
        .accept = evhttp_find_header(evhttp_request_get_input_headers(request), "Accept"),
        .status = 404,
        .content_type = "text/plain; charset=utf-8",
        .policy = "default-src 'none'; frame-ancestors 'none'",
        .body = evhttp_request_get_output_buffer(request),
    };

    if (route != NULL) {
        exchange.status = 200;
        route->answer(http->context, &exchange);
    }
    evhttp_add_header(headers, "Content-Type", exchange.content_type);
    evhttp_add_header(headers, "Content-Security-Policy", exchange.policy);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_send_reply(request, exchange.status, NULL, NULL);
}

struct http *http_new(struct event_base *base, const struct http_route *routes, size_t count,
                      void *context)
{
    struct http *http = calloc(1, sizeof(*http));

    if (http == NULL)
        return NULL;
    *http = (struct http){ .base = base, .routes = routes, .count = count, .context = context };
    http->server = evhttp_new(base);
    if (http->server == NULL) {
        free(http);
        return NULL;
    }
    evhttp_set_gencb(http->server, on_request, http);
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL)
        return;
    evhttp_free(http->server);
    free(http);
}

bool http_listen(struct http *http, int fd)
{
    struct evconnlistener *listener =
        evconnlistener_new(http->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC, 0, fd);

    if (listener != NULL && evhttp_bind_listener(http->server, listener) != NULL)
        return true;
    if (listener != NULL)
        evconnlistener_free(listener);
    return false;
}
