/* parts: what the supervisor works with, opened one after another before anything begins. */
#ifndef ECHOD_PARTS_H
#define ECHOD_PARTS_H

#include "access_config.h"
#include "activation.h"
#include "options.h"
#include "pidfile.h"
#include "privileges.h"
#include "sockets.h"
#include "supervisor.h"
#include "tls_config.h"

/* All of them; those that nobody asked for are not opened. */
struct parts {
    struct supervisor_parts given; /* to the supervisor */
    struct options *options;
    const struct activation *passed;
    struct privileges privileges;
    struct access_config access;
    struct pidfile pidfile;
    struct sockets sockets, metrics;
    struct tls_config tls;
    unsigned opened; /* steps so far */
};

/*
 * Opens what OPTIONS ask for and takes the sockets that were PASSED; both have to outlive *PARTS,
 * as have SERVICES, indexed by enum endpoint_service. Returns 0, and the caller closes *PARTS; or
 * the status to exit with: what is wrong has been told, and nothing stays open.
 */
int parts_open(struct parts *parts, struct options *options, const struct activation *passed,
               const struct service *const *services);
void parts_close(struct parts *parts);

#endif
