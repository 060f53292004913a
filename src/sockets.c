#include "sockets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "defaults.h"
#include "log.h"
#include "tcp.h"
#include "udp.h"

static void set_option(int fd, int level, int name)
{
    const int on = 1;

    (void) setsockopt(fd, level, name, &on, sizeof(on));
}

/* Gives -1, with errno kept. */
static int close_failed(int fd)
{
    int error = errno;

    close(fd);
    errno = error;
    return -1;
}

static void set_stream_options(int fd)
{
    set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    tcp_set_defaults(fd);
}

/* A socket of TYPE bound to ADDRESS; -1 with errno set. */
static int bind_socket(const struct address *address, int type, bool reuse_port)
{
    int fd = socket(address->any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (type != SOCK_DGRAM)
        set_stream_options(fd);
    else if (!udp_set_defaults(fd))
        return close_failed(fd);
    if (reuse_port)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT);
    if (address->any.sa_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if (bind(fd, &address->any, address->length) == 0)
        return fd;
    return close_failed(fd);
}

/* The same, and it listens if it is a stream. */
static int listen_socket(const struct address *address, int type, bool reuse_port)
{
    int fd = bind_socket(address, type, reuse_port);

    if (fd < 0 || type == SOCK_DGRAM || listen(fd, SOMAXCONN) == 0)
        return fd;
    return close_failed(fd);
}

static void close_fds(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/*
 * Opens COUNT sockets that share the port of *ADDRESS, which becomes the address as bound. The
 * first is bound, and listens, without SO_REUSEPORT: so a conflict with any other program shows,
 * also with one that shares its ports, or is started at the same moment. It shares with the
 * others, that only we can open, from then on.
 */
static bool open_shared(struct address *address, int type, int *fds, size_t count)
{
    size_t opened = 1;
    int error;

    fds[0] = listen_socket(address, type, false);
    if (fds[0] < 0)
        return false;
    if (getsockname(fds[0], &address->any, &address->length) != 0)
        goto fail;
    if (count > 1)
        set_option(fds[0], SOL_SOCKET, SO_REUSEPORT);
    for (; opened < count; opened++) {
        fds[opened] = listen_socket(address, type, true);
        if (fds[opened] < 0)
            goto fail;
    }
    return true;
fail:
    error = errno;
    close_fds(fds, opened);
    errno = error;
    return false;
}

/* Does this machine have no address of FAMILY at all? */
static bool lacks_family(int family)
{
    struct address loopback = { 0 };
    int fd;

    loopback.length = family == AF_INET6 ? sizeof(loopback.ip6) : sizeof(loopback.ip4);
    loopback.any.sa_family = (sa_family_t) family;
    if (family == AF_INET6)
        loopback.ip6.sin6_addr = in6addr_loopback;
    else
        loopback.ip4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = bind_socket(&loopback, SOCK_STREAM, false);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL);
}

static bool fail(struct sockets_error *error, int status, const char *what, const char *text)
{
    error->status = status;
    error->what = what;
    snprintf(error->text, sizeof(error->text), "%s", text);
    return false;
}

/* "What is wrong: the address", for errno number NUMBER. */
static bool fail_at(struct sockets_error *error, int number, const struct endpoint *endpoint,
                    const struct address *address)
{
    char name[ENDPOINT_TEXT_MAX];

    endpoint_format(endpoint, address, name);
    return fail(error, 1, strerror(number), name);
}

/*
 * One more in the list, which every worker has a socket of its own for, or else (FD_COUNT is 1)
 * all share one; not opened yet. NULL: no memory.
 */
static struct listening *append(struct sockets *sockets, const struct endpoint *endpoint,
                                size_t fd_count)
{
    struct listening *list = realloc(sockets->list, (sockets->count + 1) * sizeof(*list));
    struct listening *one;

    if (list == NULL)
        return NULL;
    sockets->list = list;
    one = &list[sockets->count];
    *one = (struct listening){ .endpoint = endpoint, .file.directory = -1,
                               .fds = calloc(fd_count, sizeof(*one->fds)), .fd_count = fd_count };
    if (one->fds == NULL)
        return NULL;
    memset(one->fds, -1, fd_count * sizeof(*one->fds));
    sockets->count++;
    return one;
}

static void remove_last(struct sockets *sockets)
{
    struct listening *last = &sockets->list[--sockets->count];

    close_fds(last->fds, last->fd_count);
    unixsocket_remove(&last->file);
    free(last->fds);
}

static size_t fd_count_of(const struct sockets *sockets, const struct endpoint *endpoint)
{
    bool is_datagram = endpoint->transport == ENDPOINT_UDP;

    return sockets->is_order_kept && !is_datagram ? 1 : sockets->workers;
}

/* Listens at ADDRESS; on success it is one more in the list. False with errno set. */
static bool add_listening(struct sockets *sockets, const struct endpoint *endpoint,
                          const struct address *address)
{
    int type = endpoint->transport == ENDPOINT_UDP ? SOCK_DGRAM : SOCK_STREAM;
    struct listening *one = append(sockets, endpoint, fd_count_of(sockets, endpoint));

    if (one == NULL)
        return false;
    one->address = *address;
    if (!open_shared(&one->address, type, one->fds, one->fd_count)) {
        int error = errno;

        remove_last(sockets);
        errno = error;
        return false;
    }
    endpoint_format(endpoint, &one->address, one->name);
    return true;
}

/* The same at a path or an abstract name. */
static bool add_unix(struct sockets *sockets, const struct endpoint *endpoint,
                     struct sockets_error *error)
{
    struct listening *one = append(sockets, endpoint, 1);
    const struct address none = { 0 };
    char name[ENDPOINT_TEXT_MAX];
    const char *wrong;

    endpoint_format(endpoint, &none, name);
    if (one == NULL)
        return fail(error, 1, "out of memory", name);
    memcpy(one->name, name, sizeof(name));
    one->fds[0] = unixsocket_listen(endpoint->host, endpoint->mode, &one->file, &wrong);
    if (one->fds[0] >= 0)
        return true;
    remove_last(sockets);
    return fail(error, 1, wrong, name);
}

static bool add_skipped(struct sockets *sockets, const struct address *address)
{
    struct address *list =
        realloc(sockets->skipped, (sockets->skipped_count + 1) * sizeof(*list));

    if (list == NULL)
        return false;
    sockets->skipped = list;
    list[sockets->skipped_count++] = *address;
    return true;
}

/* Takes back what an endpoint has opened, down to the given counts. */
static void undo(struct sockets *sockets, size_t count, size_t skipped_count)
{
    while (sockets->count > count)
        remove_last(sockets);
    sockets->skipped_count = skipped_count;
}

/* An endpoint and what it resolved to. */
struct target {
    const struct endpoint *endpoint;
    struct address *addresses; /* none of a unix socket */
    size_t count;
};

enum outcome { OPENED, FAILED, PORT_TAKEN };

/*
 * Listens at all of TARGET's addresses, on one port. With port 0 the first address decides which;
 * that it is taken in another family is worth another try.
 */
static enum outcome try_target(struct sockets *sockets, const struct target *target,
                               struct sockets_error *error)
{
    size_t before = sockets->count;

    for (size_t i = 0; i < target->count; i++) {
        struct address address = target->addresses[i];
        bool given = address_port(&address) == 0 && sockets->count > before;
        int number;

        if (given)
            address_set_port(&address, address_port(&sockets->list[before].address));
        if (add_listening(sockets, target->endpoint, &address))
            continue;
        number = errno;
        fail_at(error, number, target->endpoint, &address);
        if (number == EADDRINUSE && given)
            return PORT_TAKEN;
        if ((number != EAFNOSUPPORT && number != EADDRNOTAVAIL) ||
            !lacks_family(address.any.sa_family) || !add_skipped(sockets, &address))
            return FAILED;
    }
    return sockets->count > before ? OPENED : FAILED;
}

static bool open_target(struct sockets *sockets, const struct target *target,
                        struct sockets_error *error)
{
    size_t before = sockets->count, skipped_before = sockets->skipped_count;
    enum outcome outcome = PORT_TAKEN;

    if (target->endpoint->transport == ENDPOINT_UNIX)
        return add_unix(sockets, target->endpoint, error);
    for (int tries = SHARED_PORT_TRIES; outcome == PORT_TAKEN && tries > 0; tries--) {
        undo(sockets, before, skipped_before);
        outcome = try_target(sockets, target, error);
    }
    return outcome == OPENED;
}

/* UDP has ports of its own, and unix sockets have none. */
static bool share_ports(const struct endpoint *a, const struct endpoint *b)
{
    return (a->transport == ENDPOINT_UDP) == (b->transport == ENDPOINT_UDP);
}

/* Have A and B an address in common? Port 0 is a new port each time. */
static bool is_same(const struct target *a, const struct target *b)
{
    if (a->endpoint->transport == ENDPOINT_UNIX && b->endpoint->transport == ENDPOINT_UNIX)
        return strcmp(a->endpoint->host, b->endpoint->host) == 0;
    if (!share_ports(a->endpoint, b->endpoint))
        return false;
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            if (address_port(&a->addresses[i]) != 0 &&
                address_equal(&a->addresses[i], &b->addresses[k]))
                return true;
    return false;
}

/* Resolves every endpoint, before any socket is opened. */
static bool resolve_all(struct target *targets, const struct endpoint *endpoints, size_t count,
                        struct sockets_error *error)
{
    for (size_t i = 0; i < count; i++) {
        struct target *target = &targets[i];
        const char *wrong = NULL;

        target->endpoint = &endpoints[i];
        if (endpoints[i].transport != ENDPOINT_UNIX)
            wrong = endpoint_resolve(&endpoints[i], &target->addresses, &target->count);
        if (wrong != NULL)
            return fail(error, 1, wrong, endpoints[i].text);
        for (size_t k = 0; k < i; k++)
            if (is_same(target, &targets[k]))
                return fail(error, 2, "the same endpoint twice", endpoints[i].text);
    }
    return true;
}

bool sockets_open(struct sockets *sockets, const struct endpoint *endpoints, size_t count,
                  size_t workers, bool is_order_kept, struct sockets_error *error)
{
    struct target *targets;
    bool opened;

    *sockets = (struct sockets){ .workers = workers, .is_order_kept = is_order_kept };
    if (count == 0)
        return true;
    targets = calloc(count, sizeof(*targets));
    if (targets == NULL)
        return fail(error, 1, "out of memory", endpoints[0].text);
    opened = resolve_all(targets, endpoints, count, error);
    for (size_t i = 0; opened && i < count; i++)
        opened = open_target(sockets, &targets[i], error);
    for (size_t i = 0; i < count; i++)
        free(targets[i].addresses);
    free(targets);
    if (!opened)
        sockets_free(sockets);
    return opened;
}

bool sockets_adopt(struct sockets *sockets, const struct endpoint *endpoint, int fd,
                   struct sockets_error *error)
{
    struct sockaddr_storage own = { .ss_family = AF_UNSPEC };
    socklen_t length = sizeof(own);
    struct listening *one;

    if (getsockname(fd, (struct sockaddr *) &own, &length) != 0 ||
        (endpoint->transport == ENDPOINT_UDP && !udp_set_defaults(fd)))
        return fail(error, 1, strerror(errno), endpoint->text);
    if (endpoint->transport != ENDPOINT_UDP && endpoint->transport != ENDPOINT_UNIX)
        tcp_set_defaults(fd);
    one = append(sockets, endpoint, 1);
    if (one == NULL)
        return fail(error, 1, "out of memory", endpoint->text);
    one->is_passed = true;
    one->fds[0] = fd;
    one->address = address_from((struct sockaddr *) &own, length);
    endpoint_format(endpoint, &one->address, one->name);
    return true;
}

void sockets_announce(const struct sockets *sockets)
{
    struct log_line line;
    char text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < sockets->count; i++) {
        log_begin(&line, LOG_NOTICE, "listening");
        log_text(&line, "endpoint", sockets->list[i].name);
        log_end(&line);
    }
    for (size_t i = 0; i < sockets->skipped_count; i++) {
        address_format(&sockets->skipped[i], text);
        log_begin(&line, LOG_WARNING, "skipped");
        log_text(&line, "address", text);
        log_text(&line, "error", "this machine lacks the address family");
        log_end(&line);
    }
}

