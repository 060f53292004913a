/*
 * message: the bytes of a datagram, by which it is known again: its number, and the pattern, from
 * a position on that follows from that.
 *
 * A message of 15 bytes or more has its whole number, of 64 bits. Of a shorter one half the bytes
 * are its number, modulo a power of 256 then; those that are the same in that are the same at all.
 */
#ifndef ECHOD_PROBE_MESSAGE_H
#define ECHOD_PROBE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_NUMBER_MAX ((size_t) 8)

/* How many bytes of a message of SIZE, the first ones, are its number. */
size_t message_number_length(size_t size);

/* Writes the last LENGTH bytes of NUMBER. */
void message_write_number(uint64_t number, size_t length, unsigned char *out);

/* What follows the number in message NUMBER, of SIZE, of CONNECTION. */
const unsigned char *message_rest(uint64_t connection, uint64_t number, size_t size);

/*
 * The number, of those below NEXT, which is not 0, that the LENGTH bytes of DATA stand for; the
 * newest, if there are several. A result of NEXT or more is none.
 */
uint64_t message_read_number(const unsigned char *data, size_t length, uint64_t next);

/* Is DATA message NUMBER, of SIZE, of CONNECTION? */
bool message_is(const unsigned char *data, uint64_t connection, uint64_t number, size_t size);

#endif
