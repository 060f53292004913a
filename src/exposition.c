#include "exposition.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "mediatype.h"
#include "quote.h"
#include "sockets.h"
#include "stats.h"

/* What is written, and how far it could be. */
struct writer {
    struct evbuffer *out;
    bool is_open_metrics;
    bool is_complete;
};

/* Which endpoints have a series. */
enum scope { OF_ALL, OF_STREAMS, OF_DATAGRAMS };

/* An endpoint, and what happened there. */
struct place {
    const char *name;
    bool is_datagram;
    struct stats_sum sum;
};

struct places {
    struct place *list;
    size_t count;
};

/* What is known about a metric, beside its values; UNIT is NULL where there is none. */
struct family {
    const char *name; /* of a counter without _total */
    const char *unit, *help;
    enum scope scope;
};

/* The counters of an endpoint that are told by endpoint: those that have a name here. */
static const struct family counters[STATS_COUNTER_COUNT] = {
    [STATS_accepted] = { "echod_connections_accepted", NULL,
                         "Connections that were served, by endpoint.", OF_STREAMS },
    [STATS_received_bytes] = { "echod_received_bytes", "bytes",
                               "Bytes that clients sent, by endpoint.", OF_ALL },
    [STATS_sent_bytes] = { "echod_sent_bytes", "bytes",
                           "Bytes that clients were sent, by endpoint.", OF_ALL },
    [STATS_datagrams_received] = { "echod_datagrams_received", NULL,
                                   "Datagrams that came, by endpoint.", OF_DATAGRAMS },
    [STATS_datagrams_sent] = { "echod_datagrams_sent", NULL,
                               "Datagrams that were answered, by endpoint.", OF_DATAGRAMS },
};

static void note(struct writer *writer, bool was_added)
{
    writer->is_complete = writer->is_complete && was_added;
}

static void add(struct writer *writer, const char *text)
{
    note(writer, evbuffer_add(writer->out, text, strlen(text)) == 0);
}

static void add_value(struct writer *writer, uint64_t value)
{
    note(writer, evbuffer_add_printf(writer->out, " %" PRIu64 "\n", value) >= 0);
}

/* SEPARATOR, which a set of labels or the label before it ends with, NAME="VALUE". */
static void add_label(struct writer *writer, const char *separator, const char *name,
                      const char *value)
{
    add(writer, separator);
    add(writer, name);
    add(writer, "=");
    note(writer, quote_add(writer->out, value));
}

/* A line that describes: # KEYWORD NAME SUFFIX TEXT. */
static void add_description(struct writer *writer, const char *keyword, const char *name,
                            const char *suffix, const char *text)
{
    note(writer, evbuffer_add_printf(writer->out, "# %s %s%s %s\n", keyword, name, suffix,
                                     text) >= 0);
}

/* SUFFIX is what Prometheus' text has as a part of the name, and OpenMetrics not. */
static void describe(struct writer *writer, const struct family *family, const char *type,
                     const char *suffix)
{
    if (writer->is_open_metrics)
        suffix = "";
    add_description(writer, "HELP", family->name, suffix, family->help);
    add_description(writer, "TYPE", family->name, suffix, type);
    if (writer->is_open_metrics && family->unit != NULL)
        add_description(writer, "UNIT", family->name, "", family->unit);
}

static void describe_counter(struct writer *writer, const struct family *family)
{
    describe(writer, family, "counter", "_total");
}

/* A metric without labels. */
static void add_counter(struct writer *writer, const struct family *family, uint64_t value)
{
    describe_counter(writer, family);
    add(writer, family->name);
    add(writer, "_total");
    add_value(writer, value);
}

static void add_gauge(struct writer *writer, const struct family *family, uint64_t value)
{
    describe(writer, family, "gauge", "");
    add(writer, family->name);
    add_value(writer, value);
}

static bool is_in(const struct place *place, enum scope scope)
{
    return scope == OF_ALL || (scope == OF_DATAGRAMS) == place->is_datagram;
}

/* A sample of PLACE: of REASON, or of all if that is NULL. */
static void add_sample(struct writer *writer, const char *name, const char *suffix,
                       const struct place *place, const char *reason, uint64_t value)
{
    add(writer, name);
    add(writer, suffix);
    add_label(writer, "{", "endpoint", place->name);
    if (reason != NULL)
        add_label(writer, ",", "reason", reason);
    add(writer, "}");
    add_value(writer, value);
}

