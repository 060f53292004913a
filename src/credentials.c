#include "credentials.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sealed.h"

enum { BLOBS = 3 };

/* What sealed memory begins with; the blobs follow. */
struct header {
    size_t lengths[BLOBS];
    bool is_13_least;
    struct ticket_key current, previous;
};

bool blob_set(struct blob *blob, const void *data, size_t length)
{
    if (length == 0)
        return true;
    blob->data = malloc(length);
    if (blob->data == NULL)
        return false;
    memcpy(blob->data, data, length);
    blob->length = length;
    return true;
}

void blob_clear(struct blob *blob)
{
    if (blob->data != NULL)
        explicit_bzero(blob->data, blob->length);
    free(blob->data);
    *blob = (struct blob){ 0 };
}

static bool read_all(int fd, void *data, size_t length, off_t offset)
{
    char *next = data;

    while (length > 0) {
        ssize_t got = pread(fd, next, length, offset);

        if (got <= 0)
            return false;
        next += got;
        offset += got;
        length -= (size_t) got;
    }
    return true;
}

int credentials_seal(const struct credentials *credentials)
{
    struct header header;
    const struct iovec parts[] = {
        { &header, sizeof(header) },
        { credentials->chain.data, credentials->chain.length },
        { credentials->key.data, credentials->key.length },
        { credentials->client_ca.data, credentials->client_ca.length },
    };
    int fd;

    memset(&header, 0, sizeof(header)); /* the gaps too: they are written */
    header.lengths[0] = credentials->chain.length;
    header.lengths[1] = credentials->key.length;
    header.lengths[2] = credentials->client_ca.length;
    header.is_13_least = credentials->is_13_least;
    header.current = credentials->current;
    header.previous = credentials->previous;
    fd = sealed_new("credentials", parts, sizeof(parts) / sizeof(parts[0]));
    explicit_bzero(&header, sizeof(header));
    return fd;
}

/* Reads a blob of LENGTH bytes at *OFFSET, which moves behind it. */
static bool read_blob(struct blob *blob, int fd, size_t length, off_t *offset)
{
    if (length == 0)
        return true;
    blob->data = malloc(length);
    if (blob->data == NULL)
        return false;
    blob->length = length;
    if (!read_all(fd, blob->data, length, *offset))
        return false;
    *offset += (off_t) length;
    return true;
}

/* Do the lengths in HEADER and the memory's own agree? */
static bool is_whole(int fd, const struct header *header)
{
    struct stat status;
    size_t left;

    if (fstat(fd, &status) != 0)
        return false;
    left = (size_t) status.st_size - sizeof(*header);
    for (int i = 0; i < BLOBS; i++) {
        if (header->lengths[i] > left)
            return false;
        left -= header->lengths[i];
    }
    return left == 0;
}

/* Reads all that HEADER says; false: not all was there, or no memory. */
static bool read_credentials(struct credentials *credentials, int fd, const struct header *header)
{
    off_t offset = sizeof(*header);

    credentials->is_13_least = header->is_13_least;
    credentials->current = header->current;
    credentials->previous = header->previous;
    return read_blob(&credentials->chain, fd, header->lengths[0], &offset) &&
           read_blob(&credentials->key, fd, header->lengths[1], &offset) &&
           read_blob(&credentials->client_ca, fd, header->lengths[2], &offset);
}

bool credentials_unseal(struct credentials *credentials, int fd)
{
    struct header header;
    bool complete;

    *credentials = (struct credentials){ 0 };
    complete = read_all(fd, &header, sizeof(header), 0) && is_whole(fd, &header) &&
               read_credentials(credentials, fd, &header);
    explicit_bzero(&header, sizeof(header));
    if (!complete)
        credentials_clear(credentials);
    return complete;
}

void credentials_clear(struct credentials *credentials)
{
    blob_clear(&credentials->chain);
    blob_clear(&credentials->key);
    blob_clear(&credentials->client_ca);
    explicit_bzero(credentials, sizeof(*credentials));
}
