/* options: what the user of echoprobe asked for on its command line. */
#ifndef ECHOD_PROBE_OPTIONS_H
#define ECHOD_PROBE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "../cmdline.h"
#include "../endpoint.h"

enum probe_mode {
    PROBE_PING,       /* a message an interval, a line each */
    PROBE_CLOSED,     /* each answer is followed by the next message */
    PROBE_OPEN,       /* messages at a rate, whatever the answers do */
    PROBE_HALF_CLOSE, /* all at once, then FIN; all back, then EOF */
    PROBE_MODES
};

/* proxy_write_v1 or proxy_write_v2. */
typedef size_t proxy_writer(const struct address *client, const struct address *destination,
                            char *out);

/* Const once it is parsed. Times are in milliseconds. */
struct probe_options {
    enum probe_mode mode;
    struct endpoint endpoint;
    uint64_t count; /* messages in all; 0: no limit */
    uint64_t size;  /* of a message, in bytes */
    uint64_t interval;
    uint64_t connections;
    uint64_t threads;
    uint64_t duration;  /* 0: no limit */
    uint64_t in_flight; /* messages on their way on a connection; 0: no limit (open loop only) */
    uint64_t rate;      /* messages a second in all, in the open loop */
    uint64_t timeout;   /* for a connection, and for an answer */
    proxy_writer *proxy; /* NULL: no header */
    const char *tls_ca; /* a file; NULL: the system's store */
    bool insecure;
    bool load, half_close;
    bool json, plot;
};

/* Parses the command line into *OPTIONS, which keeps pointers into ARGV. */
enum cmdline_result probe_options_parse(struct probe_options *options, int argc, char **argv);

/* As --json has it. */
const char *probe_mode_name(enum probe_mode mode);

#endif
