#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "src/tcp.h"
#include "tests/harness.h"

static int option_of(int fd, int level, int name)
{
    socklen_t length = sizeof(int);
    int value = -1;

    ck_assert_int_eq(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

/* Accepts, before the deadline. */
static int accept_soon(int listening)
{
    struct pollfd ready = { .fd = listening, .events = POLLIN };

    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    return accept(listening, NULL, NULL);
}

START_TEST(accepted_sockets_inherit_what_was_set)
{
    uint16_t port;
    int listening = listen_anywhere(&port), client, accepted;

    tcp_set_defaults(listening);
    client = connect_to(port);
    accepted = accept_soon(listening);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(option_of(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_KEEPINTVL), 15);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_KEEPCNT), 4);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    close(client);
    close(accepted);
    close(listening);
}
END_TEST

static bool has_unread(void *context)
{
    return tcp_unread(*(int *) context) == 5;
}

static bool is_acknowledged(void *context)
{
    return tcp_unacknowledged(*(int *) context) == 0;
}

static int why; /* of the last is_closed */

static bool is_closed(void *context)
{
    return tcp_is_closed(*(int *) context, &why);
}

START_TEST(bytes_under_way_are_counted)
{
    struct pair pair = make_pair(0);

    ck_assert_int_eq(tcp_unread(pair.server), 0);
    send_text(pair.client, "hello");
    ck_assert(wait_until(has_unread, &pair.server));
    ck_assert(wait_until(is_acknowledged, &pair.client));
    ck_assert(!is_closed(&pair.server));
    ck_assert_uint_gt(tcp_round_trip_us(pair.server), 0);
    shutdown(pair.client, SHUT_WR); /* half closed is not closed */
    ck_assert(!is_closed(&pair.server));
    close(pair.server); /* with bytes unread: a reset */
    ck_assert(wait_until(is_closed, &pair.client));
    ck_assert_int_eq(why, ECONNRESET);
    close(pair.client);
}
END_TEST

START_TEST(a_close_that_resets)
{
    struct pair pair = make_pair(0);

    tcp_reset_on_close(pair.server);
    close(pair.server);
    ck_assert(wait_until(is_closed, &pair.client));
    ck_assert_int_eq(why, ECONNRESET);
    close(pair.client);
}
END_TEST

START_TEST(what_the_peer_does_not_take_is_unacknowledged)
{
    struct pair pair = make_pair(4096);
    char data[65536] = "";

    while (write(pair.server, data, sizeof(data)) > 0)
        continue;
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_gt(tcp_unacknowledged(pair.server), 0);
    close(pair.client);
    ck_assert(wait_until(is_closed, &pair.server));
    close(pair.server);
}
END_TEST

/* Is a socket that is bound to HOST, with no port yet, one of loopback? */
static bool is_loopback_at(const char *host)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *found;
    bool is_loopback;
    int fd;

    ck_assert_int_eq(getaddrinfo(host, NULL, &hints, &found), 0);
    fd = socket(found->ai_family, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, found->ai_addr, found->ai_addrlen), 0);
    is_loopback = tcp_is_loopback(fd);
    close(fd);
    freeaddrinfo(found);
    return is_loopback;
}

START_TEST(what_only_this_machine_reaches)
{
    ck_assert(is_loopback_at("127.0.0.1"));
    ck_assert(is_loopback_at("127.9.9.9"));
    ck_assert(!is_loopback_at("0.0.0.0"));
    ck_assert(!tcp_is_loopback(-1));
}
END_TEST

START_TEST(a_descriptor_that_is_no_socket)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    tcp_set_defaults(fds[0]);
    tcp_stop_queueing(fds[0]);
    ck_assert_int_eq(tcp_unacknowledged(fds[0]), 0);
    ck_assert_uint_eq(tcp_round_trip_us(fds[0]), 0);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* A connection that has begun; *FD is ready to write when it stands, or has failed. */
static struct pollfd begin_connecting(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct pollfd one = { .events = POLLOUT };

    one.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(connect(one.fd, (struct sockaddr *) &address, sizeof(address)), -1);
    ck_assert_int_eq(errno, EINPROGRESS);
    return one;
}

START_TEST(who_is_queued_is_served_and_who_comes_late_is_refused)
{
    enum { QUEUED = 20 };
    int clients[QUEUED], accepted[QUEUED];
    uint16_t port;
    int listening = listen_anywhere(&port);
    struct pollfd late;

    for (int i = 0; i < QUEUED; i++)
        clients[i] = connect_to(port);
    tcp_stop_queueing(listening);
    late = begin_connecting(port);
    for (int i = 0; i < QUEUED; i++) {
        accepted[i] = accept_soon(listening);
        ck_assert_int_ge(accepted[i], 0);
    }
    ck_assert_int_eq(poll(&late, 1, 50), 0);
    ck_assert_int_eq(accept(listening, NULL, NULL), -1);
    ck_assert_int_eq(errno, EAGAIN);
    close(listening);
    for (int i = 0; i < QUEUED; i++) {
        send_text(clients[i], "still here");
        expect_text(accepted[i], "still here");
        close(clients[i]);
        close(accepted[i]);
    }
    ck_assert_int_eq(poll(&late, 1, DEADLINE_MS), 1); /* its second SYN */
    ck_assert_int_eq(option_of(late.fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    close(late.fd);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        accepted_sockets_inherit_what_was_set,
        bytes_under_way_are_counted,
        a_close_that_resets,
        what_only_this_machine_reaches,
        what_the_peer_does_not_take_is_unacknowledged,
        a_descriptor_that_is_no_socket,
        who_is_queued_is_served_and_who_comes_late_is_refused,
    };

    return HARNESS_RUN("tcp", tests);
}
