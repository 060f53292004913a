#include "chatline.h"

#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "defaults.h"

/* Telnet's own bytes; the first of its commands is EOF (RFC 1184). */
enum { FIRST_COMMAND = 236, SE = 240, SB = 250, WILL = 251, DONT = 254, IAC = 255 };

/* What the next byte is, as to telnet. */
enum { TEXT, COMMAND, OPTION, SUBNEGOTIATION, SUBNEGOTIATION_COMMAND };

/* Characters by their first byte, as table 3-7 of the Unicode Standard has them. */
static const struct form {
    unsigned char first, last;
    unsigned char length;    /* in bytes; 0: none begins so */
    unsigned char low, high; /* the second byte; of all others it is 80 to BF */
} forms[] = {
    { 0x00, 0x7f, 1, 0x80, 0xbf }, { 0xc2, 0xdf, 2, 0x80, 0xbf }, { 0xe0, 0xe0, 3, 0xa0, 0xbf },
    { 0xe1, 0xec, 3, 0x80, 0xbf }, { 0xed, 0xed, 3, 0x80, 0x9f }, { 0xee, 0xef, 3, 0x80, 0xbf },
    { 0xf0, 0xf0, 4, 0x90, 0xbf }, { 0xf1, 0xf3, 4, 0x80, 0xbf }, { 0xf4, 0xf4, 4, 0x80, 0x8f },
    { 0x00, 0xff, 0, 0x80, 0xbf },
};

/* The length of the character at DATA; if it is not *WELL_FORMED, of its maximal subpart. */
static size_t measure(const unsigned char *data, size_t length, bool *well_formed)
{
    const struct form *form = forms;
    unsigned char low, high;
    size_t fits = 1;

    while (data[0] < form->first || data[0] > form->last)
        form++;
    low = form->low;
    high = form->high;
    while (fits < form->length && fits < length && data[fits] >= low && data[fits] <= high) {
        fits++;
        low = 0x80;
        high = 0xbf;
    }
    *well_formed = fits == form->length;
    return fits;
}

/* Is the character at DATA, which is well-formed, of C0, DEL, or of C1: U+0080 to U+009F? */
static bool is_control(const unsigned char *data)
{
    return data[0] < ' ' || data[0] == 0x7f || (data[0] == 0xc2 && data[1] < 0xa0);
}

static char *add(char *out, const void *data, size_t length)
{
    memcpy(out, data, length);
    return out + length;
}

size_t chatline_clean(const char *data, size_t length, char *clean)
{
    const unsigned char *at = (const unsigned char *) data, *end = at + length;
    char *out = clean;

    while (at < end) {
        bool well_formed;
        size_t size = measure(at, (size_t) (end - at), &well_formed);

        if (!well_formed)
            out = add(out, "\xef\xbf\xbd", CHATLINE_GROWTH); /* U+FFFD */
        else if (*at == '\t')
            *out++ = ' ';
        else if (!is_control(at))
            out = add(out, at, size);
        at += size;
    }
    return (size_t) (out - clean);
}

/* Is it clean, and ASCII, as most is? */
static bool is_plain(const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (data[i] < ' ' || data[i] > '~')
            return false;
    return true;
}

static void release(struct chatline *line)
{
    free(line->bytes);
    line->bytes = line->text = NULL;
    line->room = line->length = 0;
}

static bool resize(struct chatline *line, size_t room)
{
    char *bytes = realloc(line->bytes, room);

    if (bytes == NULL)
        return false;
    line->bytes = bytes;
    line->room = room;
    return true;
}

/* The line is lost, as WHY says; what follows of it, too. */
static enum chatline_result lose(struct chatline *line, enum chatline_result why)
{
    line->came = 0;
    line->is_skipped = true;
    return why;
}

/* Adds what is no command, a byte or more. A CR may belong to the end: it does not count yet. */
static enum chatline_result add_text(struct chatline *line, const unsigned char *data,
                                     size_t length)
{
    size_t came = line->came + length;

    if (line->is_skipped)
        return CHATLINE_MORE;
    if (came - (data[length - 1] == '\r') > CHAT_LINE_MOST)
        return lose(line, CHATLINE_TOO_LONG);
    if (came > line->room && !resize(line, 2 * came))
        return lose(line, CHATLINE_NO_MEMORY);
    memcpy(line->bytes + line->came, data, length);
    line->came = came;
    return CHATLINE_MORE;
}

