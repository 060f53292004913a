#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "../clock.h"
#include "defaults.h"
#include "pattern.h"

/* The position up to which messages are allowed. */
static uint64_t goal_of(const struct client *client)
{
    return client->allowed * client->setup->size;
}

static void send_fin(struct client *client)
{
    shutdown(client->fd, SHUT_WR);
    client->phase = CLIENT_FINISHING;
    client->moved_at = clock_ns();
}

static void finish(struct client *client)
{
    if (client->sent == goal_of(client))
        send_fin(client);
}

/* One send of what is allowed. */
static void push(struct client *client)
{
    uint64_t goal = goal_of(client), length = goal - client->sent;
    ssize_t sent;

    if (length == 0)
        return;
    if (length > PIECE_MAX)
        length = PIECE_MAX;
    sent = send(client->fd, pattern_at(client->number, client->sent), length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        client_end(client, strerror(errno));
        return;
    }
    if (sent > 0)
        client->sent += (uint64_t) sent;
    client_wait_until_writable(client, client->sent < goal);
    if (client->is_last)
        finish(client);
}

/* How many messages that end in DATA differ from what was WANTED? */
static uint64_t count_corrupt(struct client *client, const unsigned char *data,
                              const unsigned char *wanted, size_t length)
{
    uint64_t size = client->setup->size, missing = size - client->partial, corrupt = 0;

    while (length > 0) {
        size_t part = length < missing ? length : (size_t) missing;

        if (memcmp(data, wanted, part) != 0)
            client->is_spoilt = true;
        data += part;
        wanted += part;
        length -= part;
        missing -= part;
        if (missing > 0)
            break;
        corrupt += client->is_spoilt ? 1 : 0;
        client->is_spoilt = false;
        missing = size;
    }
    return corrupt;
}

/* Compares all at once; only if that fails, message by message. */
static void verify(struct client *client, const unsigned char *data, size_t length)
{
    const unsigned char *wanted = pattern_at(client->number, client->received);
    uint64_t size = client->setup->size, partial = client->partial + length, corrupt = 0;
    uint64_t first = client->settled;

    if (client->is_spoilt || memcmp(data, wanted, length) != 0)
        corrupt = count_corrupt(client, data, wanted, length);
    client->received += length;
    client->partial = partial % size;
    if (partial < size)
        return;
    client->settled += partial / size;
    tally_add(client->setup->tally, TALLY_CORRUPT, corrupt);
    client->setup->handler->answered(client, first, partial / size, corrupt);
}

static void receive(struct client *client, const unsigned char *data, size_t length)
{
    uint64_t owed = client->sent - client->received;
    size_t own = length < owed ? length : (size_t) owed;

    client->moved_at = clock_ns();
    tally_add(client->setup->tally, TALLY_BYTES, length);
    verify(client, data, own);
    if (length > own) {
        tally_add(client->setup->tally, TALLY_CORRUPT, 1);
        client_end(client, "More came back than was sent");
        return;
    }
    client_push(client);
}

static void on_eof(struct client *client)
{
    bool is_due = client->phase == CLIENT_FINISHING && !client_is_owed(client);

    client_end(client, is_due ? NULL : "Connection closed early");
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct client *client = context;
    unsigned char *buffer = client->setup->buffer;
    ssize_t got = recv(fd, buffer, PIECE_MAX, 0);

    (void) what;
    if (got > 0)
        receive(client, buffer, (size_t) got);
    else if (got == 0)
        on_eof(client);
    else if (errno != EAGAIN && errno != EINTR)
        client_end(client, strerror(errno));
}

/* Of the message that was coming a part came; was that wrong already? */
static void closing(struct client *client)
{
    if (client->is_spoilt)
        tally_add(client->setup->tally, TALLY_CORRUPT, 1);
}

static void check(struct client *client, uint64_t now)
{
    uint64_t silence = now > client->moved_at ? now - client->moved_at : 0;
    bool is_owed = client_is_owed(client), is_finishing = client->phase == CLIENT_FINISHING;
    /* When all is back, a server that does not close is let go. */
    bool is_well = is_finishing && !is_owed && !client->setup->needs_eof;

    if (!is_owed && !is_finishing)
        return;
    if (silence >= (is_well ? UINT64_C(1000000) * LINGER_MS : client->setup->timeout))
        client_end(client, is_well ? NULL : strerror(ETIMEDOUT));
}

const struct wire stream_wire = {
    .type = SOCK_STREAM,
    .connected = client_opened,
    .readable = on_readable,
    .push = push,
    .finish = finish,
    .closing = closing,
    .check = check,
};
