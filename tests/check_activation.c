#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "src/activation.h"
#include "tests/harness.h"

enum { SOCKETS_MOST = 4, FIRST = 3, ASIDE = 200 };

/* What a service manager passes; "" is said of a variable by not setting it. */
struct plan {
    int fds[SOCKETS_MOST];
    int count;
    const char *names, *fds_text, *pid_text; /* NULL: as it has to be */
};

/* Runs in a process of its own, whose descriptors are ours to choose: says what it has found. */
static int take(void *argument)
{
    const struct plan *plan = argument;
    struct activation activation;
    char number[16], pid[16];

    for (int i = 0; i < plan->count; i++)
        dup2(plan->fds[i], ASIDE + i);
    for (int i = 0; i < plan->count; i++)
        dup2(ASIDE + i, FIRST + i);
    snprintf(number, sizeof(number), "%d", plan->count);
    snprintf(pid, sizeof(pid), "%d", (int) getpid());
    setenv("LISTEN_FDS", plan->fds_text != NULL ? plan->fds_text : number, 1);
    setenv("LISTEN_PID", plan->pid_text != NULL ? plan->pid_text : pid, 1);
    if (plan->names != NULL)
        setenv("LISTEN_FDNAMES", plan->names, 1);
    activation_take(&activation);
    if (activation.wrong != NULL)
        fprintf(stderr, "%s: %s\n", activation.wrong, activation.text);
    for (size_t i = 0; activation.wrong == NULL && i < activation.count; i++) {
        const struct passed *passed = &activation.list[i];

        fprintf(stderr, "%d %s%s %s%s%s\n", passed->fd,
                passed->endpoint.service == ENDPOINT_CHAT ? "chat+" : "",
                endpoint_transport_name(passed->endpoint.transport), passed->endpoint.host,
                fcntl(passed->fd, F_GETFL) & O_NONBLOCK ? "" : " blocking",
                fcntl(passed->fd, F_GETFD) & FD_CLOEXEC ? "" : " inherited");
    }
    if (getenv("LISTEN_FDS") != NULL || getenv("LISTEN_PID") != NULL ||
        getenv("LISTEN_FDNAMES") != NULL)
        fprintf(stderr, "still in the environment\n");
    activation_free(&activation);
    return 0;
}

static struct daemon process;

static void expect(struct plan plan, const char *text)
{
    daemon_fork(&process, take, &plan);
    ck_assert_int_eq(daemon_wait(&process), 0);
    ck_assert_str_eq(process.text, text);
    for (int i = 0; i < plan.count; i++)
        close(plan.fds[i]);
}

static int open_ip(int type)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, type, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    if (type == SOCK_STREAM)
        ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

/* At an abstract name of LENGTH bytes. */
static int open_unix(int type, const char *name, size_t length)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type, 0);

    memcpy(address.sun_path + 1, name, length);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address,
                          (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + length)), 0);
    if (type != SOCK_DGRAM)
        ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

START_TEST(each_is_what_it_is)
{
    expect((struct plan){ .fds = { open_ip(SOCK_STREAM), open_ip(SOCK_DGRAM),
                                   open_unix(SOCK_STREAM, "echod-a\0b", 9), open_ip(SOCK_STREAM) },
                          .count = 4,
                          .names = "echo:echod.socket:echo+unix:echo+tls" },
           "3 tcp \n4 udp \n5 unix @echod-a@b\n6 tls \n");
}
END_TEST

START_TEST(a_name_may_be_a_service)
{
    expect((struct plan){ .fds = { open_ip(SOCK_STREAM), open_unix(SOCK_STREAM, "echod-c", 7),
                                   open_ip(SOCK_STREAM), open_ip(SOCK_STREAM) },
                          .count = 4,
                          .names = "chat:chat:chat+tls:chat+tcp" },
           "3 chat+tcp \n4 chat+unix @echod-c\n5 chat+tls \n6 chat+tcp \n");
    expect((struct plan){ .fds = { open_ip(SOCK_DGRAM) }, .count = 1, .names = "chat" },
           "only echo is served over udp: descriptor 3, named chat\n");
}
END_TEST

