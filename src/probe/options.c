#include "options.h"

#include <stdio.h>
#include <string.h>

#include "../proxy.h"
#include "config.h"
#include "defaults.h"

/* With these, what follows is computed within 64 bits. */
#define SIZE_MOST (UINT64_C(1) << 30)
#define COUNT_MOST UINT64_C(10000000000)
#define RATE_MOST 100000000
#define IN_FLIGHT_MOST 65536
#define CONNECTIONS_MOST 1000000
#define THREADS_MOST 1024

#define TARGET(member) .target = offsetof(struct probe_options, member)
#define RANGE(lowest, highest) .least = (lowest), .most = (highest)

static const char *set_proxy(const struct cmdline_option *option, void *options, const char *value)
{
    proxy_writer **proxy = &((struct probe_options *) options)->proxy;

    (void) option;
    if (strcmp(value, "v1") == 0)
        *proxy = proxy_write_v1;
    else if (strcmp(value, "v2") == 0)
        *proxy = proxy_write_v2;
    else
        return "neither v1 nor v2";
    return NULL;
}

static const struct cmdline_option table[] = {
    { "count", 'n', "N", cmdline_amount, TARGET(count), RANGE(1, COUNT_MOST),
      .help = "messages in all (default: no limit)" },
    { "size", 's', "N", cmdline_size, TARGET(size), RANGE(0, SIZE_MOST),
      .help = "bytes of a message (default 64)" },
    { "interval", 'i', "TIME", cmdline_time, TARGET(interval), RANGE(1, CMDLINE_TIME_MOST),
      .help = "time between pings (default 1s)" },
    { "connections", 'c', "N", cmdline_amount, TARGET(connections), RANGE(1, CONNECTIONS_MOST),
      .help = "connections at a time (default 1)" },
    { "duration", 'd', "TIME", cmdline_time, TARGET(duration), RANGE(1, CMDLINE_TIME_MOST),
      .help = "end after so long (loads without -n: 10s)" },
    { "in-flight", 'p', "N", cmdline_number, TARGET(in_flight), RANGE(1, IN_FLIGHT_MOST),
      .help = "messages in flight on each connection (1)" },
    { "load", .set = cmdline_flag, TARGET(load),
      .help = "closed loop: as fast as answers come" },
    { "rate", 0, "N", cmdline_amount, TARGET(rate), RANGE(1, RATE_MOST),
      .help = "open loop: N messages a second in all" },
    { "half-close", .set = cmdline_flag, TARGET(half_close),
      .help = "send all, then FIN; all has to come back" },
    { "threads", 't', "N", cmdline_number, TARGET(threads), RANGE(1, THREADS_MOST),
      .help = "client threads (default 1)" },
    { "timeout", 'W', "TIME", cmdline_time, TARGET(timeout), RANGE(1, CMDLINE_TIME_MOST),
      .help = "wait so long for an answer (10s; udp 1s)" },
    { "proxy-protocol", 0, "v1|v2", set_proxy,
      .help = "send a PROXY header first (tcp, tls)" },
    { "tls-ca", 0, "FILE", cmdline_text, TARGET(tls_ca),
      .help = "whom tls trusts, PEM (default: the system's)" },
    { "insecure", .set = cmdline_flag, TARGET(insecure),
      .help = "tls: any certificate will do" },
    { "json", .set = cmdline_flag, TARGET(json), .help = "print one JSON object and nothing else" },
    { "plot", .set = cmdline_flag, TARGET(plot), .help = "draw the latencies in the terminal" },
    CMDLINE_STANDARD_OPTIONS,
};

static const struct cmdline cmdline = {
    .program = "echoprobe",
    .usage = "Usage: echoprobe [OPTION...] ENDPOINT\n"
             "Measures, verifies and loads an echo server. By default it pings.\n\n",
    .notes = "\nENDPOINT: tcp://HOST:PORT, tls:// and udp:// alike, an IPv6 HOST in brackets;\n"
             "unix:///PATH, unix://@NAME; short: HOST:PORT, or PORT (localhost), by tcp.\n"
             "N: a number, in places with k, M or G: of bytes by 1024, else by 1000.\n"
             "TIME: a decimal number with ms, s, m or h (default s)\n",
    .table = table,
    .count = sizeof(table) / sizeof(table[0]),
};

const char *probe_mode_name(enum probe_mode mode)
{
    static const char *const names[PROBE_MODES] = {
        [PROBE_PING] = "ping",
        [PROBE_CLOSED] = "closed",
        [PROBE_OPEN] = "open",
        [PROBE_HALF_CLOSE] = "half-close",
    };

    return names[mode];
}

