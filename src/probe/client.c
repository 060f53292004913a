#include "client.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../clock.h"
#include "../reactor.h"
#include "defaults.h"
#include "pattern.h"

static void close_socket(struct client *client)
{
    reactor_free_event(client->readable);
    reactor_free_event(client->writable);
    client->readable = client->writable = NULL;
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

void client_init(struct client *client, const struct client_setup *setup, uint64_t number)
{
    *client = (struct client){ .setup = setup, .fd = -1, .number = number };
}

void client_end(struct client *client, const char *why)
{
    if (client->phase == CLIENT_ENDED)
        return;
    close_socket(client);
    client->phase = CLIENT_ENDED;
    if (client->is_spoilt) /* of this message only a part came, and that was wrong */
        tally_add(client->setup->tally, TALLY_CORRUPT, 1);
    client->setup->handler->ended(client, why);
}

static void send_fin(struct client *client)
{
    shutdown(client->fd, SHUT_WR);
    client->phase = CLIENT_FINISHING;
    client->moved_at = clock_ns();
}

/* The event is wanted only while something did not fit. */
static void wait_until_writable(struct client *client, bool wait)
{
    if (client->is_blocked == wait)
        return;
    client->is_blocked = wait;
    if (wait)
        event_add(client->writable, NULL);
    else
        event_del(client->writable);
}

/* One send of what is allowed. */
static void push(struct client *client)
{
    uint64_t length = client->goal - client->sent;
    ssize_t sent;

    if (length > PIECE_MAX)
        length = PIECE_MAX;
    sent = send(client->fd, pattern_at(client->number, client->sent), length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        client_end(client, strerror(errno));
        return;
    }
    if (sent > 0)
        client->sent += (uint64_t) sent;
    wait_until_writable(client, client->sent < client->goal);
    if (client->is_last && client->sent == client->goal)
        send_fin(client);
}

void client_push(struct client *client)
{
    if (client->phase == CLIENT_OPEN && !client->is_blocked && client->sent < client->goal)
        push(client);
}

void client_allow(struct client *client, uint64_t messages, uint64_t now)
{
    if (!client_is_owed(client)) /* the wait for an answer begins */
        client->moved_at = now;
    client->allowed += messages;
    client->goal += messages * client->setup->size;
}

void client_finish(struct client *client)
{
    if (client->phase != CLIENT_OPEN)
        return;
    client->is_last = true;
    if (client->sent == client->goal)
        send_fin(client);
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

    if (client->is_spoilt || memcmp(data, wanted, length) != 0)
        corrupt = count_corrupt(client, data, wanted, length);
    client->received += length;
    client->partial = partial % size;
    if (partial < size)
        return;
    client->answered += partial / size;
    tally_add(client->setup->tally, TALLY_CORRUPT, corrupt);
    client->setup->handler->answered(client, partial / size, corrupt);
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

static void on_connected(struct client *client)
{
    client->phase = CLIENT_OPEN;
    client->is_connected = true;
    client->moved_at = clock_ns();
    client->is_blocked = false;
    event_del(client->writable);
    event_add(client->readable, NULL);
    client->setup->handler->opened(client);
}

/* This address is none; on with the next. */
static void give_up_attempt(struct client *client, int error)
{
    close_socket(client);
    if (client->attempt + 1 == client->setup->address_count) {
        client_end(client, strerror(error));
        return;
    }
    client->attempt++;
    client_connect(client);
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    struct client *client = context;
    socklen_t length = sizeof(int);
    int error = 0;

    (void) what;
    if (client->phase != CLIENT_CONNECTING) {
        client->moved_at = clock_ns();
        push(client);
        return;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == 0)
        on_connected(client);
    else
        give_up_attempt(client, error);
}

/* Opens the socket and its events; 0, or errno. */
static int open_socket(struct client *client, int family)
{
    struct event_base *base = client->setup->base;
    int on = 1;

    client->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return errno;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    client->readable = event_new(base, client->fd, EV_READ | EV_PERSIST, on_readable, client);
    client->writable = event_new(base, client->fd, EV_WRITE | EV_PERSIST, on_writable, client);
    return client->readable != NULL && client->writable != NULL ? 0 : ENOMEM;
}

void client_connect(struct client *client)
{
    const struct address *address = &client->setup->addresses[client->attempt];
    int error;

    client->phase = CLIENT_CONNECTING;
    client->moved_at = clock_ns();
    error = open_socket(client, address->any.sa_family);
    if (error == 0 && connect(client->fd, &address->any, address->length) != 0)
        error = errno;
    if (error == 0)
        on_connected(client);
    else if (error == EINPROGRESS)
        event_add(client->writable, NULL);
    else
        give_up_attempt(client, error);
}

/* When all is back, a server that does not close is let go. */
static void end_silent(struct client *client)
{
    bool is_well = !client_is_owed(client) && !client->setup->needs_eof;

    client_end(client, is_well ? NULL : strerror(ETIMEDOUT));
}

void client_check(struct client *client, uint64_t now)
{
    uint64_t silence = now > client->moved_at ? now - client->moved_at : 0;
    uint64_t patience = client->setup->timeout;

    if (client->phase == CLIENT_FINISHING && !client_is_owed(client) && !client->setup->needs_eof)
        patience = UINT64_C(1000000) * LINGER_MS;
    if (silence < patience)
        return;
    if (client->phase == CLIENT_CONNECTING)
        give_up_attempt(client, ETIMEDOUT);
    else if (client->phase == CLIENT_FINISHING || client_is_owed(client))
        end_silent(client);
}
