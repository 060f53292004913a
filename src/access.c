#include "access.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define MAPPED_BITS 96 /* of ::ffff:0:0/96, where IPv4 lives */

static struct in6_addr mapped(struct in_addr address)
{
    struct in6_addr result = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

    memcpy(&result.s6_addr[12], &address, sizeof(address));
    return result;
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
static const char *parse_prefix(const char *text, size_t length, struct access_prefix *prefix)
{
    char copy[INET6_ADDRSTRLEN + sizeof("/128")];
    struct in_addr ip4;
    const char *wrong = NULL;
    char *slash;

    if (length >= sizeof(copy) || memchr(text, '\0', length) != NULL)
        return "malformed prefix";
    memcpy(copy, text, length);
    copy[length] = '\0';
    slash = strchr(copy, '/');
    if (slash != NULL)
        *slash = '\0';
    prefix->bits = 128;
    if (inet_pton(AF_INET, copy, &ip4) == 1) {
        prefix->address = mapped(ip4);
        if (slash == NULL)
            return NULL;
        wrong = parse_bits(slash + 1, 32, &prefix->bits);
        prefix->bits += MAPPED_BITS;
        return wrong;
    }
    if (inet_pton(AF_INET6, copy, &prefix->address) != 1)
        return "malformed prefix";
    return slash != NULL ? parse_bits(slash + 1, 128, &prefix->bits) : NULL;
}

const char *access_parse(struct access_list *list, const char *text, size_t length,
                         const char **item)
{
    const char *end = text + length, *comma;
    size_t count = list->count;

    for (*item = text;; *item = comma + 1) {
        struct access_prefix *grown =
            reallocarray(list->prefixes, count + 1, sizeof(*list->prefixes));
        const char *wrong;

        if (grown == NULL)
            return "out of memory";
        list->prefixes = grown;
        comma = memchr(*item, ',', (size_t) (end - *item));
        wrong = parse_prefix(*item, (size_t) ((comma != NULL ? comma : end) - *item),
                             &grown[count++]);
        if (wrong != NULL)
            return wrong;
        if (comma == NULL)
            break;
    }
    list->count = count;
    return NULL;
}

void access_release(struct access_list *list)
{
    free(list->prefixes);
    *list = (struct access_list){ 0 };
}

static bool is_ip4(const struct access_prefix *prefix)
{
    return prefix->bits >= MAPPED_BITS && IN6_IS_ADDR_V4MAPPED(&prefix->address);
}

static bool holds(const struct access_prefix *prefix, const struct in6_addr *address)
{
    const uint8_t *a = prefix->address.s6_addr, *b = address->s6_addr;
    unsigned bytes = prefix->bits / 8, rest = prefix->bits % 8;

    return memcmp(a, b, bytes) == 0 && (rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0) &&
           (is_ip4(prefix) || !IN6_IS_ADDR_V4MAPPED(address));
}

bool access_contains(const struct access_list *list, const struct sockaddr *address)
{
    struct in6_addr wanted;

    if (address->sa_family == AF_INET)
        wanted = mapped(((const struct sockaddr_in *) address)->sin_addr);
    else if (address->sa_family == AF_INET6)
        wanted = ((const struct sockaddr_in6 *) address)->sin6_addr;
    else
        return false;
    for (size_t i = 0; i < list->count; i++)
        if (holds(&list->prefixes[i], &wanted))
            return true;
    return false;
}
