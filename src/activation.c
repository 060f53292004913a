#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"

#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t length = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

static bool is_connected(int fd)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);

    return getpeername(fd, (struct sockaddr *) &peer, &length) == 0;
}

/* What FD is, told from FD alone. */
static const char *find_transport(int fd, enum endpoint_transport *transport)
{
    int type = option_of(fd, SO_TYPE), family = option_of(fd, SO_DOMAIN);
    int protocol = option_of(fd, SO_PROTOCOL);
    bool is_ip = family == AF_INET || family == AF_INET6;

    if (type < 0)
        return "not a socket";
    if (is_ip && type == SOCK_STREAM && protocol == IPPROTO_TCP)
        *transport = ENDPOINT_TCP;
    else if (is_ip && type == SOCK_DGRAM && protocol == IPPROTO_UDP)
        *transport = ENDPOINT_UDP;
    else if (family == AF_UNIX && type == SOCK_STREAM)
        *transport = ENDPOINT_UNIX;
    else
        return "neither a TCP, a UDP nor a unix stream socket";
    if (is_connected(fd))
        return "a connected socket (Accept=yes) is not served, only a listening one";
    if (type == SOCK_STREAM && option_of(fd, SO_ACCEPTCONN) != 1)
        return "not a listening socket";
    return NULL;
}

static bool is_service(const char *name)
{
    struct endpoint endpoint;
    char scheme[ACTIVATION_TEXT_MAX];

    snprintf(scheme, sizeof(scheme), "%s+tcp", name);
    return endpoint_parse_scheme(scheme, strlen(scheme), &endpoint) == NULL;
}

/*
 * What is to be served there; ENDPOINT has the socket's own transport. Whoever writes + means a
 * transport, and a mistake in it must not be served as plain text; nor must what is called tls. A
 * name that says nothing leaves it echo on the socket's own transport.
 */
static const char *find_service(const char *name, struct endpoint *endpoint)
{
    enum endpoint_transport own = endpoint->transport;
    char scheme[ACTIVATION_TEXT_MAX];
    const char *wrong;

    if (strcmp(name, "metrics") == 0) {
        endpoint->transport = ENDPOINT_HTTP;
        return own == ENDPOINT_TCP ? NULL : "metrics are served at a TCP socket only";
    }
    if (strchr(name, '+') != NULL || strcmp(name, "tls") == 0)
        snprintf(scheme, sizeof(scheme), "%s", name);
    else if (is_service(name))
        snprintf(scheme, sizeof(scheme), "%s+%s", name, endpoint_transport_name(own));
    else
        return NULL;
    wrong = endpoint_parse_scheme(scheme, strlen(scheme), endpoint);
    if (wrong == NULL && endpoint->transport != own &&
        !(endpoint->transport == ENDPOINT_TLS && own == ENDPOINT_TCP))
        return "not a socket of the transport that its name says";
    return wrong;
}

/* The path or @name of a unix socket, as far as it can be written as text. */
static void find_path(int fd, struct endpoint *endpoint)
{
    struct sockaddr_un own = { .sun_family = AF_UNSPEC };
    socklen_t length = sizeof(own);
    size_t offset = offsetof(struct sockaddr_un, sun_path), most;

    if (getsockname(fd, (struct sockaddr *) &own, &length) != 0 || length <= offset)
        return;
    most = length - offset;
    if (own.sun_path[0] != '\0')
        most = strnlen(own.sun_path, most);
    memcpy(endpoint->host, own.sun_path, most);
    for (size_t i = 0; i < most; i++)
        if (endpoint->host[i] == '\0')
            endpoint->host[i] = '@';
}

static const char *examine(struct passed *passed, int fd, const char *name)
{
    struct endpoint *endpoint = &passed->endpoint;
    int flags = fcntl(fd, F_GETFL);
    const char *wrong;

    passed->fd = fd;
    snprintf(passed->text, sizeof(passed->text), "descriptor %d, named %s", fd, name);
    *endpoint = (struct endpoint){ .service = ENDPOINT_ECHO, .mode = -1, .text = passed->text };
    wrong = find_transport(fd, &endpoint->transport);
    if (wrong == NULL)
        wrong = find_service(name, endpoint);
    if (wrong == NULL && endpoint->transport == ENDPOINT_UNIX)
        find_path(fd, endpoint);
    if (wrong == NULL && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
        wrong = strerror(errno);
    return wrong;
}

static void free_names(char **names)
{
    for (char **name = names; name != NULL && *name != NULL; name++)
        free(*name);
    free(names);
}

void activation_take(struct activation *activation)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);

    *activation = (struct activation){ .text = "LISTEN_FDS" };
    if (count > 0)
        activation->list = calloc((size_t) count, sizeof(*activation->list));
    if (count < 0)
        activation->wrong = strerror(-count);
    else if (count > 0 && activation->list == NULL)
        activation->wrong = "out of memory";
    for (int i = 0; activation->wrong == NULL && i < count; i++) {
        struct passed *passed = &activation->list[activation->count++];

        activation->wrong = examine(passed, SD_LISTEN_FDS_START + i, names[i]);
        memcpy(activation->text, passed->text, sizeof(activation->text));
    }
    free_names(names);
}

#else

void activation_take(struct activation *activation)
{
    const char *pid = getenv("LISTEN_PID");

    *activation = (struct activation){ .text = "LISTEN_FDS" };
    /* What the service manager wants served is not: better to say so than to serve the default. */
    if (pid != NULL && strtol(pid, NULL, 10) == getpid())
        activation->wrong = "built without socket activation";
}

#endif

void activation_free(struct activation *activation)
{
    free(activation->list);
    *activation = (struct activation){ 0 };
}
