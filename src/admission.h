/*
 * admission: which clients a worker serves, by what they are and by how many of their source came
 * before; asked before any memory is spent on them.
 */
#ifndef ECHOD_ADMISSION_H
#define ECHOD_ADMISSION_H

#include <stdint.h>

#include "access.h"
#include "address.h"
#include "quota.h"
#include "rates.h"
#include "stats.h"

/* Of one worker; what is NULL limits nothing, so all zero lets everyone in. */
struct admission {
    unsigned worker;
    const struct access_rules *access; /* whom at all */
    struct quota *quota;               /* connections at a time */
    struct rates *rates;               /* new connections */
};

/* What is not refused. */
enum { ADMITTED = REFUSE_REASONS };

/*
 * Lets a connection of CLIENT in at NOW, in ms on clock_ms: returns ADMITTED, and its source has
 * one place less until admission_leave; or returns why it is refused, an enum refuse_reason. Lists
 * and limits are for those that come over IP: a process of this machine is let in.
 */
unsigned admission_enter(const struct admission *admission, const struct address *client,
                         int64_t now);

/* A connection of CLIENT that was let in is gone. */
void admission_leave(const struct admission *admission, const struct address *client);

/*
 * Counts at STATS, and logs, that CLIENT was refused; VIA is the load balancer that named it, NULL
 * when there is none.
 */
void admission_refuse(struct stats_block *stats, const struct address *client,
                      const struct address *via, enum refuse_reason reason);

#endif
