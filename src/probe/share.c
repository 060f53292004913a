#include "share.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../clock.h"
#include "../reactor.h"
#include "batch.h"
#include "datagram.h"
#include "defaults.h"
#include "stream.h"

#define NS_PER_MS UINT64_C(1000000)

void share_allow(struct share *share, struct client *client, uint64_t messages, uint64_t now)
{
    uint64_t left = client->target - client->allowed;

    if (share->is_stopping || client->phase != CLIENT_OPEN)
        return;
    if (messages > left)
        messages = left;
    for (uint64_t i = 0; client->due != NULL && i < messages; i++)
        client->due[(client->allowed + i) & share->ring_mask] = now;
    client_allow(client, messages, now);
}

uint64_t share_due(const struct share *share, const struct client *client, uint64_t message)
{
    if (client->due == NULL) /* datagrams go out at once */
        return window_given_at(&client->window, message);
    return client->due[message & share->ring_mask];
}

/* Has it nothing more to send, and nothing to wait for? Then it says so. */
static void finish_if_done(const struct share *share, struct client *client)
{
    if (!share->is_stopping && client->allowed < client->target)
        return;
    if (!client_is_owed(client))
        client_finish(client);
    else if (client->given_up == client->allowed) /* what it is owed counts as lost already */
        client_end(client, NULL);
}

/* One connection less to wait for; whose was the last of all threads gives the word. */
static void on_decided(struct share *share)
{
    if (--share->connecting == 0 && atomic_fetch_sub(&share->common->connecting, 1) == 1)
        eventfd_write(share->common->go_fd, 1);
}

static void on_opened(struct client *client)
{
    struct share *share = client->setup->context;

    share->tally.connected++;
    on_decided(share);
}

static void record(struct share *share, const struct client *client, uint64_t message)
{
    uint64_t due = share->common->mode->due(share, client, message);

    histogram_add(&share->tally.latency, client->moved_at > due ? client->moved_at - due : 0);
}

static void on_answered(struct client *client, uint64_t first, uint64_t messages, uint64_t corrupt)
{
    struct share *share = client->setup->context;
    const struct mode *mode = share->common->mode;
    uint64_t end = first + messages;

    if (first < client->given_up) /* too late */
        first = client->given_up < end ? client->given_up : end;
    for (uint64_t i = first; i < end; i++)
        record(share, client, i);
    tally_add(&share->tally, TALLY_MESSAGES, end - first);
    share->tally.ended_at = client->moved_at;
    if (mode->answered != NULL && first < end)
        mode->answered(share, client, first, end - first, corrupt);
    finish_if_done(share, client);
}

static void on_lost(struct client *client, uint64_t message)
{
    struct share *share = client->setup->context;
    const struct mode *mode = share->common->mode;

    tally_add(&share->tally, TALLY_LOST, 1);
    if (mode->lost != NULL)
        mode->lost(share, client, message);
    finish_if_done(share, client);
}

static void on_ended(struct client *client, const char *why)
{
    struct share *share = client->setup->context;
    uint64_t begun = client->scheduled > client->allowed ? client->scheduled : client->allowed;
    uint64_t settled =
        client->settled > client->given_up ? client->settled : client->given_up;

    share->open--;
    if (!client->was_open)
        on_decided(share);
    tally_add(&share->tally, TALLY_LOST, begun - settled);
    if (why == NULL)
        return;
    tally_add(&share->tally, TALLY_ERRORS, 1);
    share->common->failed(share->common, why, client->attempt);
}

static const struct client_handler handler = { on_opened, on_answered, on_lost, on_ended };

static void end_all(struct share *share, const char *why)
{
    for (size_t i = 0; i < share->count; i++)
        client_end(&share->clients[i], why);
}

void share_stop(struct share *share)
{
    uint64_t now = clock_ns();

    if (share->is_stopping)
        return;
    share->is_stopping = true;
    if (share->tally.ended_at < now)
        share->tally.ended_at = now;
    if (share->timer != NULL)
        event_del(share->timer);
    for (size_t i = 0; i < share->count; i++) {
        if (share->clients[i].phase < CLIENT_OPEN)
            client_end(&share->clients[i], "Interrupted");
        else
            finish_if_done(share, &share->clients[i]);
    }
    reactor_start_timer(share->deadline, (int64_t) share->common->options->timeout);
}

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct share *share = context;

    (void) fd;
    (void) what;
    event_del(share->stop); /* it stays readable */
    share_stop(share);
}

/* The end of sending; then, of waiting: a stream that is not done has failed. */
static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    struct share *share = context;

    (void) fd;
    (void) what;
    if (share->is_stopping)
        end_all(share, share->setup.transport->loses ? NULL : strerror(ETIMEDOUT));
    else
        share_stop(share);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct share *share = context;
    const struct mode *mode = share->common->mode;
    uint64_t now = clock_ns();

    (void) fd;
    (void) what;
    for (size_t i = 0; i < share->count; i++) {
        struct client *client = &share->clients[i];

        if (mode->check != NULL && client->phase == CLIENT_OPEN && !share->setup.transport->loses)
            mode->check(share, client, now);
        else
            client_check(client, now);
    }
}

