#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/defaults.h"
#include "src/echo.h"
#include "src/log.h"
#include "src/supervisor.h"
#include "tests/harness.h"
#include "tests/inject.h"

static const struct service *const services[ENDPOINT_SERVICES] = {
    [ENDPOINT_ECHO] = &echo_service,
};

/* A supervisor in a process of its own, and its crew: what it is given, and what fails. */
struct plan {
    struct options options;
    bool is_order_kept;    /* all workers share a socket */
    void (*prepare)(void); /* is run there, first; NULL: nothing */
    bool spoil_pid_file;   /* so that it cannot be published */
    unsigned nth, times; /* of CALL, that fail; 0: none */
    enum inject_call call;
};

static int run(void *argument)
{
    static const struct privileges kept;
    static struct sockets none;
    struct plan *plan = argument;
    struct sockets_error error;
    struct endpoint endpoint;
    struct sockets sockets;
    struct pidfile pidfile;
    const struct supervisor_parts parts = { .options = &plan->options, .services = services,
                                            .sockets = &sockets, .pidfile = &pidfile,
                                            .metrics = &none, .privileges = &kept };
    int status;

    if (plan->prepare != NULL)
        plan->prepare();
    if (endpoint_parse("127.0.0.1:0", &endpoint) != NULL ||
        pidfile_open(&pidfile, plan->options.pid_file) != NULL ||
        !sockets_open(&sockets, &endpoint, 1, (size_t) plan->options.workers,
                      plan->is_order_kept, &error))
        return 99;
    if (plan->spoil_pid_file)
        unlinkat(pidfile.directory, pidfile.draft, 0);
    if (plan->times > 0)
        inject_fail(plan->call, plan->nth, plan->times, EAGAIN);
    status = supervisor_run(&parts);
    inject_reset();
    sockets_free(&sockets);
    pidfile_close(&pidfile);
    return status;
}

static struct plan plan_for(enum spawn_model model, unsigned workers)
{
    return (struct plan){ .options = { .model = model, .workers = workers, .drain_timeout = 5000 } };
}

/* Daemons are large: one, for all tests. */
static struct daemon echod;

static void start(struct plan *plan)
{
    daemon_fork(&echod, run, plan);
    daemon_expect(&echod, " ready ");
}

static void expect_echo(int client)
{
    send_text(client, "hello");
    expect_text(client, "hello");
}

/* The process of worker NUMBER, as the log tells of its start since AFTER. */
static pid_t pid_of(const char *after, unsigned number)
{
    char text[64];
    const char *line;

    snprintf(text, sizeof(text), " worker-started worker=%u pid=", number);
    line = strstr(after, text);
    ck_assert_ptr_nonnull(line);
    return (pid_t) strtol(line + strlen(text), NULL, 10);
}

static size_t count_text(const char *text, const char *wanted)
{
    size_t count = 0;

    for (; (text = strstr(text, wanted)) != NULL; text++)
        count++;
    return count;
}

START_TEST(it_starts_serves_and_drains)
{
    for (int model = SPAWN_PROCESS; model <= SPAWN_THREAD; model++) {
        struct plan plan = plan_for((enum spawn_model) model, 3);
        int clients[20];

        start(&plan);
        ck_assert_uint_eq(count_text(echod.text, " worker-started worker="), 3);
        daemon_expect(&echod, model == SPAWN_PROCESS ? " ready workers=3 model=process backend="
                                                     : " ready workers=3 model=thread backend=");
        for (int i = 0; i < 20; i++) {
            clients[i] = connect_to(daemon_port(&echod));
            expect_echo(clients[i]);
        }
        kill(echod.pid, model == SPAWN_PROCESS ? SIGTERM : SIGINT);
        daemon_expect(&echod, model == SPAWN_PROCESS
                                  ? "Z notice draining signal=SIGTERM connections=20\n"
                                  : "Z notice draining signal=SIGINT connections=20\n");
        for (int i = 0; i < 20; i++) {
            ck_assert(reads_eof(clients[i]));
            close(clients[i]);
        }
        ck_assert_int_eq(daemon_wait(&echod), 0);
        ck_assert_ptr_nonnull(strstr(echod.text, "Z notice drained drained=20 forced=0 duration="));
        ck_assert_ptr_null(strstr(echod.text, " error "));
    }
}
END_TEST

