#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool pidfile_open(struct pidfile *file, const char *path)
{
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    char directory[PATH_MAX] = ".";

    *file = (struct pidfile){ .directory = -1, .name = slash != NULL ? slash + 1 : path };
    if (path == NULL)
        return true;
    if (slash != NULL)
        snprintf(directory, sizeof(directory), "%.*s/", (int) (slash - path), path);
    file->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->directory >= 0 && *file->name != '\0' &&
        faccessat(file->directory, ".", W_OK, AT_EACCESS) == 0)
        return true;
    if (*file->name == '\0')
        errno = EISDIR;
    pidfile_close(file);
    return false;
}

bool pidfile_write(struct pidfile *file)
{
    char draft[NAME_MAX + 1], text[16];
    int fd, error, length = snprintf(text, sizeof(text), "%d\n", (int) getpid());
    struct stat status = { 0 };
    bool written;

    if (file->directory < 0)
        return true;
    /* Under another name first: nobody may read half a number. */
    snprintf(draft, sizeof(draft), ".%.200s.%d", file->name, (int) getpid());
    fd = openat(file->directory, draft, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                0644);
    if (fd < 0)
        return false;
    written = write(fd, text, (size_t) length) == length && fstat(fd, &status) == 0;
    file->is_written = close(fd) == 0 && written &&
                       renameat(file->directory, draft, file->directory, file->name) == 0;
    file->inode = status.st_ino;
    if (file->is_written)
        return true;
    error = errno;
    unlinkat(file->directory, draft, 0);
    errno = error;
    return false;
}

void pidfile_close(struct pidfile *file)
{
    struct stat status;
    int error = errno;

    if (file->is_written && fstatat(file->directory, file->name, &status, 0) == 0 &&
        status.st_ino == file->inode) /* or else it has become another one's */
        unlinkat(file->directory, file->name, 0);
    if (file->directory >= 0)
        close(file->directory);
    errno = error;
    *file = (struct pidfile){ .directory = -1 };
}
