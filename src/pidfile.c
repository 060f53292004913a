#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool open_directory(struct pidfile *file, const char *path)
{
    char directory[PATH_MAX] = ".";

    if (file->name != path)
        snprintf(directory, sizeof(directory), "%.*s", (int) (file->name - path), path);
    file->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return file->directory >= 0;
}

/* A file of that name may be there, of a server that is gone; of any other thing we keep off. */
static const char *check_name(const struct pidfile *file)
{
    struct stat status;

    if (*file->name == '\0')
        return strerror(EISDIR);
    if (fstatat(file->directory, file->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    return S_ISREG(status.st_mode) ? NULL : "not a regular file";
}

/* Under another name first: nobody may read half a number. */
static bool write_draft(struct pidfile *file)
{
    char text[16];
    int fd, length = snprintf(text, sizeof(text), "%d\n", (int) getpid());
    struct stat status = { 0 };
    bool written;

    snprintf(file->draft, sizeof(file->draft), ".%.200s.%d", file->name, (int) getpid());
    fd = openat(file->directory, file->draft,
                O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        file->draft[0] = '\0';
        return false;
    }
    written = write(fd, text, (size_t) length) == length && fstat(fd, &status) == 0;
    file->inode = status.st_ino;
    return close(fd) == 0 && written;
}

const char *pidfile_open(struct pidfile *file, const char *path)
{
    const char *slash = path != NULL ? strrchr(path, '/') : NULL, *wrong = NULL;

    *file = (struct pidfile){ .directory = -1, .name = slash != NULL ? slash + 1 : path };
    if (path == NULL)
        return NULL;
    if (open_directory(file, path)) {
        wrong = check_name(file);
        if (wrong == NULL && write_draft(file))
            return NULL;
    }
    if (wrong == NULL)
        wrong = strerror(errno);
    pidfile_close(file);
    return wrong;
}

void pidfile_give(const struct pidfile *file, uid_t uid, gid_t gid)
{
    if (file->directory >= 0)
        (void) !fchownat(file->directory, file->draft, uid, gid, AT_SYMLINK_NOFOLLOW);
}

bool pidfile_is_ours(const struct pidfile *file)
{
    return file->directory < 0 || faccessat(file->directory, ".", W_OK | X_OK, AT_EACCESS) == 0;
}

bool pidfile_publish(struct pidfile *file)
{
    if (file->directory < 0)
        return true;
    file->is_written =
        renameat(file->directory, file->draft, file->directory, file->name) == 0;
    if (file->is_written)
        file->draft[0] = '\0';
    return file->is_written;
}

void pidfile_close(struct pidfile *file)
{
    struct stat status;
    int error = errno;

    if (file->draft[0] != '\0')
        unlinkat(file->directory, file->draft, 0);
    if (file->is_written && fstatat(file->directory, file->name, &status, 0) == 0 &&
        status.st_ino == file->inode) /* or else it has become another one's */
        unlinkat(file->directory, file->name, 0);
    if (file->directory >= 0)
        close(file->directory);
    errno = error;
    *file = (struct pidfile){ .directory = -1 };
}
