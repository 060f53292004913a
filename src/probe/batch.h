/* batch: some datagrams at a time, in the shape that sendmmsg(2) and recvmmsg(2) want. */
#ifndef ECHOD_PROBE_BATCH_H
#define ECHOD_PROBE_BATCH_H

#include <stddef.h>
#include <stdint.h>

struct batch;

/* For messages of SIZE; NULL: no memory. free(3) frees it. */
struct batch *batch_new(size_t size);

/* How many it has room for. */
unsigned batch_most(const struct batch *batch);

/*
 * Sends COUNT messages of CONNECTION, from number FIRST on; returns how many went, at least one,
 * or -1 with errno set.
 */
int batch_send(struct batch *batch, int fd, uint64_t connection, uint64_t first, unsigned count);

/* Receives what is there; returns how many came, at least one, or -1 with errno set. */
int batch_receive(struct batch *batch, int fd);

/* What came as number INDEX, and its *LENGTH: of one longer than a message, that and one more. */
const unsigned char *batch_get(const struct batch *batch, unsigned index, size_t *length);

#endif
