#include "reactor.h"

#include <event2/event.h>
#include <stddef.h>
#include <string.h>
#include <sys/select.h>

#include "defaults.h"

static void ignore(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    (void) context;
}

/*
 * The first timer has libevent make room for eight, which are all that a worker has. Should that be
 * when memory is short, nobody would be woken: not who drains, nor who waits for memory.
 */
static bool reserve_timers(struct event_base *base)
{
    const struct timeval hour = { .tv_sec = 3600 };
    struct event *timer = event_new(base, -1, 0, ignore, NULL);
    bool reserved = timer != NULL && event_add(timer, &hour) == 0;

    reactor_free_event(timer);
    return reserved;
}

/*
 * Between the events of a lower priority the demultiplexer is asked again when they take long: it
 * tells of at most 4096 at a time, and next of those that it did not tell of.
 */
static bool limit_rounds(struct event_config *config)
{
    const struct timeval most = { .tv_usec = ROUND_MS * 1000L };

    return event_config_set_max_dispatch_interval(config, &most, -1, REACTOR_FIRST + 1) == 0;
}

struct event_base *reactor_new(const char *backend)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config == NULL)
        return NULL;
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) != 0 ||
        !limit_rounds(config))
        goto out;
    for (const char **other = reactor_backends(); *other != NULL; other++)
        if (backend != NULL && strcmp(*other, backend) != 0 &&
            event_config_avoid_method(config, *other) != 0)
            goto out;
    base = event_base_new_with_config(config);
    if (base != NULL && (event_base_priority_init(base, REACTOR_PRIORITIES) != 0 ||
                         !reserve_timers(base))) {
        event_base_free(base);
        base = NULL;
    }
out:
    event_config_free(config);
    return base;
}

const char **reactor_backends(void)
{
    /* libevent frees the array at the next call: one that is asked for by threads has to stay. */
    static const char **backends, *none[] = { NULL };

    if (backends == NULL)
        backends = event_get_supported_methods();
    return backends != NULL ? backends : none; /* no memory */
}

bool reactor_has_backend(const char *name)
{
    for (const char **method = reactor_backends(); *method != NULL; method++)
        if (strcmp(*method, name) == 0)
            return true;
    return false;
}

unsigned reactor_descriptor_limit(const char *backend)
{
    /* A hardened C library ends the process at the first larger descriptor in an fd_set. */
    return backend != NULL && strcmp(backend, "select") == 0 ? FD_SETSIZE : 0;
}

void reactor_start_timer(struct event *timer, int64_t ms)
{
    struct timeval delay = { .tv_sec = (time_t) (ms / 1000),
                             .tv_usec = (suseconds_t) (ms % 1000 * 1000) };

    event_add(timer, &delay);
}

void reactor_free_event(struct event *event)
{
    if (event != NULL)
        event_free(event);
}
