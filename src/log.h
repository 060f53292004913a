/*
 * log: one event a line, one write a line, and never a wait.
 *
 * A line is TIME LEVEL EVENT key=value..., on stderr (with a <PRIORITY> prefix and no time where
 * stderr is the journal) or to the system log. What the sink does not take at once is dropped and
 * counted, and told by a `lost` line before the next one. Priorities are those of syslog.h.
 * Safe to call from several threads once it is open; errno is kept.
 */
#ifndef ECHOD_LOG_H
#define ECHOD_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

/* A line is at most this long: a pipe takes so much in one piece (PIPE_BUF). */
#define LOG_LINE_MAX 4096

/* What was lost; lies in shared memory, so that workers and supervisor count together. */
struct log_lost {
    _Atomic uint64_t lines;
    _Atomic uint64_t told;
    _Atomic bool is_cut; /* of the last line, a terminal has taken only a part */
};

/* A line under construction; the fields are log's own. */
struct log_line {
    bool wanted;
    int priority;
    size_t length;
    char text[LOG_LINE_MAX];
};

/*
 * The first call of all. NAME, which is static, is what start-up errors and lines of the system
 * log begin with. libevent's own messages come here: until the log is open, that of a failure that
 * ends the program as a start-up error, and no other.
 */
void log_start(const char *name);

/*
 * Opens the sink: stderr, or the system log if TO_SYSLOG. Lines less urgent than THRESHOLD are
 * left out. Call once, before any thread starts.
 */
void log_open(int threshold, bool to_syslog);

/* Counts lost lines in LOST, which the caller owns, from now on; NULL: in memory of log's own. */
void log_count_lost_in(struct log_lost *lost);

/* The sink's descriptor, which a forked child has to keep. */
int log_descriptor(void);

/* Would a line of this PRIORITY be written? For what is costly to put together. */
bool log_wants(int priority);

/* Begins LINE; the calls that follow do nothing when a line of this PRIORITY is not wanted. */
void log_begin(struct log_line *line, int priority, const char *event);

/* Appends KEY=VALUE; a value with space, quote, `=`, backslash or an unprintable byte is quoted. */
void log_text(struct log_line *line, const char *key, const char *value);
void log_bytes(struct log_line *line, const char *key, const void *data, size_t length);
void log_number(struct log_line *line, const char *key, uint64_t value);
/* Appends KEY=SECONDS with three decimals. */
void log_duration(struct log_line *line, const char *key, int64_t ms);

/* Writes the line. */
void log_end(struct log_line *line);

/* A whole line for what went wrong: EVENT what=WHAT error=(the text of errno number ERROR). */
void log_failure(int priority, const char *event, const char *what, int error);

/*
 * Before the log is open: "PROGRAM: WHAT: TEXT" on stderr; TEXT is the offending text, with
 * unprintable bytes escaped.
 */
void log_startup_error(const char *what, const char *text);

#endif