START_TEST(if_a_worker_cannot_be_started_nothing_is)
{
    for (unsigned nth = 1; nth <= 3; nth++)
        for (int model = SPAWN_PROCESS; model <= SPAWN_THREAD; model++) {
            struct plan plan = plan_for((enum spawn_model) model, 3);

            plan.call = model == SPAWN_PROCESS ? INJECT_FORK : INJECT_THREAD;
            plan.nth = nth;
            plan.times = 1;
            daemon_fork(&echod, run, &plan);
            ck_assert_int_eq(daemon_wait(&echod), 1);
            ck_assert_ptr_nonnull(
                strstr(echod.text, "Z error worker-failed what=start error=\"Resource temp"));
            ck_assert_ptr_null(strstr(echod.text, " ready "));
        }
}
END_TEST

/* Runs in each worker, as it is forked. */
static void starve(void)
{
    inject_fail(INJECT_MEMORY, 1, 1000000, ENOMEM);
}

static void starve_workers(void)
{
    pthread_atfork(NULL, NULL, starve);
}

START_TEST(a_worker_that_dies_at_the_start_ends_it)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 2);

    plan.prepare = starve_workers;
    daemon_fork(&echod, run, &plan);
    ck_assert_int_eq(daemon_wait(&echod), 1);
    ck_assert_ptr_nonnull(strstr(echod.text, " cause=\"exited with status 1\"\n"));
    ck_assert_ptr_null(strstr(echod.text, " ready "));
}
END_TEST

/* Does the log, or the line in its place before there is one, say that it could not start? */
static bool has_failed(const char *text)
{
    return strstr(text, "-failed ") != NULL || strstr(text, "echod: cannot start: ") != NULL;
}

START_TEST(without_memory_it_ends_or_serves)
{
    for (unsigned nth = 1; nth <= 40; nth++) {
        struct plan plan = plan_for(SPAWN_PROCESS, 1);
        int status;

        plan.call = INJECT_MEMORY;
        plan.nth = nth;
        plan.times = 1;
        daemon_fork(&echod, run, &plan);
        /* Either is fine; a crash or silence is not. */
        while (strstr(echod.text, " ready ") == NULL && !has_failed(echod.text))
            daemon_expect_after(&echod, echod.text + echod.length, "\n");
        if (has_failed(echod.text))
            ck_assert_int_eq(daemon_wait(&echod), 1);
        else if ((status = daemon_stop(&echod, SIGTERM)) != 0)
            ck_abort_msg("allocation %u: status %d", nth, status);
    }
}
END_TEST

/* Until TEXT is logged after MARK, who connects is served. */
static const char *serve_until(const char *mark, const char *text)
{
    int64_t end = clock_ms() + DEADLINE_MS;
    const char *found;

    while ((found = daemon_find_after(&echod, mark, text)) == NULL) {
        int client = connect_to(daemon_port(&echod));

        ck_assert_msg(client >= 0, "refused");
        expect_echo(client);
        close(client);
        ck_assert_int_lt(clock_ms(), end);
    }
    return found;
}

START_TEST(a_worker_that_is_killed_is_replaced)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 2);
    const char *mark;

    start(&plan);
    kill(pid_of(echod.text, 1), SIGKILL);
    mark = daemon_expect_after(&echod, echod.text, "Z error worker-died worker=1 pid=");
    ck_assert_ptr_nonnull(strstr(mark, " cause=\"killed by SIGKILL (Killed)\"\n"));
    serve_until(mark, " worker-started worker=1 pid=");
    kill(pid_of(echod.text, 0), SIGSEGV);
    mark = daemon_expect_after(&echod, mark, "Z error worker-died worker=0 pid=");
    serve_until(mark, " worker-started worker=0 pid=");
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
}
END_TEST

START_TEST(the_connections_of_a_dead_worker_are_counted_and_no_slot_is_lost)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 1);
    int clients[3];
    const char *mark;

    plan.options.max_connections = 2;
    start(&plan);
    for (int i = 0; i < 3; i++)
        clients[i] = connect_to(daemon_port(&echod));
    expect_echo(clients[0]);
    expect_echo(clients[1]);
    daemon_expect(&echod, "Z warning paused reason=max-connections\n");
    kill(pid_of(echod.text, 0), SIGKILL);
    mark = daemon_expect(&echod, " worker-died ");
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    daemon_expect_after(&echod, mark, " worker-started ");
    for (int i = 0; i < 2; i++) {
        clients[i] = connect_to(daemon_port(&echod));
        expect_echo(clients[i]);
    }
    kill(echod.pid, SIGUSR1);
    mark = daemon_expect(&echod, "Z notice stats uptime=");
    daemon_expect_after(&echod, mark, "\n");
    ck_assert_ptr_nonnull(strstr(mark, " active=2 "));
    ck_assert_ptr_nonnull(strstr(mark, " closed_crash=2 "));
    ck_assert_ptr_nonnull(strstr(mark, " worker_restarts=1 "));
    for (int i = 0; i < 2; i++)
        close(clients[i]);
    daemon_expect(&echod, "Z notice resumed reason=max-connections\n");
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
}
END_TEST

