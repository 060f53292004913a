#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *read_regular(int fd, struct blob *blob, size_t most)
{
    struct stat status;
    size_t length = 0;
    ssize_t got = 1;

    if (fstat(fd, &status) != 0)
        return strerror(errno);
    if (!S_ISREG(status.st_mode))
        return "not a regular file";
    if ((size_t) status.st_size > most)
        return "too large";
    blob->length = (size_t) status.st_size;
    blob->data = malloc(blob->length > 0 ? blob->length : 1);
    if (blob->data == NULL)
        return strerror(ENOMEM);
    while (length < blob->length &&
           (got = read(fd, blob->data + length, blob->length - length)) > 0)
        length += (size_t) got;
    blob->length = length;
    return got < 0 ? strerror(errno) : NULL;
}

/* O_NONBLOCK: a pipe of that name must not make us wait. */
const char *files_read(struct blob *blob, const struct keptfile *file, size_t most,
                       bool *is_forbidden)
{
    int fd = keptfile_open(file, O_RDONLY | O_NOCTTY | O_NONBLOCK);
    const char *wrong;

    *is_forbidden = fd < 0 && (errno == EACCES || errno == EPERM);
    if (fd < 0)
        return strerror(errno);
    wrong = read_regular(fd, blob, most);
    close(fd);
    return wrong;
}
