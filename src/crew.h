/*
 * crew: the workers, started, watched and replaced; which of them accepts at which socket.
 *
 * A worker that dies, or hangs and is killed, is replaced: at once if it had settled, else after a
 * back-off that doubles, and meanwhile another one accepts at its sockets. No client is refused:
 * the sockets are open here all the time.
 */
#ifndef ECHOD_CREW_H
#define ECHOD_CREW_H

#include <stdbool.h>
#include <sys/types.h>

#include "worker.h"

struct crew;
struct event_base;

/* What the crew tells; none of these may call crew_free. */
struct crew_events {
    void (*ready)(void *context);  /* every worker serves, for the first time */
    /* One died before that, or it is a thread that hangs: it is only ended by ending us. */
    void (*failed)(void *context);
    void (*ended)(void *context);  /* after crew_drain: the last one is gone */
    void (*paused)(void *context, enum pause_reason reason);
    void (*shared)(void *context); /* no worker uses anything else than it was told last */
    void *context;
};

/* One of them, for those who look at us. */
struct crew_worker {
    pid_t pid; /* 0: it does not run; of a thread, that of us all */
    bool is_ready;  /* it serves, as far as it says... */
    bool is_silent; /* ... but it does not answer now */
};

/* A crew without workers yet; SETUP has to outlive it. NULL: no memory. */
struct crew *crew_new(struct event_base *base, const struct worker_setup *setup,
                      const struct crew_events *events);
void crew_free(struct crew *crew);

/* Starts the workers; false, with a line in the log: one could not be started. */
bool crew_start(struct crew *crew);

/* Some child process has ended (SIGCHLD): find out whether it was one of ours. */
void crew_reap(struct crew *crew);

/* Worker NUMBER, from 0, as it is now. */
struct crew_worker crew_worker(const struct crew *crew, unsigned number);

/* Do all workers that serve answer? */
bool crew_is_answering(const struct crew *crew);

/*
 * Of what SETUP has for all workers some has changed: CHANGED has bits, 1 << FRAME_TLS for the
 * credentials and 1 << FRAME_ACCESS for the access rules. Tells every worker, until it could take
 * them.
 */
void crew_share(struct crew *crew, unsigned changed);

/*
 * Tells every worker to drain; none is replaced from now on. One that is away is started once
 * more if clients would be left in its queue. To be called while the sockets are open.
 */
void crew_drain(struct crew *crew);

/*
 * Kills those that live still; what they served is counted as closed for REASON. False: some are
 * threads, which only end with us.
 */
bool crew_kill(struct crew *crew, enum close_reason reason);

#endif
