/* supervisor: the life of the whole: workers, signals, readiness, drain. */
#ifndef ECHOD_SUPERVISOR_H
#define ECHOD_SUPERVISOR_H

#include "access_config.h"
#include "options.h"
#include "pidfile.h"
#include "privileges.h"
#include "service.h"
#include "sockets.h"
#include "tls_config.h"

/* What the supervisor works with. All of it outlives the supervisor. */
struct supervisor_parts {
    const struct options *options;
    const struct service *const *services; /* indexed by enum endpoint_service */
    struct sockets *sockets;               /* closed at the drain */
    struct sockets *metrics;               /* for HTTP; they stay open until the end */
    struct tls_config *tls;                /* NULL: no endpoint needs it */
    struct access_config *access;          /* NULL: everybody is let in */
    struct pidfile *pidfile;               /* written when all workers serve */
    const struct privileges *privileges;   /* given up for good before any worker is started */
};

/*
 * Serves until a signal or a failure ends it; TLS and access rules are loaded anew by SIGHUP.
 * Returns the exit status; should a thread refuse to end, it ends the process with it instead.
 */
int supervisor_run(const struct supervisor_parts *parts);

#endif
