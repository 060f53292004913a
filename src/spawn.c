#include "spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "log.h"

struct start {
    spawn_function *function;
    void *argument;
    int fd;
};

const char *spawn_model_name(enum spawn_model model)
{
    return model == SPAWN_PROCESS ? "process" : "thread";
}

/* Closes every descriptor from 3 but A and B. */
static void close_all_but(int a, int b)
{
    int low = a < b ? a : b, high = a < b ? b : a;
    const int gaps[][2] = { { 3, low - 1 }, { low + 1, high - 1 }, { high + 1, INT32_MAX } };

    for (size_t i = 0; i < sizeof(gaps) / sizeof(gaps[0]); i++) {
        int first = gaps[i][0] < 3 ? 3 : gaps[i][0], last = gaps[i][1];

        if (first > last)
            continue;
#ifdef HAVE_CLOSE_RANGE
        if (close_range((unsigned) first, (unsigned) last, 0) == 0)
            continue;
#endif
        if (last > sysconf(_SC_OPEN_MAX))
            last = (int) sysconf(_SC_OPEN_MAX);
        for (int fd = first; fd <= last; fd++)
            close(fd);
    }
}

/*
 * The parent's event_base stays untouched: its descriptors are copies, closed here without a word
 * to the epoll instance that we share; event_base_free would take the parent's events out of it.
 */
static _Noreturn void run_child(const struct start *start)
{
    static const int ignored[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGPIPE };
    sigset_t none;

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    close_all_but(start->fd, log_descriptor());
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    exit(start->function(start->argument, start->fd));
}

static bool start_process(struct spawned *spawned, const struct start *start)
{
    pid_t pid = fork();

    if (pid == 0)
        run_child(start);
    close(start->fd);
    spawned->pid = pid;
    return pid > 0;
}

static void *run_thread(void *argument)
{
    struct start start = *(struct start *) argument;

    free(argument);
    return (void *) (intptr_t) start.function(start.argument, start.fd);
}

static bool start_thread(struct spawned *spawned, const struct start *start)
{
    struct start *own = malloc(sizeof(*own));
    int error = ENOMEM;

    if (own != NULL) {
        *own = *start;
        error = pthread_create(&spawned->thread, NULL, run_thread, own);
    }
    if (error != 0) {
        free(own);
        close(start->fd);
    }
    spawned->pid = getpid();
    errno = error;
    return error == 0;
}

bool spawn_start(struct spawned *spawned, enum spawn_model model, spawn_function *function,
                 void *argument, int fd)
{
    struct start start = { .function = function, .argument = argument, .fd = fd };
    sigset_t all, before;
    int error;

    sigfillset(&all);
    /* A fault must still end the process with its own signal, not with one that is pending. */
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    spawned->model = model;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    spawned->running = model == SPAWN_PROCESS ? start_process(spawned, &start)
                                              : start_thread(spawned, &start);
    error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return spawned->running;
}

static void describe_status(int status, char *cause, size_t size)
{
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;

    if (name != NULL)
        snprintf(cause, size, "killed by SIG%s (%s)", name, sigdescr_np(WTERMSIG(status)));
    else if (WIFSIGNALED(status))
        snprintf(cause, size, "killed by signal %d", WTERMSIG(status));
    else
        snprintf(cause, size, "exited with status %d", WEXITSTATUS(status));
}

bool spawn_has_ended(struct spawned *spawned, char *cause, size_t size, bool *has_failed)
{
    void *result = NULL;
    int status;

    if (!spawned->running)
        return false;
    if (spawned->model == SPAWN_THREAD) {
        if (pthread_tryjoin_np(spawned->thread, &result) != 0)
            return false;
        status = (int) (intptr_t) result << 8; /* as waitpid has it */
    } else if (waitpid(spawned->pid, &status, WNOHANG) != spawned->pid) {
        return false;
    }
    describe_status(status, cause, size);
    *has_failed = status != 0;
    spawned->running = false;
    return true;
}

bool spawn_strike(const struct spawned *spawned)
{
    return spawned->model == SPAWN_PROCESS && kill(spawned->pid, SIGKILL) == 0;
}

bool spawn_kill(struct spawned *spawned)
{
    if (!spawned->running)
        return true;
    if (!spawn_strike(spawned))
        return false;
    waitpid(spawned->pid, NULL, 0);
    spawned->running = false;
    return true;
}
