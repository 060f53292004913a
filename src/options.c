#include "options.h"

#include <event2/event.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"

#define WORKERS_MOST 1024
#define CONNECTIONS_MOST 1000000000
#define TIME_MOST ((uint64_t) 366 * 24 * 3600 * 1000)

struct option_spec;

/* Sets what SPEC stands for from VALUE; returns NULL, or what is wrong with VALUE. */
typedef const char *option_setter(const struct option_spec *spec, struct options *options,
                                  const char *value);

struct option_spec {
    const char *name;
    char letter;          /* 0: none */
    const char *argument; /* its name in --help; NULL: takes none */
    option_setter *set;   /* NULL: answered by itself, in answer() */
    size_t target;        /* offset in struct options */
    uint64_t least, most; /* of a number */
    const char *help;
};

static option_setter set_number, set_workers, set_time, set_model, set_backend, set_text,
    set_flag, add_one;

#define TARGET(member) offsetof(struct options, member)

static const struct option_spec table[] = {
    { "workers", 'w', "N|auto", set_workers, TARGET(workers), 1, WORKERS_MOST,
      "reactors; auto: one per processor (default 1)" },
    { "model", 0, "process|thread", set_model, 0, 0, 0,
      "what a worker is (default process)" },
    { "backend", 'b', "NAME", set_backend, 0, 0, 0,
      "event demultiplexer (default: the best)" },
    { "list-backends", 0, NULL, NULL, 0, 0, 0,
      "print those that this build has and exit" },
    { "max-connections", 'm', "N", set_number, TARGET(max_connections), 0, CONNECTIONS_MOST,
      "serve N at a time; 0: no limit (default)" },
    { "idle-timeout", 'i', "TIME", set_time, TARGET(idle_timeout), 0, TIME_MOST,
      "close what is idle for so long; 0: never (default)" },
    { "drain-timeout", 0, "TIME", set_time, TARGET(drain_timeout), 0, TIME_MOST,
      "what connections get at shutdown (default 10s)" },
    { "pid-file", 0, "FILE", set_text, TARGET(pid_file), 0, 0,
      "keep the process id here while serving" },
    { "verbose", 'v', NULL, add_one, TARGET(verbose), 0, 0,
      "log who sent something; -vv: everyone, and what" },
    { "quiet", 'q', NULL, set_flag, TARGET(quiet), 0, 0,
      "log errors only, not even where it listens" },
    { "syslog", 0, NULL, set_flag, TARGET(to_syslog), 0, 0,
      "log to the system log, not to stderr" },
    { "help", 'h', NULL, NULL, 0, 0, 0,
      "print this help and exit" },
    { "version", 'V', NULL, NULL, 0, 0, 0,
      "print the version and exit" },
};

enum { SPECS = sizeof(table) / sizeof(table[0]), LONG_ONLY = 256 };

static void *target_of(const struct option_spec *spec, struct options *options)
{
    return (char *) options + spec->target;
}

static const char *set_number(const struct option_spec *spec, struct options *options,
                              const char *value)
{
    size_t digits = strspn(value, "0123456789");
    uint64_t number;

    if (digits == 0 || value[digits] != '\0')
        return "malformed number";
    number = digits > 18 ? UINT64_MAX : strtoull(value, NULL, 10);
    if (number < spec->least || number > spec->most)
        return "number out of range";
    *(uint64_t *) target_of(spec, options) = number;
    return NULL;
}

static const char *set_workers(const struct option_spec *spec, struct options *options,
                               const char *value)
{
    long online;

    if (strcmp(value, "auto") != 0)
        return set_number(spec, options, value);
    online = sysconf(_SC_NPROCESSORS_ONLN);
    options->workers = online < 1 ? 1 : online > WORKERS_MOST ? WORKERS_MOST : (uint64_t) online;
    return NULL;
}

/* Milliseconds in one of the unit that TEXT names in full; 0: no such unit. */
static uint64_t unit_of(const char *text)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(text, units[i].name) == 0)
            return units[i].ms;
    return 0;
}

/* A decimal number with a unit. No strtod: it takes 1e3, 0x1p4, inf, and the locale's comma. */
static const char *set_time(const struct option_spec *spec, struct options *options,
                            const char *value)
{
    size_t whole = strspn(value, "0123456789");
    size_t fraction = value[whole] == '.' ? strspn(value + whole + 1, "0123456789") : 0;
    const char *unit_text = value + whole + (fraction > 0 ? fraction + 1 : 0);
    uint64_t unit = unit_of(unit_text), number;
    double part = 0;

    if (whole == 0 || unit == 0)
        return "malformed time";
    number = whole > 12 ? TIME_MOST + 1 : strtoull(value, NULL, 10);
    for (size_t i = fraction; i > 0; i--)
        part = (part + value[whole + i] - '0') / 10;
    number = number > TIME_MOST ? number : number * unit + (uint64_t) (part * (double) unit + 0.5);
    if (number > spec->most || (number == 0 && strpbrk(value, "123456789") != NULL))
        return "time out of range";
    *(uint64_t *) target_of(spec, options) = number;
    return NULL;
}

static const char *set_model(const struct option_spec *spec, struct options *options,
                             const char *value)
{
    (void) spec;
    if (strcmp(value, "process") == 0)
        options->model = SPAWN_PROCESS;
    else if (strcmp(value, "thread") == 0)
        options->model = SPAWN_THREAD;
    else
        return "unknown model";
    return NULL;
}

static const char *set_backend(const struct option_spec *spec, struct options *options,
                               const char *value)
{
    (void) spec;
    options->backend = value;
    return reactor_has_backend(value) ? NULL : "unknown backend";
}

