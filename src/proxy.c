#include "proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char v1_start[] = "PROXY ", signature[] = "\r\n\r\n\0\r\nQUIT\n";

#define V1_START (sizeof(v1_start) - 1)
#define V1_LEAST 15 /* PROXY UNKNOWN, CR, LF */
#define V2_START (sizeof(signature) - 1)
#define V2_FIXED 16 /* then version and command, family and transport, 16 bits of length */

enum { LOCAL, PROXY };                      /* commands: the low half of the 13th byte */
enum { UNSPEC, INET, INET6, UNIX, FAMILIES }; /* the high half of the 14th */
enum { TRANSPORTS = 3 };                    /* the low half: unspecified, stream, datagram */
enum { TLV_CRC32C = 3, TLV_FIXED = 3 };     /* a type; what stands before a value */

/* Bytes of both addresses and their ports. */
static const size_t address_sizes[FAMILIES] = { [INET] = 12, [INET6] = 36, [UNIX] = 216 };

static size_t get_16(const uint8_t *bytes)
{
    return (size_t) bytes[0] << 8 | bytes[1];
}

/* Four bits at a time: fast enough for one header a connection, and a table in one look. */
uint32_t proxy_crc32c(uint32_t crc, const void *data, size_t length)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    const uint8_t *bytes = data;

    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* May what begins with LENGTH bytes of DATA begin with all of START? */
static bool may_start_with(const void *data, size_t length, const void *start, size_t size)
{
    return memcmp(data, start, length < size ? length : size) == 0;
}

/* A number from 0 to 65535, without leading zeros. */
static bool parse_port(const char *text, struct address *address)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value = strtoul(text, NULL, 10);

    if (digits == 0 || text[digits] != '\0' || (digits > 1 && text[0] == '0') || value > 65535)
        return false;
    address_set_port(address, (uint16_t) value);
    return true;
}

/* Of FAMILY, IPv4 or IPv6, and nowhere yet. */
static struct address make_address(sa_family_t family)
{
    return (struct address){
        .any.sa_family = family,
        .length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6),
    };
}

/* Where ADDRESS has its host; *SIZE: in so many bytes. */
static void *host_of(struct address *address, size_t *size)
{
    bool is_ip4 = address->any.sa_family == AF_INET;

    *size = is_ip4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    return is_ip4 ? (void *) &address->ip4.sin_addr : &address->ip6.sin6_addr;
}

/* inet_pton takes no leading zeros, no short forms and no zone: as strict as has to be. */
static bool parse_address(sa_family_t family, const char *host, const char *port,
                          struct address *address)
{
    size_t size;

    *address = make_address(family);
    return inet_pton(family, host, host_of(address, &size)) == 1 && parse_port(port, address);
}

/* `PROTOCOL CLIENT DESTINATION PORT PORT`; LINE is ours to cut up. */
static const char *parse_fields(char *line, struct proxy_header *header)
{
    enum { PROTOCOL, CLIENT, DESTINATION, CLIENT_PORT, DESTINATION_PORT, FIELDS };
    char *field[FIELDS];
    sa_family_t family;

    for (int i = 0; i < FIELDS; i++)
        field[i] = strsep(&line, " ");
    if (strcmp(field[PROTOCOL], "TCP4") == 0)
        family = AF_INET;
    else if (strcmp(field[PROTOCOL], "TCP6") == 0)
        family = AF_INET6;
    else
        return "unknown protocol";
    if (field[DESTINATION_PORT] == NULL || line != NULL)
        return "not five fields";
    if (!parse_address(family, field[CLIENT], field[CLIENT_PORT], &header->client) ||
        !parse_address(family, field[DESTINATION], field[DESTINATION_PORT],
                       &header->destination))
        return "malformed address";
    header->has_client = true;
    return NULL;
}

/* What stands between "PROXY " and CRLF. Whatever follows UNKNOWN is to be ignored. */
static const char *parse_line(const char *text, size_t length, struct proxy_header *header)
{
    static const char unknown[] = "UNKNOWN ";
    char line[PROXY_V1_MOST];

    if (length >= strlen("UNKNOWN") && may_start_with(text, length, unknown, strlen(unknown)))
        return NULL;
    if (memchr(text, '\0', length) != NULL)
        return "malformed address";
    memcpy(line, text, length);
    line[length] = '\0';
    return parse_fields(line, header);
}

static enum proxy_state parse_v1(const char *text, size_t length, struct proxy_header *header)
{
    size_t most = length < PROXY_V1_MOST ? length : PROXY_V1_MOST;
    const char *end = memmem(text, most, "\r\n", 2);

    if (end != NULL) {
        header->length = (size_t) (end + 2 - text);
        header->wrong =
            parse_line(text + V1_START, (size_t) (end - text) - V1_START, header);
        return header->wrong == NULL ? PROXY_WHOLE : PROXY_MALFORMED;
    }
    if (most == PROXY_V1_MOST) {
        header->wrong = "no CRLF within 107 bytes";
        return PROXY_MALFORMED;
    }
    header->length = length > 0 && text[length - 1] == '\r' ? length + 1 : length + 2;
    if (header->length < V1_LEAST)
        header->length = V1_LEAST;
    return PROXY_PARTIAL;
}

