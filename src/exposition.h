/*
 * exposition: the counters as text for Prometheus and its like: pure, no I/O.
 *
 * Names, labels and reasons are those of the interface; every series is there from the start. A
 * stream's endpoint has series of connections, one of datagrams has those of datagrams; addresses
 * of the same name, as a service manager may pass them, are one endpoint.
 */
#ifndef ECHOD_EXPOSITION_H
#define ECHOD_EXPOSITION_H

#include <stdbool.h>

struct evbuffer;
struct sockets;
struct stats;

enum exposition_format {
    EXPOSITION_PROMETHEUS,  /* Prometheus' text format 0.0.4 */
    EXPOSITION_OPENMETRICS, /* OpenMetrics 1.0.0 */
};

/* What is told; nothing of it is kept. */
struct exposition {
    struct stats *stats;
    const struct sockets *sockets; /* those that STATS counts for */
    const char *backend;
};

/* Appends all of FACTS to OUT in FORMAT. False: no memory; a part may be there. */
bool exposition_write(struct evbuffer *out, const struct exposition *facts,
                      enum exposition_format format);

/*
 * The format that suits best whoever sent this Accept header (RFC 9110, 12.5.1); NULL: none was
 * sent. Prometheus' text, if none of them is acceptable or both are equally so, but not named.
 */
enum exposition_format exposition_choose(const char *accept);

/* The value of Content-Type. */
const char *exposition_content_type(enum exposition_format format);

#endif