START_TEST(the_longest_name_is_whole)
{
    char name[107], text[150];

    memset(name, 'x', sizeof(name));
    snprintf(text, sizeof(text), "3 unix @%.*s\n", (int) sizeof(name), name);
    expect((struct plan){ .fds = { open_unix(SOCK_STREAM, name, sizeof(name)) }, .count = 1 },
           text);
}
END_TEST

START_TEST(names_that_say_nothing)
{
    static const char *const names[] = { "unknown", "tcp", "udp", "Echo", "x", "echod.socket",
                                         "chats", "Chat" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        expect((struct plan){ .fds = { open_ip(SOCK_STREAM) }, .count = 1, .names = names[i] },
               "3 tcp \n");
}
END_TEST

START_TEST(names_that_say_what_cannot_be)
{
    static const struct {
        const char *name, *wrong;
    } table[] = {
        { "echo+udp", "not a socket of the transport that its name says" },
        { "echo+unix", "not a socket of the transport that its name says" },
        { "echo+", "unknown transport" },
        { "echo+tsl", "unknown transport" },
        { "+tls", "unknown service" },
        { "chit+tcp", "unknown service" },
        { "chat+udp", "only echo is served over udp" },
        { "chat+unix", "not a socket of the transport that its name says" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char text[200], names[64];

        snprintf(text, sizeof(text), "%s: descriptor 4, named %s\n", table[i].wrong,
                 table[i].name);
        snprintf(names, sizeof(names), "echo:%s", table[i].name);
        expect((struct plan){ .fds = { open_ip(SOCK_STREAM), open_ip(SOCK_STREAM) }, .count = 2,
                              .names = names },
               text);
    }
}
END_TEST

START_TEST(sockets_that_are_none_to_serve)
{
    struct pair pair = make_pair(0);
    int pipes[2];

    ck_assert_int_eq(pipe(pipes), 0);
    close(pipes[1]);
    expect((struct plan){ .fds = { pair.server }, .count = 1 },
           "a connected socket (Accept=yes) is not served, only a listening one: "
           "descriptor 3, named unknown\n");
    close(pair.client);
    expect((struct plan){ .fds = { pipes[0] }, .count = 1 },
           "not a socket: descriptor 3, named unknown\n");
    expect((struct plan){ .fds = { socket(AF_INET, SOCK_STREAM, 0) }, .count = 1 },
           "not a listening socket: descriptor 3, named unknown\n");
    expect((struct plan){ .fds = { open_unix(SOCK_DGRAM, "echod-d", 7) }, .count = 1 },
           "neither a TCP, a UDP nor a unix stream socket: descriptor 3, named unknown\n");
    expect((struct plan){ .fds = { open_unix(SOCK_SEQPACKET, "echod-s", 7) }, .count = 1 },
           "neither a TCP, a UDP nor a unix stream socket: descriptor 3, named unknown\n");
    expect((struct plan){ .fds = { socket(AF_NETLINK, SOCK_RAW, 0) }, .count = 1 },
           "neither a TCP, a UDP nor a unix stream socket: descriptor 3, named unknown\n");
}
END_TEST

START_TEST(variables_that_are_wrong)
{
    expect((struct plan){ .fds = { open_ip(SOCK_STREAM) }, .count = 1, .fds_text = "x" },
           "Invalid argument: LISTEN_FDS\n");
    expect((struct plan){ .fds = { open_ip(SOCK_STREAM) }, .count = 1, .names = "a:b" },
           "Invalid argument: LISTEN_FDS\n");
    expect((struct plan){ .fds = { open_ip(SOCK_STREAM) }, .count = 1, .fds_text = "150" },
           "Bad file descriptor: LISTEN_FDS\n");
    expect((struct plan){ .fds = { open_ip(SOCK_STREAM) }, .count = 1, .pid_text = "1" }, "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_is_what_it_is,
        a_name_may_be_a_service,
        the_longest_name_is_whole,
        names_that_say_nothing,
        names_that_say_what_cannot_be,
        sockets_that_are_none_to_serve,
        variables_that_are_wrong,
    };

    return HARNESS_RUN("activation", tests);
}
