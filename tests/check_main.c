#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"

/* Daemons are large: one, for all tests. */
static struct daemon echod;

#define ARGUMENTS(...) ((char *[]){ (char *) "echod", __VA_ARGS__, NULL })
#define WORD(text) ((char *) (text))

/* Nothing is started: STATUS, and a line that is all. */
static void expect_refusal(char **argv, int status, const char *line)
{
    daemon_exec(&echod, argv);
    ck_assert_int_eq(daemon_wait(&echod), status);
    ck_assert_str_eq(echod.text, line);
}

START_TEST(usage_errors_are_status_2)
{
    expect_refusal(ARGUMENTS(WORD("--workers=0")), 2,
                   "echod: number out of range: --workers=0\n");
    expect_refusal(ARGUMENTS(WORD("--frobnicate")), 2, "echod: unknown option: --frobnicate\n");
    expect_refusal(ARGUMENTS(WORD("tcp://localhost")), 2,
                   "echod: missing port: tcp://localhost\n");
    expect_refusal(ARGUMENTS(WORD("127.0.0.1:1"), WORD("tcp://127.0.0.1:1")), 2,
                   "echod: the same endpoint twice: tcp://127.0.0.1:1\n");
}
END_TEST

START_TEST(what_cannot_start_is_status_1)
{
    char endpoint[32], line[96];
    uint16_t port;
    int other = listen_anywhere(&port);

    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", port);
    snprintf(line, sizeof(line), "echod: Address already in use: %s\n", endpoint);
    expect_refusal(ARGUMENTS(endpoint), 1, line);
    close(other);
    expect_refusal(ARGUMENTS(WORD("--pid-file=/nonexistent/pid"), WORD("127.0.0.1:0")), 1,
                   "echod: No such file or directory: /nonexistent/pid\n");
    daemon_exec(&echod, ARGUMENTS(WORD("no-such-host.invalid:7")));
    ck_assert_int_eq(daemon_wait(&echod), 1);
    ck_assert_uint_eq(count_lines(echod.text), 1);
    ck_assert_ptr_nonnull(strstr(echod.text, ": no-such-host.invalid:7\n"));
}
END_TEST

START_TEST(questions_are_status_0)
{
    daemon_exec(&echod, ARGUMENTS(WORD("--help")));
    ck_assert_int_eq(daemon_wait(&echod), 0);
    ck_assert_ptr_nonnull(strstr(echod.text, "--max-connections"));
    daemon_exec(&echod, ARGUMENTS(WORD("--version")));
    ck_assert_int_eq(daemon_wait(&echod), 0);
    ck_assert_int_eq(strncmp(echod.text, "echod ", 6), 0);
    daemon_exec(&echod, ARGUMENTS(WORD("--list-backends")));
    ck_assert_int_eq(daemon_wait(&echod), 0);
    ck_assert_ptr_nonnull(strstr(echod.text, "epoll\n"));
}
END_TEST

START_TEST(all_listen_lines_come_before_ready)
{
    daemon_exec(&echod, ARGUMENTS(WORD("127.0.0.1:0"), WORD("127.0.0.1:0"), WORD("-w2")));
    daemon_expect(&echod, "Z notice ready workers=2 model=process backend=");
    ck_assert_ptr_nonnull(strstr(strstr(echod.text, " listening ") + 1, " listening "));
    ck_assert_int_eq(daemon_stop(&echod, SIGINT), 0);
}
END_TEST

enum { CLIENTS = 8, MOST = 2 };

/* Closes the client that was answered next; the descriptors of those closed are -1. */
static void close_next(struct pollfd *clients)
{
    ck_assert_int_ge(poll(clients, CLIENTS, DEADLINE_MS), 1);
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i].fd >= 0 && clients[i].revents != 0) {
            expect_text(clients[i].fd, "hello");
            close(clients[i].fd);
            clients[i].fd = -1;
            return;
        }
}

START_TEST(a_limit_holds_over_all_workers_and_nobody_is_forgotten)
{
    struct pollfd clients[CLIENTS];

    daemon_exec(&echod, ARGUMENTS(WORD("-m2"), WORD("-w3"), WORD("127.0.0.1:0")));
    daemon_expect(&echod, " ready ");
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].fd = connect_to(daemon_port(&echod));
        clients[i].events = POLLIN;
        send_text(clients[i].fd, "hello");
    }
    daemon_expect(&echod, "Z warning paused reason=max-connections\n");
    for (int left = CLIENTS; left > 0; left--) {
        poll(NULL, 0, 20); /* time for one too many to be answered */
        ck_assert_int_le(poll(clients, CLIENTS, 0), MOST);
        close_next(clients);
    }
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
}
END_TEST

START_TEST(hangup_is_no_end)
{
    int client;

    daemon_exec(&echod, ARGUMENTS(WORD("127.0.0.1:0")));
    daemon_expect(&echod, " ready ");
    kill(echod.pid, SIGHUP);
    client = connect_to(daemon_port(&echod));
    send_text(client, "still here");
    expect_text(client, "still here");
    close(client);
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
}
END_TEST

static bool is_there(void *path)
{
    return access(path, F_OK) == 0;
}

START_TEST(quiet_is_quiet)
{
    char directory[] = "/tmp/echod-check.XXXXXX", path[64], option[96];

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/pid", directory);
    snprintf(option, sizeof(option), "--pid-file=%s", path);
    daemon_exec(&echod, ARGUMENTS(WORD("-q"), WORD("127.0.0.1:0"), option));
    ck_assert(wait_until(is_there, path)); /* it serves, and does not say so */
    ck_assert_int_eq(daemon_stop(&echod, SIGTERM), 0);
    ck_assert_str_eq(echod.text, "");
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        usage_errors_are_status_2,
        what_cannot_start_is_status_1,
        questions_are_status_0,
        all_listen_lines_come_before_ready,
        a_limit_holds_over_all_workers_and_nobody_is_forgotten,
        hangup_is_no_end,
        quiet_is_quiet,
    };

    return HARNESS_RUN("main", tests);
}
