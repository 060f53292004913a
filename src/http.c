#include "http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "defaults.h"
#include "descriptors.h"
#include "log.h"
#include "reactor.h"

/* What a connection is at. */
enum phase {
    ASKING,    /* since it was accepted; its first request is not there yet */
    ANSWERED,  /* since its answer was made; it has not been taken yet */
    IDLE,      /* since then; another request may come */
    PHASES
};

/* How long that may last, ms; and when others wait for want of a place or a descriptor. */
static const int64_t patience[PHASES][2] = {
    [ASKING] = { HTTP_REQUEST_MS, HTTP_CROWDED_REQUEST_MS },
    [ANSWERED] = { HTTP_ANSWER_MS, HTTP_CROWDED_ANSWER_MS },
    [IDLE] = { HTTP_IDLE_MS, 0 },
};

/* A place, and who has it. */
struct place {
    struct http *http;
    struct evhttp_connection *connection; /* NULL: nobody */
    enum phase phase;
    int64_t since;
};

struct http {
    struct event_base *base;
    struct evhttp *server;
    const struct http_route *routes;
    size_t route_count;
    void *context;
    struct event *look;
    struct bufferevent *newcomer; /* accepted, without a place yet; NULL: none */
    int64_t paused_until;         /* for want of descriptors or memory */
    int listening;                /* one of the sockets */
    int reserve;                  /* a descriptor that is given up for somebody; -1: it is */
    int64_t logged;               /* when the log said so last, ms; 0: never */
    size_t most, taken;           /* of the places: those that there is a descriptor for */
    struct place places[HTTP_CONNECTIONS];
};

/* evhttp is the context of its listeners: where accept(2) fails, we are found here. */
static struct http *serving;

/* All methods that evhttp knows, and those that it does not: they are ours to refuse. */
#define ALL_METHODS 0xffff

static void enable(struct evhttp_bound_socket *bound, void *failed)
{
    if (evconnlistener_enable(evhttp_bound_socket_get_listener(bound)) != 0)
        *(bool *) failed = true;
}

static void disable(struct evhttp_bound_socket *bound, void *unused)
{
    (void) unused;
    evconnlistener_disable(evhttp_bound_socket_get_listener(bound));
}

/*
 * evhttp does not survive it when there is no memory for a request, which it makes for each
 * connection and behind each answer. So it gets none to make unless there is much more than that.
 */
static bool has_memory(void)
{
    void *volatile block = malloc(HTTP_MEMORY);

    free(block);
    return block != NULL;
}

static void pause_accepting(struct http *http)
{
    int error = errno;
    int64_t now = clock_ms();

    if (http->logged == 0 || now - http->logged >= PAUSE_LOG_MS) {
        log_failure(LOG_WARNING, "metrics-failed", "accept", error);
        http->logged = now;
    }
    evhttp_foreach_bound_socket(http->server, disable, NULL);
    http->paused_until = now + RETRY_DESCRIPTORS_MS;
    event_active(http->look, EV_TIMEOUT, 0);
}

static void start_accepting(struct http *http)
{
    bool failed = !has_memory();

    if (!failed)
        evhttp_foreach_bound_socket(http->server, enable, &failed);
    if (failed)
        pause_accepting(http);
}

static void enter(struct place *place, enum phase phase)
{
    place->phase = phase;
    place->since = clock_ms();
    event_active(place->http->look, EV_TIMEOUT, 0);
}

static struct place *find_place(struct http *http, const struct evhttp_connection *connection)
{
    for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
        if (http->places[i].connection == connection)
            return &http->places[i];
    return NULL;
}

static void on_closed(struct evhttp_connection *connection, void *context)
{
    struct place *place = context;

    (void) connection;
    place->connection = NULL;
    place->http->taken--;
    place->http->paused_until = 0;
    event_active(place->http->look, EV_TIMEOUT, 0);
}

/*
 * Gives the newcomer a place. evhttp tells of a connection only with its first request, which may
 * never come; but it is the argument of its own callbacks, which are gone if the connection is.
 */
static void seat(struct http *http)
{
    struct place *place = find_place(http, NULL);
    bufferevent_event_cb callback;
    void *connection;

    if (http->newcomer == NULL)
        return;
    bufferevent_getcb(http->newcomer, NULL, NULL, &callback, &connection);
    if (callback != NULL) {
        place->connection = connection;
        evhttp_connection_set_closecb(connection, on_closed, place);
        http->taken++;
        enter(place, ASKING);
    }
    bufferevent_decref(http->newcomer);
    http->newcomer = NULL;
}

