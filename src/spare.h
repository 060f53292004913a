/*
 * spare: buffers to receive into, a few for each thread, used again and again.
 *
 * Mostly one is free again before the read callback returns. What the peer does not take refers to
 * its buffer for as long as it is pending; the next bytes get another one.
 */
#ifndef ECHOD_SPARE_H
#define ECHOD_SPARE_H

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;

/* A buffer of BULK_READ bytes, to be handed to one of the next two; NULL: no memory. */
void *spare_take(void);

/*
 * Appends the first LENGTH bytes of BUFFER to TO, without a copy; BUFFER is spare again when these
 * are gone from wherever they went. False, no memory: it is so now.
 */
bool spare_append(struct evbuffer *to, void *buffer, size_t length);

void spare_give_back(void *buffer);

/* Frees this thread's, when nothing refers to any. */
void spare_release(void);

#endif
