/* The yardstick: what the kernel alone allows. One thread, level-triggered epoll, read then write;
 * what does not fit is kept, and until it is gone nothing more is read from that client.
 * Usage: raw PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE 65536
#define EVENTS 256

struct client {
    int fd;
    char *kept; /* what the kernel did not take, or NULL */
    size_t begin, end;
};

static char buffer[BUFFER_SIZE];
static int queue;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event = { .events = events, .data.ptr = data };

    if (epoll_ctl(queue, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static int listen_on(int port)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons((uint16_t) port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

    /* Linux has accepted sockets inherit TCP_NODELAY. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        die("listen");
    return fd;
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct client *client = calloc(1, sizeof(*client));

        if (client == NULL)
            die("calloc");
        client->fd = fd;
        watch(EPOLL_CTL_ADD, fd, EPOLLIN, client);
    }
}

static void close_client(struct client *client)
{
    close(client->fd);
    free(client->kept);
    free(client);
}

/* Keeps the rest of the buffer, and waits for the client to read instead of for its bytes. */
static void keep(struct client *client, size_t begin, size_t end)
{
    client->kept = malloc(end - begin);
    if (client->kept == NULL)
        die("malloc");
    memcpy(client->kept, buffer + begin, end - begin);
    client->begin = 0;
    client->end = end - begin;
    watch(EPOLL_CTL_MOD, client->fd, EPOLLOUT, client);
}

/* Is this how a non-blocking call says "later"? */
static bool is_later(ssize_t result)
{
    return result < 0 && (errno == EAGAIN || errno == EINTR);
}

static void echo(struct client *client)
{
    ssize_t got = read(client->fd, buffer, BUFFER_SIZE), sent;

    if (is_later(got))
        return;
    sent = got > 0 ? write(client->fd, buffer, (size_t) got) : -1;
    if (got > 0 && is_later(sent))
        sent = 0;
    if (sent < 0)
        close_client(client);
    else if (sent < got)
        keep(client, (size_t) sent, (size_t) got);
}

static void flush(struct client *client)
{
    ssize_t sent = write(client->fd, client->kept + client->begin, client->end - client->begin);

    if (is_later(sent))
        return;
    if (sent < 0) {
        close_client(client);
        return;
    }
    client->begin += (size_t) sent;
    if (client->begin < client->end)
        return;
    free(client->kept);
    client->kept = NULL;
    watch(EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 7777);

    queue = epoll_create1(0);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(queue, events, EVENTS, -1);

        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;

            if (client == NULL)
                accept_all(listener);
            else if (client->kept != NULL)
                flush(client);
            else
                echo(client);
        }
    }
}
