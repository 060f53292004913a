/* endpoint: `[SERVICE+]TRANSPORT://ADDRESS[?KEY=VALUE...]` to a struct, and to addresses. */
#ifndef ECHOD_ENDPOINT_H
#define ECHOD_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

#define ENDPOINT_HOST_MAX 255
/* The longest name of a unix socket, with the @ of an abstract one (sun_path less a NUL). */
#define ENDPOINT_PATH_MAX 107
/* Holds any endpoint as text: scheme, and address or path. */
#define ENDPOINT_TEXT_MAX 128

enum endpoint_service { ENDPOINT_ECHO, ENDPOINT_CHAT, ENDPOINT_SERVICES };
enum endpoint_transport {
    ENDPOINT_TCP,
    ENDPOINT_TLS,
    ENDPOINT_UDP,
    ENDPOINT_UNIX,
    ENDPOINT_TRANSPORTS,                 /* of endpoints; and: */
    ENDPOINT_HTTP = ENDPOINT_TRANSPORTS, /* what --metrics serves */
};

/* What the user wrote, understood but not yet resolved. */
struct endpoint {
    enum endpoint_service service;
    enum endpoint_transport transport;
    /* A name, a numeric address, or "*" for all; of a unix socket its path or @name. */
    char host[ENDPOINT_HOST_MAX + 1];
    uint16_t port;      /* 0: the kernel chooses */
    int mode;           /* of a unix socket's file; -1: as the umask has it */
    const char *proxy;  /* the value of proxy=, in TEXT; NULL: it was not given */
    size_t proxy_length;
    const char *text; /* as the user wrote it, who keeps it */
};

/*
 * Parses TEXT, long or short form, into *ENDPOINT. Returns NULL, or what is wrong with TEXT as a
 * static string; *ENDPOINT is then undefined.
 */
const char *endpoint_parse(const char *text, struct endpoint *endpoint);

/* The same of an address alone, as the short forms have it; the transport is ENDPOINT_HTTP. */
const char *endpoint_parse_http(const char *text, struct endpoint *endpoint);

/*
 * The same of `[SERVICE+]TRANSPORT` alone, the first LENGTH bytes of SCHEME; changes nothing else
 * in *ENDPOINT, and nothing at all if it is wrong.
 */
const char *endpoint_parse_scheme(const char *scheme, size_t length, struct endpoint *endpoint);

const char *endpoint_service_name(enum endpoint_service service);
const char *endpoint_transport_name(enum endpoint_transport transport);

/*
 * Finds the IP addresses that ENDPOINT stands for, each once; a unix socket has none. Returns NULL
 * and an array of *COUNT (at least 1) in *ADDRESSES, which the caller frees; or what is wrong, as
 * a static string, with *ADDRESSES as it was.
 */
const char *endpoint_resolve(const struct endpoint *endpoint, struct address **addresses,
                             size_t *count);

/*
 * Writes ENDPOINT as in the log, at ADDRESS, which a unix socket has no need of; OUT holds
 * ENDPOINT_TEXT_MAX.
 */
void endpoint_format(const struct endpoint *endpoint, const struct address *address, char *out);

#endif