START_TEST(a_worker_that_cannot_be_replaced_is_tried_again_later)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 2);
    int64_t began;
    const char *mark;

    plan.call = INJECT_FORK;
    plan.nth = 3; /* after both */
    plan.times = 4;
    start(&plan);
    began = clock_ms();
    kill(pid_of(echod.text, 0), SIGKILL);
    mark = daemon_expect_after(&echod, echod.text, " worker-died ");
    /* The other one serves what is queued for it: half of these. */
    for (int i = 0; i < 20; i++) {
        int client = connect_to(daemon_port(&echod));

        expect_echo(client);
        close(client);
    }
    ck_assert_ptr_null(daemon_find_after(&echod, mark, " worker-started worker=0 pid="));
    mark = serve_until(mark, " worker-started worker=0 pid=");
    ck_assert_uint_eq(count_text(echod.text, "Z error worker-failed what=start error="), 4);
    /* 100, 200, 400, 800 and 1600 ms. */
    ck_assert_int_ge(clock_ms() - began, 31 * RESPAWN_FIRST_MS - 50);
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
}
END_TEST

START_TEST(a_second_signal_ends_it_at_once)
{
    for (int model = SPAWN_PROCESS; model <= SPAWN_THREAD; model++) {
        struct plan plan = plan_for((enum spawn_model) model, 2);
        int client;

        start(&plan);
        client = connect_to(daemon_port(&echod));
        expect_echo(client);
        kill(echod.pid, SIGTERM);
        daemon_expect(&echod, " draining ");
        ck_assert_int_eq(daemon_stop(&echod, SIGINT), 1); /* its end, and the workers' */
        close(client);
    }
}
END_TEST

START_TEST(a_worker_that_hangs_is_killed)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 2);
    int client;
    int64_t began;
    pid_t pid;

    plan.options.drain_timeout = 200;
    start(&plan);
    client = connect_to(daemon_port(&echod));
    expect_echo(client);
    pid = pid_of(echod.text, 0);
    kill(pid, SIGSTOP);
    began = clock_ms();
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
    ck_assert_int_ge(clock_ms() - began, 200 + KILL_GRACE_MS - 50);
    ck_assert_ptr_nonnull(strstr(echod.text, " cause=\"killed at shutdown\"\n"));
    ck_assert_ptr_nonnull(strstr(echod.text, " drained drained="));
    ck_assert_int_eq(kill(pid, 0), -1);
    close(client);
}
END_TEST

START_TEST(a_supervisor_that_is_killed_leaves_no_orphan)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 2);
    int client;

    start(&plan);
    client = connect_to(daemon_port(&echod));
    expect_echo(client);
    kill(echod.pid, SIGKILL);
    ck_assert(reads_eof(client)); /* workers drain */
    close(client);
    ck_assert_int_eq(daemon_wait(&echod), -SIGKILL); /* at the end of all who log */
    ck_assert_int_eq(connect_to(daemon_port(&echod)), -1);
}
END_TEST

START_TEST(a_pid_file_is_there_while_it_serves)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 1);
    char directory[] = "/tmp/echod-check.XXXXXX", path[64], text[16] = "";
    FILE *file;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/pid", directory);
    plan.options.pid_file = path;
    start(&plan);
    file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), file));
    fclose(file);
    ck_assert_int_eq(strtol(text, NULL, 10), echod.pid);
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

START_TEST(without_its_pid_file_it_does_not_serve)
{
    struct plan plan = plan_for(SPAWN_PROCESS, 1);
    char directory[] = "/tmp/echod-check.XXXXXX", path[64];

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/pid", directory);
    plan.options.pid_file = path;
    plan.spoil_pid_file = true;
    daemon_fork(&echod, run, &plan);
    ck_assert_int_eq(daemon_wait(&echod), 1);
    ck_assert_ptr_nonnull(strstr(echod.text, "Z error pid-file-failed what="));
    ck_assert_ptr_null(strstr(echod.text, " ready "));
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_starts_serves_and_drains,
        if_a_worker_cannot_be_started_nothing_is,
        a_worker_that_dies_at_the_start_ends_it,
        without_memory_it_ends_or_serves,
        a_worker_that_is_killed_is_replaced,
        the_connections_of_a_dead_worker_are_counted_and_no_slot_is_lost,
        a_worker_that_cannot_be_replaced_is_tried_again_later,
        a_second_signal_ends_it_at_once,
        a_worker_that_hangs_is_killed,
        a_supervisor_that_is_killed_leaves_no_orphan,
        a_pid_file_is_there_while_it_serves,
        without_its_pid_file_it_does_not_serve,
    };

    return HARNESS_RUN("supervisor", tests);
}
