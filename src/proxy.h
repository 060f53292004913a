/*
 * proxy: the header by which a load balancer names the client; bytes to addresses and back, pure.
 *
 * The PROXY protocol, versions 1 (a line of text) and 2 (binary), is HAProxy's:
 * https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
 */
#ifndef ECHOD_PROXY_H
#define ECHOD_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

/* The longest headers, in bytes: a line with its CRLF; and 16 and what 16 bits can say. */
#define PROXY_V1_MOST 107
#define PROXY_MOST (16 + 65535)

enum proxy_state {
    PROXY_PARTIAL,   /* well-formed so far, and every byte of it belongs to the header */
    PROXY_WHOLE,     /* well-formed; more bytes may follow the header */
    PROXY_MALFORMED, /* whatever may follow */
};

struct proxy_header {
    size_t length; /* in bytes; of a partial one: it has at least so many, more than there are */
    /* Does it name a client? If not (LOCAL, UNKNOWN, another family) the peer is the client. */
    bool has_client;
    struct address client, destination; /* if so: IPv4 or IPv6, both the same */
    const char *wrong;                  /* malformed: what is wrong; static */
};

/*
 * Parses the first LENGTH bytes of a connection, DATA, into *HEADER. Version 1 is strict: what
 * does not match the specification exactly is malformed. Of version 2 TLVs are skipped, but for
 * the checksum, which has to be right where it is present; those of a header that names no client
 * are not looked at, nor is anything else in it.
 */
enum proxy_state proxy_parse(const void *data, size_t length, struct proxy_header *header);

/*
 * Write the header of a connection from CLIENT to DESTINATION, PROXY_V1_MOST bytes at most, to
 * OUT, which holds one more; return its length. Unless both are IPv4 or both are IPv6, it is one
 * that names no client.
 */
size_t proxy_write_v1(const struct address *client, const struct address *destination, char *out);
size_t proxy_write_v2(const struct address *client, const struct address *destination, char *out);

/* The CRC32c (RFC 4960, appendix B) of what had CRC (nothing: 0), then LENGTH bytes of DATA. */
uint32_t proxy_crc32c(uint32_t crc, const void *data, size_t length);

#endif
