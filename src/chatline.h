/*
 * chatline: what a chat client sends, as lines of text that may be shown to anybody: pure, no I/O.
 *
 * A line ends with a newline; a carriage return before that belongs to the end. Commands of telnet
 * (RFC 854, RFC 855) are taken out first, wherever they stand: in a line, in a character, across
 * newlines. IAC IAC is the byte 255, and so is an IAC before a byte that is no command: a client
 * with another character set, not telnet. What is left is made clean.
 *
 * A line that cannot be had is told once, as soon as that is known; what comes of it until its end
 * is skipped, and no other line is lost. Between lines no memory is kept, and in the middle of one
 * it follows the bytes that came: up to 8 KiB, or 16 KiB where a line before it had to be cleaned.
 */
#ifndef ECHOD_CHATLINE_H
#define ECHOD_CHATLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;

struct chatline {  /* all zero: nothing has come */
    char *text;    /* the line that was taken: clean UTF-8, not terminated; until the next call */
    size_t length; /* of it, in bytes; where that is 0, text may be NULL */
    char *bytes;   /* the rest is chatline's own: what came of the line... */
    size_t came;   /* ... so much... */
    size_t room;   /* ... and the memory for it, which holds the text as well */
    uint8_t telnet; /* where in a command we are */
    bool is_skipped; /* the line is lost, and has not ended */
};

enum chatline_result {
    CHATLINE_MORE,      /* all bytes are taken, and no line is whole */
    CHATLINE_WHOLE,     /* text and length are a line, perhaps an empty one */
    CHATLINE_TOO_LONG,  /* of the line more than CHAT_LINE_MOST bytes came, without its end, and
                           without commands of telnet but otherwise as they came */
    CHATLINE_NO_MEMORY, /* for the line */
};

/* Takes bytes off INPUT until there is something to tell, or there are none. */
enum chatline_result chatline_take(struct chatline *line, struct evbuffer *input);

/*
 * Nothing more comes: bytes behind the last newline, if any, are a line. A command of telnet that
 * is not complete is nothing. LINE begins anew.
 */
enum chatline_result chatline_end(struct chatline *line);

/* Frees what LINE has; it begins anew. */
void chatline_clear(struct chatline *line);

/* What cleaning makes of a byte at most, in bytes: of one that is invalid, U+FFFD. */
#define CHATLINE_GROWTH 3

/*
 * Writes DATA, LENGTH bytes, to CLEAN, which has room for CHATLINE_GROWTH * LENGTH, as valid UTF-8
 * without control characters (C0, DEL, C1); returns its length. TAB becomes a space. What is
 * invalid becomes U+FFFD, one for each maximal subpart, as the Unicode Standard recommends
 * (section 3.9) and browsers do.
 */
size_t chatline_clean(const char *data, size_t length, char *clean);

/* Is NAME 1 to CHAT_NAME_MOST of ASCII letters, digits, - and _? */
bool chatline_is_name(const char *name, size_t length);

#endif
