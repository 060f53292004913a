/*
 * share: what one thread does: its part of the connections, on a reactor of its own.
 *
 * All threads connect first, and begin together. A share has ended when its connections have.
 */
#ifndef ECHOD_PROBE_SHARE_H
#define ECHOD_PROBE_SHARE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client.h"
#include "options.h"
#include "tally.h"

struct event;
struct event_base;
struct mode;

/* What all threads have in common. */
struct common {
    const struct probe_options *options;
    const struct mode *mode;
    const struct target *target;
    const struct security *security; /* NULL: none */
    _Atomic uint64_t connecting; /* threads that still connect */
    _Atomic uint64_t began_at;   /* on clock_ns; 0: not yet */
    /* Descriptors that all threads watch, and none reads: */
    int go_fd;   /* readable: all have connected, begin */
    int stop_fd; /* readable: no more is to be sent */
    /* An eventfd, to which each thread adds one at its end. */
    int ended_fd;
    /* Tells the user WHY a connection to the target's address INDEX failed; from any thread. */
    void (*failed)(struct common *common, const char *why, size_t index);
};

struct share {
    struct common *common;
    unsigned number; /* of the threads */
    struct event_base *base;
    struct event *go, *stop, *tick, *deadline;
    struct client_setup setup;
    struct client *clients;
    size_t count;
    uint64_t *due;           /* the clients' rings, of streams ... */
    uint64_t ring_mask;      /* ... each of so many, and one */
    size_t connecting, open; /* clients that are so; open: or still connecting */
    uint64_t began_at;       /* the same for all, on clock_ns */
    bool is_stopping;        /* what was allowed comes back; nothing more is sent */
    struct tally tally;

    struct event *timer; /* the mode's */
    int timer_fd;        /* the same; -1: none */
    uint64_t next;       /* the same: the number of the next message */
};

/* How messages are sent, and what is done with answers. */
struct mode {
    bool needs_eof;
    /* All are connected: begin. False: no memory or no descriptor. */
    bool (*begin)(struct share *share);
    /*
     * So many MESSAGES of CLIENT, from number FIRST on, are back, of these so many CORRUPT. NULL:
     * it does not care.
     */
    void (*answered)(struct share *share, struct client *client, uint64_t first,
                     uint64_t messages, uint64_t corrupt);
    /* That MESSAGE is lost, of a transport that may lose one; NULL: it does not care. */
    void (*lost)(struct share *share, struct client *client, uint64_t message);
    /* When message number MESSAGE of CLIENT should have been sent, on clock_ns. */
    uint64_t (*due)(const struct share *share, const struct client *client, uint64_t message);
    /* Of streams: looks whether NOW an answer is missing, while CLIENT is open; NULL: it does
     * not care. */
    void (*check)(struct share *share, struct client *client, uint64_t now);
};

/* Share NUMBER; NULL: no memory, or no reactor. */
struct share *share_new(struct common *common, unsigned number);
void share_free(struct share *share);

/* All of it; a thread's start routine, with a struct share. Returns NULL. */
void *share_run(void *share);

/* CLIENT may send so many MESSAGES more, which are due NOW, but not more than its target. */
void share_allow(struct share *share, struct client *client, uint64_t messages, uint64_t now);

/* share_allow noted when: a mode's `due`. */
uint64_t share_due(const struct share *share, const struct client *client, uint64_t message);

/* Nothing more is allowed: the share ends when all is back, or at the timeout. */
void share_stop(struct share *share);

#endif
