#include "metrics.h"

#include <event2/buffer.h>
#include <stdlib.h>

#include "http.h"

struct metrics {
    struct http *http;
    struct stats *stats;
    bool is_ready;
};

static void say(struct http_exchange *exchange, bool is_well, const char *well, const char *ill)
{
    exchange->status = is_well ? 200 : 503;
    evbuffer_add_printf(exchange->body, "%s\n", is_well ? well : ill);
}

static void answer_page(void *context, struct http_exchange *exchange)
{
    (void) context;
    evbuffer_add_printf(exchange->body, "echod\n");
}

static void answer_status(void *context, struct http_exchange *exchange)
{
    (void) context;
    exchange->content_type = "application/json";
    evbuffer_add_printf(exchange->body, "{}\n");
}

static void answer_metrics(void *context, struct http_exchange *exchange)
{
    (void) context;
    (void) exchange;
}

static void answer_health(void *context, struct http_exchange *exchange)
{
    (void) context;
    say(exchange, true, "ok", "");
}

static void answer_ready(void *context, struct http_exchange *exchange)
{
    const struct metrics *metrics = context;

    say(exchange, metrics->is_ready, "ok", "not ready");
}

static const struct http_route routes[] = {
    { "/", answer_page },           { "/status.json", answer_status },
    { "/metrics", answer_metrics }, { "/healthz", answer_health },
    { "/readyz", answer_ready },
};

struct metrics *metrics_new(struct event_base *base, const struct sockets *sockets,
                            struct stats *stats)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (metrics == NULL)
        return NULL;
    metrics->stats = stats;
    metrics->http = http_new(base, routes, sizeof(routes) / sizeof(routes[0]), metrics);
    if (metrics->http == NULL) {
        metrics_free(metrics);
        return NULL;
    }
    for (size_t i = 0; i < sockets->count; i++)
        if (!http_listen(metrics->http, sockets_fd(sockets, i, 0))) {
            metrics_free(metrics);
            return NULL;
        }
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    http_free(metrics->http);
    free(metrics);
}

void metrics_set_ready(struct metrics *metrics, bool is_ready)
{
    metrics->is_ready = is_ready;
}
