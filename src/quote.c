#include "quote.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

/* The longest that one byte becomes, with its NUL. */
enum { QUOTED_BYTE_MAX = sizeof("\\\\xNN") };

/* BYTE as it stands between quotes; returns its length. */
static int quote_byte(char byte, char out[QUOTED_BYTE_MAX])
{
    if (byte == '\n')
        return snprintf(out, QUOTED_BYTE_MAX, "\\n");
    if (byte == '"' || byte == '\\')
        return snprintf(out, QUOTED_BYTE_MAX, "\\%c", byte);
    if (byte < ' ' || byte > '~')
        return snprintf(out, QUOTED_BYTE_MAX, "\\\\x%02x", (unsigned) (unsigned char) byte);
    return snprintf(out, QUOTED_BYTE_MAX, "%c", byte);
}

bool quote_add(struct evbuffer *out, const char *text)
{
    char byte[QUOTED_BYTE_MAX];
    bool complete = evbuffer_add(out, "\"", 1) == 0;

    for (; complete && *text != '\0'; text++)
        complete = evbuffer_add(out, byte, (size_t) quote_byte(*text, byte)) == 0;
    return complete && evbuffer_add(out, "\"", 1) == 0;
}