static void add_active(struct writer *writer, const struct places *places)
{
    static const struct family family = { "echod_connections_active", NULL,
                                          "Connections that are served now, by endpoint.",
                                          OF_STREAMS };

    describe(writer, &family, "gauge", "");
    for (size_t i = 0; i < places->count; i++)
        if (is_in(&places->list[i], family.scope))
            add_sample(writer, family.name, "", &places->list[i], NULL,
                       places->list[i].sum.active);
}

static void add_counters(struct writer *writer, const struct places *places)
{
    for (int counter = 0; counter < STATS_COUNTER_COUNT; counter++) {
        const struct family *family = &counters[counter];

        if (family->name == NULL)
            continue;
        describe_counter(writer, family);
        for (size_t i = 0; i < places->count; i++)
            if (is_in(&places->list[i], family->scope))
                add_sample(writer, family->name, "_total", &places->list[i], NULL,
                           places->list[i].sum.counter[counter]);
    }
}

/* What has reasons: NAME_OF each of COUNT, and how often in a place's sum (OFFSET). */
struct reasons {
    struct family family;
    const char *(*name_of)(int reason);
    int count;
    size_t offset;
};

static const char *name_of_close(int reason)
{
    return close_reason_name((enum close_reason) reason);
}

static const char *name_of_refusal(int reason)
{
    return refuse_reason_name((enum refuse_reason) reason);
}

static const char *name_of_drop(int reason)
{
    return drop_reason_name((enum drop_reason) reason);
}

static const struct reasons reasons[] = {
    { { "echod_connections_refused", NULL,
        "Connections that were refused, by endpoint and reason.", OF_STREAMS },
      name_of_refusal, REFUSE_REASONS, offsetof(struct stats_sum, refused) },
    { { "echod_connections_closed", NULL,
        "Connections that were served and have ended, by endpoint and reason.", OF_STREAMS },
      name_of_close, CLOSE_REASONS, offsetof(struct stats_sum, closed) },
    { { "echod_datagrams_dropped", NULL,
        "Datagrams that were not answered, by endpoint and reason.", OF_DATAGRAMS },
      name_of_drop, DROP_REASONS, offsetof(struct stats_sum, dropped) },
};

static void add_reasons(struct writer *writer, const struct places *places,
                        const struct reasons *one)
{
    describe_counter(writer, &one->family);
    for (size_t i = 0; i < places->count; i++) {
        const struct place *place = &places->list[i];
        const uint64_t *counts = (const uint64_t *) ((const char *) &place->sum + one->offset);

        for (int reason = 0; is_in(place, one->family.scope) && reason < one->count; reason++)
            add_sample(writer, one->family.name, "_total", place, one->name_of(reason),
                       counts[reason]);
    }
}

static void add_pauses(struct writer *writer, struct stats *stats)
{
    static const struct family family = { "echod_accept_pauses", NULL,
                                          "Pauses in accepting, by reason.", OF_ALL };

    describe_counter(writer, &family);
    for (int i = 0; i < PAUSE_REASONS; i++) {
        add(writer, family.name);
        add(writer, "_total");
        add_label(writer, "{", "reason", pause_reason_name((enum pause_reason) i));
        add(writer, "}");
        add_value(writer, atomic_load(&stats->paused[i]));
    }
}

/* What this is, as labels of a 1: OpenMetrics has a type for that. */
static void add_build_info(struct writer *writer, const char *backend)
{
    static const struct family family = { "echod_build", NULL, "What this echod is made of.",
                                          OF_ALL };

    describe(writer, &family, writer->is_open_metrics ? "info" : "gauge", "_info");
    add(writer, family.name);
    add(writer, "_info");
    add_label(writer, "{", "version", PACKAGE_VERSION);
    add_label(writer, ",", "libevent", event_get_version());
    add_label(writer, ",", "backend", backend);
    add(writer, "}");
    add_value(writer, 1);
}

static void add_start_time(struct writer *writer, int64_t unix_ms)
{
    static const struct family family = { "echod_start_time_seconds", "seconds",
                                          "When echod started, in seconds since 1970.", OF_ALL };

    describe(writer, &family, "gauge", "");
    note(writer, evbuffer_add_printf(writer->out, "%s %" PRId64 ".%03" PRId64 "\n", family.name,
                                     unix_ms / 1000, unix_ms % 1000) >= 0);
}

