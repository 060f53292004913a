#include "stream.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>

#include "../clock.h"
#include "../proxy.h"
#include "defaults.h"
#include "pattern.h"
#include "security.h"

/* The position up to which messages are allowed. */
static uint64_t goal_of(const struct client *client)
{
    return client->allowed * client->setup->size;
}

static ssize_t send_piece(const struct client *client, const void *data, size_t length)
{
    if (client->session == NULL)
        return send(client->fd, data, length, MSG_NOSIGNAL);
    return client->setup->security->send(client->session, data, length);
}

static ssize_t receive_piece(const struct client *client, void *data, size_t length)
{
    if (client->session == NULL)
        return recv(client->fd, data, length, 0);
    return client->setup->security->receive(client->session, data, length);
}

/* A call failed; if it only has to be made again, all is well. */
static void on_failure(struct client *client)
{
    if (errno == EAGAIN || errno == EINTR)
        return;
    client_end(client, errno == EPROTO && client->session != NULL
                           ? client->setup->security->why(client->session)
                           : strerror(errno));
}

/* False: there is no room for TLS's word that this is all. */
static bool send_fin(const struct client *client)
{
    if (client->session != NULL)
        return client->setup->security->finish(client->session);
    shutdown(client->fd, SHUT_WR);
    return true;
}

static void finish(struct client *client)
{
    if (client->sent < goal_of(client))
        return;
    if (!send_fin(client)) {
        client_wait_until_writable(client, true);
        return;
    }
    client_wait_until_writable(client, false);
    client->phase = CLIENT_FINISHING;
    client->moved_at = clock_ns();
}

static void shake_hands(struct client *client)
{
    const struct security *security = client->setup->security;
    enum security_step step = security->handshake(client->session);

    if (step == SECURITY_FAILED)
        client_end(client, security->why(client->session));
    else if (step == SECURITY_DONE)
        client_opened(client);
    else
        client_wait_until_writable(client, step == SECURITY_WANTS_WRITE);
}

static void push_piece(struct client *client, uint64_t length)
{
    ssize_t sent;

    if (length > PIECE_MAX)
        length = PIECE_MAX;
    sent = send_piece(client, pattern_at(client->number, client->sent), length);
    if (sent > 0)
        client->sent += (uint64_t) sent;
    else
        on_failure(client);
}

/* One send of what is allowed. */
static void push(struct client *client)
{
    uint64_t goal = goal_of(client);

    if (client->phase == CLIENT_SECURING)
        shake_hands(client);
    if (client->phase != CLIENT_OPEN)
        return;
    if (client->sent < goal)
        push_piece(client, goal - client->sent);
    if (client->phase == CLIENT_ENDED)
        return;
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

/* Is there nothing to be wanted any more but that it closes, if at all? */
static bool is_let_go(const struct client *client)
{
    return client->phase == CLIENT_FINISHING && !client_is_owed(client) &&
           !client->setup->needs_eof;
}

/* One receive; false: that is all for now. */
static bool pull(struct client *client)
{
    unsigned char *buffer = client->setup->buffer;
    ssize_t got = receive_piece(client, buffer, PIECE_MAX);

    if (got > 0)
        receive(client, buffer, (size_t) got);
    else if (got == 0)
        on_eof(client);
    else if (errno == EPROTO && is_let_go(client)) /* in which way TLS ends is all the same then */
        client_end(client, NULL);
    else
        on_failure(client);
    return got > 0;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct client *client = context;

    (void) fd;
    (void) what;
    if (client->phase == CLIENT_SECURING)
        shake_hands(client);
    if (client->phase == CLIENT_SECURING || client->phase == CLIENT_ENDED)
        return;
    while (pull(client) && client->session != NULL &&
           client->setup->security->has_more(client->session))
        continue;
}

/*
 * As a load balancer for which we are the client: names both ends of this connection. The buffer
 * of a new socket takes it whole. False: it has failed.
 */
static bool send_header(struct client *client)
{
    const struct target *target = client->setup->target;
    struct address own = { .length = sizeof(own.ip6) };
    char header[PROXY_V1_MOST + 1];
    size_t length;

    if (getsockname(client->fd, &own.any, &own.length) == 0) {
        length = client->setup->proxy(&own, &target->addresses[client->attempt], header);
        if (send(client->fd, header, length, MSG_NOSIGNAL) == (ssize_t) length)
            return true;
    }
    client_end(client, strerror(errno));
    return false;
}

static void on_connected(struct client *client)
{
    const struct security *security = client->setup->security;

    if (client->setup->proxy != NULL && !send_header(client))
        return;
    if (security == NULL) {
        client_opened(client);
        return;
    }
    client->session = security->begin(security, client->fd);
    if (client->session == NULL) {
        client_end(client, strerror(ENOMEM));
        return;
    }
    client->phase = CLIENT_SECURING;
    client_wait_until_writable(client, false);
    event_add(client->readable, NULL);
    shake_hands(client);
}

static void closing(struct client *client)
{
    if (client->session != NULL)
        client->setup->security->end(client->session);
    client->session = NULL;
    if (client->is_spoilt) /* of this message only a part came, and that was wrong */
        tally_add(client->setup->tally, TALLY_CORRUPT, 1);
}

static void check(struct client *client, uint64_t now)
{
    uint64_t silence = now > client->moved_at ? now - client->moved_at : 0;
    bool is_fine = is_let_go(client); /* a server that does not close is let go */

    if (silence < (is_fine ? UINT64_C(1000000) * LINGER_MS : client->setup->timeout))
        return;
    if (client->phase == CLIENT_SECURING)
        client_end(client, "TLS handshake timed out");
    else if (client->phase == CLIENT_FINISHING || client_is_owed(client))
        client_end(client, is_fine ? NULL : strerror(ETIMEDOUT));
}

const struct client_transport stream_transport = {
    .type = SOCK_STREAM,
    .connected = on_connected,
    .readable = on_readable,
    .push = push,
    .finish = finish,
    .closing = closing,
    .check = check,
};
