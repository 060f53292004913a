/* report: what came of it, for people or as JSON, on stdout. */
#ifndef ECHOD_PROBE_REPORT_H
#define ECHOD_PROBE_REPORT_H

#include "options.h"
#include "tally.h"

/* A summary of a few lines. */
void report_summary(const struct probe_options *options, const struct tally *tally);

/* One JSON object, on a line. */
void report_json(const struct probe_options *options, const struct tally *tally);

#endif
