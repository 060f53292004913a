#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/log.h"
#include "src/spawn.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* Has it ended? Keeps why. */
struct end {
    struct spawned spawned;
    char cause[80];
    bool has_failed;
};

static bool has_ended(void *context)
{
    struct end *end = context;

    return spawn_has_ended(&end->spawned, end->cause, sizeof(end->cause), &end->has_failed);
}

/* A pipe whose reading end stays; the other goes to the function. */
static int make_pipe(int *theirs)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    *theirs = fds[1];
    return fds[0];
}

static void run(struct end *end, enum spawn_model model, spawn_function *function, void *argument)
{
    int theirs, ours = make_pipe(&theirs);

    *end = (struct end){ .cause = "" };
    ck_assert(spawn_start(&end->spawned, model, function, argument, theirs));
    ck_assert(wait_until(has_ended, end));
    ck_assert(!end->spawned.running);
    ck_assert(!has_ended(end)); /* told once */
    close(ours);
}

static int give_status(void *argument, int fd)
{
    close(fd);
    return *(int *) argument;
}

/* By a signal; without the sanitizers' handler, without a core. */
static int die(void *argument, int fd)
{
    struct rlimit none = { 0, 0 };

    (void) fd;
    setrlimit(RLIMIT_CORE, &none);
    signal(*(int *) argument, SIG_DFL);
    raise(*(int *) argument);
    return 0;
}

START_TEST(status_and_cause)
{
    for (int model = SPAWN_PROCESS; model <= SPAWN_THREAD; model++) {
        int status = 0;
        struct end end;

        run(&end, (enum spawn_model) model, give_status, &status);
        ck_assert_str_eq(end.cause, "exited with status 0");
        ck_assert(!end.has_failed);
        status = 3;
        run(&end, (enum spawn_model) model, give_status, &status);
        ck_assert_str_eq(end.cause, "exited with status 3");
        ck_assert(end.has_failed);
    }
}
END_TEST

START_TEST(a_signal_in_words)
{
    static const struct {
        int number;
        const char *cause;
    } table[] = {
        { SIGSEGV, "killed by SIGSEGV (Segmentation fault)" },
        { SIGKILL, "killed by SIGKILL (Killed)" },
        { SIGABRT, "killed by SIGABRT (Aborted)" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        int number = table[i].number;
        struct end end;

        run(&end, SPAWN_PROCESS, die, &number);
        ck_assert_str_eq(end.cause, table[i].cause);
        ck_assert(end.has_failed);
    }
}
END_TEST

/* Tells, over FD, which descriptors from 3 are open here. */
static int list_descriptors(void *argument, int fd)
{
    char open_ones[256] = "";
    (void) argument;

    for (int one = 3; one < 256; one++)
        if (is_open(one) && one != log_descriptor())
            open_ones[one] = 'x';
    return write(fd, open_ones, sizeof(open_ones)) == sizeof(open_ones) ? 0 : 1;
}

START_TEST(a_process_has_no_descriptor_but_its_own)
{
    int theirs, ours = make_pipe(&theirs), others[40];
    struct end end = { .cause = "" };
    char open_ones[256];

    for (int i = 0; i < 40; i++)
        others[i] = dup(STDERR_FILENO);
    ck_assert(spawn_start(&end.spawned, SPAWN_PROCESS, list_descriptors, NULL, theirs));
    ck_assert(!is_open(theirs)); /* it is the process's now */
    ck_assert_int_eq(read(ours, open_ones, sizeof(open_ones)), sizeof(open_ones));
    ck_assert(wait_until(has_ended, &end));
    for (int fd = 3; fd < 256; fd++)
        ck_assert_msg((open_ones[fd] == 'x') == (fd == theirs), "descriptor %d", fd);
    for (int i = 0; i < 40; i++)
        close(others[i]);
    close(ours);
}
END_TEST

/* Tells which signals are blocked, and which ignored, a byte each. */
static int list_signals(void *argument, int fd)
{
    char marks[65] = "";
    struct sigaction action;
    sigset_t blocked;

    (void) argument;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int i = 1; i < 32; i++) {
        sigaction(i, NULL, &action);
        marks[i] = sigismember(&blocked, i) ? 'b' : action.sa_handler == SIG_IGN ? 'i' : '-';
    }
    return write(fd, marks, sizeof(marks)) == sizeof(marks) ? 0 : 1;
}

