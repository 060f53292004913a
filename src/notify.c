#include "notify.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"
#include "unixsocket.h"

enum { TEXT_MAX = 128 };

struct notify {
    int fd; /* a datagram socket */
    struct sockaddr_un manager;
    socklen_t manager_length;
    struct notify_facts facts;
    const char *state; /* what we do, as a word of STATUS; NULL: nothing that it has to know yet */
    uint64_t told;     /* connections, in the last STATUS */
    char owed[TEXT_MAX]; /* a change of state that it had no room for */
    struct event *tick;
    struct event *alive;    /* pending: we are to say so... */
    int64_t alive_interval; /* ... as often, in ms; 0: never */
};

static bool connect_manager(struct notify *notify)
{
    return connect(notify->fd, (struct sockaddr *) &notify->manager, notify->manager_length) == 0;
}

/* False: it has no room now, or is gone. */
static bool tell(struct notify *notify, const char *text)
{
    ssize_t sent = send(notify->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0 && (errno == ECONNREFUSED || errno == ENOTCONN) && connect_manager(notify))
        sent = send(notify->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent >= 0;
}

/* A newer state takes the place of one that is owed. */
static void tell_state(struct notify *notify, const char *text)
{
    snprintf(notify->owed, sizeof(notify->owed), "%s", text);
    if (tell(notify, text))
        notify->owed[0] = '\0';
}

/* CHANGE, if any, with STATUS. */
static void tell_status(struct notify *notify, const char *change)
{
    uint64_t now = notify->facts.connections(notify->facts.context);
    char text[TEXT_MAX];

    snprintf(text, sizeof(text), "%sSTATUS=%s, %" PRIu64 " connection%s", change, notify->state,
             now, now == 1 ? "" : "s");
    if (change[0] != '\0')
        tell_state(notify, text);
    else if (!tell(notify, text))
        return; /* next time */
    notify->told = now;
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct notify *notify = context;

    (void) fd;
    (void) what;
    if (notify->owed[0] != '\0' && !tell(notify, notify->owed))
        return;
    notify->owed[0] = '\0';
    if (notify->state != NULL && notify->facts.connections(notify->facts.context) != notify->told)
        tell_status(notify, "");
}

static void on_alive(evutil_socket_t fd, short what, void *context)
{
    struct notify *notify = context;
    int64_t next = notify->alive_interval;

    (void) fd;
    (void) what;
    if (notify->facts.is_well(notify->facts.context))
        tell(notify, "WATCHDOG=1");
    else if (next > NOTIFY_WELL_MS)
        next = NOTIFY_WELL_MS;
    reactor_start_timer(notify->alive, next);
}

/* A decimal number of the environment; 0: there is none. */
static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);
    size_t digits = text != NULL ? strspn(text, "0123456789") : 0;

    return digits > 0 && text[digits] == '\0' ? strtoull(text, NULL, 10) : 0;
}

/* How often we have to say that we are alive; 0: never. */
static int64_t alive_interval_ms(void)
{
    uint64_t limit = number_of("WATCHDOG_USEC") / 1000, pid = number_of("WATCHDOG_PID");

    if (limit == 0 || limit > INT32_MAX || (pid != 0 && pid != (uint64_t) getpid()))
        return 0;
    return limit < 2 ? 1 : (int64_t) limit / 2;
}

static bool open_manager(struct notify *notify, const char *name)
{
    if (strlen(name) >= sizeof(notify->manager.sun_path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    notify->manager_length = unixsocket_address(name, &notify->manager);
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return notify->fd >= 0 && connect_manager(notify);
}

static bool make_timers(struct notify *notify, struct event_base *base)
{
    notify->tick = event_new(base, -1, EV_PERSIST, on_tick, notify);
    notify->alive = event_new(base, -1, 0, on_alive, notify);
    if (notify->tick == NULL || notify->alive == NULL)
        return false;
    reactor_start_timer(notify->tick, NOTIFY_STATUS_MS);
    notify->alive_interval = alive_interval_ms();
    if (notify->alive_interval > 0)
        reactor_start_timer(notify->alive, notify->alive_interval);
    return true;
}

struct notify *notify_new(struct event_base *base, const struct notify_facts *facts)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct notify *notify;

    if (name == NULL || name[0] == '\0')
        return NULL;
    notify = calloc(1, sizeof(*notify));
    if (notify != NULL) {
        *notify = (struct notify){ .fd = -1, .facts = *facts };
        if (open_manager(notify, name) && make_timers(notify, base))
            return notify;
    }
    log_failure(LOG_WARNING, "notify-failed", name, errno);
    notify_free(notify);
    return NULL;
}

void notify_free(struct notify *notify)
{
    if (notify == NULL)
        return;
    reactor_free_event(notify->tick);
    reactor_free_event(notify->alive);
    if (notify->fd >= 0)
        close(notify->fd);
    free(notify);
}

void notify_ready(struct notify *notify)
{
    if (notify == NULL)
        return;
    notify->state = "Serving";
    tell_status(notify, "READY=1\n");
}

void notify_reloading(struct notify *notify)
{
    char text[TEXT_MAX];

    if (notify == NULL)
        return;
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_ns() / 1000);
    tell_state(notify, text);
}

void notify_stopping(struct notify *notify, int64_t most)
{
    char change[TEXT_MAX];

    if (notify == NULL)
        return;
    notify->state = "Draining";
    snprintf(change, sizeof(change), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64 "\n", most * 1000);
    tell_status(notify, change);
}