void sockets_give(const struct sockets *sockets, uid_t uid, gid_t gid)
{
    for (size_t i = 0; i < sockets->count; i++)
        unixsocket_give(&sockets->list[i].file, uid, gid);
}

int sockets_fd(const struct sockets *sockets, size_t index, unsigned worker)
{
    return sockets->list[index].fds[worker % sockets->list[index].fd_count];
}

bool sockets_have_stream_at(const struct sockets *sockets, const struct address *address)
{
    for (size_t i = 0; i < sockets->count; i++) {
        const struct listening *one = &sockets->list[i];

        if (one->endpoint->transport != ENDPOINT_UNIX &&
            one->endpoint->transport != ENDPOINT_UDP && address_equal(&one->address, address))
            return true;
    }
    return false;
}

bool sockets_is_own(const struct sockets *sockets, size_t index)
{
    return sockets->list[index].fd_count > 1;
}

bool sockets_are_own(const struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++)
        if (sockets_is_own(sockets, i))
            return true;
    return false;
}

void sockets_close(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        close_fds(sockets->list[i].fds, sockets->list[i].fd_count);
        unixsocket_remove(&sockets->list[i].file);
    }
}

void sockets_free(struct sockets *sockets)
{
    undo(sockets, 0, 0);
    free(sockets->list);
    free(sockets->skipped);
    *sockets = (struct sockets){ 0 };
}
