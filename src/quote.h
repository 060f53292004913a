/*
 * quote: text between double quotes, as JSON, Prometheus' text and OpenMetrics all read it.
 *
 * They agree on \\, \" and \n. A byte that is not printable ASCII is written as the log shows it:
 * as the four characters \xNN, so that any path can be told, also one that is no valid UTF-8.
 */
#ifndef ECHOD_QUOTE_H
#define ECHOD_QUOTE_H

#include <stdbool.h>

struct evbuffer;

/* Appends TEXT, quoted, to OUT. False: no memory; a part may be there. */
bool quote_add(struct evbuffer *out, const char *text);

#endif
