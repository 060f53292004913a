#include "pauses.h"

#include <event2/event.h>
#include <stdlib.h>

#include "defaults.h"
#include "log.h"
#include "reactor.h"

/* With a bit per enum pause_reason. */
struct pauses {
    struct limits *limits;
    struct event *timer; /* pending: they were told of less than a second ago */
    uint32_t seen;       /* since they were last told */
    uint32_t told;       /* what the log has as paused */
};

static void tell_change(enum pause_reason reason, bool is_paused)
{
    struct log_line line;

    log_begin(&line, is_paused ? LOG_WARNING : LOG_NOTICE, is_paused ? "paused" : "resumed");
    log_text(&line, "reason", pause_reason_name(reason));
    log_end(&line);
}

/* Tells of each that began and each that ended. */
static void tell(struct pauses *pauses)
{
    uint32_t now = limits_paused(pauses->limits) | pauses->seen;
    uint32_t changed = now ^ pauses->told;

    for (int reason = 0; reason < PAUSE_REASONS; reason++)
        if (changed & 1u << reason)
            tell_change((enum pause_reason) reason, now & 1u << reason);
    pauses->told = now;
    pauses->seen = 0;
    if (now != 0 || changed != 0)
        reactor_start_timer(pauses->timer, PAUSE_LOG_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    tell(context);
}

struct pauses *pauses_new(struct event_base *base, struct limits *limits)
{
    struct pauses *pauses = calloc(1, sizeof(*pauses));

    if (pauses == NULL)
        return NULL;
    pauses->limits = limits;
    pauses->timer = event_new(base, -1, 0, on_timer, pauses);
    if (pauses->timer != NULL)
        return pauses;
    free(pauses);
    return NULL;
}

void pauses_free(struct pauses *pauses)
{
    if (pauses == NULL)
        return;
    reactor_free_event(pauses->timer);
    free(pauses);
}

void pauses_saw(struct pauses *pauses, enum pause_reason reason)
{
    if (reason < PAUSE_REASONS)
        pauses->seen |= 1u << reason;
    if (!event_pending(pauses->timer, EV_TIMEOUT, NULL))
        tell(pauses);
}
