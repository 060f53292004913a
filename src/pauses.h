/* pauses: the log's lines of listeners that pause, and go on: of each, one a second at most. */
#ifndef ECHOD_PAUSES_H
#define ECHOD_PAUSES_H

#include "limits.h"
#include "stats.h"

struct event_base;
struct pauses;

/* Watches what LIMITS, which have to outlive it, know of pauses. NULL: no memory. */
struct pauses *pauses_new(struct event_base *base, struct limits *limits);
void pauses_free(struct pauses *pauses);

/* A listener has paused for REASON, which may be nonsense. */
void pauses_saw(struct pauses *pauses, enum pause_reason reason);

#endif