/* All threads have connected: begin. Who comes first says when. */
static void on_go(evutil_socket_t fd, short what, void *context)
{
    struct share *share = context;
    const struct common *common = share->common;
    uint64_t now = clock_ns(), others = 0;

    (void) fd;
    (void) what;
    event_del(share->go); /* it stays readable */
    if (share->is_stopping)
        return;
    if (!atomic_compare_exchange_strong(&share->common->began_at, &others, now))
        now = others;
    share->began_at = share->tally.began_at = now;
    if (common->options->duration > 0)
        reactor_start_timer(share->deadline, (int64_t) common->options->duration);
    if (!common->mode->begin(share))
        end_all(share, strerror(errno));
    for (size_t i = 0; i < share->count; i++) /* some may have nothing to send */
        finish_if_done(share, &share->clients[i]);
}

/* How many of the messages are connection NUMBER's. */
static uint64_t target_of(const struct probe_options *options, uint64_t number)
{
    if (options->count == 0)
        return UINT64_MAX;
    return options->count / options->connections +
           (number < options->count % options->connections ? 1 : 0);
}

static bool make_rings(struct share *share)
{
    size_t ring = 1;

    while (ring < share->common->options->in_flight)
        ring *= 2;
    share->ring_mask = ring - 1;
    share->due = calloc(share->count * ring, sizeof(*share->due));
    return share->due != NULL;
}

/* Each of the threads in turn gets a connection. */
static bool make_clients(struct share *share)
{
    const struct probe_options *options = share->common->options;
    size_t first = share->number, all = options->connections;

    share->count = (all - first + options->threads - 1) / options->threads;
    share->clients = calloc(share->count, sizeof(*share->clients));
    if (share->clients == NULL || (!share->setup.transport->loses && !make_rings(share)))
        return false;
    for (size_t i = 0; i < share->count; i++) {
        struct client *client = &share->clients[i];

        client_init(client, &share->setup, first + i * options->threads);
        client->target = target_of(options, client->number);
        if (share->due != NULL)
            client->due = share->due + i * (share->ring_mask + 1);
    }
    return true;
}

static bool set_up(struct share *share)
{
    const struct common *common = share->common;
    bool is_udp = common->options->endpoint.transport == ENDPOINT_UDP;

    share->setup = (struct client_setup){
        .base = share->base,
        .transport = is_udp ? &datagram_transport : &stream_transport,
        .target = common->target,
        .size = common->options->size,
        .needs_eof = common->mode->needs_eof,
        .timeout = common->options->timeout * NS_PER_MS,
        .security = common->security,
        .proxy = common->options->proxy,
        .buffer = is_udp ? NULL : malloc(PIECE_MAX),
        .batch = is_udp ? batch_new(common->options->size) : NULL,
        .tally = &share->tally,
        .handler = &handler,
        .context = share,
    };
    return (share->setup.buffer != NULL || share->setup.batch != NULL) && make_clients(share);
}

struct share *share_new(struct common *common, unsigned number)
{
    struct share *share = aligned_alloc(_Alignof(struct share), sizeof(*share));

    if (share == NULL)
        return NULL;
    *share = (struct share){ .common = common, .number = number, .timer_fd = -1 };
    share->base = reactor_new(NULL);
    if (share->base == NULL)
        goto fail;
    share->go = event_new(share->base, common->go_fd, EV_READ | EV_PERSIST, on_go, share);
    share->stop = event_new(share->base, common->stop_fd, EV_READ | EV_PERSIST, on_stop, share);
    share->tick = event_new(share->base, -1, EV_PERSIST, on_tick, share);
    share->deadline = event_new(share->base, -1, 0, on_deadline, share);
    if (share->go != NULL && share->stop != NULL && share->tick != NULL &&
        share->deadline != NULL && set_up(share))
        return share;
fail:
    share_free(share);
    return NULL;
}

void share_free(struct share *share)
{
    if (share == NULL)
        return;
    reactor_free_event(share->go);
    reactor_free_event(share->stop);
    reactor_free_event(share->tick);
    reactor_free_event(share->deadline);
    reactor_free_event(share->timer);
    if (share->timer_fd >= 0)
        close(share->timer_fd);
    if (share->base != NULL)
        event_base_free(share->base);
    free(share->setup.buffer);
    free(share->setup.batch);
    free(share->clients);
    free(share->due);
    free(share);
}

void *share_run(void *argument)
{
    struct share *share = argument;

    event_add(share->go, NULL);
    event_add(share->stop, NULL);
    reactor_start_timer(share->tick, TICK_MS);
    share->connecting = share->open = share->count;
    for (size_t i = 0; i < share->count; i++)
        client_connect(&share->clients[i]);
    while (share->open > 0)
        event_base_loop(share->base, EVLOOP_ONCE);
    eventfd_write(share->common->ended_fd, 1);
    return NULL;
}
