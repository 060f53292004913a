#include "chat.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat_hub.h"
#include "chat_room.h"
#include "chatline.h"
#include "conn.h"
#include "options.h"

static const char help[] = "* what you write goes to everybody who is here\n"
                           "* /nick NAME  be called NAME: 1 to 32 of letters, digits, - and _\n"
                           "* /who        who is here\n"
                           "* /quit       leave\n"
                           "* /help       this\n";

/* So much of an unknown command is said again. */
enum { COMMAND_SHOWN = 32 };

/* One connection. */
struct chatter {
    struct conn *conn;
    struct room_member *member;
    struct evbuffer *input; /* what came, and was not looked at yet */
    struct chatline line;
    bool is_ending; /* nothing more comes, for all we know */
    bool has_quit;  /* nothing more is wanted */
};

/* How far it has come with what came. */
enum progress {
    HAS_ALL,
    HAS_TO_WAIT,
    HAS_ENDED, /* and is gone */
};

/* What a member can ask for. */
typedef void command(struct chatter *chatter, const char *argument, size_t length);

static void nick(struct chatter *chatter, const char *name, size_t length)
{
    if (chatline_is_name(name, length))
        room_ask_name(chatter->member, name, length);
    else
        room_tell(chatter->member, "* a name has 1 to 32 of letters, digits, - and _\n");
}

static void who(struct chatter *chatter, const char *argument, size_t length)
{
    (void) argument;
    (void) length;
    room_ask_who(chatter->member);
}

static void quit(struct chatter *chatter, const char *argument, size_t length)
{
    (void) argument;
    (void) length;
    chatter->has_quit = true;
}

static void tell_help(struct chatter *chatter, const char *argument, size_t length)
{
    (void) argument;
    (void) length;
    room_tell(chatter->member, help);
}

static const struct {
    const char *name;
    command *run;
} commands[] = {
    { "/nick", nick },
    { "/who", who },
    { "/quit", quit },
    { "/help", tell_help },
};

static void refuse_command(struct chatter *chatter, const char *word, size_t length)
{
    char text[80];

    if (length > COMMAND_SHOWN)
        for (length = COMMAND_SHOWN; (word[length] & 0xc0) == 0x80;)
            length--; /* no part of a character */
    snprintf(text, sizeof(text), "* no such command: %.*s; try /help\n", (int) length, word);
    room_tell(chatter->member, text);
}

/* `/WORD`, or `/WORD ARGUMENT`. */
static void run_command(struct chatter *chatter, const char *text, size_t length)
{
    const char *space = memchr(text, ' ', length);
    size_t word = space != NULL ? (size_t) (space - text) : length, skip = word;

    while (skip < length && text[skip] == ' ')
        skip++;
    while (length > skip && text[length - 1] == ' ')
        length--;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strlen(commands[i].name) == word && memcmp(commands[i].name, text, word) == 0) {
            commands[i].run(chatter, &text[skip], length - skip);
            return;
        }
    refuse_command(chatter, text, word);
}

/* False: no memory. */
static bool say(struct chatter *chatter, const char *text, size_t length)
{
    if (!room_say(chatter->member, text, length))
        return false;
    stats_add(&conn_stats(chatter->conn)->counter[STATS_chat_messages], 1);
    return true;
}

/* False: no memory. */
static bool take_line(struct chatter *chatter, const char *text, size_t length)
{
    if (length == 0)
        return true;
    if (text[0] != '/')
        return say(chatter, text, length);
    run_command(chatter, text, length);
    return true;
}

/* What came is a line, or wrong. False: that ended the connection. */
static bool handle(struct chatter *chatter, enum chatline_result result)
{
    const struct chatline *line = &chatter->line;

    if (result == CHATLINE_TOO_LONG) {
        room_tell(chatter->member, "* a line has at most 4096 bytes\n");
        return true;
    }
    if (result == CHATLINE_WHOLE && take_line(chatter, line->text, line->length))
        return true;
    if (chatter->is_ending)
        return true;
    conn_close(chatter->conn, CLOSE_ERROR);
    return false;
}

/* A last line without an end counts. */
static enum chatline_result next_line(struct chatter *chatter)
{
    enum chatline_result result = chatline_take(&chatter->line, chatter->input);

    return result == CHATLINE_MORE && chatter->is_ending ? chatline_end(&chatter->line) : result;
}

/* Takes what came, line by line, as long as it may. */
static enum progress take_lines(struct chatter *chatter)
{
    while (!chatter->has_quit && room_may_speak(chatter->member)) {
        enum chatline_result result = next_line(chatter);

        if (result == CHATLINE_MORE)
            return HAS_ALL;
        if (!handle(chatter, result))
            return HAS_ENDED;
    }
    return chatter->has_quit ? HAS_ALL : HAS_TO_WAIT;
}

static void go_on(void *context)
{
    struct chatter *chatter = context;
    enum progress progress = take_lines(chatter);

    if (progress == HAS_TO_WAIT)
        conn_hold(chatter->conn);
    else if (progress == HAS_ALL && (chatter->is_ending || chatter->has_quit))
        conn_finish(chatter->conn, CLOSE_EOF);
    else if (progress == HAS_ALL)
        conn_go_on(chatter->conn);
}

static void chat_received(struct conn *conn, struct evbuffer *input)
{
    struct chatter *chatter = conn_state(conn);

    chatter->is_ending = false; /* it was the drain, and we had to wait */
    evbuffer_add_buffer(chatter->input, input);
    go_on(chatter);
}

static void chat_opened(struct conn *conn)
{
    struct chatter *chatter = calloc(1, sizeof(*chatter));

    conn_set_state(conn, chatter);
    if (chatter != NULL) {
        chatter->conn = conn;
        chatter->input = evbuffer_new();
    }
    if (chatter != NULL && chatter->input != NULL)
        chatter->member = room_enter(conn_service_state(conn), conn, chatter);
    if (chatter != NULL && chatter->member != NULL)
        conn_hold(conn); /* until it has a name */
    else
        conn_close(conn, CLOSE_ERROR);
}

static void chat_writable(struct conn *conn)
{
    const struct chatter *chatter = conn_state(conn);

    room_drained(chatter->member);
}

/* What it said is heard before it leaves, and what it asked is answered. */
static bool chat_ending(struct conn *conn)
{
    struct chatter *chatter = conn_state(conn);

    chatter->is_ending = true;
    if (take_lines(chatter) == HAS_TO_WAIT)
        return false;
    room_leave(chatter->member);
    chatter->member = NULL;
    return true;
}

static void chat_closed(struct conn *conn)
{
    struct chatter *chatter = conn_state(conn);

    if (chatter == NULL)
        return;
    if (chatter->member != NULL)
        room_drop(chatter->member);
    if (chatter->input != NULL)
        evbuffer_free(chatter->input);
    chatline_clear(&chatter->line);
    free(chatter);
}

static void *chat_start(struct event_base *base, const struct options *options, int bus)
{
    bool is_alone = options->workers == 1 && options->chat_bus.channel == NULL;

    return room_new(base, bus, is_alone, go_on);
}

static void chat_stop(void *room)
{
    room_free(room);
}

static bool chat_is_done(const void *room)
{
    return room_is_done(room);
}

const struct service chat_service = {
    .name = "chat",
    .output_stops_reading = false, /* who does not read still may speak; chat_room bounds it */
    .opened = chat_opened,
    .received = chat_received,
    .writable = chat_writable,
    .ending = chat_ending,
    .closed = chat_closed,
    .start = chat_start,
    .stop = chat_stop,
    .is_done = chat_is_done,
    .hub = &chat_hub,
};
