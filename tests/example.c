/*
 * example: a service to begin with (HACKING, "Your own service"). For each line that comes it says
 * how many there were, and at the end how many bytes: `wc` for the network.
 *
 * It stands in for the echo, so that it needs no other file: the linker takes this one.
 */
#include <event2/buffer.h>
#include <stdint.h>
#include <stdlib.h>

#include "src/conn.h"
#include "src/echo.h"

/* What it knows of a connection. */
struct tally {
    uint64_t lines, bytes;
    struct evbuffer *answer; /* for a moment */
};

/* Gives back what of a connection there is. */
static void tally_closed(struct conn *conn)
{
    struct tally *tally = conn_state(conn);

    if (tally != NULL && tally->answer != NULL)
        evbuffer_free(tally->answer);
    free(tally);
}

/* A client is there. What cannot be begun is closed: `closed` is called then, too. */
static void tally_opened(struct conn *conn)
{
    struct tally *tally = calloc(1, sizeof(*tally));

    conn_set_state(conn, tally);
    if (tally != NULL)
        tally->answer = evbuffer_new();
    if (tally == NULL || tally->answer == NULL)
        conn_close(conn, CLOSE_ERROR);
}

/* Bytes came, in pieces as the network has it: a line may come in several, or several in one. */
static void tally_received(struct conn *conn, struct evbuffer *input)
{
    struct tally *tally = conn_state(conn);
    struct evbuffer_ptr end = evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF);

    while (end.pos >= 0) {
        tally->bytes += (uint64_t) end.pos + 1;
        evbuffer_drain(input, (size_t) end.pos + 1);
        evbuffer_add_printf(tally->answer, "%llu\n", (unsigned long long) ++tally->lines);
        end = evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF);
    }
    tally->bytes += evbuffer_get_length(input);
    evbuffer_drain(input, evbuffer_get_length(input));
    if (evbuffer_get_length(tally->answer) > 0)
        conn_send(conn, tally->answer);
}

/* The client has said all, or the server drains: the last word. FIN follows by itself. */
static bool tally_ending(struct conn *conn)
{
    struct tally *tally = conn_state(conn);

    evbuffer_add_printf(tally->answer, "%llu bytes\n", (unsigned long long) tally->bytes);
    conn_send(conn, tally->answer);
    return true;
}

const struct service echo_service = {
    .name = "tally",
    .output_stops_reading = true, /* who does not read its answers is not read from */
    .opened = tally_opened,
    .received = tally_received,
    .ending = tally_ending,
    .closed = tally_closed,
};
