#include "sockets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "defaults.h"
#include "log.h"
#include "tcp.h"

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

/* A socket bound to ADDRESS; -1 with errno set. */
static int bind_socket(const struct address *address, bool reuse_port)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    if (reuse_port)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT);
    if (address->any.sa_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    tcp_set_defaults(fd);
    if (bind(fd, &address->any, address->length) == 0)
        return fd;
    return close_failed(fd);
}

/* The same, and it listens. */
static int listen_socket(const struct address *address, bool reuse_port)
{
    int fd = bind_socket(address, reuse_port);

    if (fd < 0 || listen(fd, SOMAXCONN) == 0)
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
static bool open_shared(struct address *address, int *fds, size_t count)
{
    size_t opened = 1;
    int error;

    fds[0] = listen_socket(address, false);
    if (fds[0] < 0)
        return false;
    if (getsockname(fds[0], &address->any, &address->length) != 0)
        goto fail;
    if (count > 1)
        set_option(fds[0], SOL_SOCKET, SO_REUSEPORT);
    for (; opened < count; opened++) {
        fds[opened] = listen_socket(address, true);
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
    fd = bind_socket(&loopback, false);
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
static bool fail_at(struct sockets_error *error, int number, enum endpoint_service service,
                    const struct address *address)
{
    char name[ENDPOINT_TEXT_MAX];

    endpoint_format(service, address, name);
    return fail(error, 1, strerror(number), name);
}

/* Listens at ADDRESS; on success it is one more in the list. False with errno set. */
static bool add_listening(struct sockets *sockets, enum endpoint_service service,
                          const struct address *address)
{
    struct listening *list = realloc(sockets->list, (sockets->count + 1) * sizeof(*list));
    struct listening *one;

    if (list == NULL)
        return false;
    sockets->list = list;
    one = &list[sockets->count];
    *one = (struct listening){ .service = service, .address = *address };
    one->fds = calloc(sockets->fd_count, sizeof(*one->fds));
    if (one->fds == NULL)
        return false;
    if (!open_shared(&one->address, one->fds, sockets->fd_count)) {
        free(one->fds);
        return false;
    }
    endpoint_format(service, &one->address, one->name);
    sockets->count++;
    return true;
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
    while (sockets->count > count) {
        struct listening *last = &sockets->list[--sockets->count];

        close_fds(last->fds, sockets->fd_count);
        free(last->fds);
    }
    sockets->skipped_count = skipped_count;
}

/* An endpoint and what it resolved to. */
struct target {
    enum endpoint_service service;
    struct address *addresses;
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
        if (add_listening(sockets, target->service, &address))
            continue;
        number = errno;
        fail_at(error, number, target->service, &address);
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

    for (int tries = SHARED_PORT_TRIES; outcome == PORT_TAKEN && tries > 0; tries--) {
        undo(sockets, before, skipped_before);
        outcome = try_target(sockets, target, error);
    }
    return outcome == OPENED;
}

/* Have A and B an address in common? Port 0 is a new port each time. */
static bool is_same(const struct target *a, const struct target *b)
{
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
        const char *wrong =
            endpoint_resolve(&endpoints[i], &targets[i].addresses, &targets[i].count);

        if (wrong != NULL)
            return fail(error, 1, wrong, endpoints[i].text);
        targets[i].service = endpoints[i].service;
        for (size_t k = 0; k < i; k++)
            if (is_same(&targets[i], &targets[k]))
                return fail(error, 2, "the same endpoint twice", endpoints[i].text);
    }
    return true;
}

bool sockets_open(struct sockets *sockets, const struct endpoint *endpoints, size_t count,
                  size_t each, struct sockets_error *error)
{
    struct target *targets = calloc(count, sizeof(*targets));
    bool opened;

    *sockets = (struct sockets){ .fd_count = each };
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

void sockets_announce(const struct sockets *sockets)
{
    struct log_line line;
    char text[ENDPOINT_TEXT_MAX];

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

int sockets_fd(const struct sockets *sockets, size_t index, unsigned worker)
{
    return sockets->list[index].fds[worker % sockets->fd_count];
}

bool sockets_are_own(const struct sockets *sockets)
{
    return sockets->fd_count > 1;
}

void sockets_close(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++)
        close_fds(sockets->list[i].fds, sockets->fd_count);
}

void sockets_free(struct sockets *sockets)
{
    undo(sockets, 0, 0);
    free(sockets->list);
    free(sockets->skipped);
    *sockets = (struct sockets){ 0 };
}
