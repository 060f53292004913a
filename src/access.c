#include "access.h"

#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define IP6_BITS 128
#define IP4_BITS 32
#define IP4_FIRST (UINT64_C(0xffff) << IP4_BITS) /* ::ffff:0:0/96 */
#define IP4_LAST (IP4_FIRST | UINT32_MAX)

static struct access_address from_ip4(struct in_addr address)
{
    return (struct access_address){ 0, IP4_FIRST | ntohl(address.s_addr) };
}

static struct access_address from_ip6(const struct in6_addr *address)
{
    uint64_t halves[2];

    memcpy(halves, address, sizeof(halves));
    return (struct access_address){ be64toh(halves[0]), be64toh(halves[1]) };
}

static bool is_ip4(struct access_address address)
{
    return address.high == 0 && address.low >= IP4_FIRST && address.low <= IP4_LAST;
}

/* Less than 0: A comes before B; 0: they are the same. */
static int compare(struct access_address a, struct access_address b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return a.low == b.low ? 0 : a.low < b.low ? -1 : 1;
}

/* Of a half of an address, all behind its first BITS. */
static uint64_t rest_of(unsigned bits)
{
    return bits < 64 ? UINT64_MAX >> bits : 0;
}

static struct access_range make_range(struct access_address address, unsigned bits)
{
    uint64_t high = rest_of(bits), low = rest_of(bits > 64 ? bits - 64 : 0);

    return (struct access_range){ { address.high & ~high, address.low & ~low },
                                  { address.high | high, address.low | low } };
}

/* `BITS`, of which there are at most MOST. */
static const char *parse_bits(const char *text, unsigned most, unsigned *bits)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value;

    if (digits == 0 || text[digits] != '\0')
        return "malformed prefix";
    value = strtoul(text, NULL, 10);
    if (value > most)
        return "prefix length out of range";
    *bits = (unsigned) value;
    return NULL;
}

/* One CIDR. */
static const char *parse_prefix(const char *text, size_t length, struct access_range *range)
{
    char copy[INET6_ADDRSTRLEN + sizeof("/128")];
    struct access_address address;
    const char *wrong = NULL;
    unsigned bits, most;
    struct in6_addr ip6;
    struct in_addr ip4;
    char *slash;

    if (length >= sizeof(copy) || memchr(text, '\0', length) != NULL)
        return "malformed prefix";
    memcpy(copy, text, length);
    copy[length] = '\0';
    slash = strchr(copy, '/');
    if (slash != NULL)
        *slash = '\0';
    if (inet_pton(AF_INET, copy, &ip4) == 1) {
        address = from_ip4(ip4);
        most = IP4_BITS;
    } else if (inet_pton(AF_INET6, copy, &ip6) == 1) {
        address = from_ip6(&ip6);
        most = IP6_BITS;
    } else {
        return "malformed prefix";
    }
    bits = most;
    if (slash != NULL)
        wrong = parse_bits(slash + 1, most, &bits);
    *range = make_range(address, IP6_BITS - most + bits);
    return wrong;
}

/* There is room up to the next power of two. */
static const char *add(struct access_list *list, struct access_item *item)
{
    size_t count = list->count;
    const char *wrong;

    if ((count & (count - 1)) == 0) {
        struct access_range *grown =
            realloc(list->ranges, (count > 0 ? 2 * count : 1) * sizeof(*grown));

        if (grown == NULL) {
            item->line = 0;
            return "out of memory";
        }
        list->ranges = grown;
    }
    wrong = parse_prefix(item->text, item->length, &list->ranges[count]);
    if (wrong == NULL)
        list->count++;
    return wrong;
}

const char *access_parse(struct access_list *list, const char *text, size_t length,
                         struct access_item *item)
{
    const char *end = text + length, *comma;
    size_t before = list->count;

