#include "sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static bool write_all(int fd, const struct iovec *part)
{
    const char *next = part->iov_base;
    size_t length = part->iov_len;

    while (length > 0) {
        ssize_t written = write(fd, next, length);

        if (written <= 0)
            return false;
        next += written;
        length -= (size_t) written;
    }
    return true;
}

static bool fill(int fd, const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++)
        if (!write_all(fd, &parts[i]))
            return false;
    return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

int sealed_new(const char *name, const struct iovec *parts, int count)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

    if (fd < 0 || fill(fd, parts, count))
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}
