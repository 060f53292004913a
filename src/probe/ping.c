/* ping: a message an interval on each connection, and a line each. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>

#include "../clock.h"
#include "../reactor.h"
#include "modes.h"

static bool is_waiting(const struct client *client)
{
    return client->allowed > client->settled && client->allowed > client->given_up;
}

/* One that still waits for its answer is left out, if that would hold up the next one. */
static void on_interval(evutil_socket_t fd, short what, void *context)
{
    struct share *share = context;

    (void) fd;
    (void) what;
    for (size_t i = 0; i < share->count; i++) {
        struct client *client = &share->clients[i];

        if (!share->setup.transport->loses && is_waiting(client))
            continue;
        share_allow(share, client, 1, clock_ns());
        client_push(client);
    }
}

static bool begin(struct share *share)
{
    share->timer = event_new(share->base, -1, EV_PERSIST, on_interval, share);
    if (share->timer == NULL) {
        errno = ENOMEM;
        return false;
    }
    reactor_start_timer(share->timer, (int64_t) share->common->options->interval);
    on_interval(-1, 0, share);
    return true;
}

/* WHAT came, or did not, and was in detail so, of number NUMBER, the first's being zero. */
static void print_line(const struct share *share, const struct client *client, const char *what,
                       uint64_t number, const char *detail)
{
    char where[ENDPOINT_TEXT_MAX];

    target_name(client->setup->target, client->attempt, where);
    printf("%s from %s: seq=%llu%s", what, where, (unsigned long long) number + 1, detail);
    if (share->common->options->connections > 1)
        printf(" conn=%llu", (unsigned long long) client->number + 1);
}

static void on_answered(struct share *share, struct client *client, uint64_t first,
                        uint64_t messages, uint64_t corrupt)
{
    uint64_t latency = client->moved_at - share_due(share, client, first);
    char what[32], detail[48];

    (void) messages;
    if (share->common->options->json)
        return;
    snprintf(what, sizeof(what), "%llu bytes", (unsigned long long) share->setup.size);
    snprintf(detail, sizeof(detail), " time=%.3f ms", (double) latency / 1e6);
    print_line(share, client, what, first, detail);
    puts(corrupt == 0 ? "" : " (corrupt)");
    fflush(stdout);
}

static void on_lost(struct share *share, struct client *client, uint64_t message)
{
    if (share->common->options->json)
        return;
    print_line(share, client, "no answer", message, "");
    putchar('\n');
    fflush(stdout);
}

/* On a stream too, what is not back in time is lost; the next one is sent nevertheless. */
static void check(struct share *share, struct client *client, uint64_t now)
{
    if (!is_waiting(client) ||
        now < share_due(share, client, client->allowed - 1) + share->setup.timeout)
        return;
    client->given_up = client->allowed;
    tally_add(&share->tally, TALLY_LOST, 1);
    on_lost(share, client, client->allowed - 1);
    if (share->is_stopping || client->allowed == client->target)
        client_end(client, NULL);
}

const struct mode ping_mode = {
    .begin = begin,
    .answered = on_answered,
    .lost = on_lost,
    .due = share_due,
    .check = check,
};
