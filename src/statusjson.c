#include "statusjson.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>

#include "clock.h"
#include "config.h"
#include "quote.h"

/* What is written, and how far it could be. */
struct writer {
    struct evbuffer *out;
    bool is_complete;
    bool wants_comma; /* before the next member */
};

static void note(struct writer *writer, bool was_added)
{
    writer->is_complete = writer->is_complete && was_added;
}

/* What comes before a value; in an array KEY is NULL. */
static void add_key(struct writer *writer, const char *key)
{
    if (writer->wants_comma)
        note(writer, evbuffer_add(writer->out, ",", 1) == 0);
    writer->wants_comma = true;
    if (key == NULL)
        return;
    note(writer, quote_add(writer->out, key));
    note(writer, evbuffer_add(writer->out, ":", 1) == 0);
}

/* An object or array begins, or ends, with this BRACKET. */
static void begin(struct writer *writer, const char *key, char bracket)
{
    add_key(writer, key);
    note(writer, evbuffer_add(writer->out, &bracket, 1) == 0);
    writer->wants_comma = false;
}

static void end(struct writer *writer, char bracket)
{
    note(writer, evbuffer_add(writer->out, &bracket, 1) == 0);
    writer->wants_comma = true;
}

static void add_number(struct writer *writer, const char *key, uint64_t value)
{
    add_key(writer, key);
    note(writer, evbuffer_add_printf(writer->out, "%" PRIu64, value) >= 0);
}

static void add_seconds(struct writer *writer, const char *key, int64_t ms)
{
    add_key(writer, key);
    note(writer, evbuffer_add_printf(writer->out, "%" PRId64 ".%03" PRId64, ms / 1000,
                                    ms % 1000) >= 0);
}

static void add_text(struct writer *writer, const char *key, const char *value)
{
    add_key(writer, key);
    note(writer, quote_add(writer->out, value));
}

static void add_flag(struct writer *writer, const char *key, bool value)
{
    add_key(writer, key);
    note(writer, evbuffer_add_printf(writer->out, value ? "true" : "false") >= 0);
}

/* What SUM, of a place that serves the chat or not, has of messages. */
static uint64_t count_messages(const struct stats_sum *sum, bool is_chat)
{
    if (is_chat)
        return sum->counter[STATS_chat_messages];
    return sum->counter[STATS_reads] + sum->counter[STATS_datagrams_received];
}

static uint64_t add_up(const uint64_t *counts, int count)
{
    uint64_t sum = 0;

    for (int i = 0; i < count; i++)
        sum += counts[i];
    return sum;
}

/* What there is of each endpoint, and of all together. */
static void add_sum(struct writer *writer, const struct stats_sum *sum, uint64_t messages)
{
    add_number(writer, "active", sum->active);
    add_number(writer, "accepted", sum->counter[STATS_accepted]);
    add_number(writer, "messages", messages);
    add_number(writer, "received_bytes", sum->counter[STATS_received_bytes]);
    add_number(writer, "sent_bytes", sum->counter[STATS_sent_bytes]);
    add_number(writer, "datagrams_received", sum->counter[STATS_datagrams_received]);
    add_number(writer, "datagrams_sent", sum->counter[STATS_datagrams_sent]);
    add_number(writer, "chat_messages", sum->counter[STATS_chat_messages]);
}

/* The endpoints; the messages of all. */
static uint64_t add_endpoints(struct writer *writer, const struct statusjson *facts)
{
    uint64_t messages = 0;

    begin(writer, "endpoints", '[');
    for (size_t i = 0; i < facts->sockets->count; i++) {
        const struct listening *one = &facts->sockets->list[i];
        struct stats_sum sum = stats_sum_endpoint(facts->stats, (unsigned) i);
        uint64_t here = count_messages(&sum, one->endpoint->service == ENDPOINT_CHAT);

        begin(writer, NULL, '{');
        add_text(writer, "name", one->name);
        add_text(writer, "service", endpoint_service_name(one->endpoint->service));
        add_text(writer, "transport", endpoint_transport_name(one->endpoint->transport));
        add_sum(writer, &sum, here);
        add_number(writer, "refused", add_up(sum.refused, REFUSE_REASONS));
        add_number(writer, "dropped", add_up(sum.dropped, DROP_REASONS));
        end(writer, '}');
        messages += here;
    }
    end(writer, ']');
    return messages;
}

