#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/proxy.h"
#include "tests/harness.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
/* Both addresses and ports of version 2, as 10.0.0.1:258 to 10.0.0.2:772, and of IPv6. */
#define IP4 "\x0a\0\0\1" "\x0a\0\0\2" "\1\2" "\3\4"
#define IP6 "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1" "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2" IP6_PORTS
#define IP6_PORTS "\1\2" "\3\4"
#define TEXT(literal) literal, sizeof(literal) - 1

/* The header names CLIENT and DESTINATION; NULL: it names none. */
static void expect_client(const struct proxy_header *header, const char *client,
                          const char *destination)
{
    char text[ADDRESS_TEXT_MAX];

    ck_assert_int_eq(header->has_client, client != NULL);
    if (client == NULL)
        return;
    ck_assert_int_eq(header->client.any.sa_family, header->destination.any.sa_family);
    address_format(&header->client, text);
    ck_assert_str_eq(text, client);
    address_format(&header->destination, text);
    ck_assert_str_eq(text, destination);
}

/* Headers that are good, and what they say: version 1, and version 2 without checksums. */
static const struct {
    const char *data;
    size_t length;
    const char *client, *destination;
} good[] = {
    { TEXT("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"), "192.168.0.1:56324",
      "192.168.0.11:443" },
    { TEXT("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), "0.0.0.0:0",
      "255.255.255.255:65535" },
    { TEXT("PROXY TCP6 2001:db8::1 2001:DB8::2 1 2\r\n"), "[2001:db8::1]:1", "[2001:db8::2]:2" },
    { TEXT("PROXY TCP6 ::ffff:10.0.0.1 :: 1 2\r\n"), "[::ffff:10.0.0.1]:1", "[::]:2" },
    { TEXT("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535" },
    { TEXT("PROXY UNKNOWN\r\n"), NULL, NULL },
    { TEXT("PROXY UNKNOWN \r\n"), NULL, NULL },
    { TEXT("PROXY UNKNOWN any\rthing\nat \0 all\r\n"), NULL, NULL },
    { TEXT("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
      NULL, NULL },
    { TEXT(SIGNATURE "\x21\x11\0\x0c" IP4), "10.0.0.1:258", "10.0.0.2:772" },
    { TEXT(SIGNATURE "\x21\x12\0\x0c" IP4), "10.0.0.1:258", "10.0.0.2:772" },
    { TEXT(SIGNATURE "\x21\x21\0\x24" IP6), "[2001:db8::1]:258", "[2001:db8::2]:772" },
    { TEXT(SIGNATURE "\x21\x22\0\x24" IP6), "[2001:db8::1]:258", "[2001:db8::2]:772" },
    { TEXT(SIGNATURE "\x20\0\0\0"), NULL, NULL },                /* LOCAL */
    { TEXT(SIGNATURE "\x20\x11\0\x0c" IP4), NULL, NULL },        /* and what is to be ignored: */
    { TEXT(SIGNATURE "\x20\xff\0\5what?"), NULL, NULL },         /* its family, and the block */
    { TEXT(SIGNATURE "\x20\x11\0\3no!"), NULL, NULL },
    { TEXT(SIGNATURE "\x21\0\0\0"), NULL, NULL },                /* no family, no transport */
    { TEXT(SIGNATURE "\x21\0\0\5what?"), NULL, NULL },
    { TEXT(SIGNATURE "\x21\1\0\1!"), NULL, NULL },
    { TEXT(SIGNATURE "\x21\x10\0\x0c" IP4), NULL, NULL },
    { TEXT(SIGNATURE "\x21\x20\0\1!"), NULL, NULL },
    { TEXT(SIGNATURE "\x21\x11\0\x11" IP4 "\4\0\2xx"), "10.0.0.1:258", "10.0.0.2:772" },
    { TEXT(SIGNATURE "\x21\x11\0\x12" IP4 "\4\0\0" "\4\0\0"), "10.0.0.1:258", "10.0.0.2:772" },
    { TEXT(SIGNATURE "\x21\x11\0\x16" IP4 "\x02\0\4echo" "\xe0\0\0"), "10.0.0.1:258",
      "10.0.0.2:772" },
    { TEXT(SIGNATURE "\x21\x21\0\x28" IP6 "\xff\0\1x"), "[2001:db8::1]:258",
      "[2001:db8::2]:772" },
};

/* Each part of a good header is partial, and all of it belongs to the header; and so the whole. */
static void check_good(const char *data, size_t length, const char *client,
                       const char *destination)
{
    struct proxy_header header;
    char *more = malloc(length + 20);

    for (size_t part = 0; part < length; part++) {
        char *copy = malloc(part + 1); /* exactly: a sanitizer sees what reads on */

        memcpy(copy, data, part);
        ck_assert_int_eq(proxy_parse(copy, part, &header), PROXY_PARTIAL);
        ck_assert_uint_gt(header.length, part);
        ck_assert_uint_le(header.length, length);
        free(copy);
    }
    memcpy(more, data, length);
    memcpy(more + length, "\r\nPROXY UNKNOWN\r\n", 17);
    for (size_t behind = 0; behind <= 17; behind++) {
        ck_assert_int_eq(proxy_parse(more, length + behind, &header), PROXY_WHOLE);
        ck_assert_uint_eq(header.length, length);
        expect_client(&header, client, destination);
    }
    free(more);
}

START_TEST(good_headers_are_understood_at_whatever_byte_they_are_split)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        check_good(good[i].data, good[i].length, good[i].client, good[i].destination);
}
END_TEST

static const struct {
    const char *data;
    size_t length;
    const char *wrong;
} malformed[] = {
    { TEXT("GET / HTTP/1.1\r\n"), "no PROXY header" },
    { TEXT("x"), "no PROXY header" },
    { TEXT("\0"), "no PROXY header" },
    { TEXT("\x16\3\1"), "no PROXY header" }, /* a TLS hello */
    { TEXT("proxy UNKNOWN\r\n"), "no PROXY header" },
    { TEXT(" PROXY UNKNOWN\r\n"), "no PROXY header" },
    { TEXT("PROXY\r\n"), "no PROXY header" },
    { TEXT("PROXY\tUNKNOWN\r\n"), "no PROXY header" },
    { TEXT("\r\n\r\n\0\r\nQUIX"), "no PROXY header" },
    { TEXT("\r\n\r\n\r\nQUIT\n"), "no PROXY header" },
    { TEXT("PROXY \r\n"), "unknown protocol" },
    { TEXT("PROXY UNKNOWNX\r\n"), "unknown protocol" },
    { TEXT("PROXY UNKNOWN\0\r\n"), "malformed address" },
    { TEXT("PROXY  UNKNOWN\r\n"), "unknown protocol" },
    { TEXT("PROXY unknown\r\n"), "unknown protocol" },
    { TEXT("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), "unknown protocol" },
    { TEXT("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), "unknown protocol" },
    { TEXT("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n"), "unknown protocol" },
    { TEXT("PROXY TCP4\r\n"), "not five fields" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), "not five fields" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), "not five fields" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), "not five fields" },
    { TEXT("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"), "not five fields" },
    { TEXT("PROXY TCP4 1.2.3.4  1.2.3.4 1\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4\t1.2.3.4 1 2 3\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 00.2.3.4 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4.5 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 0x1.2.3.4 1.2.3.4 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 ::1 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 100000\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\0\r\n"), "malformed address" },
    { TEXT("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP6 1.2.3.4 ::1 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP6 ::1 fe80::1%lo 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP6 [::1] ::1 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP6 ::12345 ::1 1 2\r\n"), "malformed address" },
    { TEXT("PROXY TCP6 1::2::3 ::1 1 2\r\n"), "malformed address" },
    { TEXT("PROXY UNKNOWN fffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
      "no CRLF within 107 bytes" },
    { TEXT(SIGNATURE "\x31\x11\0\x0c"), "unknown version" },
    { TEXT(SIGNATURE "\x11\x11\0\x0c"), "unknown version" },
    { TEXT(SIGNATURE "\1\x11\0\x0c"), "unknown version" },
    { TEXT(SIGNATURE "\x22\x11\0\x0c"), "unknown command" },
    { TEXT(SIGNATURE "\x2f\0\0\0"), "unknown command" },
    { TEXT(SIGNATURE "\x21\x41\0\x0c"), "unknown family or transport" },
    { TEXT(SIGNATURE "\x21\xf0\0\0"), "unknown family or transport" },
    { TEXT(SIGNATURE "\x21\x13\0\x0c"), "unknown family or transport" },
    { TEXT(SIGNATURE "\x21\3\0\0"), "unknown family or transport" },
    { TEXT(SIGNATURE "\x21\x11\0\x0b"), "addresses cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\0"), "addresses cut short" },
    { TEXT(SIGNATURE "\x21\x21\0\x23"), "addresses cut short" },
    { TEXT(SIGNATURE "\x21\x31\0\xd7"), "addresses cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\x0d" IP4 "\4"), "TLV cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\x0e" IP4 "\4\0"), "TLV cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\x10" IP4 "\4\0\2x"), "TLV cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\x0f" IP4 "\4\xff\xff"), "TLV cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\x10" IP4 "\4\0\0\4"), "TLV cut short" },
    { TEXT(SIGNATURE "\x21\x11\0\x12" IP4 "\3\0\3abc"), "malformed checksum" },
    { TEXT(SIGNATURE "\x21\x11\0\x14" IP4 "\3\0\5abcde"), "malformed checksum" },
    { TEXT(SIGNATURE "\x21\x11\0\x0f" IP4 "\3\0\0"), "malformed checksum" },
    { TEXT(SIGNATURE "\x21\x11\0\x13" IP4 "\3\0\4\0\0\0\0"), "wrong checksum" },
    { TEXT(SIGNATURE "\x21\x11\0\x1a" IP4 "\3\0\4\0\0\0\0" "\3\0\4\0\0\0\0"),
      "malformed checksum" },
};