    for (;; text = comma + 1) {
        const char *wrong;

        comma = memchr(text, ',', (size_t) (end - text));
        *item = (struct access_item){ text, (size_t) ((comma != NULL ? comma : end) - text), 1 };
        wrong = add(list, item);
        if (wrong != NULL) {
            list->count = before;
            return wrong;
        }
        if (comma == NULL)
            return NULL;
    }
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* What is in the line of ITEM, without the comment and the space around it. */
static void trim(struct access_item *item)
{
    const char *comment = memchr(item->text, '#', item->length);

    if (comment != NULL)
        item->length = (size_t) (comment - item->text);
    for (; item->length > 0 && is_space(item->text[0]); item->length--)
        item->text++;
    while (item->length > 0 && is_space(item->text[item->length - 1]))
        item->length--;
}

const char *access_parse_lines(struct access_list *list, const char *text, size_t length,
                               struct access_item *item)
{
    const char *end = text + length, *next;
    size_t before = list->count;

    for (unsigned long line = 1; text < end; line++, text = next) {
        const char *newline = memchr(text, '\n', (size_t) (end - text)), *wrong;

        next = newline != NULL ? newline + 1 : end;
        *item = (struct access_item){
            text, (size_t) ((newline != NULL ? newline : end) - text), line
        };
        trim(item);
        wrong = item->length > 0 ? add(list, item) : NULL;
        if (wrong != NULL) {
            list->count = before;
            return wrong;
        }
    }
    return NULL;
}

void access_release(struct access_list *list)
{
    free(list->ranges);
    *list = (struct access_list){ 0 };
}

/* An IPv6 prefix may begin, or end, where IPv4 does, but is larger. */
static bool is_of_ip4(const struct access_range *range)
{
    return is_ip4(range->first) && is_ip4(range->last);
}

/* IPv4 first; of those that begin at the same address, the largest. */
static int compare_ranges(const void *one, const void *other)
{
    const struct access_range *a = one, *b = other;
    int order = is_of_ip4(b) - is_of_ip4(a);

    if (order == 0)
        order = compare(a->first, b->first);
    return order != 0 ? order : compare(b->last, a->last);
}

/* Two prefixes have nothing in common, or the one is part of the other. */
void access_compile(struct access_list *list)
{
    size_t kept = 0;

    list->ip4_count = 0;
    if (list->count > 0)
        qsort(list->ranges, list->count, sizeof(*list->ranges), compare_ranges);
    for (size_t i = 0; i < list->count; i++) {
        const struct access_range *range = &list->ranges[i];

        if (kept > 0 && is_of_ip4(range) == is_of_ip4(&list->ranges[kept - 1]) &&
            compare(range->last, list->ranges[kept - 1].last) <= 0)
            continue;
        list->ip4_count += is_of_ip4(range);
        list->ranges[kept++] = *range;
    }
    list->count = kept;
}

/* Is ADDRESS in one of the ranges from the one numbered LOW to before the one numbered HIGH? */
static bool search(const struct access_list *list, size_t low, size_t high,
                   struct access_address address)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(list->ranges[middle].first, address) > 0)
            high = middle;
        else if (compare(list->ranges[middle].last, address) < 0)
            low = middle + 1;
        else
            return true;
    }
    return false;
}

bool access_contains(const struct access_list *list, const struct sockaddr *address)
{
    struct access_address wanted;

    if (address->sa_family == AF_INET)
        wanted = from_ip4(((const struct sockaddr_in *) address)->sin_addr);
    else if (address->sa_family == AF_INET6)
        wanted = from_ip6(&((const struct sockaddr_in6 *) address)->sin6_addr);
    else
        return false;
    return is_ip4(wanted) ? search(list, 0, list->ip4_count, wanted)
                          : search(list, list->ip4_count, list->count, wanted);
}

bool access_permits(const struct access_rules *rules, const struct sockaddr *address)
{
    return !access_contains(&rules->deny, address) &&
           (!rules->is_closed || access_contains(&rules->allow, address));
}
