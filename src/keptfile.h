/*
 * keptfile: a file that is still found by its path once the root directory is another one.
 *
 * What it stands in is held by a descriptor. So the file may be replaced, and links that are
 * relative are followed as ever; one that is absolute leads to what it names in the new root.
 */
#ifndef ECHOD_KEPTFILE_H
#define ECHOD_KEPTFILE_H

#include <stdbool.h>

/* One that is all zero is none. The fields are keptfile's own, but for the path. */
struct keptfile {
    const char *path;
    int directory; /* -1: none is held, and the path is looked up each time */
    const char *name;
};

/*
 * Makes *FILE stand for PATH, which has to outlive it. If HOLD its directory is opened; on failure
 * returns false with errno set, and nothing is held. Without, nothing can fail.
 */
bool keptfile_find(struct keptfile *file, const char *path, bool hold);

/* open(2) with FLAGS, close-on-exec; of this thread's present user. -1 with errno set. */
int keptfile_open(const struct keptfile *file, int flags);

/*
 * Opens the directory that PATH's last part stands in, for paths to begin at (O_PATH). Returns the
 * descriptor, close-on-exec, and sets *NAME to that part within PATH; or -1 with errno set.
 */
int keptfile_open_directory(const char *path, const char **name);

/* Lets go of its directory. */
void keptfile_forget(struct keptfile *file);

#endif
