/* target: where to connect to: an endpoint's addresses, or the one of a unix socket. */
#ifndef ECHOD_PROBE_TARGET_H
#define ECHOD_PROBE_TARGET_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../endpoint.h"

struct target {
    const struct endpoint *endpoint;
    size_t count;              /* of addresses, to be tried in turn; at least 1 */
    struct address *addresses; /* NULL: it is a unix socket, at: */
    struct sockaddr_un local;
    socklen_t length; /* of that */
};

/*
 * Finds where ENDPOINT is, which stays the caller's, and there; for TARGET, which target_free
 * frees. Returns NULL, or what is wrong, as a static string; then there is nothing to free.
 */
const char *target_find(struct target *target, const struct endpoint *endpoint);
void target_free(struct target *target);

/* The address of that INDEX for connect(2), and its *LENGTH. */
const struct sockaddr *target_address(const struct target *target, size_t index,
                                      socklen_t *length);

/* Writes `tls://127.0.0.1:7777`, as in messages; OUT holds ENDPOINT_TEXT_MAX. */
void target_format(const struct target *target, size_t index, char *out);

/* Writes the shorter `127.0.0.1:7777`, but `unix:///run/x`; OUT holds the same. */
void target_name(const struct target *target, size_t index, char *out);

#endif
