/* pidfile: a file with our process id, for those who watch or stop us. */
#ifndef ECHOD_PIDFILE_H
#define ECHOD_PIDFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* The fields are pidfile's own. */
struct pidfile {
    int directory; /* kept open: the path may mean another file later; -1: no file is kept */
    const char *name;
    char draft[256]; /* the name under which it is written; empty: it is not there */
    bool is_written;
    ino_t inode; /* of the file that we wrote */
};

/*
 * Writes the file under a name for the time being, next to PATH, which has to outlive *FILE. PATH
 * NULL: no file is kept. Returns NULL, or what is wrong as a text that is valid until the next
 * call of strerror; then nothing is left behind.
 */
const char *pidfile_open(struct pidfile *file, const char *path);

/*
 * Has the file belong to this user and group from now on, as if they had written it: in a directory
 * with the sticky bit one may rename and remove only what is one's own. It stays as it is where we
 * may not do so.
 */
void pidfile_give(const struct pidfile *file, uid_t uid, gid_t gid);

/*
 * May the present user publish and remove it? False with errno set. Where it may not, publishing
 * would fail, once all else is there.
 */
bool pidfile_is_ours(const struct pidfile *file);

/* Gives it its name, whole or not at all. On failure returns false with errno set. */
bool pidfile_publish(struct pidfile *file);

/* Removes it, if it is there as we wrote it, and forgets the directory; errno is kept. */
void pidfile_close(struct pidfile *file);

#endif
