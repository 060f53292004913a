/* options: what the user of echod asked for on its command line. */
#ifndef ECHOD_OPTIONS_H
#define ECHOD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmdline.h"
#include "endpoint.h"
#include "spawn.h"

/* Const once it is parsed. Times are in milliseconds. */
struct options {
    uint64_t workers;
    enum spawn_model model;
    const char *backend;      /* NULL: the best */
    uint64_t max_connections; /* 0: no limit */
    uint64_t udp_rate;        /* datagrams a second per source; 0: no limit */
    uint64_t idle_timeout;    /* 0: never */
    uint64_t handshake_timeout;
    uint64_t drain_timeout;
    const char *pid_file; /* NULL: none */
    uint64_t verbose;
    bool quiet;
    bool to_syslog;
    struct endpoint *endpoints;
    size_t endpoint_count;
};

/*
 * Parses the command line into *OPTIONS, which keeps pointers into ARGV. options_free releases it,
 * whatever the result.
 */
enum cmdline_result options_parse(struct options *options, int argc, char **argv);
void options_free(struct options *options);

/* The least urgent priority to be logged. */
int options_log_threshold(const struct options *options);

#endif
