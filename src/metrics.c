#include "metrics.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <stdlib.h>

#include "crew.h"
#include "exposition.h"
#include "http.h"
#include "page.h"
#include "statusjson.h"

struct metrics {
    struct http *http;
    struct metrics_facts facts;
    const char *backend;
    enum metrics_state state;
    struct crew_worker *workers; /* room for all, while they are told */
    char policy[PAGE_POLICY_MAX];
};

static void say(struct http_exchange *exchange, bool is_well, const char *well, const char *ill)
{
    exchange->status = is_well ? 200 : 503;
    evbuffer_add_printf(exchange->body, "%s\n", is_well ? well : ill);
}

/* BODY is of this TYPE, if it IS_COMPLETE; no part of it is told. */
static bool finish(struct http_exchange *exchange, const char *type, bool is_complete)
{
    if (is_complete) {
        exchange->content_type = type;
    } else {
        evbuffer_drain(exchange->body, evbuffer_get_length(exchange->body));
        exchange->status = 500;
    }
    return is_complete;
}

static void answer_page(void *context, struct http_exchange *exchange)
{
    struct metrics *metrics = context;

    if (finish(exchange, "text/html; charset=utf-8",
               page_write(exchange->body, metrics->policy)))
        exchange->policy = metrics->policy;
}

static void answer_status(void *context, struct http_exchange *exchange)
{
    struct metrics *metrics = context;
    const struct metrics_facts *facts = &metrics->facts;
    const struct statusjson status = { facts->stats, facts->served, metrics->backend,
                                       metrics->workers, metrics->state == METRICS_DRAINING };

    for (unsigned i = 0; i < facts->stats->workers; i++)
        metrics->workers[i] = crew_worker(facts->crew, i);
    finish(exchange, "application/json", statusjson_write(exchange->body, &status));
}

static void answer_metrics(void *context, struct http_exchange *exchange)
{
    const struct metrics *metrics = context;
    const struct exposition facts = { metrics->facts.stats, metrics->facts.served,
                                      metrics->backend };
    enum exposition_format format = exposition_choose(exchange->accept);

    finish(exchange, exposition_content_type(format),
           exposition_write(exchange->body, &facts, format));
}

static void answer_health(void *context, struct http_exchange *exchange)
{
    const struct metrics *metrics = context;

    say(exchange, crew_is_answering(metrics->facts.crew), "ok", "a worker does not answer");
}

static void answer_ready(void *context, struct http_exchange *exchange)
{
    const struct metrics *metrics = context;

    say(exchange, metrics->state == METRICS_SERVING, "ok", "not ready");
}

static const struct http_route routes[] = {
    { "/", answer_page },           { "/status.json", answer_status },
    { "/metrics", answer_metrics }, { "/healthz", answer_health },
    { "/readyz", answer_ready },
};

struct metrics *metrics_new(struct event_base *base, const struct sockets *sockets,
                            const struct metrics_facts *facts)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (metrics == NULL)
        return NULL;
    metrics->facts = *facts;
    metrics->backend = event_base_get_method(base);
    metrics->workers = calloc(facts->stats->workers, sizeof(*metrics->workers));
    metrics->http = http_new(base, routes, sizeof(routes) / sizeof(routes[0]), metrics);
    if (metrics->http == NULL || metrics->workers == NULL) {
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
    free(metrics->workers);
    free(metrics);
}

void metrics_set_state(struct metrics *metrics, enum metrics_state state)
{
    metrics->state = state;
}
