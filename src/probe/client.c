#include "client.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../clock.h"
#include "../reactor.h"

static void close_socket(struct client *client)
{
    reactor_free_event(client->readable);
    reactor_free_event(client->writable);
    client->readable = client->writable = NULL;
    if (client->fd < 0)
        return;
    if (client->setup->transport->closing != NULL)
        client->setup->transport->closing(client);
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
    window_free(&client->window);
    client->phase = CLIENT_ENDED;
    client->setup->handler->ended(client, why);
}

void client_wait_until_writable(struct client *client, bool wait)
{
    if (client->is_blocked == wait)
        return;
    client->is_blocked = wait;
    if (wait)
        event_add(client->writable, NULL);
    else
        event_del(client->writable);
}

void client_push(struct client *client)
{
    if (client->phase == CLIENT_OPEN && !client->is_blocked)
        client->setup->transport->push(client);
}

void client_allow(struct client *client, uint64_t messages, uint64_t now)
{
    if (!client_is_owed(client)) /* the wait for an answer begins */
        client->moved_at = now;
    client->allowed += messages;
}

void client_finish(struct client *client)
{
    if (client->phase != CLIENT_OPEN)
        return;
    client->is_last = true;
    client->setup->transport->finish(client);
}

void client_opened(struct client *client)
{
    bool is_first = !client->was_open; /* datagrams see later that an address was none */

    client->phase = CLIENT_OPEN;
    client->was_open = true;
    client->moved_at = clock_ns();
    client_wait_until_writable(client, false);
    event_add(client->readable, NULL);
    if (is_first)
        client->setup->handler->opened(client);
}

void client_try_next(struct client *client, int error)
{
    close_socket(client);
    if (client->attempt + 1 == client->setup->target->count) {
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
        client->setup->transport->push(client);
        return;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == 0)
        client->setup->transport->connected(client);
    else
        client_try_next(client, error);
}

/* Opens the socket and its events; 0, or errno. */
static int open_socket(struct client *client, int family)
{
    struct event_base *base = client->setup->base;
    const struct client_transport *transport = client->setup->transport;
    int on = 1;

    client->fd = socket(family, transport->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return errno;
    if (transport->type == SOCK_STREAM && family != AF_UNIX)
        setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    client->readable =
        event_new(base, client->fd, EV_READ | EV_PERSIST, transport->readable, client);
    client->writable = event_new(base, client->fd, EV_WRITE | EV_PERSIST, on_writable, client);
    return client->readable != NULL && client->writable != NULL ? 0 : ENOMEM;
}

/* Asks the kernel; it may say so later. */
static void try_address(struct client *client, const struct sockaddr *address, socklen_t length)
{
    if (connect(client->fd, address, length) == 0)
        client->setup->transport->connected(client);
    else if (errno == EINPROGRESS)
        client_wait_until_writable(client, true);
    else if (errno != EAGAIN) /* a unix socket's queue is full, and nothing tells when it is not */
        client_try_next(client, errno);
}

void client_connect(struct client *client)
{
    socklen_t length;
    const struct sockaddr *address =
        target_address(client->setup->target, client->attempt, &length);
    int error;

    client->phase = CLIENT_CONNECTING;
    client->is_blocked = false;
    client->moved_at = clock_ns();
    error = open_socket(client, address->sa_family);
    if (error == 0)
        try_address(client, address, length);
    else
        client_try_next(client, error);
}

static void check_connecting(struct client *client, uint64_t silence)
{
    socklen_t length;
    const struct sockaddr *address =
        target_address(client->setup->target, client->attempt, &length);

    if (silence >= client->setup->timeout)
        client_try_next(client, ETIMEDOUT);
    else if (!client->is_blocked)
        try_address(client, address, length);
}

void client_check(struct client *client, uint64_t now)
{
    if (client->phase == CLIENT_CONNECTING)
        check_connecting(client, now > client->moved_at ? now - client->moved_at : 0);
    else if (client->phase != CLIENT_ENDED)
        client->setup->transport->check(client, now);
}
