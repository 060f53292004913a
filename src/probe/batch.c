#include "batch.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "defaults.h"
#include "message.h"

struct batch {
    size_t size; /* of a message */
    unsigned most;
    struct mmsghdr in[BATCH_DATAGRAMS], out[BATCH_DATAGRAMS];
    struct iovec in_parts[BATCH_DATAGRAMS], out_parts[BATCH_DATAGRAMS][2]; /* number, rest */
    unsigned char numbers[BATCH_DATAGRAMS][MESSAGE_NUMBER_MAX];
    unsigned char room[]; /* for each that comes, one byte more than a message has */
};

static void set_up(struct batch *batch, unsigned index)
{
    size_t number_length = message_number_length(batch->size);
    struct iovec *parts = batch->out_parts[index];

    batch->in_parts[index] = (struct iovec){ batch->room + index * (batch->size + 1),
                                             batch->size + 1 };
    batch->in[index].msg_hdr.msg_iov = &batch->in_parts[index];
    batch->in[index].msg_hdr.msg_iovlen = 1;
    parts[0] = (struct iovec){ batch->numbers[index], number_length };
    parts[1].iov_len = batch->size - number_length;
    batch->out[index].msg_hdr.msg_iov = parts;
    batch->out[index].msg_hdr.msg_iovlen = 2;
}

struct batch *batch_new(size_t size)
{
    size_t most = BATCH_BYTES / (size + 1);
    struct batch *batch;

    if (most > BATCH_DATAGRAMS)
        most = BATCH_DATAGRAMS;
    batch = calloc(1, sizeof(*batch) + most * (size + 1));
    if (batch == NULL)
        return NULL;
    batch->size = size;
    batch->most = (unsigned) most;
    for (unsigned i = 0; i < most; i++)
        set_up(batch, i);
    return batch;
}

unsigned batch_most(const struct batch *batch)
{
    return batch->most;
}

int batch_send(struct batch *batch, int fd, uint64_t connection, uint64_t first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct iovec *parts = batch->out_parts[i];

        message_write_number(first + i, parts[0].iov_len, batch->numbers[i]);
        parts[1].iov_base = (void *) message_rest(connection, first + i, batch->size);
    }
    return sendmmsg(fd, batch->out, count, 0);
}

int batch_receive(struct batch *batch, int fd)
{
    return recvmmsg(fd, batch->in, batch->most, 0, NULL);
}

const unsigned char *batch_get(const struct batch *batch, unsigned index, size_t *length)
{
    *length = batch->in[index].msg_len;
    return batch->in_parts[index].iov_base;
}
