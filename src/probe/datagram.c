#include "datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "../clock.h"
#include "batch.h"
#include "defaults.h"
#include "message.h"

/* Of one address nobody may have told us yet that it is none: connect(2) asks no one. */
static void fail(struct client *client, int error)
{
    if (client->is_proven)
        client_end(client, strerror(error));
    else
        client_try_next(client, error);
}

/* The oldest is lost. */
static void lose(struct client *client)
{
    uint64_t number = client->window.oldest;

    window_settle(&client->window, number);
    client->settled++;
    client->setup->handler->lost(client, number);
}

/* How many can be sent at a time. A window that is full makes room: what a million overtook... */
static unsigned room_for(struct client *client)
{
    unsigned most = batch_most(client->setup->batch);
    uint64_t waiting = client->allowed - client->window.next;
    uint64_t room = window_room(&client->window, waiting < most ? waiting : most);

    if (room > 0 || waiting == 0)
        return (unsigned) room;
    if (client->window.size == 0) { /* there was no memory for the first */
        client_end(client, strerror(ENOMEM));
        return 0;
    }
    lose(client); /* ... will not come any more */
    return client->phase == CLIENT_OPEN && window_room(&client->window, 1) > 0 ? 1 : 0;
}

static void push(struct client *client)
{
    unsigned count;
    int sent = 1;
    bool must_wait;

    while (sent > 0 && (count = room_for(client)) > 0) {
        uint64_t now = clock_ns(); /* on loopback the answer may be there when the call returns */

        sent = batch_send(client->setup->batch, client->fd, client->number, client->window.next,
                          count);
        if (sent > 0)
            window_give(&client->window, (uint64_t) sent, now);
    }
    if (client->phase != CLIENT_OPEN)
        return;
    must_wait = sent < 0 && (errno == EAGAIN || errno == EINTR);
    client_wait_until_writable(client, must_wait);
    if (sent < 0 && !must_wait)
        fail(client, errno);
}

/* The number that DATA stands for, if it was given; of several the newest that is open. */
static uint64_t identify(const struct client *client, const unsigned char *data, size_t length)
{
    const struct window *window = &client->window;
    size_t number_length = message_number_length(client->setup->size);
    uint64_t number, span = UINT64_C(1) << 8 * (number_length % MESSAGE_NUMBER_MAX);

    if (length < number_length || window->next == 0)
        return UINT64_MAX;
    if (number_length == 0)
        return window->oldest < window->next ? window->oldest : window->next - 1;
    number = message_read_number(data, number_length, window->next);
    while (span > 1 && number < window->next && number >= window->oldest + span &&
           !window_is_open(window, number))
        number -= span;
    return number;
}

/* An answer; also one that comes late or for the second time, which is none any more. */
static void take(struct client *client, const unsigned char *data, size_t length)
{
    uint64_t size = client->setup->size, number = identify(client, data, length);
    bool is_exact = number < client->window.next && length == size &&
                    message_is(data, client->number, number, size);

    if (is_exact && !window_is_open(&client->window, number))
        return;
    if (!is_exact)
        tally_add(client->setup->tally, TALLY_CORRUPT, 1);
    if (!window_is_open(&client->window, number)) /* then it stands for the oldest, */
        number = client->window.oldest;
    if (!window_is_open(&client->window, number)) /* or else nobody asked for it */
        return;
    window_settle(&client->window, number);
    client->settled++;
    tally_add(client->setup->tally, TALLY_BYTES, length);
    client->setup->handler->answered(client, number, 1, is_exact ? 0 : 1);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct client *client = context;
    struct batch *batch = client->setup->batch;
    int got = batch_receive(batch, fd);

    (void) what;
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        fail(client, errno);
    if (got <= 0)
        return;
    client->is_proven = true;
    client->moved_at = clock_ns();
    for (int i = 0; i < got && client->phase == CLIENT_OPEN; i++) {
        size_t length;
        const unsigned char *data = batch_get(batch, (unsigned) i, &length);

        take(client, data, length);
    }
    client_push(client);
}

/* What an address that was none did not answer is sent again. */
static void connected(struct client *client)
{
    int room = RECEIVE_BUFFER;

    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    window_rewind(&client->window);
    client_opened(client);
    client_push(client);
}

static void finish(struct client *client)
{
    client_end(client, NULL);
}

static void check(struct client *client, uint64_t now)
{
    const struct window *window = &client->window;

    while (client->phase == CLIENT_OPEN && window->oldest < window->next &&
           now >= window_given_at(window, window->oldest) + client->setup->timeout)
        lose(client);
    client_push(client);
}

const struct client_transport datagram_transport = {
    .type = SOCK_DGRAM,
    .loses = true,
    .connected = connected,
    .readable = on_readable,
    .push = push,
    .finish = finish,
    .check = check,
};
