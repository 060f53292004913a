/* supervisor: the life of the whole: workers, signals, readiness, drain. */
#ifndef ECHOD_SUPERVISOR_H
#define ECHOD_SUPERVISOR_H

#include "options.h"
#include "pidfile.h"
#include "privileges.h"
#include "service.h"
#include "sockets.h"
#include "tls_config.h"

/*
 * Serves at SOCKETS, which it closes at the drain, until a signal or a failure ends it. SERVICES
 * is indexed by enum endpoint_service; TLS is loaded anew by SIGHUP, or NULL if no endpoint needs
 * it; PIDFILE is written when all workers serve. PRIVILEGES are given up, for good, before the first
 * worker is started. Returns the exit status; should a thread refuse
 * to end, it ends the process with it instead.
 */
int supervisor_run(const struct options *options, struct sockets *sockets,
                   const struct service *const *services, struct tls_config *tls,
                   struct pidfile *pidfile, const struct privileges *privileges);

#endif
