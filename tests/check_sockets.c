#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "src/sockets.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { ENDPOINTS_MOST = 4 };

/* What to open for so many WORKERS: the addresses of TEXTS, which ends with NULL. */
struct wanted {
    size_t workers, count;
    bool is_order_kept;
    struct endpoint endpoints[ENDPOINTS_MOST];
};

static struct wanted want(size_t workers, const char *const *texts)
{
    struct wanted wanted = { .workers = workers };

    for (; texts[wanted.count] != NULL; wanted.count++)
        ck_assert_ptr_null(endpoint_parse(texts[wanted.count], &wanted.endpoints[wanted.count]));
    return wanted;
}

#define TEXTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static struct wanted kept; /* what is open has pointers to it */

static bool open_wanted(struct sockets *sockets, struct wanted wanted, struct sockets_error *error)
{
    kept = wanted;
    return sockets_open(sockets, kept.endpoints, kept.count, kept.workers, kept.is_order_kept,
                        error);
}

static void open_good(struct sockets *sockets, struct wanted wanted)
{
    struct sockets_error error;

    ck_assert_msg(open_wanted(sockets, wanted, &error), "%s: %s", error.what, error.text);
}

/* Fails with STATUS; the text of the error has TEXT in it, and nothing stays open. */
static void expect_failure(struct wanted wanted, int status, const char *what,
                           const char *text)
{
    struct sockets_error error = { .what = "" };
    int before = open_descriptors();
    struct sockets sockets;
    bool opened = open_wanted(&sockets, wanted, &error);

    inject_reset();
    ck_assert(!opened);
    ck_assert_int_eq(error.status, status);
    if (what != NULL)
        ck_assert_str_eq(error.what, what);
    ck_assert_str_eq(error.text, text);
    ck_assert_int_eq(open_descriptors(), before);
}

static int option_of(int fd, int level, int name)
{
    socklen_t length = sizeof(int);
    int value = -1;

    ck_assert_int_eq(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage from = { 0 };
    socklen_t length = sizeof(from);
    struct address address;

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *) &from, &length), 0);
    address = address_from((struct sockaddr *) &from, length);
    return address_port(&address);
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
    uint16_t port;

    close(listen_anywhere(&port));
    return port;
}

static bool has_ip6(void)
{
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0;

    if (fd >= 0)
        close(fd);
    return bound;
}

/* Every socket of every worker: listening, non-blocking, closed on exec, at one port. */
static void check_all(const struct sockets *sockets, unsigned workers)
{
    uint16_t port = address_port(&sockets->list[0].address);

    ck_assert_uint_gt(port, 0);
    for (size_t i = 0; i < sockets->count; i++)
        for (unsigned worker = 0; worker < workers; worker++) {
            int fd = sockets_fd(sockets, i, worker);

            ck_assert_int_eq(option_of(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
            ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
            ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
            ck_assert_uint_eq(port_of(fd), port);
            for (unsigned other = 0; other < worker; other++)
                ck_assert_int_eq(sockets_fd(sockets, i, other) == fd,
                                 !sockets_are_own(sockets));
        }
}

START_TEST(port_0_is_one_port_for_all)
{
    static const unsigned counts[] = { 1, 3 };

    for (size_t k = 0; k < 2; k++) {
        struct sockets sockets;
        int before = open_descriptors();

        open_good(&sockets, want(counts[k], TEXTS("*:0")));
        ck_assert_uint_eq(sockets.count, has_ip6() ? 2 : 1);
        ck_assert_int_eq(sockets_are_own(&sockets), counts[k] > 1);
        check_all(&sockets, counts[k]);
        sockets_free(&sockets);
        ck_assert_int_eq(open_descriptors(), before);
    }
}
END_TEST

START_TEST(names_say_the_real_port)
{
    char name[ENDPOINT_TEXT_MAX];
    struct sockets sockets;

    open_good(&sockets, want(2, TEXTS("127.0.0.1:0", "127.0.0.1:0")));
    ck_assert_uint_eq(sockets.count, 2); /* port 0 is another each time */
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "tcp://127.0.0.1:%u",
                 port_of(sockets_fd(&sockets, i, 0)));
        ck_assert_str_eq(sockets.list[i].name, name);
    }
    ck_assert_str_ne(sockets.list[0].name, sockets.list[1].name);
    sockets_free(&sockets);
}
END_TEST

