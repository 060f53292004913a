/*
 * The open loop: messages are due at a steady rate, whatever the answers do, on each connection in
 * turn.
 *
 * When a message is due follows from its number, so what cannot be sent yet waits as a mere count,
 * however long the server stalls.
 */
#include <errno.h>
#include <event2/event.h>
#include <sys/timerfd.h>

#include "../clock.h"
#include "defaults.h"
#include "modes.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t number_of(const struct share *share, const struct client *client, uint64_t message)
{
    return message * share->common->options->connections + client->number;
}

static uint64_t due(const struct share *share, const struct client *client, uint64_t message)
{
    uint64_t rate = share->common->options->rate;
    uint64_t number = number_of(share, client, message);

    return share->began_at + number / rate * NS_PER_S + number % rate * NS_PER_S / rate;
}

/* The client that the share's NEXTth message goes to. */
static struct client *client_of(const struct share *share, uint64_t next)
{
    return &share->clients[next % share->count];
}

/* When the share's next message is due; UINT64_MAX: there is none. */
static uint64_t next_due(const struct share *share)
{
    const struct client *client = client_of(share, share->next);
    uint64_t message = share->next / share->count;

    if (number_of(share, client, message) >= share->common->options->count)
        return UINT64_MAX;
    return due(share, client, message);
}

/* Allows what is due, within what may be in flight. */
static void feed(const struct share *share, struct client *client, uint64_t now)
{
    uint64_t most = share->common->options->in_flight;
    uint64_t waiting = client->scheduled - client->allowed;
    uint64_t in_flight = client->allowed - client->settled;

    if (most > 0 && waiting > most - in_flight)
        waiting = most - in_flight;
    if (waiting > 0)
        client_allow(client, waiting, now);
}

/*
 * What is due goes out in one batch, a send for each connection. If that is very much the rest has
 * to wait until others have had their turn: the timer fires again at once.
 */
static void send_due(struct share *share, uint64_t now)
{
    uint64_t first = share->next, last;

    while (next_due(share) <= now && share->next - first < BATCH_MOST) {
        struct client *client = client_of(share, share->next++);

        if (client->phase == CLIENT_OPEN)
            client->scheduled++;
    }
    last = share->next - first > share->count ? first + share->count : share->next;
    for (uint64_t i = first; i < last; i++) {
        feed(share, client_of(share, i), now);
        client_push(client_of(share, i));
    }
}

static void on_due(evutil_socket_t fd, short what, void *context)
{
    struct share *share = context;
    struct itimerspec timer = { 0 };
    uint64_t next;

    (void) what;
    send_due(share, clock_ns());
    next = next_due(share);
    if (next == UINT64_MAX) {
        share_stop(share);
        return;
    }
    timer.it_value.tv_sec = (time_t) (next / NS_PER_S);
    timer.it_value.tv_nsec = (long) (next % NS_PER_S);
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer, NULL); /* which also makes it unreadable */
}

/* libevent's own timers are as coarse as a millisecond. */
static bool begin(struct share *share)
{
    share->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (share->timer_fd < 0)
        return false;
    share->timer = event_new(share->base, share->timer_fd, EV_READ | EV_PERSIST, on_due, share);
    if (share->timer == NULL) {
        errno = ENOMEM;
        return false;
    }
    event_add(share->timer, NULL);
    on_due(share->timer_fd, 0, share);
    return true;
}

static void on_answered(struct share *share, struct client *client, uint64_t first,
                        uint64_t messages, uint64_t corrupt)
{
    (void) first;
    (void) messages;
    (void) corrupt;
    feed(share, client, client->moved_at);
}

static void on_lost(struct share *share, struct client *client, uint64_t message)
{
    (void) message;
    feed(share, client, clock_ns());
}

const struct mode open_mode = {
    .begin = begin,
    .answered = on_answered,
    .lost = on_lost,
    .due = due,
};