START_TEST(malformed_headers_are_refused_for_what_is_wrong)
{
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        struct proxy_header header;
        char *copy = malloc(malformed[i].length);

        memcpy(copy, malformed[i].data, malformed[i].length);
        ck_assert_msg(proxy_parse(copy, malformed[i].length, &header) == PROXY_MALFORMED,
                      "case %zu was taken: %s", i, malformed[i].wrong);
        ck_assert_msg(strcmp(header.wrong, malformed[i].wrong) == 0, "case %zu: %s, not %s", i,
                      header.wrong, malformed[i].wrong);
        free(copy);
    }
}
END_TEST

START_TEST(a_line_that_does_not_end_is_read_no_further)
{
    char line[200] = "PROXY UNKNOWN ";
    struct proxy_header header;

    memset(line + 14, 'x', sizeof(line) - 14);
    for (size_t length = 0; length < PROXY_V1_MOST; length++)
        ck_assert_int_eq(proxy_parse(line, length, &header), PROXY_PARTIAL);
    ck_assert_int_eq(proxy_parse(line, PROXY_V1_MOST, &header), PROXY_MALFORMED);
    line[PROXY_V1_MOST - 1] = '\r';
    line[PROXY_V1_MOST] = '\n';
    ck_assert_int_eq(proxy_parse(line, sizeof(line), &header), PROXY_MALFORMED);
    line[PROXY_V1_MOST - 2] = '\r';
    line[PROXY_V1_MOST - 1] = '\n';
    ck_assert_int_eq(proxy_parse(line, sizeof(line), &header), PROXY_WHOLE);
    ck_assert_uint_eq(header.length, PROXY_V1_MOST);
}
END_TEST

