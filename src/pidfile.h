/* pidfile: a file with our process id, for those who watch or stop us. */
#ifndef ECHOD_PIDFILE_H
#define ECHOD_PIDFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* The fields are pidfile's own. */
struct pidfile {
    int directory; /* kept open: the path may mean another file later; -1: no file is kept */
    int file;      /* kept open: by its name another one may be found later; else -1 */
    const char *name;
    char draft[256]; /* the name under which it is written; empty: it is not there */
    bool is_early; /* it has its name, though no number yet: later it could not be renamed */
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
 * Has the file belong to UID and GID, who is to be who we are soon. Where UID may not write to the
 * directory (/run, say), or not replace what others have left there (/tmp), the file has its name
 * from now on, but is empty until it is published, and again when it is closed. On failure returns
 * false with errno set.
 */
bool pidfile_give(struct pidfile *file, uid_t uid, gid_t gid);

/* Gives it its name, whole or not at all. On failure returns false with errno set. */
bool pidfile_publish(struct pidfile *file);

/*
 * Removes it, if it is there as we wrote it and we may; else it is emptied. Forgets the directory;
 * errno is kept.
 */
void pidfile_close(struct pidfile *file);

#endif