static void add_workers(struct writer *writer, const struct statusjson *facts)
{
    begin(writer, "workers", '[');
    for (unsigned i = 0; i < facts->stats->workers; i++) {
        const struct crew_worker *worker = &facts->workers[i];
        struct stats_sum sum = stats_sum_worker(facts->stats, i);

        begin(writer, NULL, '{');
        add_number(writer, "number", i);
        add_number(writer, "pid", (uint64_t) worker->pid);
        add_flag(writer, "ready", worker->is_ready);
        add_flag(writer, "silent", worker->is_silent);
        add_number(writer, "active", sum.active);
        add_number(writer, "accepted", sum.counter[STATS_accepted]);
        add_number(writer, "received_bytes", sum.counter[STATS_received_bytes]);
        add_number(writer, "sent_bytes", sum.counter[STATS_sent_bytes]);
        end(writer, '}');
    }
    end(writer, ']');
}

/* An object of the counts of the reasons that EACH lists, after ADD. */
#define ADD_CLOSE(identifier, name) add_number(writer, name, sum->closed[CLOSE_##identifier]);
#define ADD_REFUSE(identifier, name) add_number(writer, name, sum->refused[REFUSE_##identifier]);
#define ADD_DROP(identifier, name) add_number(writer, name, sum->dropped[DROP_##identifier]);
#define ADD_PAUSE(identifier, name)                                                              \
    add_number(writer, name, atomic_load(&stats->paused[PAUSE_##identifier]));

static void add_reasons(struct writer *writer, struct stats *stats, const struct stats_sum *sum)
{
    begin(writer, "refused", '{');
    STATS_REFUSE_REASONS(ADD_REFUSE)
    end(writer, '}');
    begin(writer, "dropped", '{');
    STATS_DROP_REASONS(ADD_DROP)
    end(writer, '}');
    begin(writer, "paused", '{');
    STATS_PAUSE_REASONS(ADD_PAUSE)
    end(writer, '}');
    begin(writer, "closed", '{');
    STATS_CLOSE_REASONS(ADD_CLOSE)
    end(writer, '}');
}

static void add_totals(struct writer *writer, struct stats *stats, uint64_t messages)
{
    const struct stats_sum sum = stats_sum_all(stats);

    begin(writer, "totals", '{');
    add_sum(writer, &sum, messages);
    add_number(writer, "chat_members", atomic_load(&stats->chat_members));
    add_number(writer, "chat_dropped", atomic_load(&stats->chat_dropped));
    add_number(writer, "worker_restarts", atomic_load(&stats->worker_restarts));
    add_number(writer, "log_lines_lost", atomic_load(&stats->lost.lines));
    add_reasons(writer, stats, &sum);
    end(writer, '}');
}

bool statusjson_write(struct evbuffer *out, const struct statusjson *facts)
{
    struct writer writer = { out, .is_complete = true };
    uint64_t messages;

    begin(&writer, NULL, '{');
    add_text(&writer, "version", PACKAGE_VERSION);
    add_text(&writer, "libevent", event_get_version());
    add_text(&writer, "backend", facts->backend);
    add_seconds(&writer, "started", facts->stats->started_unix_ms);
    add_seconds(&writer, "uptime", clock_ms() - facts->stats->started_ms);
    add_flag(&writer, "draining", facts->is_draining);
    messages = add_endpoints(&writer, facts);
    add_workers(&writer, facts);
    add_totals(&writer, facts->stats, messages);
    end(&writer, '}');
    return writer.is_complete && evbuffer_add(out, "\n", 1) == 0;
}
