/*
 * Access lists: what is compiled decides as reading the text would, prefix by prefix, at the ends
 * of each prefix and beside them; a line of a file is taken as an item of a list is.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "src/access.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

struct prefix {
    uint8_t bytes[16]; /* IPv4: the first four */
    int family;
    unsigned bits;
};

static bool is_mapped(const uint8_t *bytes)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    return memcmp(bytes, mapped, sizeof(mapped)) == 0;
}

static void unmap(struct prefix *prefix)
{
    if (prefix->family != AF_INET6 || !is_mapped(prefix->bytes) || prefix->bits < 96)
        return;
    memmove(prefix->bytes, prefix->bytes + 12, 4);
    prefix->family = AF_INET;
    prefix->bits -= 96;
}

/* TEXT is well-formed. */
static struct prefix read_prefix(const char *text, size_t length)
{
    struct prefix prefix = { .family = AF_INET };
    char copy[64], *slash;

    check(length < sizeof(copy));
    memcpy(copy, text, length);
    copy[length] = '\0';
    slash = strchr(copy, '/');
    if (slash != NULL)
        *slash = '\0';
    if (inet_pton(AF_INET, copy, prefix.bytes) != 1) {
        prefix.family = AF_INET6;
        check(inet_pton(AF_INET6, copy, prefix.bytes) == 1);
    }
    prefix.bits = slash != NULL ? (unsigned) strtoul(slash + 1, NULL, 10)
                                : prefix.family == AF_INET ? 32 : 128;
    unmap(&prefix);
    return prefix;
}

static bool has_bit(const uint8_t *bytes, unsigned bit)
{
    return bytes[bit / 8] >> (7 - bit % 8) & 1;
}

/* ADDRESS: one, as a prefix. */
static bool holds(const struct prefix *prefix, const struct prefix *address)
{
    if (prefix->family != address->family)
        return false;
    for (unsigned bit = 0; bit < prefix->bits; bit++)
        if (has_bit(prefix->bytes, bit) != has_bit(address->bytes, bit))
            return false;
    return true;
}

static bool is_in_text(const char *text, size_t length, const struct prefix *address)
{
    const char *end = text + length, *comma;

    for (;; text = comma + 1) {
        struct prefix prefix;

        comma = memchr(text, ',', (size_t) (end - text));
        prefix = read_prefix(text, (size_t) ((comma != NULL ? comma : end) - text));
        if (holds(&prefix, address))
            return true;
        if (comma == NULL)
            return false;
    }
}

static bool is_in_list(const struct access_list *list, const struct prefix *address)
{
    struct sockaddr_in ip4 = { .sin_family = AF_INET };
    struct sockaddr_in6 ip6 = { .sin6_family = AF_INET6 };
    bool result;

    if (address->family == AF_INET6) {
        memcpy(&ip6.sin6_addr, address->bytes, 16);
        return access_contains(list, (struct sockaddr *) &ip6);
    }
    memcpy(&ip4.sin_addr, address->bytes, 4);
    result = access_contains(list, (struct sockaddr *) &ip4);
    ip6.sin6_addr.s6_addr[10] = ip6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&ip6.sin6_addr.s6_addr[12], address->bytes, 4);
    check(access_contains(list, (struct sockaddr *) &ip6) == result);
    return result;
}

/* STEP: 1 or -1. */
static void move(struct prefix *address, int step)
{
    uint8_t overflow = step > 0 ? 0 : 0xff;

    for (int i = address->family == AF_INET ? 3 : 15; i >= 0; i--) {
        address->bytes[i] = (uint8_t) (address->bytes[i] + step);
        if (address->bytes[i] != overflow)
            return;
    }
}

static void compare(const struct access_list *list, const char *text, size_t length,
                    struct prefix address)
{
    unmap(&address);
    check(is_in_list(list, &address) == is_in_text(text, length, &address));
}

/* At the first address of PREFIX, if not IS_LAST, or at the last, and the one beside it. */
static void try_end(const struct access_list *list, const char *text, size_t length,
                    struct prefix prefix, bool is_last)
{
    unsigned all = prefix.family == AF_INET ? 32 : 128;

    for (unsigned bit = prefix.bits; bit < all; bit++) {
        uint8_t mask = (uint8_t) (0x80 >> bit % 8);

        prefix.bytes[bit / 8] =
            (uint8_t) (is_last ? prefix.bytes[bit / 8] | mask : prefix.bytes[bit / 8] & ~mask);
    }
    prefix.bits = all;
    compare(list, text, length, prefix);
    move(&prefix, is_last ? 1 : -1);
    compare(list, text, length, prefix);
}

static void try_list(const char *text, size_t length)
{
    struct access_list list = { 0 };
    struct access_item item;
    const char *end = text + length, *next = text, *comma;

    if (access_parse(&list, text, length, &item) == NULL) {
        access_compile(&list);
        for (int tried = 0; tried < 32 && next != NULL; tried++) {
            comma = memchr(next, ',', (size_t) (end - next));

            struct prefix prefix =
                read_prefix(next, (size_t) ((comma != NULL ? comma : end) - next));

            try_end(&list, text, length, prefix, false);
            try_end(&list, text, length, prefix, true);
            next = comma != NULL ? comma + 1 : NULL;
        }
    }
    access_release(&list);
}

/* Each line that is taken is taken as an item; what is refused lies in the text. */
static void try_lines(const char *text, size_t length)
{
    struct access_list list = { 0 };
    struct access_item item = { 0 };
    const char *wrong = access_parse_lines(&list, text, length, &item);

    check(wrong == NULL || (list.count == 0 && item.line > 0 && item.text >= text &&
                            item.text + item.length <= text + length));
    if (wrong != NULL && memchr(item.text, ',', item.length) == NULL)
        check(access_parse(&list, item.text, item.length, &item) != NULL);
    access_release(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_list((const char *) data, size);
    try_lines((const char *) data, size);
    return 0;
}