/* A header of version 2 over FAMILY whose block is ADDRESSES zeros, then NOOP TLVs: SIZE bytes. */
static uint8_t *make_v2(uint8_t family, size_t addresses, size_t size)
{
    uint8_t *data = calloc(1, size);
    size_t rest = size - 16, padding = rest - addresses;

    memcpy(data, SIGNATURE "\x21", 13);
    data[13] = family;
    data[14] = (uint8_t) (rest >> 8);
    data[15] = (uint8_t) rest;
    if (padding > 0) {
        ck_assert_uint_ge(padding, 3);
        data[16 + addresses] = 4;
        data[17 + addresses] = (uint8_t) ((padding - 3) >> 8);
        data[18 + addresses] = (uint8_t) (padding - 3);
    }
    return data;
}

START_TEST(unix_addresses_are_skipped_and_the_longest_header_is_taken)
{
    uint8_t *data = make_v2(0x31, 216, 16 + 216);

    check_good((char *) data, 16 + 216, NULL, NULL);
    free(data);
    data = make_v2(0x32, 216, 16 + 216 + 3);
    check_good((char *) data, 16 + 216 + 3, NULL, NULL);
    data[16 + 216 + 2] = 1; /* its TLVs are walked all the same */
    ck_assert_int_eq(proxy_parse(data, 16 + 216 + 3, &(struct proxy_header){ 0 }),
                     PROXY_MALFORMED);
    free(data);
    data = make_v2(0x11, 12, PROXY_MOST);
    for (size_t part = 0; part <= PROXY_MOST; part += part < 64 ? 1 : 97) {
        struct proxy_header header;

        ck_assert_int_eq(proxy_parse(data, part, &header), PROXY_PARTIAL);
        ck_assert_uint_eq(header.length, part == 0 ? 15 : part < 16 ? 16 : PROXY_MOST);
    }
    ck_assert_int_eq(proxy_parse(data, PROXY_MOST, &(struct proxy_header){ 0 }), PROXY_WHOLE);
    free(data);
}
END_TEST

