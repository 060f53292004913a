/* run: all threads, from the first connection to the last answer; and what came of it. */
#ifndef ECHOD_PROBE_RUN_H
#define ECHOD_PROBE_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "../endpoint.h"
#include "options.h"
#include "tally.h"

/*
 * Does what OPTIONS ask for, at ADDRESSES, which are tried in turn, and adds what came of it to
 * TALLY, which is zero. SIGINT and SIGTERM end the sending; a second one ends the process. Why
 * connections failed is told on stderr, each reason once. False, told as well: it could not run.
 */
bool run_all(const struct probe_options *options, struct address *addresses, size_t count,
             struct tally *tally);

#endif
