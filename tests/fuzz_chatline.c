/*
 * Lines of a chat, against a model that has all of the input at once and looks at one byte after
 * the other. In how many pieces it comes, the input says, and it can repeat a byte.
 */
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "src/chatline.h"
#include "src/defaults.h"

enum { INPUT_MOST = 3 * CHAT_LINE_MOST, PIECES_MOST = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What comes, and where its pieces end. */
static struct {
    unsigned char data[INPUT_MOST];
    size_t length;
    size_t ends[PIECES_MOST], pieces;
} input;

/* What has to be told: of each line the result, and of a whole one its length and text. */
static struct {
    unsigned char data[CHATLINE_GROWTH * INPUT_MOST];
    size_t length, told;
    struct {
        enum chatline_result result;
        size_t start, length;
    } lines[INPUT_MOST + 1];
    size_t count;
} model;

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* A byte says how long the next piece is; from 128 on, it is the one byte that follows. */
static void read_input(const uint8_t *data, size_t size)
{
    size_t at = 0;

    input.length = input.pieces = 0;
    while (at < size && input.pieces < PIECES_MOST) {
        size_t length = data[at++];
        bool is_run = length >= 128;

        length = is_run ? (length - 127) * 64 : length < size - at ? length : size - at;
        if (length > INPUT_MOST - input.length || (is_run && at == size))
            break;
        if (is_run)
            memset(input.data + input.length, data[at], length);
        else
            memcpy(input.data + input.length, data + at, length);
        at += is_run ? 1 : length;
        input.length += length;
        input.ends[input.pieces++] = input.length;
    }
}

/* Takes the commands of telnet out of the input; returns the length of what is left, in TEXT. */
static size_t strip(unsigned char *text)
{
    const unsigned char *in = input.data, *end = in + input.length;
    size_t length = 0;

    while (in < end) {
        if (*in != 255) {
            text[length++] = *in++;
        } else if (end - in == 1) {
            in++;
        } else if (in[1] < 236 || in[1] == 255) {
            text[length++] = 255;
            in += in[1] == 255 ? 2 : 1;
        } else if (in[1] == 250) {
            for (in += 2; in < end && !(end - in > 1 && in[0] == 255 && in[1] == 240);)
                in += end - in > 1 && in[0] == 255 ? 2 : 1;
            in += end - in > 1 ? 2 : end - in;
        } else {
            ptrdiff_t command = in[1] > 250 ? 3 : 2;

            in += command < end - in ? command : end - in;
        }
    }
    return length;
}

static void put(unsigned code)
{
    unsigned char *out = model.data + model.length;

    if (code == '\t')
        code = ' ';
    if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        return;
    if (code < 0x80) {
        model.length += 1;
        out[0] = (unsigned char) code;
    } else if (code < 0x800) {
        model.length += 2;
        out[0] = (unsigned char) (0xc0 | code >> 6);
        out[1] = 0x80 | (code & 0x3f);
    } else if (code < 0x10000) {
        model.length += 3;
        out[0] = (unsigned char) (0xe0 | code >> 12);
        out[1] = 0x80 | (code >> 6 & 0x3f);
        out[2] = 0x80 | (code & 0x3f);
    } else {
        model.length += 4;
        out[0] = (unsigned char) (0xf0 | code >> 18);
        out[1] = 0x80 | (code >> 12 & 0x3f);
        out[2] = 0x80 | (code >> 6 & 0x3f);
        out[3] = 0x80 | (code & 0x3f);
    }
}

/* The decoder of the WHATWG's Encoding Standard, section 8.1.1, and UTF-8 again. */
static void clean(const unsigned char *text, size_t length)
{
    unsigned code = 0, needed = 0, seen = 0, low = 0x80, high = 0xbf;

    for (size_t i = 0; i < length; i++) {
        unsigned byte = text[i];

        if (needed > 0 && (byte < low || byte > high)) {
            needed = 0;
            put(0xfffd);
        } else if (needed > 0) {
            code = code << 6 | (byte & 0x3f);
            if (++seen == needed) {
                needed = 0;
                put(code);
            }
            low = 0x80;
            high = 0xbf;
            continue;
        }
        seen = 0;
        low = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
        high = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
        needed = byte < 0xc2 || byte > 0xf4 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        code = byte & (needed == 1 ? 0x1f : needed == 2 ? 0x0f : 0x07);
        if (needed == 0)
            put(byte < 0x80 ? byte : 0xfffd);
    }
    if (needed > 0)
        put(0xfffd);
}

/* LENGTH bytes of TEXT are what a line is, but for its newline. */
static void add_line(const unsigned char *text, size_t length)
{
    size_t counted = length > 0 && text[length - 1] == '\r' ? length - 1 : length;
    size_t start = model.length;

    if (counted <= CHAT_LINE_MOST)
        clean(text, counted);
    model.lines[model.count].result =
        counted <= CHAT_LINE_MOST ? CHATLINE_WHOLE : CHATLINE_TOO_LONG;
    model.lines[model.count].start = start;
    model.lines[model.count++].length = model.length - start;
}

static void make_model(void)
{
    static unsigned char text[INPUT_MOST];
    size_t length = strip(text), start = 0;

    model.length = model.count = model.told = 0;
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\n') {
            add_line(text + start, i - start);
            start = i + 1;
        }
    if (start < length)
        add_line(text + start, length - start);
}

static void check_told(const struct chatline *line, enum chatline_result result)
{
    size_t i = model.told++;

    check(i < model.count && model.lines[i].result == result);
    if (result == CHATLINE_WHOLE)
        check(line->length == model.lines[i].length &&
              (line->length == 0 ||
               memcmp(line->text, model.data + model.lines[i].start, line->length) == 0));
}

static void check_stream(void)
{
    struct chatline line = { 0 };
    struct evbuffer *buffer = evbuffer_new();
    enum chatline_result result;
    size_t start = 0;

    for (size_t i = 0; i < input.pieces; i++) {
        check(evbuffer_add(buffer, input.data + start, input.ends[i] - start) == 0);
        start = input.ends[i];
        while ((result = chatline_take(&line, buffer)) != CHATLINE_MORE)
            check_told(&line, result);
        check(evbuffer_get_length(buffer) == 0);
        check(line.room <= CHAT_LINE_MOST * (1 + CHATLINE_GROWTH) + 4);
        check((line.bytes != NULL) == (line.came > 0));
    }
    if ((result = chatline_end(&line)) != CHATLINE_MORE)
        check_told(&line, result);
    check(model.told == model.count);
    chatline_clear(&line);
    evbuffer_free(buffer);
}

/* All at once, as if it were one line; what is clean stays as it is. */
static void check_clean(void)
{
    static char text[CHATLINE_GROWTH * INPUT_MOST], again[sizeof(text) * CHATLINE_GROWTH];
    size_t length = chatline_clean((const char *) input.data, input.length, text);

    model.length = 0;
    clean(input.data, input.length);
    check(length == model.length && memcmp(text, model.data, length) == 0);
    check(chatline_clean(text, length, again) == length && memcmp(again, text, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_input(data, size);
    make_model();
    check_stream();
    check_clean();
    return 0;
}
