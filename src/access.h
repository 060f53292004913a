/*
 * access: a list of address prefixes, and whether an address is in it; a pure decision.
 *
 * IPv4 and IPv6 are kept apart: ::/0 is no IPv4 address. An IPv4 address that is mapped into IPv6
 * (::ffff:10.0.0.1) is the IPv4 address, in a prefix as in what is looked for.
 */
#ifndef ECHOD_ACCESS_H
#define ECHOD_ACCESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct access_prefix {
    struct in6_addr address; /* IPv4: mapped */
    unsigned bits;           /* of ADDRESS, from its front: all that counts */
};

/* All zero: nobody is in it. */
struct access_list {
    struct access_prefix *prefixes;
    size_t count;
};

/*
 * Adds what TEXT says, LENGTH bytes of it: `CIDR[,CIDR...]`, where a CIDR is ADDRESS/BITS, or an
 * ADDRESS alone. Bits of ADDRESS beyond the prefix are ignored, as nginx and haproxy do. Returns
 * NULL; or what is wrong, as a static string, with *ITEM at the offending item in TEXT, and with
 * nothing added to LIST. access_release frees what LIST has, also then, and leaves it empty.
 */
const char *access_parse(struct access_list *list, const char *text, size_t length,
                         const char **item);
void access_release(struct access_list *list);

/* Is ADDRESS in one of LIST's prefixes? One that is neither IPv4 nor IPv6 is in none. */
bool access_contains(const struct access_list *list, const struct sockaddr *address);

#endif
