/* run: all threads, from the first connection to the last answer; and what came of it. */
#ifndef ECHOD_PROBE_RUN_H
#define ECHOD_PROBE_RUN_H

#include <stdbool.h>

#include "options.h"
#include "security.h"
#include "tally.h"
#include "target.h"

/*
 * Does what OPTIONS ask for, at TARGET, under SECURITY (NULL: none), and adds what came of it to
 * TALLY, which is zero. SIGINT and SIGTERM end the sending; a second one ends the process. Why
 * connections failed is told on stderr, each reason once. False, told as well: it could not run.
 */
bool run_all(const struct probe_options *options, const struct target *target,
             const struct security *security, struct tally *tally);

#endif