static const char *set_text(const struct option_spec *spec, struct options *options,
                            const char *value)
{
    *(const char **) target_of(spec, options) = value;
    return *value != '\0' ? NULL : "empty value";
}

static const char *set_flag(const struct option_spec *spec, struct options *options,
                            const char *value)
{
    (void) value;
    *(bool *) target_of(spec, options) = true;
    return NULL;
}

static const char *add_one(const struct option_spec *spec, struct options *options,
                           const char *value)
{
    (void) value;
    ++*(uint64_t *) target_of(spec, options);
    return NULL;
}

static void print_help(void)
{
    printf("Usage: echod [OPTION...] [ENDPOINT...]\n"
           "Sends back what it receives (RFC 862), until the peer is done.\n\n");
    for (int i = 0; i < SPECS; i++) {
        const struct option_spec *spec = &table[i];
        char left[64];

        snprintf(left, sizeof(left), "--%s%s%s", spec->name, spec->argument != NULL ? "=" : "",
                 spec->argument != NULL ? spec->argument : "");
        printf("  %c%c%c %-24s%s\n", spec->letter != 0 ? '-' : ' ',
               spec->letter != 0 ? spec->letter : ' ', spec->letter != 0 ? ',' : ' ', left,
               spec->help);
    }
    printf("\nENDPOINT: [echo+]tcp://HOST:PORT, an IPv6 HOST in brackets, * for all addresses,\n"
           "and port 0 for a free one; short: HOST:PORT, :PORT (all) or PORT (localhost).\n"
           "Default: " DEFAULT_ENDPOINT "\n"
           "TIME: a decimal number with ms, s, m or h (default s)\n");
}

/* The options that have an answer and no effect. */
static enum options_result answer(const char *name)
{
    if (strcmp(name, "help") == 0)
        print_help();
    else if (strcmp(name, "version") == 0)
        printf("echod %s\nlibevent %s\n", PACKAGE_VERSION, event_get_version());
    else
        for (const char **method = reactor_backends(); *method != NULL; method++)
            puts(*method);
    return OPTIONS_DONE;
}

static enum options_result usage_error(const char *what, const char *text)
{
    log_startup_error(what, text);
    return OPTIONS_WRONG;
}

/* getopt_long found something wrong; LAST is the word before the next. */
static enum options_result getopt_error(int code, const char *last)
{
    char text[] = { '-', (char) optopt, '\0' };
    bool is_long = optopt == 0 || optopt >= LONG_ONLY;

    if (code == ':')
        return usage_error("option needs a value", is_long ? last : text);
    if (optopt >= LONG_ONLY)
        return usage_error("option takes no value", last);
    return usage_error("unknown option", is_long ? last : text);
}

static void build_getopt(struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (int i = 0; i < SPECS; i++) {
        longs[i] = (struct option){ table[i].name,
                                    table[i].argument != NULL ? required_argument : no_argument,
                                    NULL, LONG_ONLY + i };
        if (table[i].letter != 0)
            *shorts++ = table[i].letter;
        if (table[i].letter != 0 && table[i].argument != NULL)
            *shorts++ = ':';
    }
    longs[SPECS] = (struct option){ 0 };
    *shorts = '\0';
}

static const struct option_spec *find_spec(int code)
{
    for (int i = 0; i < SPECS; i++)
        if (code == LONG_ONLY + i || (table[i].letter != 0 && code == table[i].letter))
            return &table[i];
    return NULL;
}

static enum options_result parse_options(struct options *options, int argc, char **argv)
{
    struct option longs[SPECS + 1];
    char shorts[2 * SPECS + 2];
    int code;

    build_getopt(longs, shorts);
    opterr = 0;
    optind = 0; /* starts glibc's getopt afresh */
    while ((code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        const struct option_spec *spec = find_spec(code);
        const char *wrong;

        if (spec == NULL)
            return getopt_error(code, argv[optind - 1]);
        if (spec->set == NULL)
            return answer(spec->name);
        wrong = spec->set(spec, options, optarg);
        if (wrong != NULL) {
            char text[256];

            snprintf(text, sizeof(text), "--%s=%s", spec->name, optarg);
            return usage_error(wrong, text);
        }
    }
    if (options->quiet && options->verbose > 0)
        return usage_error("contradictory options", "--quiet --verbose");
    return OPTIONS_SERVE;
}

static enum options_result parse_endpoints(struct options *options, char **texts, size_t count)
{
    static char *fallback[] = { DEFAULT_ENDPOINT };

    if (count == 0) {
        texts = fallback;
        count = 1;
    }
    options->endpoints = calloc(count, sizeof(*options->endpoints));
    if (options->endpoints == NULL)
        return usage_error("out of memory", texts[0]);
    for (; options->endpoint_count < count; options->endpoint_count++) {
        size_t i = options->endpoint_count;
        const char *wrong = endpoint_parse(texts[i], &options->endpoints[i]);

        if (wrong != NULL)
            return usage_error(wrong, texts[i]);
    }
    return OPTIONS_SERVE;
}

enum options_result options_parse(struct options *options, int argc, char **argv)
{
    enum options_result result;

    *options = (struct options){
        .workers = 1,
        .model = SPAWN_PROCESS,
        .drain_timeout = DEFAULT_DRAIN_TIMEOUT_MS,
    };
    result = parse_options(options, argc, argv);
    if (result == OPTIONS_SERVE)
        result = parse_endpoints(options, argv + optind, (size_t) (argc - optind));
    return result;
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
