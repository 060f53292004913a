#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"
#include "sandbox.h"

#define WORKERS_MOST 1024
#define CONNECTIONS_MOST 1000000000
#define RATE_MOST 1000000000

#ifdef HAVE_OPENSSL
enum { HAS_TLS = true };
#else
enum { HAS_TLS = false };
#endif

static cmdline_setter set_workers, set_model, set_backend, add_allow, add_deny, set_proxies;
static cmdline_setter set_tls_file, set_self_signed, set_min_version;
static cmdline_setter set_user, set_sandbox, set_metrics, set_chat_bus;
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
    { "max-per-source", 0, "N", cmdline_number, TARGET(max_per_source),
      RANGE(0, CONNECTIONS_MOST), .help = "serve N of each source; 0: no limit (default)" },
    { "accept-rate", 0, "N", cmdline_number, TARGET(accept_rate), RANGE(0, RATE_MOST),
      .help = "connections/s per source; 0: no limit (default)" },
    { "udp-rate", 0, "N", cmdline_number, TARGET(udp_rate), RANGE(0, RATE_MOST),
      .help = "datagrams/s per source; 0: no limit (default 1000)" },
    { "idle-timeout", 'i', "TIME", cmdline_time, TARGET(idle_timeout),
      RANGE(0, CMDLINE_TIME_MOST), .help = "close what is idle for so long; 0: never (default)" },
    { "handshake-timeout", 0, "TIME", cmdline_time, TARGET(handshake_timeout),
      RANGE(1, CMDLINE_TIME_MOST), .help = "for a TLS handshake or PROXY header (default 10s)" },
    { "drain-timeout", 0, "TIME", cmdline_time, TARGET(drain_timeout),
      RANGE(0, CMDLINE_TIME_MOST), .help = "what connections get at shutdown (default 10s)" },
    { "drain-delay", 0, "TIME", cmdline_time, TARGET(drain_delay), RANGE(0, CMDLINE_TIME_MOST),
      .help = "at shutdown, serve on for so long first (default 0)" },
    { "allow", 0, "LIST", add_allow,
      .help = "serve these only: CIDR[,...], or @FILE" },
    { "deny", 0, "LIST", add_deny, .help = "refuse these, also if they are allowed" },
    { "proxy-protocol", 0, "CIDR[,...]", set_proxies,
      .help = "expect a PROXY header, from these only" },
    { "tls-cert", 0, "FILE", set_tls_file, TARGET(tls_cert),
      .help = "certificate chain for tls endpoints, PEM" },
    { "tls-key", 0, "FILE", set_tls_file, TARGET(tls_key),
      .help = "its private key (default: in the same file)" },
    { "tls-self-signed", .set = set_self_signed, TARGET(tls_self_signed),
      .help = "make a key and certificate at start" },
    { "tls-client-ca", 0, "FILE", set_tls_file, TARGET(tls_client_ca),
      .help = "demand certificates signed by these" },
    { "tls-min-version", 0, "1.2|1.3", set_min_version,
      .help = "the oldest that clients may speak (default 1.2)" },
    { "user", 'u', "USER[:GROUP]", set_user, TARGET(user),
      .help = "who to be once the sockets are bound" },
    { "chroot", 0, "DIR", cmdline_text, TARGET(chroot),
      .help = "root directory once the sockets are bound" },
    { "sandbox", 0, "on|off", set_sandbox,
      .help = "filter system calls (default on)" },
    { "metrics", 0, "HOST:PORT", set_metrics,
      .help = "serve metrics and a status page, by HTTP" },
    { "chat-bus", 0, "redis://HOST:PORT[/CHANNEL]", set_chat_bus,
      .help = "join the chats of several servers" },
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
             "[echo+]tls://HOST:PORT and udp://HOST:PORT in the same way.\n"
             "tcp and tls: ?proxy=CIDR[,...] or ?proxy=off, as --proxy-protocol for this one.\n"
             "[echo+]unix:///PATH or unix://@NAME, with ?mode=OCTAL for the file.\n"
             "chat+tcp://, chat+tls:// and chat+unix:// serve a chat: see /help in it.\n"
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

/* What is wrong with the text is found out when all are there: the option's name is known then. */
static const char *add_source(struct options *options, bool denies, const char *text)
{
    size_t count = options->access_count;

    if ((count & (count - 1)) == 0) { /* there is room up to the next power of two */
        struct access_source *grown =
            reallocarray(options->access, count > 0 ? 2 * count : 1, sizeof(*grown));

        if (grown == NULL)
            return "out of memory";
        options->access = grown;
    }
    options->access[options->access_count++] = (struct access_source){ denies, text };
    return NULL;
}

static const char *add_allow(const struct cmdline_option *option, void *target, const char *value)
{
    (void) option;
    return add_source(target, false, value);
}

static const char *add_deny(const struct cmdline_option *option, void *target, const char *value)
{
    (void) option;
    return add_source(target, true, value);
}

static const char *set_proxies(const struct cmdline_option *option, void *target,
                               const char *value)
{
    struct options *options = target;
    struct access_item item;

    (void) option;
    return access_parse(&options->proxies, value, strlen(value), &item);
}

