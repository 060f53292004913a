/*
 * spawn: a function that runs as a process or as a thread, and how it ended.
 *
 * Whoever calls cannot tell which, but by the model that it asked for: both take one descriptor
 * along, see no signal, and return a status.
 */
#ifndef ECHOD_SPAWN_H
#define ECHOD_SPAWN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum spawn_model { SPAWN_PROCESS, SPAWN_THREAD };

const char *spawn_model_name(enum spawn_model model);

/* What runs: owns FD, and returns an exit status. */
typedef int spawn_function(void *argument, int fd);

/* One that runs; the fields are spawn's own, but for pid: of the process that it runs in. */
struct spawned {
    enum spawn_model model;
    bool running;
    pid_t pid;
    pthread_t thread;
};

/*
 * Starts FUNCTION(ARGUMENT, FD). FD is the function's from then on: here it is closed (a process)
 * or lent to the thread. In a process all other descriptors but stderr and the log's are closed.
 * On failure returns false with errno set, and FD is closed.
 */
bool spawn_start(struct spawned *spawned, enum spawn_model model, spawn_function *function,
                 void *argument, int fd);

/*
 * Has it ended, since it was last asked? Then why, in words of at most SIZE bytes, and whether
 * with anything but status 0. Asks without waiting.
 */
bool spawn_has_ended(struct spawned *spawned, char *cause, size_t size, bool *has_failed);

/* Ends a process, but does not wait: spawn_has_ended tells. A thread cannot be ended: false. */
bool spawn_strike(const struct spawned *spawned);

/* Ends a process at once and waits for it. A thread cannot be ended: false. */
bool spawn_kill(struct spawned *spawned);

#endif
