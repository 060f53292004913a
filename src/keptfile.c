#include "keptfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool hold_directory(struct keptfile *file, const char *slash)
{
    char directory[PATH_MAX] = ".";
    size_t length = slash != NULL ? (size_t) (slash - file->path) + 1 : 0;

    if (length >= sizeof(directory)) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (length > 0)
        snprintf(directory, sizeof(directory), "%.*s", (int) length, file->path);
    file->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return file->directory >= 0;
}

bool keptfile_find(struct keptfile *file, const char *path, bool hold)
{
    const char *slash = strrchr(path, '/');

    *file = (struct keptfile){ .path = path, .directory = -1 };
    if (!hold)
        return true;
    file->name = slash != NULL ? slash + 1 : path;
    return hold_directory(file, slash);
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
