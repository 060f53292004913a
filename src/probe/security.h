/*
 * security: what protects a stream, if anything does. The stream knows no more of TLS than this.
 */
#ifndef ECHOD_PROBE_SECURITY_H
#define ECHOD_PROBE_SECURITY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct session; /* that of one connection; the security's own */

enum security_step {
    SECURITY_DONE,
    SECURITY_WANTS_READ, /* call again when the socket can be read, or written */
    SECURITY_WANTS_WRITE,
    SECURITY_FAILED, /* `why` says why */
};

/* One for all threads; nothing here waits. */
struct security {
    /* A session on FD, which stays the caller's. NULL: no memory. */
    struct session *(*begin)(const struct security *security, int fd);
    /* Sends nothing. */
    void (*end)(struct session *session);
    enum security_step (*handshake)(struct session *session);
    /* As send(2); what was not taken has to be sent next, from the same address. */
    ssize_t (*send)(struct session *session, const void *data, size_t length);
    /*
     * As recv(2), but it may leave something behind of which the socket knows nothing: to be
     * called on while has_more says so. Only the first call receives; all others take from that.
     */
    ssize_t (*receive)(struct session *session, void *data, size_t length);
    bool (*has_more)(struct session *session);
    /* Says that no more will be sent; false: the socket does not take it yet. */
    bool (*finish)(struct session *session);
    /* What went wrong, when a call failed with EPROTO; valid until this thread's next call. */
    const char *(*why)(struct session *session);
};

#endif
