/* worker: one reactor with its listeners and connections, until it has drained. */
#ifndef ECHOD_WORKER_H
#define ECHOD_WORKER_H

#include "access_config.h"
#include "limits.h"
#include "options.h"
#include "quota.h"
#include "rates.h"
#include "service.h"
#include "sockets.h"
#include "stats.h"
#include "tls_config.h"

/* What supervisor and worker say to each other over the worker's channel. */
enum worker_frame {
    /*
     * To the worker: serve new TLS connections with the sealed credentials that come along; let in
     * whom the sealed access rules permit. Back: I do, or I can not now, as a bool in the payload.
     */
    FRAME_TLS,
    FRAME_ACCESS,
    SHARED_FRAMES, /* how many there are of that kind: before these */
    /* To the worker: the bus of a service, whose number is the payload (32 bits). */
    FRAME_BUS = SHARED_FRAMES,
    /* To the worker: accept at the descriptor that comes along, as struct worker_listen says. */
    FRAME_LISTEN,
    /* To the worker: no longer accept what is WORKER's (its number is the payload). */
    FRAME_RELEASE,
    /* To the worker: you have all your sockets. Back: I serve. */
    FRAME_READY,
    /* To the worker: finish, and end. */
    FRAME_DRAIN,
    /* Both ways: a connection slot is free that somebody may be waiting for. */
    FRAME_SLOT,
    /* To the worker: are you alive? Back, from its event loop: I am. */
    FRAME_BEAT,
    /* To the supervisor: listeners pause; the payload is why (enum pause_reason, 32 bits). */
    FRAME_PAUSED,
};

/* FRAME_LISTEN's payload. */
struct worker_listen {
    uint32_t address; /* index in the list of sockets */
    uint32_t owner;   /* the worker whose socket it is */
};

/* What a worker is given to start with; const, and shared by all. */
struct worker_setup {
    const struct options *options;
    const struct sockets *sockets; /* for what they are; the descriptors come by channel */
    const struct service *const *services; /* by enum endpoint_service */
    const struct tls_config *tls;       /* NULL: no endpoint needs it */
    const struct access_config *access; /* NULL: everybody is let in */
    struct stats *stats;
    struct limits *limits;
    struct quota *quota;          /* connections per source; NULL: no limit, as of the others */
    struct rates *accept_rates;
    struct rates *datagram_rates;
    bool is_sandboxed; /* a worker makes only the system calls that it needs */
};

/*
 * Runs worker number NUMBER until it has drained, as told by the channel over FD (which it owns),
 * or because that ended. Returns an exit status.
 */
int worker_run(const struct worker_setup *setup, unsigned number, int fd);

#endif