/* What came is a line. Unless it is clean as it stands, the text is written behind it. */
static enum chatline_result end_line(struct chatline *line)
{
    size_t came = line->came, room = came * (1 + CHATLINE_GROWTH);

    line->came = 0;
    if (came > 0 && line->bytes[came - 1] == '\r')
        came--; /* it would be cleaned away, too, but most lines that have one are plain */
    if (is_plain(line->bytes, came)) {
        line->text = line->bytes;
        line->length = came;
        return CHATLINE_WHOLE;
    }
    if (room > line->room && !resize(line, room))
        return CHATLINE_NO_MEMORY;
    line->text = line->bytes + came;
    line->length = chatline_clean(line->bytes, came, line->text);
    return CHATLINE_WHOLE;
}

/* Takes *USED of the LENGTH bytes at DATA, of which only the last may be a newline. */
static enum chatline_result take_text(struct chatline *line, const unsigned char *data,
                                      size_t length, size_t *used)
{
    size_t text = length - (data[length - 1] == '\n');
    const unsigned char *command = memchr(data, IAC, text);

    if (command != NULL)
        text = (size_t) (command - data);
    *used = text > 0 ? text : 1;
    if (text > 0)
        return add_text(line, data, text);
    if (data[0] == IAC)
        line->telnet = COMMAND;
    else if (!line->is_skipped)
        return end_line(line);
    else
        line->is_skipped = false;
    return CHATLINE_MORE;
}

/* The IAC before BYTE was text, and so is BYTE, unless both are IAC IAC. */
static enum chatline_result take_iac(struct chatline *line, unsigned char byte, size_t *used)
{
    static const unsigned char iac = IAC;

    *used = byte == IAC;
    line->telnet = TEXT;
    return add_text(line, &iac, sizeof(iac));
}

/* The same of text and commands. */
static enum chatline_result take(struct chatline *line, const unsigned char *data, size_t length,
                                 size_t *used)
{
    unsigned char byte = data[0];

    *used = 1;
    switch (line->telnet) {
    case TEXT:
        return take_text(line, data, length, used);
    case COMMAND:
        if (byte < FIRST_COMMAND || byte == IAC)
            return take_iac(line, byte, used);
        line->telnet = byte == SB ? SUBNEGOTIATION : byte < WILL ? TEXT : OPTION;
        break;
    case OPTION:
        line->telnet = TEXT;
        break;
    case SUBNEGOTIATION:
        if (byte == IAC)
            line->telnet = SUBNEGOTIATION_COMMAND;
        break;
    case SUBNEGOTIATION_COMMAND:
        line->telnet = byte == SE ? TEXT : SUBNEGOTIATION;
        break;
    }
    return CHATLINE_MORE;
}

/* Takes up to the first newline, or all there is in one piece. */
static enum chatline_result take_piece(struct chatline *line, struct evbuffer *input,
                                       const struct evbuffer_iovec *piece)
{
    const unsigned char *data = piece->iov_base, *newline = memchr(data, '\n', piece->iov_len);
    size_t length = newline != NULL ? (size_t) (newline + 1 - data) : piece->iov_len;
    enum chatline_result result = CHATLINE_MORE;
    size_t taken = 0, used;

    while (result == CHATLINE_MORE && taken < length) {
        result = take(line, data + taken, length - taken, &used);
        taken += used;
    }
    evbuffer_drain(input, taken);
    return result;
}

enum chatline_result chatline_take(struct chatline *line, struct evbuffer *input)
{
    enum chatline_result result = CHATLINE_MORE;
    struct evbuffer_iovec piece;

    while (result == CHATLINE_MORE && evbuffer_get_length(input) > 0) {
        evbuffer_peek(input, -1, NULL, &piece, 1);
        result = take_piece(line, input, &piece);
    }
    if (result == CHATLINE_MORE && line->came == 0)
        release(line);
    return result;
}

enum chatline_result chatline_end(struct chatline *line)
{
    enum chatline_result result = line->came > 0 ? end_line(line) : CHATLINE_MORE;

    line->telnet = TEXT;
    line->is_skipped = false;
    return result;
}

bool chatline_is_name(const char *name, size_t length)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789-_";

    for (size_t i = 0; i < length; i++)
        if (memchr(allowed, name[i], sizeof(allowed) - 1) == NULL)
            return false;
    return length >= 1 && length <= CHAT_NAME_MOST;
}

void chatline_clear(struct chatline *line)
{
    free(line->bytes);
    *line = (struct chatline){ 0 };
}