static int64_t end_of(const struct place *place, bool is_crowded)
{
    return place->since + patience[place->phase][is_crowded];
}

/* Whose time is over first; NULL: there is nobody. */
static struct place *find_first(struct http *http, bool is_crowded)
{
    struct place *first = NULL;

    for (size_t i = 0; i < HTTP_CONNECTIONS; i++) {
        struct place *place = &http->places[i];

        if (place->connection != NULL &&
            (first == NULL || end_of(place, is_crowded) < end_of(first, is_crowded)))
            first = place;
    }
    return first;
}

/* Ends those whose time is over; returns how long it is until the next one's is, ms. */
static int64_t end_late(struct http *http)
{
    for (;;) {
        bool is_crowded = http->taken == http->most || http->paused_until > clock_ms();
        struct place *first = find_first(http, is_crowded);
        int64_t left = first != NULL ? end_of(first, is_crowded) - clock_ms() : HTTP_IDLE_MS;

        if (left > 0)
            return left;
        evhttp_connection_free(first->connection);
    }
}

/* Somebody else may have it by now: then it is had again when the next one goes. */
static void hold_reserve(struct http *http)
{
    if (http->reserve < 0)
        http->reserve = fcntl(http->listening, F_DUPFD_CLOEXEC, 0);
}

static bool give_up_reserve(struct http *http)
{
    bool had = http->reserve >= 0;

    if (had)
        close(http->reserve);
    http->reserve = -1;
    return had;
}

static void on_look(evutil_socket_t fd, short what, void *context)
{
    struct http *http = context;
    int64_t next, pause;

    (void) fd;
    (void) what;
    seat(http);
    next = end_late(http);
    hold_reserve(http);
    pause = http->paused_until - clock_ms();
    if (pause > 0 && pause < next)
        next = pause;
    reactor_start_timer(http->look, next);
    if (pause <= 0 && http->taken < http->most)
        start_accepting(http);
}

/*
 * evhttp reads on, and keeps what comes, behind what it refuses, and while there is no end of a
 * chunk's size. A watermark would bound that, but libevent does not survive it for want of memory.
 */
static void on_received(struct evbuffer *input, const struct evbuffer_cb_info *info, void *context)
{
    (void) info;
    if (evbuffer_get_length(input) > HTTP_INPUT_MOST)
        bufferevent_disable(context, EV_READ);
}

/* NULL: no memory. */
static struct bufferevent *new_stream(struct event_base *base)
{
    struct bufferevent *stream = bufferevent_socket_new(base, -1, 0);

    if (stream == NULL)
        return NULL;
    if (evbuffer_add_cb(bufferevent_get_input(stream), on_received, stream) != NULL)
        return stream;
    bufferevent_free(stream);
    return NULL;
}

/*
 * Called for each connection that is accepted; what it returns is the connection's. No more are
 * accepted before this one has a place, and all others have had their turn.
 */
static struct bufferevent *on_accepted(struct event_base *base, void *context)
{
    struct http *http = context;

    evhttp_foreach_bound_socket(http->server, disable, NULL);
    event_active(http->look, EV_TIMEOUT, 0);
    http->newcomer = new_stream(base);
    if (http->newcomer != NULL)
        bufferevent_incref(http->newcomer); /* to be asked whether it lives still */
    return http->newcomer;
}

/* Out of descriptors or memory; without a pause the reactor would spin. */
static void on_accept_failed(struct evconnlistener *listener, void *evhttp)
{
    (void) listener;
    (void) evhttp;
    if (errno != EMFILE || !give_up_reserve(serving))
        pause_accepting(serving);
}

static void on_taken(struct evhttp_request *request, void *context)
{
    (void) request;
    enter(context, IDLE);
}

/* Is PATH, which may have %XX in it, ROUTE's? */
static bool is_path_of(const struct http_route *route, const char *path)
{
    size_t length = 0;
    char *plain = evhttp_uridecode(path, 0, &length);
    bool is_same = plain != NULL && length == strlen(route->path) &&
                   memcmp(plain, route->path, length) == 0;

    free(plain);
    return is_same;
}

/* Without a path, as in `http://HOST`, it is the root's. */
static const struct http_route *find_route(const struct http *http, struct evhttp_request *request)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = evhttp_uri_get_path(uri);

    if (path[0] == '\0' && evhttp_uri_get_scheme(uri) != NULL)
        path = "/";
    for (size_t i = 0; i < http->route_count; i++)
        if (is_path_of(&http->routes[i], path))
            return &http->routes[i];
    return NULL;
}

