/* pidfile: a file with our process id, for those who watch or stop us. */
#ifndef ECHOD_PIDFILE_H
#define ECHOD_PIDFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* The fields are pidfile's own. */
struct pidfile {
    int directory; /* kept open: the path may mean another file later */
    const char *name;
    bool is_written;
    ino_t inode; /* of the file that we wrote */
};

/*
 * Finds the directory of PATH, which has to outlive *FILE, and that we may write there. PATH NULL:
 * no file is kept. On failure returns false with errno set.
 */
bool pidfile_open(struct pidfile *file, const char *path);

/* Writes the file, whole or not at all. On failure returns false with errno set. */
bool pidfile_write(struct pidfile *file);

/* Removes it, if it is there as we wrote it, and forgets the directory; errno is kept. */
void pidfile_close(struct pidfile *file);

#endif
