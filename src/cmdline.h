/*
 * cmdline: a command line, as one table that drives getopt_long and --help.
 *
 * GNU conventions: long options may be abbreviated and stand anywhere, `--` ends them. What is
 * wrong is told in one line on stderr that quotes the offending text.
 */
#ifndef ECHOD_CMDLINE_H
#define ECHOD_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cmdline;
struct cmdline_option;

/*
 * Sets what OPTION stands for in the program's struct OPTIONS from VALUE (NULL: it takes none);
 * returns NULL, or what is wrong with VALUE, as a static string.
 */
typedef const char *cmdline_setter(const struct cmdline_option *option, void *options,
                                   const char *value);

struct cmdline_option {
    const char *name;
    char letter;                            /* 0: none */
    const char *argument;                   /* its name in --help; NULL: takes none */
    cmdline_setter *set;                    /* or else: */
    void (*answer)(const struct cmdline *); /* prints, and that is all that is to be done */
    size_t target;                          /* offset in the program's struct */
    uint64_t least, most;                   /* of a number, or of a time in ms */
    const char *help;
};

struct cmdline {
    const char *program; /* its name */
    const char *usage;   /* what --help says before the options... */
    const char *notes;   /* ... and after them */
    const struct cmdline_option *table;
    size_t count;
};

/* What to do after parsing. */
enum cmdline_result {
    CMDLINE_RUN,
    CMDLINE_DONE,  /* --help and the like: answered on stdout */
    CMDLINE_WRONG, /* a usage error: told on stderr */
};

/*
 * Parses ARGC words of ARGV into OPTIONS, which keeps pointers into them, and moves the words that
 * are no options to the end: they begin at *REST.
 */
enum cmdline_result cmdline_parse(const struct cmdline *cmdline, void *options, int argc,
                                  char **argv, int *rest);

/* Tells that TEXT is wrong. */
enum cmdline_result cmdline_wrong(const char *what, const char *text);

/* Sees that what was answered has been written; returns the exit status. */
int cmdline_answered(void);

/* Setters, by the type of the target: uint64_t, the same in ms, const char *, bool, uint64_t. */
cmdline_setter cmdline_number, cmdline_time, cmdline_text, cmdline_flag, cmdline_count;

/* Of numbers that may end in k, M or G: thousands and so on; of bytes, steps of 1024. */
cmdline_setter cmdline_amount, cmdline_size;

/* Answers to --help, in 80 columns, and to --version. */
void cmdline_help(const struct cmdline *cmdline);
void cmdline_version(const struct cmdline *cmdline);

/* These two options, for a table. */
#define CMDLINE_STANDARD_OPTIONS                                                                 \
    { .name = "help", .letter = 'h', .answer = cmdline_help, .help = "print this help and exit" }, \
    { .name = "version", .letter = 'V', .answer = cmdline_version,                               \
      .help = "print the version and exit" }

/* The longest time that options take: a year and a day, in ms. */
#define CMDLINE_TIME_MOST ((uint64_t) 366 * 24 * 3600 * 1000)

#endif