/* What concerns all endpoints, of whom ALL is the sum. */
static void add_totals(struct writer *writer, struct stats *stats, const struct stats_sum *all)
{
    static const struct family workers = { "echod_workers", NULL, "Workers: reactors.", OF_ALL };
    static const struct family restarts = { "echod_worker_restarts", NULL,
                                            "Workers that were replaced.", OF_ALL };
    static const struct family messages = { "echod_chat_messages", NULL,
                                            "Lines that were said in the chat.", OF_ALL };
    static const struct family members = { "echod_chat_members", NULL,
                                           "Who is in the chat now.", OF_ALL };
    static const struct family dropped = {
        "echod_chat_dropped", NULL, "Lines of the chat for which others had no room.", OF_ALL
    };
    static const struct family lost = { "echod_log_lines_lost", NULL,
                                        "Lines of the log that could not be written.", OF_ALL };

    add_gauge(writer, &workers, stats->workers);
    add_counter(writer, &restarts, atomic_load(&stats->worker_restarts));
    add_counter(writer, &messages, all->counter[STATS_chat_messages]);
    add_gauge(writer, &members, atomic_load(&stats->chat_members));
    add_counter(writer, &dropped, atomic_load(&stats->chat_dropped));
    add_counter(writer, &lost, atomic_load(&stats->lost.lines));
}

/* The place of this NAME, a new one if there was none. PLACES has room. */
static struct place *find_place(struct places *places, const char *name)
{
    for (size_t i = 0; i < places->count; i++)
        if (strcmp(places->list[i].name, name) == 0)
            return &places->list[i];
    places->list[places->count].name = name;
    return &places->list[places->count++];
}

/* Sums up by name; *ALL is the sum of all. False: no memory. */
static bool find_places(struct places *places, const struct exposition *facts,
                        struct stats_sum *all)
{
    places->count = 0;
    places->list = calloc(facts->sockets->count + 1, sizeof(*places->list));
    if (places->list == NULL)
        return false;
    for (size_t i = 0; i < facts->sockets->count; i++) {
        const struct listening *one = &facts->sockets->list[i];
        struct stats_sum sum = stats_sum_endpoint(facts->stats, (unsigned) i);
        struct place *place = find_place(places, one->name);

        place->is_datagram = one->endpoint->transport == ENDPOINT_UDP;
        stats_sum_add(&place->sum, &sum);
        stats_sum_add(all, &sum);
    }
    return true;
}

bool exposition_write(struct evbuffer *out, const struct exposition *facts,
                      enum exposition_format format)
{
    struct writer writer = { out, format == EXPOSITION_OPENMETRICS, true };
    struct stats_sum all = { 0 };
    struct places places;

    if (!find_places(&places, facts, &all))
        return false;
    add_build_info(&writer, facts->backend);
    add_start_time(&writer, facts->stats->started_unix_ms);
    add_active(&writer, &places);
    add_counters(&writer, &places);
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        add_reasons(&writer, &places, &reasons[i]);
    add_pauses(&writer, facts->stats);
    add_totals(&writer, facts->stats, &all);
    if (writer.is_open_metrics)
        add(&writer, "# EOF\n");
    free(places.list);
    return writer.is_complete;
}

enum exposition_format exposition_choose(const char *accept)
{
    static const struct mediatype prometheus = { "text/plain", "0.0.4" };
    static const struct mediatype open_metrics = { "application/openmetrics-text", "1.0.0" };
    enum mediatype_fit fit;
    unsigned plain, open;

    if (accept == NULL)
        return EXPOSITION_PROMETHEUS;
    plain = mediatype_quality(accept, &prometheus, &fit);
    open = mediatype_quality(accept, &open_metrics, &fit);
    return open > plain || (open == plain && open > 0 && fit == MEDIATYPE_NAMED)
               ? EXPOSITION_OPENMETRICS
               : EXPOSITION_PROMETHEUS;
}

const char *exposition_content_type(enum exposition_format format)
{
    return format == EXPOSITION_OPENMETRICS
               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
               : "text/plain; version=0.0.4; charset=utf-8";
}
