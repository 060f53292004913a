#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "defaults.h"
#include "log.h"
#include "reactor.h"

#define WORKERS_MOST 1024
#define CONNECTIONS_MOST 1000000000
#define RATE_MOST 1000000000

static cmdline_setter set_workers, set_model, set_backend;
static void list_backends(const struct cmdline *cmdline);

#define TARGET(member) .target = offsetof(struct options, member)
#define RANGE(lowest, highest) .least = (lowest), .most = (highest)

static const struct cmdline_option table[] = {
    { "workers", 'w', "N|auto", set_workers, TARGET(workers), RANGE(1, WORKERS_MOST),
      .help = "reactors; auto: one per processor (default 1)" },
    { "model", 0, "process|thread", set_model,
      .help = "what a worker is (default process)" },
    { "backend", 'b', "NAME", set_backend,
      .help = "event demultiplexer (default: the best)" },
    { "list-backends", .answer = list_backends,
      .help = "print those that this build has and exit" },
    { "max-connections", 'm', "N", cmdline_number, TARGET(max_connections),
      RANGE(0, CONNECTIONS_MOST), .help = "serve N at a time; 0: no limit (default)" },
    { "udp-rate", 0, "N", cmdline_number, TARGET(udp_rate), RANGE(0, RATE_MOST),
      .help = "datagrams/s per source; 0: no limit (default 1000)" },
    { "idle-timeout", 'i', "TIME", cmdline_time, TARGET(idle_timeout),
      RANGE(0, CMDLINE_TIME_MOST), .help = "close what is idle for so long; 0: never (default)" },
    { "handshake-timeout", 0, "TIME", cmdline_time, TARGET(handshake_timeout),
      RANGE(1, CMDLINE_TIME_MOST), .help = "for a TLS handshake or PROXY header (default 10s)" },
    { "drain-timeout", 0, "TIME", cmdline_time, TARGET(drain_timeout),
      RANGE(0, CMDLINE_TIME_MOST), .help = "what connections get at shutdown (default 10s)" },
    { "pid-file", 0, "FILE", cmdline_text, TARGET(pid_file),
      .help = "keep the process id here while serving" },
    { "verbose", 'v', NULL, cmdline_count, TARGET(verbose),
      .help = "log who sent something; -vv: everyone, and what" },
    { "quiet", 'q', NULL, cmdline_flag, TARGET(quiet),
      .help = "log errors only, not even where it listens" },
    { "syslog", 0, NULL, cmdline_flag, TARGET(to_syslog),
      .help = "log to the system log, not to stderr" },
    CMDLINE_STANDARD_OPTIONS,
};

static const struct cmdline cmdline = {
    .program = "echod",
    .usage = "Usage: echod [OPTION...] [ENDPOINT...]\n"
             "Sends back what it receives (RFC 862), until the peer is done.\n\n",
    .notes = "\nENDPOINT: [echo+]tcp://HOST:PORT, an IPv6 HOST in brackets, * for all addresses,\n"
             "and port 0 for a free one; short: HOST:PORT, :PORT (all) or PORT (localhost).\n"
             "[echo+]udp://HOST:PORT in the same way.\n"
             "[echo+]unix:///PATH or unix://@NAME, with ?mode=OCTAL for the file.\n"
             "Default: " DEFAULT_ENDPOINT "\n"
             "TIME: a decimal number with ms, s, m or h (default s)\n",
    .table = table,
    .count = sizeof(table) / sizeof(table[0]),
};

static const char *set_workers(const struct cmdline_option *option, void *target,
                               const char *value)
{
    struct options *options = target;
    long online;

    if (strcmp(value, "auto") != 0)
        return cmdline_number(option, options, value);
    online = sysconf(_SC_NPROCESSORS_ONLN);
    options->workers = online < 1 ? 1 : online > WORKERS_MOST ? WORKERS_MOST : (uint64_t) online;
    return NULL;
}

static const char *set_model(const struct cmdline_option *option, void *target, const char *value)
{
    struct options *options = target;

    (void) option;
    if (strcmp(value, "process") == 0)
        options->model = SPAWN_PROCESS;
    else if (strcmp(value, "thread") == 0)
        options->model = SPAWN_THREAD;
    else
        return "unknown model";
    return NULL;
}

static const char *set_backend(const struct cmdline_option *option, void *target,
                               const char *value)
{
    struct options *options = target;

    (void) option;
    options->backend = value;
    return reactor_has_backend(value) ? NULL : "unknown backend";
}

static void list_backends(const struct cmdline *unused)
{
    (void) unused;
    for (const char **method = reactor_backends(); *method != NULL; method++)
        puts(*method);
}

/* What an endpoint may ask for, but not of this build. */
static const char *unsupported(const struct endpoint *endpoint)
{
    if (endpoint->transport == ENDPOINT_TLS)
        return "unknown transport";
    return endpoint->proxy != NULL ? "unknown endpoint key" : NULL;
}

static enum cmdline_result parse_endpoints(struct options *options, char **texts, size_t count)
{
    static char *fallback[] = { DEFAULT_ENDPOINT };

    if (count == 0) {
        texts = fallback;
        count = 1;
    }
    options->endpoints = calloc(count, sizeof(*options->endpoints));
    if (options->endpoints == NULL)
        return cmdline_wrong("out of memory", texts[0]);
    for (; options->endpoint_count < count; options->endpoint_count++) {
        size_t i = options->endpoint_count;
        const char *wrong = endpoint_parse(texts[i], &options->endpoints[i]);

        if (wrong == NULL)
            wrong = unsupported(&options->endpoints[i]);
        if (wrong != NULL)
            return cmdline_wrong(wrong, texts[i]);
    }
    return CMDLINE_RUN;
}

enum cmdline_result options_parse(struct options *options, int argc, char **argv)
{
    enum cmdline_result result;
    int rest;

    *options = (struct options){
        .workers = 1,
        .model = SPAWN_PROCESS,
        .udp_rate = DEFAULT_UDP_RATE,
        .handshake_timeout = DEFAULT_HANDSHAKE_TIMEOUT_MS,
        .drain_timeout = DEFAULT_DRAIN_TIMEOUT_MS,
    };
    result = cmdline_parse(&cmdline, options, argc, argv, &rest);
    if (result != CMDLINE_RUN)
        return result;
    if (options->quiet && options->verbose > 0)
        return cmdline_wrong("contradictory options", "--quiet --verbose");
    return parse_endpoints(options, argv + rest, (size_t) (argc - rest));
}

void options_free(struct options *options)
{
    free(options->endpoints);
    *options = (struct options){ 0 };
}

int options_log_threshold(const struct options *options)
{
    if (options->quiet)
        return LOG_ERR;
    return options->verbose == 0 ? LOG_NOTICE : options->verbose == 1 ? LOG_INFO : LOG_DEBUG;
}
