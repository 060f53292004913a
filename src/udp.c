#include "udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "defaults.h"

static bool set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

bool udp_set_defaults(int fd)
{
    int family = AF_UNSPEC;
    socklen_t length = sizeof(family);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0)
        return false;
    (void) set_option(fd, SOL_SOCKET, SO_RCVBUF, UDP_BUFFER);
    (void) set_option(fd, SOL_SOCKET, SO_SNDBUF, UDP_BUFFER);
    (void) set_option(fd, SOL_SOCKET, SO_BROADCAST, 0);
    /* What waits in a queue of errors would wake the reactor for ever. */
    (void) set_option(fd, IPPROTO_IP, IP_RECVERR, 0);
    if (family != AF_INET6)
        return set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    (void) set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 0);
    /* Of IPv4 datagrams too, should it not be restricted to IPv6. */
    (void) set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    return set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/* The kernel's information of one kind, copied to INFO; false: it did not come. */
static bool find(struct msghdr *message, int level, int type, void *info, size_t size)
{
    struct cmsghdr *one = CMSG_FIRSTHDR(message);

    for (; one != NULL; one = CMSG_NXTHDR(message, one))
        if (one->cmsg_level == level && one->cmsg_type == type && one->cmsg_len >= CMSG_LEN(size)) {
            memcpy(info, CMSG_DATA(one), size);
            return true;
        }
    return false;
}

/* Makes it the only one. */
static void replace(struct msghdr *message, int level, int type, const void *info, size_t size)
{
    struct cmsghdr *one = message->msg_control;

    memset(one, 0, CMSG_SPACE(size));
    one->cmsg_level = level;
    one->cmsg_type = type;
    one->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(one), info, size);
    message->msg_controllen = CMSG_SPACE(size);
}

/*
 * The kernel has us answer from ipi_spec_dst, which is what the datagram was sent to, unless that
 * was a broadcast or multicast address. If the datagram had come before udp_set_defaults it is 0;
 * then the kernel refuses to send from the broadcast address of a network, which alone is unknown.
 */
static bool turn_round_ip4(struct msghdr *message, const struct in_pktinfo *came)
{
    struct in_pktinfo info = { .ipi_spec_dst = came->ipi_addr };
    uint32_t dialled = ntohl(came->ipi_addr.s_addr), answering = came->ipi_spec_dst.s_addr;

    if (IN_MULTICAST(dialled) || dialled == INADDR_BROADCAST)
        return false;
    if (answering != INADDR_ANY && answering != came->ipi_addr.s_addr)
        return false;
    replace(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    return true;
}

/* Only a link-local address needs the interface; else the way back may be another one. */
static bool turn_round_ip6(struct msghdr *message, struct in6_pktinfo *came)
{
    if (IN6_IS_ADDR_MULTICAST(&came->ipi6_addr))
        return false;
    if (!IN6_IS_ADDR_LINKLOCAL(&came->ipi6_addr))
        came->ipi6_ifindex = 0;
    replace(message, IPPROTO_IPV6, IPV6_PKTINFO, came, sizeof(*came));
    return true;
}

bool udp_turn_round(struct msghdr *message)
{
    struct in_pktinfo ip4;
    struct in6_pktinfo ip6;

    message->msg_flags = 0;
    if (find(message, IPPROTO_IP, IP_PKTINFO, &ip4, sizeof(ip4)))
        return turn_round_ip4(message, &ip4);
    return find(message, IPPROTO_IPV6, IPV6_PKTINFO, &ip6, sizeof(ip6)) &&
           turn_round_ip6(message, &ip6);
}
