#include "tests/harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/log.h"

int harness_run(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *all = tcase_create(name);
    SRunner *runner;
    int failed;

    /* A child that ends by exit() must not write what its parent has buffered. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(all, 2.0 * DEADLINE_MS / 1000);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

static void pause_briefly(void)
{
    poll(NULL, 0, 1);
}

bool wait_until(condition *is_so, void *context)
{
    int64_t end = clock_ms() + DEADLINE_MS;

    while (!is_so(context)) {
        if (clock_ms() > end)
            return false;
        pause_briefly();
    }
    return true;
}

bool loop_until(struct event_base *base, condition *is_so, void *context)
{
    int64_t end = clock_ms() + DEADLINE_MS;
    int idle = 0;

    for (;;) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        if (is_so(context))
            return true;
        if (clock_ms() > end)
            return false;
        if (++idle % 16 == 0) /* bulk data first, then the rest of the machine */
            pause_briefly();
    }
}

void loop_for(struct event_base *base, int64_t ms)
{
    for (int64_t end = clock_ms() + ms; clock_ms() < end; pause_briefly())
        event_base_loop(base, EVLOOP_NONBLOCK);
}

int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    ck_assert_ptr_nonnull(directory);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static struct {
    int fd, saved, file;
    bool is_log;
} capture;

void capture_begin(int fd)
{
    fflush(NULL);
    capture.fd = fd;
    capture.is_log = false;
    capture.saved = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    capture.file = memfd_create("capture", MFD_CLOEXEC);
    ck_assert_int_ge(capture.saved, 0);
    ck_assert_int_ge(capture.file, 0);
    /* Lines of several processes: each at the end. */
    fcntl(capture.file, F_SETFL, O_APPEND);
    ck_assert_int_eq(dup2(capture.file, fd), fd);
}

void capture_log_begin(int threshold)
{
    capture_begin(STDERR_FILENO);
    capture.is_log = true;
    log_open(threshold, false);
}

