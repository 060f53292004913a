/*
 * activation: the sockets that a service manager has opened for us (sd_listen_fds(3)), and what
 * each of them is to serve.
 *
 * What a socket is, the socket says: a listening stream is TCP or unix, a datagram socket UDP. Its
 * name (FileDescriptorName=) may be `SERVICE`, `SERVICE+TRANSPORT`, or `metrics`, whose transport is
 * ENDPOINT_HTTP; any other name means echo.
 */
#ifndef ECHOD_ACTIVATION_H
#define ECHOD_ACTIVATION_H

#include <stdbool.h>
#include <stddef.h>

#include "endpoint.h"

/* Holds "descriptor 3, named NAME"; the names are of 255 bytes at most. */
#define ACTIVATION_TEXT_MAX 320

/* One socket: non-blocking, close-on-exec. */
struct passed {
    int fd;
    struct endpoint endpoint;       /* of a unix socket with its path or @name; else no address */
    char text[ACTIVATION_TEXT_MAX]; /* what it is called in an error */
};

struct activation {
    struct passed *list;
    size_t count;
    const char *wrong; /* what is wrong with the last of them; NULL: nothing with any... */
    char text[ACTIVATION_TEXT_MAX]; /* ... and what it is called */
};

/*
 * Finds the sockets that were passed to this process, and takes the word of them out of its
 * environment. None, if this build is without libsystemd. What cannot be served ends the search,
 * and is in ACTIVATION->wrong. The descriptors stay open, and are the caller's; activation_free
 * releases memory only.
 */
void activation_take(struct activation *activation);
void activation_free(struct activation *activation);

#endif
