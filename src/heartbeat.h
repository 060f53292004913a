/*
 * heartbeat: who of those that are asked for a sign of life, again and again, gives none.
 *
 * Silence is counted in questions that were asked and not in time. So nobody is taken to hang
 * because the one who asks, or the whole machine, stood still: then it did not ask either.
 */
#ifndef ECHOD_HEARTBEAT_H
#define ECHOD_HEARTBEAT_H

#include <stdbool.h>

struct event_base;
struct heartbeat;

/* What is done about NUMBER, who was expected; none of these may call heartbeat_free. */
struct heartbeat_events {
    /* Ask for a sign of life. False: that was not possible, and nobody can answer. */
    bool (*ask)(void *context, unsigned number);
    /* It is about to be judged: heartbeat_answered is called now if its answer is there. */
    void (*look)(void *context, unsigned number);
    /* It owes an answer to several questions, or does not any more. */
    void (*silent)(void *context, unsigned number, bool is_silent);
    /* It will not answer any more, or never began; told at each question until it is forgotten. */
    void (*hung)(void *context, unsigned number);
    void *context;
};

/* Asks COUNT of them in BASE's loop, once they are expected; NULL: no memory. */
struct heartbeat *heartbeat_new(struct event_base *base, unsigned count,
                                const struct heartbeat_events *events);
void heartbeat_free(struct heartbeat *heartbeat);

/* NUMBER starts. It is not asked until it says something of its own accord. */
void heartbeat_expect(struct heartbeat *heartbeat, unsigned number);

/* A sign of life from NUMBER. */
void heartbeat_answered(struct heartbeat *heartbeat, unsigned number);

/* NUMBER is gone, if it ever was there. */
void heartbeat_forget(struct heartbeat *heartbeat, unsigned number);

bool heartbeat_is_silent(const struct heartbeat *heartbeat, unsigned number);

#endif