static const char *set_tls_file(const struct cmdline_option *option, void *target,
                                const char *value)
{
    return HAS_TLS ? cmdline_text(option, target, value) : "built without TLS";
}

static const char *set_self_signed(const struct cmdline_option *option, void *target,
                                   const char *value)
{
    return HAS_TLS ? cmdline_flag(option, target, value) : "built without TLS";
}

static const char *set_min_version(const struct cmdline_option *option, void *target,
                                   const char *value)
{
    struct options *options = target;

    (void) option;
    options->tls_min_given = true;
    options->tls_13_least = strcmp(value, "1.3") == 0;
    if (strcmp(value, "1.2") != 0 && !options->tls_13_least)
        return "neither 1.2 nor 1.3";
    return HAS_TLS ? NULL : "built without TLS";
}

static const char *set_user(const struct cmdline_option *option, void *target, const char *value)
{
    const char *colon = strchr(value, ':');

    if (colon == value || (colon != NULL && colon[1] == '\0'))
        return "not USER or USER:GROUP";
    return cmdline_text(option, target, value);
}

static const char *set_sandbox(const struct cmdline_option *option, void *target,
                               const char *value)
{
    struct options *options = target;

    (void) option;
    options->sandbox = strcmp(value, "on") == 0 ? SANDBOX_ON : SANDBOX_OFF;
    if (options->sandbox == SANDBOX_ON)
        return sandbox_missing();
    return strcmp(value, "off") == 0 ? NULL : "neither on nor off";
}

static const char *set_metrics(const struct cmdline_option *option, void *target,
                               const char *value)
{
    struct options *options = target;

    (void) option;
    return endpoint_parse_http(value, &options->metrics);
}

static const char *set_chat_bus(const struct cmdline_option *option, void *target,
                                const char *value)
{
    struct options *options = target;

    (void) option;
    return redisbus_parse(value, &options->chat_bus);
}

static void list_backends(const struct cmdline *unused)
{
    (void) unused;
    for (const char **method = reactor_backends(); *method != NULL; method++)
        puts(*method);
}

/* Notes what is served; returns what an endpoint needs for TLS, but does not get. */
static const char *check_endpoint(struct options *options, const struct endpoint *endpoint)
{
    if (endpoint->service == ENDPOINT_CHAT)
        options->serves_chat = true;
    if (endpoint->transport == ENDPOINT_TCP)
        options->serves_tcp = true;
    if (endpoint->transport == ENDPOINT_UDP)
        options->serves_udp = true;
    if (endpoint->transport != ENDPOINT_TLS)
        return NULL;
    options->serves_tls = true;
    if (!HAS_TLS)
        return "built without TLS";
    return options->tls_cert != NULL || options->tls_self_signed
               ? NULL
               : "neither --tls-cert nor --tls-self-signed is given";
}

static const char *parse_proxy_key(const struct endpoint *endpoint, struct access_list *proxies)
{
    struct access_item item;
    const char *wrong;

    if (endpoint->proxy == NULL ||
        (endpoint->proxy_length == 3 && memcmp(endpoint->proxy, "off", 3) == 0))
        return NULL;
    wrong = access_parse(proxies, endpoint->proxy, endpoint->proxy_length, &item);
    access_compile(proxies);
    return wrong;
}

static enum cmdline_result parse_endpoints(struct options *options, char **texts, size_t count)
{
    static char *fallback[] = { DEFAULT_ENDPOINT };

    if (count == 0) {
        texts = fallback;
        count = 1;
    }
    options->endpoints = calloc(count, sizeof(*options->endpoints));
    options->endpoint_proxies = calloc(count, sizeof(*options->endpoint_proxies));
    if (options->endpoints == NULL || options->endpoint_proxies == NULL)
        return cmdline_wrong("out of memory", texts[0]);
    options->endpoint_count = count;
    for (size_t i = 0; i < count; i++) {
        const char *wrong = endpoint_parse(texts[i], &options->endpoints[i]);

        if (wrong == NULL)
            wrong = check_endpoint(options, &options->endpoints[i]);
        if (wrong == NULL)
            wrong = parse_proxy_key(&options->endpoints[i], &options->endpoint_proxies[i]);
        if (wrong != NULL)
            return cmdline_wrong(wrong, texts[i]);
    }
    return CMDLINE_RUN;
}

/* The same for sockets that were passed; the default endpoint is for when there are none. */
static enum cmdline_result check_endpoints(struct options *options, char **texts, size_t count,
                                           const struct activation *passed)
{
    bool is_any_served = false;

    for (size_t i = 0; i < passed->count; i++) {
        const char *wrong = check_endpoint(options, &passed->list[i].endpoint);

        if (wrong != NULL)
            return cmdline_wrong(wrong, passed->list[i].text);
        is_any_served = is_any_served || passed->list[i].endpoint.transport != ENDPOINT_HTTP;
    }
    return count == 0 && is_any_served ? CMDLINE_RUN : parse_endpoints(options, texts, count);
}

static const char *access_option(const struct access_source *source)
{
    return source->denies ? "--deny" : "--allow";
}

