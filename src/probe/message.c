#include "message.h"

#include <string.h>

#include "pattern.h"

size_t message_number_length(size_t size)
{
    return size < 2 * MESSAGE_NUMBER_MAX ? (size + 1) / 2 : MESSAGE_NUMBER_MAX;
}

void message_write_number(uint64_t number, size_t length, unsigned char *out)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (unsigned char) (number >> 8 * i);
}

/* Of NUMBER what LENGTH bytes hold: what does not show must not matter either. */
static uint64_t visible(uint64_t number, size_t length)
{
    return length == MESSAGE_NUMBER_MAX ? number : number & ((UINT64_C(1) << 8 * length) - 1);
}

const unsigned char *message_rest(uint64_t connection, uint64_t number, size_t size)
{
    size_t length = message_number_length(size);

    return pattern_at(connection, visible(number, length) * size + length);
}

uint64_t message_read_number(const unsigned char *data, size_t length, uint64_t next)
{
    uint64_t number = 0;

    for (size_t i = 0; i < length; i++)
        number |= (uint64_t) data[i] << 8 * i;
    return length == MESSAGE_NUMBER_MAX ? number : next - 1 - visible(next - 1 - number, length);
}

bool message_is(const unsigned char *data, uint64_t connection, uint64_t number, size_t size)
{
    unsigned char wanted[MESSAGE_NUMBER_MAX];
    size_t length = message_number_length(size);

    message_write_number(number, length, wanted);
    return memcmp(data, wanted, length) == 0 &&
           memcmp(data + length, message_rest(connection, number, size), size - length) == 0;
}
