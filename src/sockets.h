/* sockets: the listening sockets, opened before any worker runs and kept by the supervisor. */
#ifndef ECHOD_SOCKETS_H
#define ECHOD_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "endpoint.h"
#include "unixsocket.h"

/* Why sockets_open failed: "WHAT: TEXT", and the status that the program ends with. */
struct sockets_error {
    int status;
    const char *what;
    char text[ENDPOINT_HOST_MAX + ENDPOINT_TEXT_MAX];
};

/* One address that we serve. */
struct listening {
    const struct endpoint *endpoint; /* which it is one of */
    struct address address;          /* as bound, with the real port; of a unix socket empty */
    char name[ENDPOINT_TEXT_MAX];    /* as in the log */
    int *fds; /* fd_count: one per worker, or one that all share; -1: closed */
    size_t fd_count;
    bool is_passed; /* opened by the service manager, which keeps it: never shut down */
    struct unixsocket file;
};

/* All of them; the fields but `list` and `count` are sockets' own. */
struct sockets {
    struct listening *list;
    size_t count;
    size_t workers;
    bool is_order_kept;
    struct address *skipped; /* of a family that this machine lacks */
    size_t skipped_count;
};

/*
 * Resolves COUNT ENDPOINTS (0: none), which have to outlive *SOCKETS, and listens at every address:
 * non-blocking, close-on-exec, keepalive and TCP_NODELAY set for accepted sockets to inherit. Each
 * of so many WORKERS gets a socket of its own, which the kernel spreads clients over; or all share
 * one, if IS_ORDER_KEPT: streams are then accepted in the order in which they came. A unix socket
 * is always shared. On failure returns false, nothing stays open, and *ERROR is filled.
 */
bool sockets_open(struct sockets *sockets, const struct endpoint *endpoints, size_t count,
                  size_t workers, bool is_order_kept, struct sockets_error *error);

/*
 * Adds FD, a socket that the service manager has opened and that is ENDPOINT's, which has to
 * outlive *SOCKETS. All workers share it. It is *SOCKETS' from then on; on failure still the
 * caller's, and *ERROR is filled.
 */
bool sockets_adopt(struct sockets *sockets, const struct endpoint *endpoint, int fd,
                   struct sockets_error *error);

/* Logs a `listening` line for each address, and a warning for each that was skipped. */
void sockets_announce(const struct sockets *sockets);

/*
 * Has the files of unix sockets that were opened here belong to this user and group, as if they
 * had opened them; where we may not do so they stay as they are.
 */
void sockets_give(const struct sockets *sockets, uid_t uid, gid_t gid);

/* The socket of list[INDEX] at which WORKER accepts; still owned by SOCKETS. -1: closed. */
int sockets_fd(const struct sockets *sockets, size_t index, unsigned worker);

/* Is ADDRESS, an IP one, that of a stream in the list? */
bool sockets_have_stream_at(const struct sockets *sockets, const struct address *address);

/* Has every worker a socket of its own at list[INDEX]? At any address? */
bool sockets_is_own(const struct sockets *sockets, size_t index);
bool sockets_are_own(const struct sockets *sockets);

/*
 * Closes our copies, and removes the files of unix sockets; what workers hold stays open. The list
 * stays, for its names.
 */
void sockets_close(struct sockets *sockets);
void sockets_free(struct sockets *sockets);

#endif