/* Looks at the fixed part. *FAMILY: of the addresses that follow; UNSPEC: of no interest. */
static const char *parse_fixed(const uint8_t *bytes, unsigned *family)
{
    unsigned command = bytes[12] & 15u, transport = bytes[13] & 15u;

    *family = UNSPEC;
    if (bytes[12] >> 4 != 2)
        return "unknown version";
    if (command == LOCAL)
        return NULL;
    if (command != PROXY)
        return "unknown command";
    if (bytes[13] >> 4 >= FAMILIES || transport >= TRANSPORTS)
        return "unknown family or transport";
    if (transport != UNSPEC)
        *family = bytes[13] >> 4;
    return get_16(bytes + 14) < address_sizes[*family] ? "addresses cut short" : NULL;
}

/* The addresses of FAMILY at BYTES: first both hosts, then both ports. */
static void read_addresses(const uint8_t *bytes, unsigned family, struct proxy_header *header)
{
    struct address *both[] = { &header->client, &header->destination };

    for (size_t i = 0; i < 2; i++) {
        size_t size;
        void *host;

        *both[i] = make_address(family == INET ? AF_INET : AF_INET6);
        host = host_of(both[i], &size);
        memcpy(host, bytes + i * size, size);
        address_set_port(both[i], (uint16_t) get_16(bytes + 2 * size + 2 * i));
    }
    header->has_client = true;
}

/* Is the CRC32c at AT in the header of LENGTH BYTES what they have, with itself as zeros? */
static bool is_right(const uint8_t *bytes, size_t length, size_t at)
{
    static const uint8_t zeros[4];
    uint32_t crc = proxy_crc32c(0, bytes, at);

    crc = proxy_crc32c(crc, zeros, sizeof(zeros));
    crc = proxy_crc32c(crc, bytes + at + sizeof(zeros), length - at - sizeof(zeros));
    return crc == (get_16(bytes + at) << 16 | get_16(bytes + at + 2));
}

/* Walks the TLVs from AT to the end of the header of LENGTH BYTES. */
static const char *check_tlvs(const uint8_t *bytes, size_t length, size_t at)
{
    size_t checksum = 0;

    while (at < length) {
        size_t value = at + TLV_FIXED, size;

        if (value > length)
            return "TLV cut short";
        size = get_16(bytes + at + 1);
        if (size > length - value)
            return "TLV cut short";
        if (bytes[at] == TLV_CRC32C) {
            if (size != 4 || checksum != 0) /* one is all that can be right, and all the work */
                return "malformed checksum";
            checksum = value;
        }
        at = value + size;
    }
    return checksum == 0 || is_right(bytes, length, checksum) ? NULL : "wrong checksum";
}

static enum proxy_state parse_v2(const uint8_t *bytes, size_t length, struct proxy_header *header)
{
    unsigned family;

    header->length = V2_FIXED;
    if (length < V2_FIXED)
        return PROXY_PARTIAL;
    header->length += get_16(bytes + 14);
    header->wrong = parse_fixed(bytes, &family);
    if (header->wrong == NULL && length < header->length)
        return PROXY_PARTIAL;
    if (header->wrong == NULL && family != UNSPEC) {
        header->wrong = check_tlvs(bytes, header->length, V2_FIXED + address_sizes[family]);
        if (family != UNIX)
            read_addresses(bytes + V2_FIXED, family, header);
    }
    return header->wrong == NULL ? PROXY_WHOLE : PROXY_MALFORMED;
}

enum proxy_state proxy_parse(const void *data, size_t length, struct proxy_header *header)
{
    *header = (struct proxy_header){ 0 };
    if (may_start_with(data, length, v1_start, V1_START))
        return parse_v1(data, length, header);
    if (may_start_with(data, length, signature, V2_START))
        return parse_v2(data, length, header);
    header->wrong = "no PROXY header";
    return PROXY_MALFORMED;
}

/* The family that both have; UNSPEC: none of ours. */
static unsigned common_family(const struct address *a, const struct address *b)
{
    sa_family_t family = a->any.sa_family;

    if (family != b->any.sa_family)
        return UNSPEC;
    return family == AF_INET ? INET : family == AF_INET6 ? INET6 : UNSPEC;
}

size_t proxy_write_v1(const struct address *client, const struct address *destination, char *out)
{
    struct address from = *client, to = *destination;
    char from_text[INET6_ADDRSTRLEN], to_text[INET6_ADDRSTRLEN];
    unsigned family = common_family(client, destination);
    size_t size;

    if (family == UNSPEC)
        return (size_t) snprintf(out, PROXY_V1_MOST + 1, "PROXY UNKNOWN\r\n");
    inet_ntop(from.any.sa_family, host_of(&from, &size), from_text, sizeof(from_text));
    inet_ntop(to.any.sa_family, host_of(&to, &size), to_text, sizeof(to_text));
    return (size_t) snprintf(out, PROXY_V1_MOST + 1, "PROXY TCP%d %s %s %u %u\r\n",
                             family == INET ? 4 : 6, from_text, to_text, address_port(&from),
                             address_port(&to));
}

size_t proxy_write_v2(const struct address *client, const struct address *destination, char *out)
{
    struct address both[] = { *client, *destination };
    unsigned family = common_family(client, destination);

    memcpy(out, signature, V2_START);
    out[12] = 2 << 4 | PROXY;
    out[13] = (char) (family == UNSPEC ? UNSPEC : family << 4 | 1); /* 1: a stream */
    out[14] = 0;
    out[15] = (char) address_sizes[family];
    for (size_t i = 0; family != UNSPEC && i < 2; i++) {
        in_port_t port = htons(address_port(&both[i]));
        size_t size;
        const void *host = host_of(&both[i], &size);

        memcpy(out + V2_FIXED + i * size, host, size);
        memcpy(out + V2_FIXED + 2 * size + i * sizeof(port), &port, sizeof(port));
    }
    return V2_FIXED + address_sizes[family];
}