START_TEST(crc32c_is_that_of_the_rfcs)
{
    static const struct {
        uint8_t first, step;
        uint32_t crc;
    } table[] = { /* RFC 3720, B.4: 32 bytes each */
        { 0x00, 0x00, 0x8a9136aa },
        { 0xff, 0x00, 0x62a8ab43 },
        { 0x00, 0x01, 0x46dd794e },
        { 0x1f, 0xff, 0x113fdb5c },
    };
    uint8_t data[32];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (unsigned k = 0; k < sizeof(data); k++)
            data[k] = (uint8_t) (table[i].first + k * table[i].step);
        ck_assert_uint_eq(proxy_crc32c(0, data, sizeof(data)), table[i].crc);
        for (size_t k = 0; k <= sizeof(data); k++) /* in two pieces */
            ck_assert_uint_eq(proxy_crc32c(proxy_crc32c(0, data, k), data + k, sizeof(data) - k),
                              table[i].crc);
    }
    ck_assert_uint_eq(proxy_crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(proxy_crc32c(0, NULL, 0), 0);
}
END_TEST

START_TEST(a_checksum_has_to_be_right_where_it_is_present)
{
    /* Computed bit by bit, by other code than ours. */
    char data[] = SIGNATURE "\x21\x11\0\x1a" IP4 "\3\0\4\x70\x9e\x4c\x43" "\2\0\4echo";
    size_t length = sizeof(data) - 1, type = 16 + 12;

    check_good(data, length, "10.0.0.1:258", "10.0.0.2:772");
    for (size_t bit = 0; bit < 8 * length; bit++) {
        struct proxy_header header;

        if (bit / 8 == type)
            continue; /* then it is not present */
        data[bit / 8] = (char) (data[bit / 8] ^ 1 << bit % 8);
        /* Not whole: malformed, or by its length not all there. LOCAL alone is not looked at. */
        ck_assert_msg(proxy_parse(data, length, &header) != PROXY_WHOLE || !header.has_client,
                      "bit %zu does not matter", bit);
        data[bit / 8] = (char) (data[bit / 8] ^ 1 << bit % 8);
    }
}
END_TEST

static struct address make_address(const char *host, uint16_t port)
{
    struct sockaddr_in ip4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 ip6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

    if (inet_pton(AF_INET, host, &ip4.sin_addr) == 1)
        return address_from((struct sockaddr *) &ip4, sizeof(ip4));
    ck_assert_int_eq(inet_pton(AF_INET6, host, &ip6.sin6_addr), 1);
    return address_from((struct sockaddr *) &ip6, sizeof(ip6));
}

START_TEST(what_is_written_is_understood)
{
    static const struct {
        const char *from, *to, *client, *destination, *line;
    } table[] = {
        { "10.0.0.1", "10.0.0.2", "10.0.0.1:65535", "10.0.0.2:0",
          "PROXY TCP4 10.0.0.1 10.0.0.2 65535 0\r\n" },
        { "2001:db8::1", "::1", "[2001:db8::1]:65535", "[::1]:0",
          "PROXY TCP6 2001:db8::1 ::1 65535 0\r\n" },
        { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
          "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
          "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:0",
          "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 0\r\n" },
        { "10.0.0.1", "::1", NULL, NULL, "PROXY UNKNOWN\r\n" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct address from = make_address(table[i].from, 65535),
                       to = make_address(table[i].to, 0);
        char out[PROXY_V1_MOST + 1];
        size_t length = proxy_write_v1(&from, &to, out);

        ck_assert_str_eq(out, table[i].line);
        check_good(out, length, table[i].client, table[i].destination);
        length = proxy_write_v2(&from, &to, out);
        ck_assert_uint_eq(length, table[i].client == NULL      ? 16
                                  : from.any.sa_family == AF_INET ? 28
                                                                  : 52);
        check_good(out, length, table[i].client, table[i].destination);
    }
}
END_TEST

START_TEST(other_families_are_written_as_no_client)
{
    struct address local = { .local.family = AF_UNIX };
    char out[PROXY_V1_MOST + 1];

    ck_assert_uint_eq(proxy_write_v1(&local, &local, out), 15);
    check_good(out, 15, NULL, NULL);
    ck_assert_uint_eq(proxy_write_v2(&local, &local, out), 16);
    check_good(out, 16, NULL, NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        good_headers_are_understood_at_whatever_byte_they_are_split,
        malformed_headers_are_refused_for_what_is_wrong,
        a_line_that_does_not_end_is_read_no_further,
        unix_addresses_are_skipped_and_the_longest_header_is_taken,
        crc32c_is_that_of_the_rfcs,
        a_checksum_has_to_be_right_where_it_is_present,
        what_is_written_is_understood,
        other_families_are_written_as_no_client,
    };

    return HARNESS_RUN("proxy", tests);
}