START_TEST(neither_sees_signals)
{
    static const int all[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };

    for (int model = SPAWN_PROCESS; model <= SPAWN_THREAD; model++) {
        int theirs, ours = make_pipe(&theirs);
        struct end end = { .cause = "" };
        sigset_t before, after;
        char marks[65];

        pthread_sigmask(SIG_SETMASK, NULL, &before);
        ck_assert(spawn_start(&end.spawned, (enum spawn_model) model, list_signals, NULL, theirs));
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        ck_assert_int_eq(read(ours, marks, sizeof(marks)), sizeof(marks));
        ck_assert(wait_until(has_ended, &end));
        for (int i = 0; i < 4; i++) {
            ck_assert_int_eq(marks[all[i]], model == SPAWN_PROCESS ? 'i' : 'b');
            ck_assert_int_ne(marks[faults[i]], 'b');
            ck_assert_int_eq(sigismember(&before, all[i]), sigismember(&after, all[i]));
        }
        close(ours);
        if (model == SPAWN_THREAD)
            close(theirs);
    }
}
END_TEST

/* Waits until somebody closes the other end. */
static int wait_for_end(void *argument, int fd)
{
    char byte;

    (void) argument;
    while (read(fd, &byte, 1) > 0)
        continue;
    close(fd);
    return 0;
}

START_TEST(a_process_can_be_killed)
{
    struct end end = { .cause = "" };
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert(spawn_start(&end.spawned, SPAWN_PROCESS, wait_for_end, NULL, fds[0]));
    ck_assert(!has_ended(&end));
    ck_assert(end.spawned.running);
    ck_assert_int_ne(end.spawned.pid, getpid());
    ck_assert(spawn_kill(&end.spawned));
    ck_assert(!end.spawned.running);
    ck_assert_int_eq(waitpid(end.spawned.pid, NULL, WNOHANG), -1); /* no zombie */
    ck_assert(spawn_kill(&end.spawned));
    close(fds[1]);
}
END_TEST

START_TEST(a_thread_cannot_be_killed)
{
    struct end end = { .cause = "" };
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    ck_assert(spawn_start(&end.spawned, SPAWN_THREAD, wait_for_end, NULL, fds[0]));
    ck_assert_int_eq(end.spawned.pid, getpid());
    ck_assert(!spawn_kill(&end.spawned));
    ck_assert(end.spawned.running);
    close(fds[1]);
    ck_assert(wait_until(has_ended, &end));
    ck_assert(spawn_kill(&end.spawned));
}
END_TEST

static void check_failure(enum spawn_model model, enum inject_call call, int error)
{
    struct end end = { .cause = "" };
    int theirs, ours = make_pipe(&theirs), status = 0;
    bool started;
    int number;

    inject_fail(call, 1, 1, error);
    started = spawn_start(&end.spawned, model, give_status, &status, theirs);
    number = errno;
    inject_reset();
    ck_assert(!started);
    ck_assert_int_eq(number, error);
    ck_assert(!is_open(theirs));
    ck_assert(!end.spawned.running);
    ck_assert(!has_ended(&end));
    ck_assert(spawn_kill(&end.spawned)); /* nobody */
    close(ours);
}

START_TEST(a_failure_to_start_is_told)
{
    check_failure(SPAWN_PROCESS, INJECT_FORK, EAGAIN);
    check_failure(SPAWN_PROCESS, INJECT_FORK, ENOMEM);
    check_failure(SPAWN_THREAD, INJECT_THREAD, EAGAIN);
    check_failure(SPAWN_THREAD, INJECT_MEMORY, ENOMEM);
}
END_TEST

START_TEST(models_have_names)
{
    ck_assert_str_eq(spawn_model_name(SPAWN_PROCESS), "process");
    ck_assert_str_eq(spawn_model_name(SPAWN_THREAD), "thread");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        status_and_cause,
        a_signal_in_words,
        a_process_has_no_descriptor_but_its_own,
        neither_sees_signals,
        a_process_can_be_killed,
        a_thread_cannot_be_killed,
        a_failure_to_start_is_told,
        models_have_names,
    };

    return HARNESS_RUN("spawn", tests);
}
