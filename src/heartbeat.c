#include "heartbeat.h"

#include <event2/event.h>
#include <stdlib.h>

#include "defaults.h"
#include "reactor.h"

enum phase {
    AWAY,     /* nothing is expected of it */
    STARTING, /* its first sign of life is */
    ASKED,    /* answers are */
};

struct pulse {
    enum phase phase;
    bool is_awaited; /* the last question is not answered */
    unsigned missed; /* questions in a row for whose answer there was time, and none came */
};

struct heartbeat {
    struct heartbeat_events events;
    struct event *timer; /* one for all */
    unsigned count;
    struct pulse pulses[];
};

static bool is_silent(const struct pulse *pulse)
{
    return pulse->phase == ASKED && pulse->missed >= HEARTBEATS_SILENT;
}

static bool is_hung(const struct pulse *pulse)
{
    return pulse->missed >= (pulse->phase == ASKED ? HEARTBEATS_HUNG : HEARTBEATS_STARTING);
}

/* The time for the answer is over. False: it hangs, and may be forgotten now. */
static bool judge(struct heartbeat *heartbeat, unsigned number)
{
    const struct heartbeat_events *events = &heartbeat->events;
    struct pulse *pulse = &heartbeat->pulses[number];

    events->look(events->context, number);
    if (!pulse->is_awaited)
        return true;
    pulse->missed++;
    if (is_silent(pulse) && pulse->missed == HEARTBEATS_SILENT)
        events->silent(events->context, number, true);
    if (!is_hung(pulse))
        return true;
    events->hung(events->context, number);
    return false;
}

static void beat(struct heartbeat *heartbeat, unsigned number)
{
    const struct heartbeat_events *events = &heartbeat->events;
    struct pulse *pulse = &heartbeat->pulses[number];

    if (pulse->is_awaited && !judge(heartbeat, number))
        return;
    if (pulse->phase != ASKED)
        return;
    pulse->is_awaited = true; /* before: the answer may come at once */
    if (!events->ask(events->context, number))
        pulse->is_awaited = false;
}

/* It is started again here, so that a time in which we stood still makes one beat of many. */
static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct heartbeat *heartbeat = context;

    (void) fd;
    (void) what;
    for (unsigned i = 0; i < heartbeat->count; i++)
        beat(heartbeat, i);
    reactor_start_timer(heartbeat->timer, HEARTBEAT_MS);
}

struct heartbeat *heartbeat_new(struct event_base *base, unsigned count,
                                const struct heartbeat_events *events)
{
    struct heartbeat *heartbeat = calloc(1, sizeof(*heartbeat) + count * sizeof(struct pulse));

    if (heartbeat == NULL)
        return NULL;
    heartbeat->events = *events;
    heartbeat->count = count;
    heartbeat->timer = event_new(base, -1, 0, on_timer, heartbeat);
    if (heartbeat->timer == NULL) {
        heartbeat_free(heartbeat);
        return NULL;
    }
    reactor_start_timer(heartbeat->timer, HEARTBEAT_MS);
    return heartbeat;
}

void heartbeat_free(struct heartbeat *heartbeat)
{
    if (heartbeat == NULL)
        return;
    reactor_free_event(heartbeat->timer);
    free(heartbeat);
}

void heartbeat_expect(struct heartbeat *heartbeat, unsigned number)
{
    heartbeat->pulses[number] = (struct pulse){ .phase = STARTING, .is_awaited = true };
}

void heartbeat_answered(struct heartbeat *heartbeat, unsigned number)
{
    struct pulse *pulse = &heartbeat->pulses[number];
    bool was_silent = is_silent(pulse);

    if (pulse->phase == AWAY)
        return;
    *pulse = (struct pulse){ .phase = ASKED };
    if (was_silent)
        heartbeat->events.silent(heartbeat->events.context, number, false);
}

void heartbeat_forget(struct heartbeat *heartbeat, unsigned number)
{
    heartbeat->pulses[number] = (struct pulse){ .phase = AWAY };
}

bool heartbeat_is_silent(const struct heartbeat *heartbeat, unsigned number)
{
    return is_silent(&heartbeat->pulses[number]);
}