/* A list may be very long: of what is wrong the one item is told. */
static enum cmdline_result check_source(const struct access_source *source)
{
    struct access_list list = { 0 };
    struct access_item item = { source->text, strlen(source->text), 1 };
    char text[128];
    const char *wrong;

    if (source->text[0] == '@')
        wrong = source->text[1] == '\0' ? "no file is named" : NULL;
    else
        wrong = access_parse(&list, source->text, item.length, &item);
    access_release(&list);
    if (wrong == NULL)
        return CMDLINE_RUN;
    snprintf(text, sizeof(text), "%s=%.*s", access_option(source), (int) item.length, item.text);
    return cmdline_wrong(wrong, text);
}

/* Of files nothing is known yet. */
static enum cmdline_result check_sources(const struct options *options)
{
    enum cmdline_result result = CMDLINE_RUN;

    for (size_t i = 0; i < options->access_count && result == CMDLINE_RUN; i++)
        result = check_source(&options->access[i]);
    return result;
}

/* Options that exclude, or need, each other; NULL: all is well. */
static const char *contradiction(const struct options *options)
{
    if (options->quiet && options->verbose > 0)
        return "--quiet --verbose";
    if (options->tls_cert != NULL && options->tls_self_signed)
        return "--tls-cert --tls-self-signed";
    return options->tls_key != NULL && options->tls_cert == NULL ? "--tls-key without --tls-cert"
                                                                 : NULL;
}

/* An option that is for TLS alone; NULL: none is given. */
static const char *given_for_tls(const struct options *options)
{
    if (options->tls_self_signed)
        return "--tls-self-signed";
    if (options->tls_cert != NULL)
        return "--tls-cert";
    if (options->tls_client_ca != NULL)
        return "--tls-client-ca";
    return options->tls_min_given ? "--tls-min-version" : NULL;
}

/*
 * Whoever sets up TLS, and then forgets it in the endpoint, would serve in the clear; who expects
 * PROXY headers where none is read would have them echoed; who denies access to a unix socket
 * would serve everybody.
 */
static enum cmdline_result check_use(const struct options *options)
{
    const char *for_tls = given_for_tls(options);

    if (for_tls != NULL && !options->serves_tls)
        return cmdline_wrong("no tls endpoint", for_tls);
    if (options->proxies.count > 0 && !options->serves_tcp && !options->serves_tls)
        return cmdline_wrong("no tcp or tls endpoint", "--proxy-protocol");
    if (options->access_count > 0 && !options->serves_tcp && !options->serves_tls &&
        !options->serves_udp)
        return cmdline_wrong("no tcp, tls or udp endpoint", access_option(&options->access[0]));
    if (options->chat_bus.channel != NULL && !options->serves_chat)
        return cmdline_wrong("no chat endpoint", "--chat-bus");
    return CMDLINE_RUN;
}

enum cmdline_result options_parse(struct options *options, int argc, char **argv,
                                  const struct activation *passed)
{
    enum cmdline_result result;
    const char *wrong;
    int rest;

    *options = (struct options){
        .workers = 1,
        .model = SPAWN_PROCESS,
        .udp_rate = DEFAULT_UDP_RATE,
        .handshake_timeout = DEFAULT_HANDSHAKE_TIMEOUT_MS,
        .drain_timeout = DEFAULT_DRAIN_TIMEOUT_MS,
        .sandbox = SANDBOX_DEFAULT,
    };
    result = cmdline_parse(&cmdline, options, argc, argv, &rest);
    if (result != CMDLINE_RUN)
        return result;
    result = check_sources(options);
    if (result != CMDLINE_RUN)
        return result;
    access_compile(&options->proxies);
    wrong = contradiction(options);
    if (wrong != NULL)
        return cmdline_wrong("contradictory options", wrong);
    if (passed->wrong != NULL)
        return CMDLINE_RUN;
    result = check_endpoints(options, argv + rest, (size_t) (argc - rest), passed);
    return result == CMDLINE_RUN ? check_use(options) : result;
}

void options_free(struct options *options)
{
    for (size_t i = 0; options->endpoint_proxies != NULL && i < options->endpoint_count; i++)
        access_release(&options->endpoint_proxies[i]);
    free(options->endpoint_proxies);
    access_release(&options->proxies);
    free(options->access);
    free(options->bus_servers);
    free(options->endpoints);
    *options = (struct options){ 0 };
}

const struct access_list *options_proxies(const struct options *options,
                                          const struct endpoint *endpoint)
{
    const struct access_list *proxies = &options->proxies;

    if (endpoint->transport != ENDPOINT_TCP && endpoint->transport != ENDPOINT_TLS)
        return NULL;
    if (endpoint->proxy != NULL)
        proxies = &options->endpoint_proxies[endpoint - options->endpoints];
    return proxies->count > 0 ? proxies : NULL;
}

int options_log_threshold(const struct options *options)
{
    if (options->quiet)
        return LOG_ERR;
    return options->verbose == 0 ? LOG_NOTICE : options->verbose == 1 ? LOG_INFO : LOG_DEBUG;
}
