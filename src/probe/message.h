/*
 * message: the bytes of a datagram, by which it is known again: its number, as far as there is
 * room, and the pattern from the position on that it has in the connection's stream.
 *
 * A message of 15 bytes or more has its whole number, of 64 bits; of a shorter one half the bytes
 * are, and so the number is known modulo some power of 256. An empty one has none.
 */
#ifndef ECHOD_PROBE_MESSAGE_H
#define ECHOD_PROBE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_NUMBER_MAX 8

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
