#include "address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

struct address address_from(const struct sockaddr *from, socklen_t length)
{
    struct address address = { 0 };

    if ((from->sa_family == AF_INET && length >= sizeof(address.ip4)) ||
        (from->sa_family == AF_INET6 && length >= sizeof(address.ip6))) {
        address.length =
            from->sa_family == AF_INET ? sizeof(address.ip4) : sizeof(address.ip6);
        memcpy(&address.any, from, address.length);
    }
    return address;
}

struct address address_unmapped(struct address address)
{
    const struct in6_addr *ip6 = &address.ip6.sin6_addr;
    struct sockaddr_in ip4 = { .sin_family = AF_INET, .sin_port = address.ip6.sin6_port };

    if (address.any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(ip6))
        return address;
    memcpy(&ip4.sin_addr, &ip6->s6_addr[12], sizeof(ip4.sin_addr));
    return (struct address){ .ip4 = ip4, .length = sizeof(ip4) };
}

struct address address_of_peer(int fd, const struct sockaddr *from, socklen_t length)
{
    struct ucred process = { 0 };
    socklen_t size = sizeof(process);
    struct address address;

    if (from->sa_family != AF_UNIX)
        return address_unmapped(address_from(from, length));
    (void) getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &process, &size);
    address = (struct address){
        .local = { .family = AF_UNIX, .uid = process.uid, .pid = process.pid },
        .length = sizeof(address.local),
    };
    return address;
}

static void format_ip(const struct address *address, char *out)
{
    char host[INET6_ADDRSTRLEN + 1 + 16]; /* the 16: a zone, which is an interface's name */

    if (getnameinfo(&address->any, address->length, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) != 0)
        snprintf(host, sizeof(host), "?");
    snprintf(out, ADDRESS_TEXT_MAX, address->any.sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
             host, address_port(address));
}

void address_format(const struct address *address, char *out)
{
    if (address->any.sa_family == AF_UNIX)
        snprintf(out, ADDRESS_TEXT_MAX, "uid:%u,pid:%d", address->local.uid, address->local.pid);
    else
        format_ip(address, out);
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family || address_port(a) != address_port(b))
        return false;
    if (a->any.sa_family == AF_INET)
        return a->ip4.sin_addr.s_addr == b->ip4.sin_addr.s_addr;
    return memcmp(&a->ip6.sin6_addr, &b->ip6.sin6_addr, sizeof(a->ip6.sin6_addr)) == 0 &&
           a->ip6.sin6_scope_id == b->ip6.sin6_scope_id;
}

uint16_t address_port(const struct address *address)
{
    return ntohs(address->any.sa_family == AF_INET6 ? address->ip6.sin6_port
                                                    : address->ip4.sin_port);
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->ip6.sin6_port = htons(port);
    else
        address->ip4.sin_port = htons(port);
}
