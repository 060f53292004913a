/* unixsocket: unix-domain stream sockets, and the files that stand for them (unix(7)). */
#ifndef ECHOD_UNIXSOCKET_H
#define ECHOD_UNIXSOCKET_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>

/* The file of a listening socket; its fields are unixsocket's own. */
struct unixsocket {
    int directory; /* kept open: the path may mean another file later; -1: there is no file */
    char name[sizeof(((struct sockaddr_un *) 0)->sun_path)];
    dev_t device; /* together: the file that we made */
    ino_t inode;
    struct timespec made; /* a number of an inode is used again */
};

/*
 * Fills *OUT with NAME, a path or, with @ in front, an abstract name; 107 bytes at most. Returns
 * the length for bind(2) and connect(2).
 */
socklen_t unixsocket_address(const char *name, struct sockaddr_un *out);

/*
 * A listening, non-blocking socket at NAME, whose file gets the permissions MODE (-1: what the
 * umask leaves). A socket file that nobody listens at is replaced. On failure returns -1, and
 * *WRONG is why, as a text that is valid until the next call of strerror. Before there are
 * threads only: it sets the umask for a moment.
 */
int unixsocket_listen(const char *name, int mode, struct unixsocket *file, const char **wrong);

/*
 * Lets no new connection into the queue of the listening socket FD: what is queued can then be
 * accepted to the last. That holds for every process that has it.
 */
void unixsocket_stop_queueing(int fd);

/* Has the file, if it is there as we made it, belong to this user and group, if we may do so. */
void unixsocket_give(const struct unixsocket *file, uid_t uid, gid_t gid);

/* Removes the file, if it is there as we made it; errno is kept. The socket goes on. */
void unixsocket_remove(struct unixsocket *file);

#endif