const char *capture_end(void)
{
    static char text[65536];
    ssize_t length;

    fflush(NULL);
    length = pread(capture.file, text, sizeof(text) - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    if (capture.is_log) /* now: of a pipe the log would open a copy each time */
        log_open(LOG_NOTICE, false);
    dup2(capture.saved, capture.fd);
    close(capture.saved);
    close(capture.file);
    return text;
}

size_t count_lines(const char *text)
{
    size_t lines = 0;

    while ((text = strchr(text, '\n')) != NULL) {
        lines++;
        text++;
    }
    return lines;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

struct call {
    void (*function)(void *argument);
    void *argument;
};

static void *make_call(void *argument)
{
    const struct call *call = argument;

    call->function(call->argument);
    return NULL;
}

/* In a thread whose stack is memory that has a descriptor: it is there when the thread is not. */
bool leaves_on_stack(void (*function)(void *argument), void *argument, const void *secret,
                     size_t length)
{
    enum { SIZE = 1 << 20 };
    struct call call = { function, argument };
    int fd = memfd_create("stack", MFD_CLOEXEC);
    char *content = malloc(SIZE);
    pthread_attr_t attributes;
    pthread_t thread;
    void *stack;
    bool found;

    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(stack, MAP_FAILED);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, SIZE);
    ck_assert_int_eq(pthread_create(&thread, &attributes, make_call, &call), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    munmap(stack, SIZE);
    ck_assert_int_eq(pread(fd, content, SIZE, 0), SIZE);
    found = memmem(content, SIZE, secret, length) != NULL;
    free(content);
    close(fd);
    return found;
}

struct address ip4(uint32_t host, uint16_t port)
{
    struct address address = { .length = sizeof(address.ip4) };

    address.ip4.sin_family = AF_INET;
    address.ip4.sin_addr.s_addr = htonl(host);
    address.ip4.sin_port = htons(port);
    return address;
}

struct address ip6(const char *text)
{
    struct address address = { .length = sizeof(address.ip6) };

    address.ip6.sin6_family = AF_INET6;
    ck_assert_int_eq(inet_pton(AF_INET6, text, &address.ip6.sin6_addr), 1);
    return address;
}

int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, length), 0);
    ck_assert_int_eq(listen(fd, SOMAXCONN), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &address, &length), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int connect_with(uint16_t port, int buffer)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    if (buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

int connect_to(uint16_t port)
{
    return connect_with(port, 0);
}

int connect_slowly(uint16_t port, int buffer)
{
    int fd = connect_with(port, buffer);

    ck_assert_int_ge(fd, 0);
    return fd;
}

struct pair make_pair(int buffer)
{
    struct sockaddr_in from;
    socklen_t length = sizeof(from);
    struct pollfd ready = { .events = POLLIN };
    struct pair pair;
    uint16_t port;

    ready.fd = listen_anywhere(&port);
    if (buffer > 0)
        setsockopt(ready.fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    pair.client = connect_slowly(port, buffer);
    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    pair.server = accept4(ready.fd, (struct sockaddr *) &from, &length,
                          SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(pair.server, 0);
    if (buffer > 0) {
        setsockopt(pair.server, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
        setsockopt(pair.client, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
    }
    pair.peer = address_from((struct sockaddr *) &from, length);
    close(ready.fd);
    return pair;
}

void set_blocking(int fd, bool blocking)
{
    int flags = fcntl(fd, F_GETFL);

    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

void abort_connection(int fd)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

void send_text(int fd, const char *text)
{
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
}

/* A byte, or as many as there are up to LENGTH, before the deadline. */
static ssize_t read_soon(int fd, void *data, size_t length)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };

    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    return read(fd, data, length);
}

void expect_text(int fd, const char *text)
{
    char got[4096];
    size_t length = 0, wanted = strlen(text);

    ck_assert_uint_lt(wanted, sizeof(got));
    while (length < wanted) {
        ssize_t more = read_soon(fd, got + length, wanted - length);

        ck_assert_msg(more > 0, "after %zu bytes of %zu: %s", length, wanted,
                      more == 0 ? "end" : strerror(errno));
        length += (size_t) more;
    }
    got[length] = '\0';
    ck_assert_str_eq(got, text);
}

bool reads_eof(int fd)
{
    char byte;

    return read_soon(fd, &byte, 1) == 0;
}

struct peer peer_new(int fd, size_t total, unsigned seed)
{
    set_blocking(fd, false);
    return (struct peer){ .fd = fd, .total = total, .random = seed, .piece = 16384 };
}

/* The byte at OFFSET of what a peer sends: no two pages alike. */
static unsigned char pattern(size_t offset)
{
    return (unsigned char) (offset * 31 + (offset >> 8) * 17 + (offset >> 16));
}

static size_t random_piece(struct peer *peer)
{
    peer->random = peer->random * 1664525u + 1013904223u;
    return 1 + (peer->random >> 8) % peer->piece;
}

static void peer_write(struct peer *peer)
{
    unsigned char data[65536];
    size_t length = random_piece(peer);
    ssize_t written;

    if (length > peer->total - peer->sent)
        length = peer->total - peer->sent;
    for (size_t i = 0; i < length; i++)
        data[i] = pattern(peer->sent + i);
    written = write(peer->fd, data, length);
    if (written > 0)
        peer->sent += (size_t) written;
    else if (written < 0 && errno != EAGAIN)
        peer->error = errno;
    if (peer->sent == peer->total && !peer->shut) {
        shutdown(peer->fd, SHUT_WR);
        peer->shut = true;
    }
}

static void peer_read(struct peer *peer)
{
    unsigned char data[65536];
    ssize_t length = read(peer->fd, data, random_piece(peer));

    if (length == 0 && peer->received == peer->total)
        peer->at_eof = true;
    else if (length == 0)
        peer->error = -1;
    else if (length < 0 && errno != EAGAIN)
        peer->error = errno;
    for (ssize_t i = 0; i < length; i++)
        if (peer->received == peer->sent || data[i] != pattern(peer->received++))
            peer->error = -1;
}

bool peer_step(void *context)
{
    struct peer *peer = context;

    if (!peer->shut)
        peer_write(peer);
    if (peer->error == 0 && (peer->shut || peer->sent >= peer->late))
        peer_read(peer);
    return peer->at_eof || peer->error != 0;
}

static pid_t start(struct daemon *daemon)
{
    int fds[2];

    daemon->length = 0;
    daemon->text[0] = '\0';
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    fflush(NULL);
    daemon->pid = fork();
    ck_assert_int_ge(daemon->pid, 0);
    daemon->log = fds[0];
    if (daemon->pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
    }
    close(fds[1]);
    return daemon->pid;
}

void daemon_exec(struct daemon *daemon, char **argv)
{
    const char *program = getenv("ECHOD");

    ck_assert_msg(program != NULL, "ECHOD does not say where the program is");
    if (start(daemon) != 0)
        return;
    dup2(STDERR_FILENO, STDOUT_FILENO);
    signal(SIGPIPE, SIG_DFL);
    argv[0] = (char *) program;
    execv(program, argv);
    _exit(127);
}

void daemon_fork(struct daemon *daemon, int (*run)(void *argument), void *argument)
{
    if (start(daemon) == 0)
        _exit(run(argument));
}

/* False at the end. */
static bool read_log(struct daemon *daemon)
{
    ssize_t length;

    ck_assert_uint_lt(daemon->length, sizeof(daemon->text) - 1);
    length = read_soon(daemon->log, daemon->text + daemon->length,
                       sizeof(daemon->text) - 1 - daemon->length);
    if (length > 0)
        daemon->length += (size_t) length;
    daemon->text[daemon->length] = '\0';
    return length > 0;
}

const char *daemon_expect_after(struct daemon *daemon, const char *from, const char *text)
{
    const char *found;

    while ((found = strstr(from, text)) == NULL)
        ck_assert_msg(read_log(daemon), "no \"%s\" in:\n%s", text, from);
    return found;
}

const char *daemon_expect(struct daemon *daemon, const char *text)
{
    return daemon_expect_after(daemon, daemon->text, text);
}

const char *daemon_find_after(struct daemon *daemon, const char *from, const char *text)
{
    struct pollfd ready = { .fd = daemon->log, .events = POLLIN };

    while (poll(&ready, 1, 0) == 1 && read_log(daemon))
        continue;
    return strstr(from, text);
}

uint16_t daemon_port(struct daemon *daemon)
{
    const char *line = daemon_expect(daemon, " listening ");

    while (strchr(line, '\n') == NULL)
        ck_assert(read_log(daemon));
    return (uint16_t) strtoul(strstr(line, "://127.0.0.1:") + strlen("://127.0.0.1:"), NULL, 10);
}

int daemon_wait(struct daemon *daemon)
{
    int status;

    while (read_log(daemon))
        continue;
    close(daemon->log);
    ck_assert_int_eq(waitpid(daemon->pid, &status, 0), daemon->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int daemon_stop(struct daemon *daemon, int signal_number)
{
    kill(daemon->pid, signal_number);
    return daemon_wait(daemon);
}
