/*
 * harness: what the unit tests share. A failure in here is the test's failure.
 *
 * No fixed port and no fixed sleep: what takes time is polled with a deadline.
 */
#ifndef ECHOD_TESTS_HARNESS_H
#define ECHOD_TESTS_HARNESS_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "src/endpoint.h"

struct event_base;

/* More than anything here ever needs, also under valgrind on a busy machine. */
#define DEADLINE_MS 30000

/* Runs COUNT TESTS as suite NAME; returns main's exit status. */
int harness_run(const char *name, const TTest *const *tests, size_t count);
#define HARNESS_RUN(name, tests) harness_run(name, tests, sizeof(tests) / sizeof((tests)[0]))

/* Is it so yet? */
typedef bool condition(void *context);

/* Asks, with a millisecond in between, until it is so: false at the deadline. */
bool wait_until(condition *is_so, void *context);
/* The same, while BASE's events are handled. */
bool loop_until(struct event_base *base, condition *is_so, void *context);
/* Handles BASE's events for MS milliseconds: to see that something does not happen. */
void loop_for(struct event_base *base, int64_t ms);

int open_descriptors(void);
bool is_open(int fd);

/* What goes to descriptor FD from now on (stderr, say), until capture_end gives it as text. */
void capture_begin(int fd);
const char *capture_end(void);
/* The same of log lines down to THRESHOLD. */
void capture_log_begin(int threshold);

size_t count_lines(const char *text);

/* Calls FUNCTION(ARGUMENT); does its stack hold LENGTH bytes of SECRET then? */
bool leaves_on_stack(void (*function)(void *argument), void *argument, const void *secret,
                     size_t length);

/* IP addresses: HOST in host byte order; TEXT, with port 0. */
struct address ip4(uint32_t host, uint16_t port);
struct address ip6(const char *text);

/* A listening socket on 127.0.0.1; *PORT: at which port. */
int listen_anywhere(uint16_t *port);
/* Connects to 127.0.0.1 at PORT; blocking. -1 with errno set. */
int connect_to(uint16_t port);
/* The same, with a receive buffer of BUFFER bytes; fails the test rather than to return -1. */
int connect_slowly(uint16_t port, int buffer);

/* A TCP connection; SERVER is non-blocking. */
struct pair {
    int server, client;
    struct address peer; /* CLIENT's, as accepted */
};

/* Buffers of about BUFFER bytes at both ends; 0: the system's. */
struct pair make_pair(int buffer);
void set_blocking(int fd, bool blocking);
/* Closes with a reset rather than a FIN. */
void abort_connection(int fd);

/* At a blocking descriptor: sends all of TEXT; reads as much as TEXT has and compares. */
void send_text(int fd, const char *text);
void expect_text(int fd, const char *text);
/* Reads to the end: true if it was a FIN with no byte before it. */
bool reads_eof(int fd);

/*
 * A client that sends TOTAL bytes, then FIN, and verifies what comes back, both in pieces of
 * random size: the model of an echo.
 */
struct peer {
    int fd;
    unsigned random;
    size_t total, sent, received;
    size_t piece;      /* at most, in bytes */
    size_t late;       /* reads nothing before so much is sent */
    bool shut, at_eof; /* our FIN is sent; the server's was read, after all of TOTAL */
    int error; /* errno, when it broke; -1: wrong bytes, too many, or too few */
};

/* FD becomes non-blocking. */
struct peer peer_new(int fd, size_t total, unsigned seed);
/* Goes on; a condition: is it done, one way or the other? */
bool peer_step(void *peer);

/* A program that logs to its stderr, read here. */
struct daemon {
    pid_t pid;
    int log;
    size_t length;
    char text[65536]; /* its lines so far */
};

/* Starts $ECHOD with ARGV, of which the first is ignored; stdout too is read as its log. */
void daemon_exec(struct daemon *daemon, char **argv);
/* Starts RUN(ARGUMENT) in a process of its own; its result is the exit status. */
void daemon_fork(struct daemon *daemon, int (*run)(void *argument), void *argument);
/* Reads on until TEXT is in the log; where it is, or the test fails. */
const char *daemon_expect(struct daemon *daemon, const char *text);
/* The same from FROM on, in DAEMON's text. */
const char *daemon_expect_after(struct daemon *daemon, const char *from, const char *text);
/* Whether it is there by now; does not wait. NULL: not yet. */
const char *daemon_find_after(struct daemon *daemon, const char *from, const char *text);
/* The port of the first `listening` line. */
uint16_t daemon_port(struct daemon *daemon);
/* Waits for its end, and reads the rest of its log; returns its exit status, or -signal. */
int daemon_wait(struct daemon *daemon);
/* Sends SIGNAL, then as daemon_wait. */
int daemon_stop(struct daemon *daemon, int signal);

#endif