START_TEST(each_workers_socket_gets_connections)
{
    enum { CLIENTS = 200 };
    int clients[CLIENTS], ready = 0;
    struct sockets sockets;
    struct pollfd polled[3];

    open_good(&sockets, want(3, TEXTS("127.0.0.1:0")));
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(address_port(&sockets.list[0].address));
        ck_assert_int_ge(clients[i], 0);
    }
    for (unsigned i = 0; i < 3; i++)
        polled[i] = (struct pollfd){ .fd = sockets_fd(&sockets, 0, i), .events = POLLIN };
    ready = poll(polled, 3, DEADLINE_MS);
    ck_assert_int_eq(ready, 3);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    sockets_free(&sockets);
}
END_TEST

START_TEST(all_workers_can_share_one)
{
    struct wanted wanted = want(3, TEXTS("127.0.0.1:0"));
    struct sockets sockets;

    wanted.is_order_kept = true;
    open_good(&sockets, wanted);
    ck_assert(!sockets_are_own(&sockets));
    check_all(&sockets, 3);
    sockets_free(&sockets);
}
END_TEST

START_TEST(accepted_sockets_inherit)
{
    struct sockets sockets;
    struct pollfd ready = { .events = POLLIN };
    int client, accepted;

    open_good(&sockets, want(1, TEXTS("127.0.0.1:0")));
    client = connect_to(address_port(&sockets.list[0].address));
    ready.fd = sockets_fd(&sockets, 0, 0);
    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    accepted = accept(ready.fd, NULL, NULL);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(option_of(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    close(accepted); /* first: its port is in TIME_WAIT then, which keeps nobody from it */
    close(client);
    sockets_free(&sockets);
}
END_TEST

START_TEST(the_backlog_is_the_systems_most)
{
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "r");
    struct sockets sockets;
    struct tcp_info info;
    socklen_t length = sizeof(info);
    unsigned most = 0;

    if (file == NULL || fscanf(file, "%u", &most) != 1 || most > SOMAXCONN)
        most = SOMAXCONN;
    if (file != NULL)
        fclose(file);
    open_good(&sockets, want(1, TEXTS("127.0.0.1:0")));
    ck_assert_int_eq(
        getsockopt(sockets_fd(&sockets, 0, 0), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    ck_assert_uint_eq(info.tcpi_sacked, most); /* of a listening socket: the backlog */
    sockets_free(&sockets);
}
END_TEST

START_TEST(a_port_is_free_again_at_once)
{
    struct pollfd ready = { .events = POLLIN };
    struct sockets sockets;
    char text[64];
    int client;

    open_good(&sockets, want(2, TEXTS("127.0.0.1:0")));
    snprintf(text, sizeof(text), "127.0.0.1:%u", address_port(&sockets.list[0].address));
    client = connect_to(address_port(&sockets.list[0].address));
    sockets_close(&sockets);
    ck_assert_int_eq(sockets_fd(&sockets, 0, 0), -1);
    ck_assert_uint_eq(sockets.count, 1); /* the list stays */
    ready.fd = client;
    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    close(client);
    sockets_free(&sockets);
    open_good(&sockets, want(2, TEXTS(text)));
    sockets_free(&sockets);
}
END_TEST

START_TEST(an_address_in_use_is_an_error)
{
    static const int on = 1;
    char text[64], name[64];
    uint16_t port;
    int other = listen_anywhere(&port);

    /* Also when whoever has it would share. */
    for (int shared = 0; shared < 2; shared++) {
        if (shared)
            setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        snprintf(text, sizeof(text), "127.0.0.1:%u", port);
        snprintf(name, sizeof(name), "tcp://127.0.0.1:%u", port);
        for (size_t workers = 1; workers <= 2; workers++) {
            expect_failure(want(workers, TEXTS(text)), 1, "Address already in use", name);
            expect_failure(want(workers, TEXTS("127.0.0.1:0", text)), 1,
                           "Address already in use", name);
        }
    }
    close(other);
}
END_TEST

START_TEST(another_echod_is_an_address_in_use)
{
    for (size_t workers = 1; workers <= 3; workers++) {
        struct sockets first;
        char text[ENDPOINT_TEXT_MAX];

        open_good(&first, want(workers, TEXTS("127.0.0.1:0")));
        snprintf(text, sizeof(text), "%s", first.list[0].name);
        expect_failure(want(workers, TEXTS(text)), 1, "Address already in use", text);
        sockets_free(&first);
    }
}
END_TEST

START_TEST(the_same_endpoint_twice)
{
    char one[64], same[64], name[64];
    unsigned port = free_port();

    snprintf(one, sizeof(one), "127.0.0.1:%u", port);
    snprintf(same, sizeof(same), "echo+tcp://127.0.0.1:%u", port);
    snprintf(name, sizeof(name), "localhost:%u", port);
    expect_failure(want(1, TEXTS(one, same)), 2, "the same endpoint twice", same);
    expect_failure(want(2, TEXTS("127.0.0.1:0", one, one)), 2, "the same endpoint twice",
                   one);
    expect_failure(want(1, TEXTS(name, one)), 2, "the same endpoint twice", one);
}
END_TEST

START_TEST(a_name_that_does_not_resolve)
{
    expect_failure(want(1, TEXTS("127.0.0.1:0", "no-such-host.invalid:7")), 1, NULL,
                   "no-such-host.invalid:7");
}
END_TEST

START_TEST(an_address_of_somebody_else)
{
    expect_failure(want(1, TEXTS("127.0.0.1:0", "203.0.113.1:0")), 1,
                   "Cannot assign requested address", "tcp://203.0.113.1:0");
}
END_TEST

/* The machine is as if without IPv6: `*` is IPv4 alone, with a warning. */
static void check_skipped(struct wanted wanted)
{
    struct sockets sockets;
    const char *text;

    open_good(&sockets, wanted);
    inject_reset();
    ck_assert_uint_eq(sockets.count, 1);
    check_all(&sockets, 1);
    capture_log_begin(LOG_NOTICE);
    sockets_announce(&sockets);
    text = capture_end();
    ck_assert_uint_eq(count_lines(text), 2);
    ck_assert_ptr_nonnull(strstr(text, "Z notice listening endpoint=tcp://0.0.0.0:"));
    ck_assert_ptr_nonnull(strstr(text, "Z warning "));
    ck_assert_ptr_nonnull(strstr(strstr(text, "Z warning "), "[::]:"));
    sockets_free(&sockets);
}

START_TEST(a_family_that_the_machine_lacks_is_skipped)
{
    inject_lack_family(AF_INET6);
    check_skipped(want(2, TEXTS("*:0")));
    /* Here, but without any address: the binding, and the look whether there is a loopback. */
    inject_fail(INJECT_BIND, 1, 2, EADDRNOTAVAIL);
    check_skipped(want(2, TEXTS("*:0")));
}
END_TEST

START_TEST(if_nothing_is_left_it_is_an_error)
{
    inject_lack_family(AF_INET6);
    expect_failure(want(1, TEXTS("[::1]:0")), 1,
                   "Address family not supported by protocol", "tcp://[::1]:0");
    inject_lack_family(AF_INET6); /* of each endpoint, at least one address */
    expect_failure(want(1, TEXTS("127.0.0.1:0", "[::1]:0")), 1,
                   "Address family not supported by protocol", "tcp://[::1]:0");
}
END_TEST

START_TEST(a_port_that_is_taken_in_the_other_family_is_not_used)
{
    struct sockets sockets;

    if (!has_ip6())
        return;
    inject_fail(INJECT_BIND, 2, 1, EADDRINUSE);
    open_good(&sockets, want(1, TEXTS("*:0")));
    ck_assert_uint_eq(inject_failures(INJECT_BIND), 1);
    inject_reset();
    ck_assert_uint_eq(sockets.count, 2);
    check_all(&sockets, 1);
    sockets_free(&sockets);
}
END_TEST

/* Whichever call fails: told, and nothing stays open; until nothing has failed. */
static void check_each_failure(enum inject_call call, int error_number)
{
    unsigned nth = 0;
    bool failed = true;

    for (nth = 1; failed; nth++) {
        struct wanted wanted = want(3, TEXTS("127.0.0.1:0", "*:0"));
        struct sockets_error error = { .status = 0 };
        int before = open_descriptors();
        struct sockets sockets;
        bool opened;

        inject_fail(call, nth, 1, error_number);
        opened = open_wanted(&sockets, wanted, &error);
        failed = inject_failures(call) > 0;
        inject_reset();
        ck_assert_int_eq(opened, !failed);
        if (opened)
            sockets_free(&sockets);
        else
            ck_assert_int_eq(error.status, 1);
        ck_assert_int_eq(open_descriptors(), before);
    }
    ck_assert_uint_gt(nth, 4);
}

/* One that the service manager has opened, which goes on without us. */
START_TEST(a_passed_socket_is_shared_by_all)
{
    struct wanted wanted = want(3, TEXTS("127.0.0.1:0"));
    struct sockets_error error;
    struct endpoint endpoint;
    struct sockets sockets;
    char name[ENDPOINT_TEXT_MAX];
    uint16_t port;
    int fd = listen_anywhere(&port), managers = dup(fd), client;

    ck_assert_ptr_null(endpoint_parse("127.0.0.1:0", &endpoint));
    open_good(&sockets, wanted);
    ck_assert(sockets_adopt(&sockets, &endpoint, fd, &error));
    ck_assert_uint_eq(sockets.count, 2);
    ck_assert(sockets.list[1].is_passed && !sockets.list[0].is_passed);
    ck_assert(!sockets_is_own(&sockets, 1) && sockets_is_own(&sockets, 0));
    for (unsigned worker = 0; worker < 3; worker++)
        ck_assert_int_eq(sockets_fd(&sockets, 1, worker), fd);
    snprintf(name, sizeof(name), "tcp://127.0.0.1:%u", port);
    ck_assert_str_eq(sockets.list[1].name, name);
    ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    sockets_close(&sockets);
    ck_assert(!is_open(fd));
    client = connect_to(port);
    ck_assert_int_ge(client, 0);
    close(client);
    close(managers);
    sockets_free(&sockets);
}
END_TEST

START_TEST(a_passed_socket_alone)
{
    struct sockets_error error = { .status = 0 };
    struct endpoint endpoint;
    struct sockets sockets;
    uint16_t port;
    int fd = listen_anywhere(&port);

    ck_assert_ptr_null(endpoint_parse("127.0.0.1:0", &endpoint));
    ck_assert(sockets_open(&sockets, NULL, 0, 2, false, &error));
    for (unsigned nth = 1; nth <= 2; nth++) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        ck_assert(!sockets_adopt(&sockets, &endpoint, fd, &error));
        inject_reset();
        ck_assert_int_eq(error.status, 1);
        ck_assert_uint_eq(sockets.count, 0);
        ck_assert(is_open(fd));
    }
    ck_assert(sockets_adopt(&sockets, &endpoint, fd, &error));
    sockets_free(&sockets);
    ck_assert(!is_open(fd));
}
END_TEST

START_TEST(short_of_descriptors)
{
    check_each_failure(INJECT_SOCKET, EMFILE);
}
END_TEST

START_TEST(short_of_memory)
{
    check_each_failure(INJECT_MEMORY, ENOMEM);
}
END_TEST

START_TEST(not_permitted)
{
    check_each_failure(INJECT_BIND, EACCES);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        port_0_is_one_port_for_all,
        names_say_the_real_port,
        each_workers_socket_gets_connections,
        all_workers_can_share_one,
        accepted_sockets_inherit,
        the_backlog_is_the_systems_most,
        a_port_is_free_again_at_once,
        an_address_in_use_is_an_error,
        another_echod_is_an_address_in_use,
        the_same_endpoint_twice,
        a_name_that_does_not_resolve,
        an_address_of_somebody_else,
        a_family_that_the_machine_lacks_is_skipped,
        if_nothing_is_left_it_is_an_error,
        a_port_that_is_taken_in_the_other_family_is_not_used,
        a_passed_socket_is_shared_by_all,
        a_passed_socket_alone,
        short_of_descriptors,
        short_of_memory,
        not_permitted,
    };

    return HARNESS_RUN("sockets", tests);
}
