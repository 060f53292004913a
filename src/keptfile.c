#include "keptfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int keptfile_open_directory(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash != NULL ? (size_t) (slash - path) + 1 : 0;
    char directory[PATH_MAX] = ".";

    if (length >= sizeof(directory)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (length > 0)
        snprintf(directory, sizeof(directory), "%.*s", (int) length, path);
    *name = path + length;
    return open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

bool keptfile_find(struct keptfile *file, const char *path, bool hold)
{
    *file = (struct keptfile){ .path = path, .directory = -1 };
    if (hold)
        file->directory = keptfile_open_directory(path, &file->name);
    return !hold || file->directory >= 0;
}

int keptfile_open(const struct keptfile *file, int flags)
{
    if (file->directory < 0)
        return open(file->path, flags | O_CLOEXEC);
    return openat(file->directory, file->name, flags | O_CLOEXEC);
}

void keptfile_forget(struct keptfile *file)
{
    if (file->path != NULL && file->directory >= 0)
        close(file->directory);
    *file = (struct keptfile){ 0 };
}
