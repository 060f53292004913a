/* address: where a socket is, or who is at its other end. */
#ifndef ECHOD_ADDRESS_H
#define ECHOD_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Holds any address as text: brackets, IPv6 with a zone, port. */
#define ADDRESS_TEXT_MAX 96

/* A socket address of the families that we serve. */
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct {
            sa_family_t family; /* AF_UNIX */
            uid_t uid;
            pid_t pid;
        } local; /* a process of this machine, which connected to a unix socket */
    };
    socklen_t length;
};

/* Takes in an IP socket address as the kernel gave it; other families become empty. */
struct address address_from(const struct sockaddr *from, socklen_t length);

/*
 * The same for the peer of the accepted socket FD, with a unix socket too: which process connected
 * is what the kernel knows of that one (SO_PEERCRED). An IPv4 peer of an IPv6 socket is IPv4.
 */
struct address address_of_peer(int fd, const struct sockaddr *from, socklen_t length);

/* An IPv4 address that is mapped into IPv6 becomes IPv4 again; any other stays as it is. */
struct address address_unmapped(struct address address);

/* Writes `127.0.0.1:7777`, `[::1]:7777` or `uid:0,pid:42`; OUT holds ADDRESS_TEXT_MAX. */
void address_format(const struct address *address, char *out);

/* Of IP addresses only. */
bool address_equal(const struct address *a, const struct address *b);
uint16_t address_port(const struct address *address);
void address_set_port(struct address *address, uint16_t port);

#endif
