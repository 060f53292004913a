#include "quote.h"

#include <event2/buffer.h>
#include <stddef.h>
#include <stdio.h>

/* The longest that one byte becomes, with its NUL. */
enum { QUOTED_BYTE_MAX = sizeof("\\\\xNN") };

/* How many bytes TEXT begins with that stay as they are. */
static size_t count_plain(const char *text)
{
    size_t count = 0;

    while (text[count] >= ' ' && text[count] <= '~' && text[count] != '"' && text[count] != '\\')
        count++;
    return count;
}

/* Any other BYTE as it stands between quotes; returns its length. */
static int quote_byte(char byte, char out[QUOTED_BYTE_MAX])
{
    if (byte == '\n')
        return snprintf(out, QUOTED_BYTE_MAX, "\\n");
    if (byte == '"' || byte == '\\')
        return snprintf(out, QUOTED_BYTE_MAX, "\\%c", byte);
    return snprintf(out, QUOTED_BYTE_MAX, "\\\\x%02x", (unsigned) (unsigned char) byte);
}

bool quote_add(struct evbuffer *out, const char *text)
{
    char byte[QUOTED_BYTE_MAX];
    bool complete = evbuffer_add(out, "\"", 1) == 0;

    while (complete && *text != '\0') {
        size_t plain = count_plain(text);

        if (plain > 0)
            complete = evbuffer_add(out, text, plain) == 0;
        else
            complete = evbuffer_add(out, byte, (size_t) quote_byte(*text, byte)) == 0;
        text += plain > 0 ? plain : 1;
    }
    return complete && evbuffer_add(out, "\"", 1) == 0;
}
