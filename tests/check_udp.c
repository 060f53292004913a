#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "src/address.h"
#include "src/udp.h"
#include "tests/harness.h"

/* A server's socket, and a datagram that it has received. */
static struct {
    int fd, client;
    uint16_t port;
    struct address peer;
    struct msghdr message;
    struct iovec piece;
    char data[16];
    _Alignas(struct cmsghdr) char control[UDP_CONTROL_SIZE];
} here;

static struct address make_address(const char *host, uint16_t port)
{
    struct address address = { 0 };

    if (inet_pton(AF_INET, host, &address.ip4.sin_addr) == 1) {
        address.any.sa_family = AF_INET;
        address.length = sizeof(address.ip4);
    } else {
        ck_assert_int_eq(inet_pton(AF_INET6, host, &address.ip6.sin6_addr), 1);
        address.any.sa_family = AF_INET6;
        address.length = sizeof(address.ip6);
    }
    address_set_port(&address, port);
    return address;
}

/* Bound to HOST, at a port that is free; both families if HOST is "dual". */
static void open_server(const char *host)
{
    const int off = 0;
    bool is_dual = strcmp(host, "dual") == 0;
    struct address address = make_address(is_dual ? "::" : host, 0);

    memset(&here, 0, sizeof(here));
    here.fd = socket(address.any.sa_family, SOCK_DGRAM, 0);
    if (is_dual)
        setsockopt(here.fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    ck_assert_int_eq(bind(here.fd, &address.any, address.length), 0);
    ck_assert_int_eq(getsockname(here.fd, &address.any, &address.length), 0);
    here.port = address_port(&address);
    here.client = -1;
}

static void close_all(void)
{
    close(here.fd);
    if (here.client >= 0)
        close(here.client);
}

/* A client sends to HOST. */
static void send_to(const char *host)
{
    const int on = 1;
    struct address address = make_address(host, here.port);

    if (here.client >= 0)
        close(here.client);
    here.client = socket(address.any.sa_family, SOCK_DGRAM, 0);
    setsockopt(here.client, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
    ck_assert_msg(sendto(here.client, "ping", 4, 0, &address.any, address.length) == 4,
                  "send to %s: %s", host, strerror(errno));
}

/* The server receives, and turns it round: what udp_turn_round says. */
static bool turn_round(void)
{
    struct pollfd ready = { .fd = here.fd, .events = POLLIN };

    here.piece = (struct iovec){ here.data, sizeof(here.data) };
    here.message = (struct msghdr){ .msg_name = &here.peer.any,
                                    .msg_namelen = sizeof(here.peer.ip6),
                                    .msg_iov = &here.piece,
                                    .msg_iovlen = 1,
                                    .msg_control = here.control,
                                    .msg_controllen = sizeof(here.control) };
    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    ck_assert_int_eq(recvmsg(here.fd, &here.message, 0), 4);
    here.piece.iov_len = 4;
    return udp_turn_round(&here.message);
}

/* What is turned round arrives at the client, from HOST at our port. */
static void expect_answer_from(const char *host)
{
    struct address expected = make_address(host, here.port), from = { 0 };
    struct pollfd ready = { .fd = here.client, .events = POLLIN };
    char data[16];

    ck_assert_msg(sendmsg(here.fd, &here.message, 0) == 4, "from %s: %s", host, strerror(errno));
    ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
    from.length = sizeof(from.ip6);
    ck_assert_int_eq(recvfrom(here.client, data, sizeof(data), 0, &from.any, &from.length), 4);
    ck_assert(address_equal(&from, &expected));
}

static void check_dialled(const char *server, const char *host)
{
    open_server(server);
    ck_assert(udp_set_defaults(here.fd));
    send_to(host);
    ck_assert_msg(turn_round(), "%s at %s", host, server);
    expect_answer_from(host);
    close_all();
}

START_TEST(the_answer_comes_from_the_address_dialled)
{
    check_dialled("0.0.0.0", "127.0.0.1");
    check_dialled("0.0.0.0", "127.0.0.2");
    check_dialled("0.0.0.0", "127.255.255.254");
    check_dialled("127.0.0.3", "127.0.0.3");
    check_dialled("::", "::1");
    check_dialled("::1", "::1");
    check_dialled("dual", "::1");
    check_dialled("dual", "127.0.0.1");
    check_dialled("dual", "127.0.0.2");
}
END_TEST

static void check_dropped(const char *server, const char *host)
{
    open_server(server);
    ck_assert(udp_set_defaults(here.fd));
    send_to(host);
    ck_assert_msg(!turn_round(), "%s at %s", host, server);
    close_all();
}

START_TEST(nobody_answers_from_a_broadcast_or_multicast_address)
{
    check_dropped("0.0.0.0", "127.255.255.255");
    check_dropped("dual", "127.255.255.255");
    check_dropped("127.255.255.255", "127.255.255.255");
}
END_TEST

/* In a message that is made up, for these do not come by loopback. */
static bool turns_round(int level, int type, const void *info, size_t size)
{
    _Alignas(struct cmsghdr) char control[UDP_CONTROL_SIZE];
    struct msghdr message = { .msg_control = control, .msg_controllen = CMSG_SPACE(size) };
    struct cmsghdr *one = CMSG_FIRSTHDR(&message);

    memset(control, 0, sizeof(control));
    *one = (struct cmsghdr){ .cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size) };
    memcpy(CMSG_DATA(one), info, size);
    return udp_turn_round(&message);
}

static bool turns_round_ip4(const char *dialled, const char *answering)
{
    struct in_pktinfo info = { .ipi_ifindex = 1 };

    ck_assert_int_eq(inet_pton(AF_INET, dialled, &info.ipi_addr), 1);
    ck_assert_int_eq(inet_pton(AF_INET, answering, &info.ipi_spec_dst), 1);
    return turns_round(IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
}

START_TEST(what_the_kernel_says_decides)
{
    struct in6_pktinfo ip6 = { .ipi6_addr = IN6ADDR_LOOPBACK_INIT };

    ck_assert(turns_round_ip4("10.0.0.1", "10.0.0.1"));
    ck_assert(!turns_round_ip4("10.0.0.255", "10.0.0.1"));
    ck_assert(!turns_round_ip4("255.255.255.255", "10.0.0.1"));
    ck_assert(!turns_round_ip4("224.0.0.251", "10.0.0.1"));
    ck_assert(turns_round_ip4("10.0.0.1", "0.0.0.0"));
    ck_assert(!turns_round_ip4("255.255.255.255", "0.0.0.0"));
    ck_assert(!turns_round_ip4("239.1.2.3", "0.0.0.0"));
    ck_assert(turns_round(IPPROTO_IPV6, IPV6_PKTINFO, &ip6, sizeof(ip6)));
    ip6.ipi6_addr.s6_addr[0] = 0xff;
    ck_assert(!turns_round(IPPROTO_IPV6, IPV6_PKTINFO, &ip6, sizeof(ip6)));
    ck_assert(!turns_round(IPPROTO_IP, IP_TTL, &(int){ 64 }, sizeof(int)));
    ck_assert(!turns_round(IPPROTO_IP, IP_PKTINFO, &ip6, 4)); /* too short to be one */
}
END_TEST

/* The datagram that has a service manager start us was there before us. */
START_TEST(one_that_came_before_the_defaults_is_answered)
{
    static const char *const servers[] = { "0.0.0.0", "dual", "dual", "::" };
    static const char *const hosts[] = { "127.0.0.2", "127.0.0.2", "::1", "::1" };

    for (int i = 0; i < 4; i++) {
        open_server(servers[i]);
        send_to(hosts[i]);
        ck_assert(udp_set_defaults(here.fd));
        ck_assert_msg(turn_round(), "%s at %s", hosts[i], servers[i]);
        expect_answer_from(hosts[i]);
        close_all();
    }
}
END_TEST

START_TEST(the_kernel_refuses_an_answer_from_a_broadcast_address)
{
    open_server("0.0.0.0");
    send_to("127.255.255.255");
    ck_assert(udp_set_defaults(here.fd));
    ck_assert(turn_round()); /* nothing tells it from another address */
    ck_assert_int_eq(sendmsg(here.fd, &here.message, 0), -1);
    close_all();
}
END_TEST

START_TEST(an_interface_is_kept_for_link_local_addresses_only)
{
    static const struct {
        const char *host;
        unsigned interface;
    } cases[] = { { "fe80::1", 7 }, { "2001:db8::1", 0 }, { "::1", 0 } };

    for (int i = 0; i < 3; i++) {
        struct in6_pktinfo info = { .ipi6_ifindex = 7 };
        _Alignas(struct cmsghdr) char control[UDP_CONTROL_SIZE] = { 0 };
        struct msghdr message = { .msg_control = control,
                                  .msg_controllen = CMSG_SPACE(sizeof(info)) };
        struct cmsghdr *one = CMSG_FIRSTHDR(&message);

        inet_pton(AF_INET6, cases[i].host, &info.ipi6_addr);
        *one = (struct cmsghdr){ .cmsg_level = IPPROTO_IPV6,
                                 .cmsg_type = IPV6_PKTINFO,
                                 .cmsg_len = CMSG_LEN(sizeof(info)) };
        memcpy(CMSG_DATA(one), &info, sizeof(info));
        ck_assert(udp_turn_round(&message));
        memcpy(&info, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(info));
        ck_assert_uint_eq(info.ipi6_ifindex, cases[i].interface);
    }
}
END_TEST

/* Control data that a service manager asked for are not ours to send. */
START_TEST(other_control_data_do_not_go_back)
{
    static const struct {
        int level, name;
    } wanted[] = { { SOL_SOCKET, SO_TIMESTAMP }, { IPPROTO_IP, IP_RECVTTL },
                   { IPPROTO_IP, IP_RECVTOS } };
    const int on = 1;

    open_server("0.0.0.0");
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(setsockopt(here.fd, wanted[i].level, wanted[i].name, &on, sizeof(on)), 0);
    ck_assert(udp_set_defaults(here.fd));
    send_to("127.0.0.2");
    ck_assert(turn_round());
    ck_assert_uint_eq(here.message.msg_controllen, CMSG_SPACE(sizeof(struct in_pktinfo)));
    expect_answer_from("127.0.0.2");
    close_all();
}
END_TEST

START_TEST(errors_that_icmp_brings_are_not_told)
{
    const int on = 1;
    struct pollfd watched;
    char data[4];

    open_server("127.0.0.1");
    setsockopt(here.fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
    setsockopt(here.fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
    ck_assert(udp_set_defaults(here.fd));
    send_to("127.0.0.1");
    ck_assert(turn_round());
    close(here.client);
    here.client = -1;
    ck_assert_int_eq(sendmsg(here.fd, &here.message, 0), 4); /* draws `port unreachable` */
    watched = (struct pollfd){ .fd = here.fd, .events = POLLIN };
    ck_assert_int_eq(poll(&watched, 1, 0), 0);
    ck_assert_int_eq(recv(here.fd, data, sizeof(data), MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, EAGAIN);
    close_all();
}
END_TEST

START_TEST(nothing_is_sent_to_a_broadcast_address)
{
    const int on = 1;
    struct address everyone = make_address("127.255.255.255", 7777);

    open_server("127.0.0.1");
    setsockopt(here.fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
    ck_assert(udp_set_defaults(here.fd));
    ck_assert_int_eq(sendto(here.fd, "x", 1, 0, &everyone.any, everyone.length), -1);
    ck_assert_int_eq(errno, EACCES);
    close_all();
}
END_TEST

START_TEST(what_is_no_socket_is_said_so)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    ck_assert(!udp_set_defaults(fd));
    ck_assert_int_eq(errno, ENOTSOCK);
    close(fd);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_answer_comes_from_the_address_dialled,
        nobody_answers_from_a_broadcast_or_multicast_address,
        what_the_kernel_says_decides,
        one_that_came_before_the_defaults_is_answered,
        the_kernel_refuses_an_answer_from_a_broadcast_address,
        an_interface_is_kept_for_link_local_addresses_only,
        other_control_data_do_not_go_back,
        errors_that_icmp_brings_are_not_told,
        nothing_is_sent_to_a_broadcast_address,
        what_is_no_socket_is_said_so,
    };

    return HARNESS_RUN("udp", tests);
}