/* Options that exclude each other; NULL: there are none. */
static const char *contradiction(const struct probe_options *options)
{
    bool is_open = options->rate > 0, is_udp = options->endpoint.transport == ENDPOINT_UDP;
    bool is_tls = options->endpoint.transport == ENDPOINT_TLS;
    const struct {
        bool is_so;
        const char *text;
    } all[] = {
        { options->load && is_open, "--load --rate" },
        { options->load && options->half_close, "--load --half-close" },
        { is_open && options->half_close, "--rate --half-close" },
        { options->load && options->interval > 0, "--load --interval" },
        { is_open && options->interval > 0, "--rate --interval" },
        { options->half_close && options->interval > 0, "--half-close --interval" },
        { options->half_close && options->duration > 0, "--half-close --duration" },
        { options->half_close && options->in_flight > 0, "--half-close --in-flight" },
        { !options->load && !is_open && options->in_flight > 0, "--in-flight without a load" },
        { is_udp && options->half_close, "--half-close with udp" },
        { is_udp && options->proxy != NULL, "--proxy-protocol with udp" },
        { options->endpoint.transport == ENDPOINT_UNIX && options->proxy != NULL,
          "--proxy-protocol with unix" },
        { !is_tls && options->tls_ca != NULL, "--tls-ca without tls" },
        { !is_tls && options->insecure, "--insecure without tls" },
        { options->insecure && options->tls_ca != NULL, "--insecure --tls-ca" },
        { options->json && options->plot, "--json --plot" },
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i].is_so)
            return all[i].text;
    return NULL;
}

/* Datagrams may be empty, and are limited. */
static enum cmdline_result check_size(const struct probe_options *options)
{
    bool is_udp = options->endpoint.transport == ENDPOINT_UDP;
    char text[32];

    if (is_udp ? options->size <= UDP_SIZE_MOST : options->size > 0)
        return CMDLINE_RUN;
    snprintf(text, sizeof(text), "--size=%llu", (unsigned long long) options->size);
    return cmdline_wrong(is_udp ? "larger than a datagram" : "only udp has empty messages", text);
}

/* In the open loop, a time is a number of messages. */
static void count_for_duration(struct probe_options *options)
{
    uint64_t count = (options->rate * options->duration + 999) / 1000;

    if (options->count == 0 || count < options->count)
        options->count = count;
    options->duration = 0;
}

/* What was left open depends on the mode. */
static void fill_in(struct probe_options *options)
{
    options->mode = options->rate > 0      ? PROBE_OPEN
                    : options->load        ? PROBE_CLOSED
                    : options->half_close ? PROBE_HALF_CLOSE
                                           : PROBE_PING;
    if (options->interval == 0)
        options->interval = DEFAULT_INTERVAL_MS;
    if (options->in_flight == 0 && options->mode != PROBE_OPEN)
        options->in_flight = 1;
    if (options->mode == PROBE_HALF_CLOSE && options->count == 0)
        options->count = options->connections;
    if ((options->load || options->rate > 0) && options->count == 0 && options->duration == 0)
        options->duration = DEFAULT_DURATION_MS;
    if (options->rate > 0 && options->duration > 0)
        count_for_duration(options);
    if (options->timeout == 0)
        options->timeout = options->endpoint.transport == ENDPOINT_UDP ? DEFAULT_UDP_TIMEOUT_MS
                                                                       : DEFAULT_TIMEOUT_MS;
    if (options->threads > options->connections)
        options->threads = options->connections;
}

/* What a server may make of it, and a client cannot; NULL: nothing. */
static const char *unfit_for_client(const struct endpoint *endpoint)
{
#ifndef HAVE_OPENSSL
    if (endpoint->transport == ENDPOINT_TLS)
        return "built without TLS";
#endif
    if (endpoint->proxy != NULL || endpoint->mode >= 0)
        return "endpoint keys are for the server";
    if (endpoint->transport == ENDPOINT_UNIX)
        return NULL;
    if (strcmp(endpoint->host, "*") == 0)
        return "no host to connect to";
    return endpoint->port == 0 ? "no port to connect to" : NULL;
}

static enum cmdline_result parse_endpoint(struct probe_options *options, char **words)
{
    const char *wrong;

    if (words[0] == NULL)
        return cmdline_wrong("missing endpoint", "see --help");
    if (words[1] != NULL)
        return cmdline_wrong("more than one endpoint", words[1]);
    wrong = endpoint_parse(words[0], &options->endpoint);
    if (wrong == NULL)
        wrong = unfit_for_client(&options->endpoint);
    return wrong == NULL ? CMDLINE_RUN : cmdline_wrong(wrong, words[0]);
}

enum cmdline_result probe_options_parse(struct probe_options *options, int argc, char **argv)
{
    enum cmdline_result result;
    const char *wrong;
    int rest;

    *options = (struct probe_options){
        .size = DEFAULT_SIZE,
        .connections = 1,
        .threads = 1,
    };
    result = cmdline_parse(&cmdline, options, argc, argv, &rest);
    if (result == CMDLINE_RUN)
        result = parse_endpoint(options, argv + rest);
    if (result != CMDLINE_RUN)
        return result;
    wrong = contradiction(options);
    if (wrong != NULL)
        return cmdline_wrong("contradictory options", wrong);
    if (check_size(options) != CMDLINE_RUN)
        return CMDLINE_WRONG;
    fill_in(options);
    if (options->size > 0 && options->count > (uint64_t) INT64_MAX / options->size)
        return cmdline_wrong("more bytes than can be counted", "--size");
    return CMDLINE_RUN;
}