/* What a browser may do with it: show it, and nothing else; ours is no site that others embed. */
static void add_headers(struct evhttp_request *request, const struct http_exchange *exchange)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    char length[24];

    snprintf(length, sizeof(length), "%zu", evbuffer_get_length(exchange->body));
    evhttp_add_header(headers, "Content-Type", exchange->content_type);
    evhttp_add_header(headers, "Content-Length", length);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "Content-Security-Policy", exchange->policy);
    evhttp_add_header(headers, "Cross-Origin-Resource-Policy", "same-origin");
    evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "X-Frame-Options", "DENY");
    if (exchange->status == HTTP_BADMETHOD)
        evhttp_add_header(headers, "Allow", "GET, HEAD");
    if (!has_memory())
        evhttp_add_header(headers, "Connection", "close");
}

static void answer(const struct http *http, struct evhttp_request *request,
                   struct http_exchange *exchange)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    const struct http_route *route = find_route(http, request);

    if (route == NULL) {
        exchange->status = HTTP_NOTFOUND;
        evbuffer_add_printf(exchange->body, "not found\n");
    } else if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
        exchange->status = HTTP_BADMETHOD;
        evbuffer_add_printf(exchange->body, "method not allowed\n");
    } else {
        route->answer(http->context, exchange);
    }
}

static void on_request(struct evhttp_request *request, void *context)
{
    struct http *http = context;
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    struct place *place = find_place(http, connection);
    struct http_exchange exchange = {
        .accept = evhttp_find_header(evhttp_request_get_input_headers(request), "Accept"),
        .status = HTTP_OK,
        .content_type = "text/plain; charset=utf-8",
        .policy = "default-src 'none'; frame-ancestors 'none'",
        .body = evhttp_request_get_output_buffer(request),
    };

    answer(http, request, &exchange);
    add_headers(request, &exchange);
    if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD)
        evbuffer_drain(exchange.body, evbuffer_get_length(exchange.body));
    if (place != NULL) {
        enter(place, ANSWERED);
        evhttp_request_set_on_complete_cb(request, on_taken, place);
    }
    evhttp_send_reply(request, exchange.status, NULL, NULL);
    /* evhttp would take a FIN for the end of the connection: some send it behind their request. */
    bufferevent_disable(evhttp_connection_get_bufferevent(connection), EV_READ);
}

static size_t count_places(void)
{
    size_t share = descriptors_limit() / HTTP_DESCRIPTOR_SHARE;

    if (share == 0)
        return 1;
    return share < HTTP_CONNECTIONS ? share : HTTP_CONNECTIONS;
}

struct http *http_new(struct event_base *base, const struct http_route *routes, size_t count,
                      void *context)
{
    struct http *http = calloc(1, sizeof(*http));

    if (http == NULL)
        return NULL;
    *http = (struct http){ .base = base, .routes = routes, .route_count = count,
                           .context = context, .reserve = -1, .most = count_places() };
    for (size_t i = 0; i < HTTP_CONNECTIONS; i++)
        http->places[i].http = http;
    http->server = evhttp_new(base);
    http->look = event_new(base, -1, 0, on_look, http);
    if (http->server == NULL || http->look == NULL) {
        http_free(http);
        return NULL;
    }
    evhttp_set_max_headers_size(http->server, HTTP_HEADERS_MOST);
    evhttp_set_max_body_size(http->server, HTTP_BODY_MOST);
    evhttp_set_allowed_methods(http->server, ALL_METHODS);
    /* Of one that evhttp had memory for when on_accepted had none we know nothing. */
    evhttp_set_timeout(http->server, HTTP_IDLE_MS / 1000);
    evhttp_set_bevcb(http->server, on_accepted, http);
    evhttp_set_gencb(http->server, on_request, http);
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL)
        return;
    if (http->server != NULL)
        evhttp_free(http->server);
    if (http->newcomer != NULL)
        bufferevent_decref(http->newcomer);
    reactor_free_event(http->look);
    give_up_reserve(http);
    if (serving == http)
        serving = NULL;
    free(http);
}

bool http_listen(struct http *http, int fd)
{
    struct evconnlistener *listener = evconnlistener_new(
        http->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);

    if (listener == NULL)
        return false;
    if (evhttp_bind_listener(http->server, listener) == NULL) {
        evconnlistener_free(listener);
        return false;
    }
    serving = http;
    http->listening = fd;
    hold_reserve(http);
    evconnlistener_set_error_cb(listener, on_accept_failed);
    return evconnlistener_enable(listener) == 0;
}
