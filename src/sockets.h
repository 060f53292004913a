/* sockets: the listening sockets, opened before any worker runs and kept by the supervisor. */
#ifndef ECHOD_SOCKETS_H
#define ECHOD_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "endpoint.h"

/* Why sockets_open failed: "WHAT: TEXT", and the status that the program ends with. */
struct sockets_error {
    int status;
    const char *what;
    char text[ENDPOINT_HOST_MAX + ENDPOINT_TEXT_MAX];
};

/* One address that we serve. */
struct listening {
    enum endpoint_service service;
    struct address address; /* as bound, with the real port */
    char name[ENDPOINT_TEXT_MAX]; /* as in the log */
    int *fds;                     /* fd_count: one per worker, or one that all share; -1: closed */
};

/* All of them; the fields but `list` and `count` are sockets' own. */
struct sockets {
    struct listening *list;
    size_t count;
    size_t fd_count;
    struct address *skipped; /* of a family that this machine lacks */
    size_t skipped_count;
};

/*
 * Resolves COUNT ENDPOINTS and listens at every address: non-blocking, close-on-exec, keepalive
 * and TCP_NODELAY set for accepted sockets to inherit; so many sockets each as EACH says: one per
 * worker, which the kernel spreads connections over, or one that all share, where the order of
 * arrival matters. On failure returns false, nothing stays open, and *ERROR is filled.
 */
bool sockets_open(struct sockets *sockets, const struct endpoint *endpoints, size_t count,
                  size_t each, struct sockets_error *error);

/* Logs a `listening` line for each address, and a warning for each that was skipped. */
void sockets_announce(const struct sockets *sockets);

/* The socket of list[INDEX] at which WORKER accepts; still owned by SOCKETS. -1: closed. */
int sockets_fd(const struct sockets *sockets, size_t index, unsigned worker);

/* Has every worker a socket of its own? */
bool sockets_are_own(const struct sockets *sockets);

/* Closes our copies; what workers hold stays open. The list stays, for its names. */
void sockets_close(struct sockets *sockets);
void sockets_free(struct sockets *sockets);

#endif
