#include "cmdline.h"

#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "log.h"

enum { OPTIONS_MOST = 64, LONG_ONLY = 256 };

static void *target_of(const struct cmdline_option *option, void *options)
{
    return (char *) options + option->target;
}

/* A number, times FACTOR for a k at its end, FACTOR squared for an M, cubed for a G; 0: none. */
static const char *parse_number(const struct cmdline_option *option, void *options,
                                const char *value, uint64_t factor)
{
    size_t digits = strspn(value, "0123456789");
    const char *units = "kMG", *unit = strchr(units, value[digits]); /* or the end */
    bool is_scaled = factor > 0 && value[digits] != '\0' && unit != NULL;
    uint64_t number;

    if (digits == 0 || value[digits + (is_scaled ? 1 : 0)] != '\0')
        return "malformed number";
    number = digits > 18 ? UINT64_MAX : strtoull(value, NULL, 10);
    for (const char *step = units; is_scaled && step <= unit; step++)
        number = number > UINT64_MAX / factor ? UINT64_MAX : number * factor;
    if (number < option->least || number > option->most)
        return "number out of range";
    *(uint64_t *) target_of(option, options) = number;
    return NULL;
}

const char *cmdline_number(const struct cmdline_option *option, void *options, const char *value)
{
    return parse_number(option, options, value, 0);
}

const char *cmdline_amount(const struct cmdline_option *option, void *options, const char *value)
{
    return parse_number(option, options, value, 1000);
}

const char *cmdline_size(const struct cmdline_option *option, void *options, const char *value)
{
    return parse_number(option, options, value, 1024);
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
const char *cmdline_time(const struct cmdline_option *option, void *options, const char *value)
{
    size_t whole = strspn(value, "0123456789");
    size_t fraction = value[whole] == '.' ? strspn(value + whole + 1, "0123456789") : 0;
    const char *unit_text = value + whole + (fraction > 0 ? fraction + 1 : 0);
    uint64_t unit = unit_of(unit_text), number;
    double part = 0;

    if (whole + fraction == 0 || unit == 0)
        return "malformed time";
    number = whole > 12 ? CMDLINE_TIME_MOST + 1 : strtoull(value, NULL, 10);
    for (size_t i = fraction; i > 0; i--)
        part = (part + value[whole + i] - '0') / 10;
    if (number <= CMDLINE_TIME_MOST)
        number = number * unit + (uint64_t) (part * (double) unit + 0.5);
    if (number < option->least || number > option->most ||
        (number == 0 && strpbrk(value, "123456789") != NULL))
        return "time out of range";
    *(uint64_t *) target_of(option, options) = number;
    return NULL;
}

const char *cmdline_text(const struct cmdline_option *option, void *options, const char *value)
{
    *(const char **) target_of(option, options) = value;
    return *value != '\0' ? NULL : "empty value";
}

const char *cmdline_flag(const struct cmdline_option *option, void *options, const char *value)
{
    (void) value;
    *(bool *) target_of(option, options) = true;
    return NULL;
}

const char *cmdline_count(const struct cmdline_option *option, void *options, const char *value)
{
    (void) value;
    ++*(uint64_t *) target_of(option, options);
    return NULL;
}

/* Where help begins, behind a letter; a longer name has a line to itself. */
enum { HELP_COLUMN = 24 };

void cmdline_help(const struct cmdline *cmdline)
{
    fputs(cmdline->usage, stdout);
    for (size_t i = 0; i < cmdline->count; i++) {
        const struct cmdline_option *option = &cmdline->table[i];
        char left[64];
        bool is_long;

        snprintf(left, sizeof(left), "--%s%s%s", option->name,
                 option->argument != NULL ? "=" : "",
                 option->argument != NULL ? option->argument : "");
        is_long = strlen(left) >= HELP_COLUMN;
        printf("  %c%c%c %-*s%s", option->letter != 0 ? '-' : ' ',
               option->letter != 0 ? option->letter : ' ', option->letter != 0 ? ',' : ' ',
               HELP_COLUMN, left, is_long ? "\n" : "");
        printf("%*s%s\n", is_long ? 6 + HELP_COLUMN : 0, "", option->help);
    }
    fputs(cmdline->notes, stdout);
}

void cmdline_version(const struct cmdline *cmdline)
{
#ifdef HAVE_OPENSSL
    const char *tls = "with";
#else
    const char *tls = "without";
#endif

    printf("%s %s\nlibevent %s, %s TLS\n", cmdline->program, PACKAGE_VERSION,
           event_get_version(), tls);
}

int cmdline_answered(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    log_startup_error(strerror(errno), "standard output");
    return 1;
}

enum cmdline_result cmdline_wrong(const char *what, const char *text)
{
    log_startup_error(what, text);
    return CMDLINE_WRONG;
}

/* getopt_long found something wrong; LAST is the word before the next. */
static enum cmdline_result getopt_error(int code, const char *last)
{
    char text[] = { '-', (char) optopt, '\0' };
    bool is_long = optopt == 0 || optopt >= LONG_ONLY;

    if (code == ':')
        return cmdline_wrong("option needs a value", is_long ? last : text);
    if (optopt >= LONG_ONLY)
        return cmdline_wrong("option takes no value", last);
    return cmdline_wrong("unknown option", is_long ? last : text);
}

static void build_getopt(const struct cmdline *cmdline, struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (size_t i = 0; i < cmdline->count; i++) {
        const struct cmdline_option *option = &cmdline->table[i];
        bool takes_value = option->argument != NULL;

        longs[i] = (struct option){ option->name, takes_value ? required_argument : no_argument,
                                    NULL, LONG_ONLY + (int) i };
        if (option->letter != 0)
            *shorts++ = option->letter;
        if (option->letter != 0 && takes_value)
            *shorts++ = ':';
    }
    longs[cmdline->count] = (struct option){ 0 };
    *shorts = '\0';
}

static const struct cmdline_option *find(const struct cmdline *cmdline, int code)
{
    for (size_t i = 0; i < cmdline->count; i++)
        if (code == LONG_ONLY + (int) i ||
            (cmdline->table[i].letter != 0 && code == cmdline->table[i].letter))
            return &cmdline->table[i];
    return NULL;
}

static enum cmdline_result set(const struct cmdline_option *option, void *options,
                               const char *value)
{
    const char *wrong = option->set(option, options, value);
    char *text = NULL;

    if (wrong == NULL)
        return CMDLINE_RUN;
    if (asprintf(&text, "--%s%s%s", option->name, value != NULL ? "=" : "",
                 value != NULL ? value : "") < 0)
        return cmdline_wrong(wrong, option->name);
    cmdline_wrong(wrong, text);
    free(text);
    return CMDLINE_WRONG;
}

enum cmdline_result cmdline_parse(const struct cmdline *cmdline, void *options, int argc,
                                  char **argv, int *rest)
{
    struct option longs[OPTIONS_MOST + 1];
    char shorts[2 * OPTIONS_MOST + 2];
    enum cmdline_result result = CMDLINE_RUN;
    int code;

    build_getopt(cmdline, longs, shorts);
    opterr = 0;
    optind = 0; /* starts glibc's getopt afresh */
    while (result == CMDLINE_RUN &&
           (code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        const struct cmdline_option *option = find(cmdline, code);

        if (option == NULL)
            return getopt_error(code, argv[optind - 1]);
        if (option->set == NULL) {
            option->answer(cmdline);
            return CMDLINE_DONE;
        }
        result = set(option, options, optarg);
    }
    *rest = optind;
    return result;
}
