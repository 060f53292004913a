/* endpoint: `[SERVICE+]TRANSPORT://ADDRESS[?KEY=VALUE...]` to a struct, and to addresses. */
#ifndef ECHOD_ENDPOINT_H
#define ECHOD_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ENDPOINT_HOST_MAX 255
/* Holds any endpoint or address as text: scheme, brackets, IPv6 with a zone, port. */
#define ENDPOINT_TEXT_MAX 128

enum endpoint_service { ENDPOINT_ECHO, ENDPOINT_SERVICES };

/* What the user wrote, understood but not yet resolved. */
struct endpoint {
    enum endpoint_service service;
    char host[ENDPOINT_HOST_MAX + 1]; /* a name or a numeric address; "*" is all addresses */
    uint16_t port;                    /* 0: the kernel chooses */
    const char *text;                 /* as the user wrote it, who keeps it */
};

/* A socket address of the families that we serve. */
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
    };
    socklen_t length;
};

/*
 * Parses TEXT, long or short form, into *ENDPOINT. Returns NULL, or what is wrong with TEXT as a
 * static string; *ENDPOINT is then undefined.
 */
const char *endpoint_parse(const char *text, struct endpoint *endpoint);

/*
 * Finds the addresses that ENDPOINT stands for, each once. Returns NULL and an array of *COUNT
 * (at least 1) in *ADDRESSES, which the caller frees; or what is wrong, as a static string, with
 * *ADDRESSES as it was.
 */
const char *endpoint_resolve(const struct endpoint *endpoint, struct address **addresses,
                             size_t *count);

/* Writes the endpoint of SERVICE at ADDRESS, as in the log; OUT holds ENDPOINT_TEXT_MAX. */
void endpoint_format(enum endpoint_service service, const struct address *address, char *out);

/* Takes in a socket address as the kernel gave it; other families become empty. */
struct address address_from(const struct sockaddr *from, socklen_t length);

/* Writes `127.0.0.1:7777` or `[::1]:7777`; OUT holds ENDPOINT_TEXT_MAX. */
void address_format(const struct address *address, char *out);

bool address_equal(const struct address *a, const struct address *b);
uint16_t address_port(const struct address *address);
void address_set_port(struct address *address, uint16_t port);

#endif
