#include "unixsocket.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keptfile.h"

enum { MODE_ALL = 0777 };

socklen_t unixsocket_address(const char *name, struct sockaddr_un *out)
{
    size_t length = strnlen(name, sizeof(out->sun_path) - 1);

    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(out->sun_path, name, length);
    if (name[0] != '@')
        return sizeof(*out);
    out->sun_path[0] = '\0';
    return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + length);
}

static bool bind_to(int fd, const char *name, int mode)
{
    mode_t before = mode >= 0 ? umask((mode_t) (MODE_ALL & ~mode)) : 0;
    struct sockaddr_un address;
    socklen_t length = unixsocket_address(name, &address);
    bool is_bound = bind(fd, (struct sockaddr *) &address, length) == 0;
    int error = errno;

    if (mode >= 0)
        umask(before);
    errno = error;
    return is_bound;
}

/* Does anybody listen at PATH? Also one whose queue is full. */
static bool is_live(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;
    socklen_t length = unixsocket_address(path, &address);
    bool is_refused = fd >= 0 && connect(fd, (struct sockaddr *) &address, length) != 0 &&
                      (errno == ECONNREFUSED || errno == ENOENT);

    if (fd >= 0)
        close(fd);
    return !is_refused;
}

/*
 * Takes the file at FILE's name away if it is a socket without a listener. It is looked at once
 * more under another name: a server that is started at the same moment may have made a new one.
 */
static const char *clear_away(const struct unixsocket *file, const char *path)
{
    char aside[32], aside_path[64];
    struct stat status;

    if (fstatat(file->directory, file->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    if (!S_ISSOCK(status.st_mode))
        return "exists and is not a socket";
    if (is_live(path))
        return strerror(EADDRINUSE);
    snprintf(aside, sizeof(aside), ".echod-stale.%d", (int) getpid());
    snprintf(aside_path, sizeof(aside_path), "/proc/self/fd/%d/%s", file->directory, aside);
    if (renameat(file->directory, file->name, file->directory, aside) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    if (is_live(aside_path)) {
        renameat(file->directory, aside, file->directory, file->name);
        return strerror(EADDRINUSE);
    }
    return unlinkat(file->directory, aside, 0) == 0 ? NULL : strerror(errno);
}

static bool open_directory(struct unixsocket *file, const char *path)
{
    const char *name;

    file->directory = keptfile_open_directory(path, &name);
    if (file->directory < 0)
        return false;
    snprintf(file->name, sizeof(file->name), "%s", name);
    return true;
}

/* Binds FD to a path. Returns what is wrong. */
static const char *bind_path(int fd, const char *path, int mode, struct unixsocket *file)
{
    const char *wrong = NULL;
    struct stat status;

    if (!open_directory(file, path))
        return strerror(errno);
    if (!bind_to(fd, path, mode)) {
        if (errno == EADDRINUSE)
            wrong = clear_away(file, path);
        else
            wrong = strerror(errno);
        if (wrong == NULL && !bind_to(fd, path, mode))
            wrong = strerror(errno);
    }
    if (wrong == NULL && fstatat(file->directory, file->name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
        file->device = status.st_dev;
        file->inode = status.st_ino;
        file->made = status.st_mtim;
    }
    return wrong;
}

int unixsocket_listen(const char *name, int mode, struct unixsocket *file, const char **wrong)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *file = (struct unixsocket){ .directory = -1 };
    *wrong = NULL;
    if (fd >= 0 && name[0] == '/')
        *wrong = bind_path(fd, name, mode, file);
    else if (fd < 0 || !bind_to(fd, name, -1))
        *wrong = strerror(errno);
    if (*wrong == NULL && listen(fd, SOMAXCONN) != 0)
        *wrong = strerror(errno);
    if (*wrong == NULL)
        return fd;
    unixsocket_remove(file);
    if (fd >= 0)
        close(fd);
    return -1;
}

void unixsocket_stop_queueing(int fd)
{
    (void) shutdown(fd, SHUT_RD);
}

static bool is_ours(const struct unixsocket *file, const struct stat *status)
{
    return status->st_dev == file->device && status->st_ino == file->inode &&
           status->st_mtim.tv_sec == file->made.tv_sec &&
           status->st_mtim.tv_nsec == file->made.tv_nsec;
}

void unixsocket_give(const struct unixsocket *file, uid_t uid, gid_t gid)
{
    struct stat status;
    int fd;

    if (file->directory < 0)
        return;
    /* Whoever owns the directory may have put something else in its place, even while we look. */
    fd = openat(file->directory, file->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && is_ours(file, &status))
        (void) !fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
    close(fd);
}

void unixsocket_remove(struct unixsocket *file)
{
    struct stat status;
    int error = errno;

    if (file->directory < 0)
        return;
    if (file->inode != 0 &&
        fstatat(file->directory, file->name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_ours(file, &status))
        unlinkat(file->directory, file->name, 0);
    close(file->directory);
    errno = error;
    file->directory = -1;
}
