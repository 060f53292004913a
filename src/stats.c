#include "stats.h"

#include <stdio.h>
#include <sys/mman.h>

#include "clock.h"

#define NAME_COUNTER(name) #name,
#define NAME_REASON(identifier, name) name,

static const char *const counter_names[] = { STATS_COUNTERS(NAME_COUNTER) };
static const char *const close_names[] = { STATS_CLOSE_REASONS(NAME_REASON) };
static const char *const refuse_names[] = { STATS_REFUSE_REASONS(NAME_REASON) };
static const char *const drop_names[] = { STATS_DROP_REASONS(NAME_REASON) };
static const char *const pause_names[] = { STATS_PAUSE_REASONS(NAME_REASON) };

static size_t size_of(unsigned workers, unsigned endpoints)
{
    return sizeof(struct stats) + (size_t) workers * endpoints * sizeof(struct stats_block);
}

struct stats *stats_new(unsigned workers, unsigned endpoints)
{
    struct stats *stats = mmap(NULL, size_of(workers, endpoints), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (stats == MAP_FAILED)
        return NULL;
    stats->workers = workers;
    stats->endpoints = endpoints;
    stats->started_ms = clock_ms();
    stats->started_unix_ms = clock_unix_ms();
    return stats;
}

void stats_free(struct stats *stats)
{
    if (stats != NULL)
        munmap(stats, size_of(stats->workers, stats->endpoints));
}

struct stats_block *stats_block(struct stats *stats, unsigned worker, unsigned endpoint)
{
    return &stats->blocks[(size_t) worker * stats->endpoints + endpoint];
}

static uint64_t read_counter(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* A connection is counted as accepted first, so closed is read first: active is never negative. */
static void add_block(struct stats_sum *sum, struct stats_block *block)
{
    uint64_t closed = 0;

    for (int i = 0; i < CLOSE_REASONS; i++) {
        uint64_t count = atomic_load_explicit(&block->closed[i], memory_order_acquire);

        sum->closed[i] += count;
        closed += count;
    }
    sum->active += read_counter(&block->counter[STATS_accepted]) - closed;
    for (int i = 0; i < STATS_COUNTER_COUNT; i++)
        sum->counter[i] += read_counter(&block->counter[i]);
    for (int i = 0; i < REFUSE_REASONS; i++)
        sum->refused[i] += read_counter(&block->refused[i]);
    for (int i = 0; i < DROP_REASONS; i++)
        sum->dropped[i] += read_counter(&block->dropped[i]);
}

struct stats_sum stats_sum_all(struct stats *stats)
{
    struct stats_sum sum = { 0 };

    for (unsigned i = 0; i < stats->workers * stats->endpoints; i++)
        add_block(&sum, &stats->blocks[i]);
    return sum;
}

struct stats_sum stats_sum_endpoint(struct stats *stats, unsigned endpoint)
{
    struct stats_sum sum = { 0 };

    for (unsigned worker = 0; worker < stats->workers; worker++)
        add_block(&sum, stats_block(stats, worker, endpoint));
    return sum;
}

struct stats_sum stats_sum_worker(struct stats *stats, unsigned worker)
{
    struct stats_sum sum = { 0 };

    for (unsigned endpoint = 0; endpoint < stats->endpoints; endpoint++)
        add_block(&sum, stats_block(stats, worker, endpoint));
    return sum;
}

static void add_all(uint64_t *sums, const uint64_t *more, int count)
{
    for (int i = 0; i < count; i++)
        sums[i] += more[i];
}

void stats_sum_add(struct stats_sum *sum, const struct stats_sum *more)
{
    add_all(sum->counter, more->counter, STATS_COUNTER_COUNT);
    add_all(sum->closed, more->closed, CLOSE_REASONS);
    add_all(sum->refused, more->refused, REFUSE_REASONS);
    add_all(sum->dropped, more->dropped, DROP_REASONS);
    sum->active += more->active;
}

void stats_worker_died(struct stats *stats, unsigned worker, enum close_reason reason)
{
    for (unsigned i = 0; i < stats->endpoints; i++) {
        struct stats_block *block = stats_block(stats, worker, i);
        struct stats_sum sum = { 0 };

        add_block(&sum, block);
        stats_add(&block->closed[reason], sum.active);
    }
}

const char *close_reason_name(enum close_reason reason)
{
    return close_names[reason];
}

const char *refuse_reason_name(enum refuse_reason reason)
{
    return refuse_names[reason];
}

const char *drop_reason_name(enum drop_reason reason)
{
    return drop_names[reason];
}

const char *pause_reason_name(enum pause_reason reason)
{
    return pause_names[reason];
}

/* PREFIX_NAME=COUNT for each of COUNT reasons. */
static void log_reasons(struct log_line *line, const char *prefix, const char *const *names,
                        const uint64_t *counts, int count)
{
    char key[48];

    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "%s_%s", prefix, names[i]);
        log_number(line, key, counts[i]);
    }
}

void stats_log(struct stats *stats)
{
    struct stats_sum sum = stats_sum_all(stats);
    uint64_t paused[PAUSE_REASONS];
    struct log_line line;

    for (int i = 0; i < PAUSE_REASONS; i++)
        paused[i] = read_counter(&stats->paused[i]);

    log_begin(&line, LOG_NOTICE, "stats");
    log_duration(&line, "uptime", clock_ms() - stats->started_ms);
    log_number(&line, "active", sum.active);
    for (int i = 0; i < STATS_COUNTER_COUNT; i++)
        log_number(&line, counter_names[i], sum.counter[i]);
    log_reasons(&line, "closed", close_names, sum.closed, CLOSE_REASONS);
    log_reasons(&line, "refused", refuse_names, sum.refused, REFUSE_REASONS);
    log_reasons(&line, "dropped", drop_names, sum.dropped, DROP_REASONS);
    log_reasons(&line, "paused", pause_names, paused, PAUSE_REASONS);
    log_number(&line, "chat_members", read_counter(&stats->chat_members));
    log_number(&line, "chat_dropped", read_counter(&stats->chat_dropped));
    log_number(&line, "worker_restarts", read_counter(&stats->worker_restarts));
    log_number(&line, "log_lines_lost", read_counter(&stats->lost.lines));
    log_end(&line);
}
