/*
 * access: lists of address prefixes, and who is permitted by them; pure decisions.
 *
 * IPv4 and IPv6 are kept apart: ::/0 is no IPv4 address. An IPv4 address that is mapped into IPv6
 * (::ffff:10.0.0.1) is the IPv4 address, in a prefix as in what is looked for.
 */
#ifndef ECHOD_ACCESS_H
#define ECHOD_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Of IPv6, as a number; IPv4: mapped. */
struct access_address {
    uint64_t high, low;
};

/* A prefix: its first address and its last. */
struct access_range {
    struct access_address first, last;
};

/* All zero: nobody is in it. */
struct access_list {
    struct access_range *ranges;
    size_t count;
    size_t ip4_count; /* those in front are of IPv4, once it is compiled */
};

/* An item of a list in a text, for messages. */
struct access_item {
    const char *text;
    size_t length;
    unsigned long line; /* from 1; 0: nothing is wrong with it, but memory is short */
};

/*
 * Adds what TEXT says, LENGTH bytes of it: `CIDR[,CIDR...]`, where a CIDR is ADDRESS/BITS, or an
 * ADDRESS alone. Bits of ADDRESS beyond the prefix are ignored, as nginx and haproxy do. Returns
 * NULL; or what is wrong, as a static string, with *ITEM the offending one, and with nothing added
 * to LIST. access_release frees what LIST has, also then, and leaves it empty.
 */
const char *access_parse(struct access_list *list, const char *text, size_t length,
                         struct access_item *item);

/* The same of a text with one CIDR a line, where `#` begins a comment; space around is ignored. */
const char *access_parse_lines(struct access_list *list, const char *text, size_t length,
                               struct access_item *item);
void access_release(struct access_list *list);

/* Has to be called when all is added: sorts LIST, and drops what is part of something else. */
void access_compile(struct access_list *list);

/*
 * Is ADDRESS in one of LIST's prefixes? A binary search. An address that is neither IPv4 nor IPv6
 * is in none.
 */
bool access_contains(const struct access_list *list, const struct sockaddr *address);

/* What one --allow or --deny says: a list, or @FILE. */
struct access_source {
    bool denies;
    const char *text;
};

/* Who may come; both lists are compiled. All zero: everyone. */
struct access_rules {
    struct access_list allow, deny;
    bool is_closed; /* who is in neither may not */
};

/* Is ADDRESS let in by RULES? Who is denied is not, even if allowed. */
bool access_permits(const struct access_rules *rules, const struct sockaddr *address);

#endif
