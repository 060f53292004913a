/*
 * notify: what a service manager is told of us (sd_notify(3)): that we serve, reload, shut down,
 * are alive, and how many connections there are.
 *
 * Never waits: sd_notify itself would, for as long as the manager does not read, and we would be
 * deaf to signals and to workers that die. Connected once, so a later chroot does no harm.
 */
#ifndef ECHOD_NOTIFY_H
#define ECHOD_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct notify;

/* What the manager is told, when it is asked for. */
struct notify_facts {
    uint64_t (*connections)(void *context); /* served now */
    bool (*is_well)(void *context);         /* that we are alive can be said of all of us */
    void *context;
};

/*
 * Connects to the manager that NOTIFY_SOCKET names. From then on, in BASE's loop, it is told how
 * many connections there are, when that has changed, and that we are alive, if WATCHDOG_USEC asks
 * for it: while we are not well that waits until we are. NULL: there is none, or with a line in the
 * log, it cannot be reached. All else may be given NULL.
 */
struct notify *notify_new(struct event_base *base, const struct notify_facts *facts);
void notify_free(struct notify *notify);

/* We serve: for the first time, or again after notify_reloading. */
void notify_ready(struct notify *notify);
void notify_reloading(struct notify *notify);

/* We shut down, which may take so many milliseconds. */
void notify_stopping(struct notify *notify, int64_t most);

#endif
