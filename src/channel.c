#include "channel.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "reactor.h"

/* One that waits to be sent. */
struct frame {
    STAILQ_ENTRY(frame) link;
    int fd;
    uint32_t type;
    size_t length;
    unsigned char payload[];
};

struct channel {
    int fd;
    struct event *readable;
    struct event *writable; /* pending while frames wait */
    STAILQ_HEAD(frames, frame) waiting;
    size_t waiting_bytes;
    uint64_t sent; /* bytes, given to the kernel */
    bool has_ended;
    const struct channel_handler *handler;
    void *context;
};

/* Room for one descriptor beside a message, aligned as the kernel wants it. */
union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

bool channel_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0;
}

/* One attempt; false with errno set. */
static bool send_now(struct channel *channel, uint32_t type, const void *payload, size_t length,
                     int fd)
{
    struct iovec parts[] = { { &type, sizeof(type) }, { (void *) payload, length } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    union control control = { 0 };

    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    if (sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return false;
    channel->sent += length;
    return true;
}

static void drop_first(struct channel *channel)
{
    struct frame *frame = STAILQ_FIRST(&channel->waiting);

    STAILQ_REMOVE_HEAD(&channel->waiting, link);
    channel->waiting_bytes -= frame->length;
    if (frame->fd >= 0)
        close(frame->fd);
    free(frame);
}

/* Will it be sent later, if not now? */
static bool is_passing(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    struct channel *channel = context;
    struct frame *frame;

    (void) fd;
    (void) what;
    while ((frame = STAILQ_FIRST(&channel->waiting)) != NULL) {
        if (!send_now(channel, frame->type, frame->payload, frame->length, frame->fd) &&
            is_passing(errno))
            return;
        drop_first(channel); /* sent, or never to arrive: then reading tells of the end */
    }
    event_del(channel->writable);
    if (channel->handler->drained != NULL)
        channel->handler->drained(channel->context);
}

static bool enqueue(struct channel *channel, uint32_t type, const void *payload, size_t length,
                    int fd)
{
    struct frame *frame = malloc(sizeof(*frame) + length);

    if (frame == NULL)
        return false;
    *frame = (struct frame){ .fd = -1, .type = type, .length = length };
    if (length > 0)
        memcpy(frame->payload, payload, length);
    if (fd >= 0)
        frame->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if ((fd < 0 || frame->fd >= 0) && event_add(channel->writable, NULL) == 0) {
        STAILQ_INSERT_TAIL(&channel->waiting, frame, link);
        channel->waiting_bytes += length;
        return true;
    }
    if (frame->fd >= 0)
        close(frame->fd);
    free(frame);
    return false;
}

bool channel_send(struct channel *channel, uint32_t type, const void *payload, size_t length,
                  int fd)
{
    if (STAILQ_EMPTY(&channel->waiting)) {
        if (send_now(channel, type, payload, length, fd))
            return true;
        if (!is_passing(errno))
            return false;
    }
    return enqueue(channel, type, payload, length, fd);
}

bool channel_is_busy(const struct channel *channel)
{
    return !STAILQ_EMPTY(&channel->waiting);
}

size_t channel_waiting(const struct channel *channel)
{
    return channel->waiting_bytes;
}

/* Of a unix socket the kernel knows how much the peer has not read: in its own measure. */
uint64_t channel_taken(const struct channel *channel)
{
    int unread = 0;

    (void) ioctl(channel->fd, SIOCOUTQ, &unread);
    return channel->sent - (uint64_t) unread;
}

void channel_listen(struct channel *channel, bool on)
{
    if (on && !channel->has_ended)
        event_add(channel->readable, NULL);
    else
        event_del(channel->readable);
}

void channel_go_first(struct channel *channel)
{
    event_priority_set(channel->readable, REACTOR_FIRST);
    event_priority_set(channel->writable, REACTOR_FIRST);
}

/* The descriptor that came with MESSAGE, or -1. */
static int passed_descriptor(struct msghdr *message)
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    int fd = -1;

    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* One frame: its bytes. 0: there is none now, -1: nor will there be. */
static int receive(struct channel *channel)
{
    unsigned char payload[CHANNEL_PAYLOAD_MAX];
    uint32_t type;
    struct iovec parts[] = { { &type, sizeof(type) }, { payload, sizeof(payload) } };
    union control control;
    struct msghdr message = { .msg_iov = parts,
                              .msg_iovlen = 2,
                              .msg_control = &control,
                              /* not all of its room, into which the kernel would put two */
                              .msg_controllen = CMSG_LEN(sizeof(int)) };
    ssize_t length = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int passed;

    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    passed = length >= 0 ? passed_descriptor(&message) : -1;
    if (length < (ssize_t) sizeof(type)) { /* the end, or no frame */
        if (passed >= 0)
            close(passed);
        return -1;
    }
    channel->handler->received(channel->context, type, payload, (size_t) length - sizeof(type),
                               passed);
    return (int) length;
}

/* One frame a call: the handler may do anything, and the demultiplexer tells of the rest. */
static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct channel *channel = context;

    (void) fd;
    (void) what;
    if (receive(channel) >= 0)
        return;
    event_del(channel->readable);
    event_del(channel->writable);
    channel->has_ended = true;
    channel->handler->ended(channel->context);
}

/* As many bytes as there are at first: who goes on sending is not to hold us. */
void channel_receive_waiting(struct channel *channel)
{
    int left = 0, length = 1;

    (void) ioctl(channel->fd, FIONREAD, &left);
    for (; left > 0 && length > 0; left -= length)
        length = receive(channel);
}

void channel_receive_rest(struct channel *channel)
{
    shutdown(channel->fd, SHUT_RD); /* who is not gone, and goes on sending, is not to hold us */
    while (receive(channel) > 0)
        continue;
}

struct channel *channel_new(struct event_base *base, int fd,
                            const struct channel_handler *handler, void *context)
{
    struct channel *channel = calloc(1, sizeof(*channel));

    if (channel == NULL)
        return NULL;
    channel->fd = -1;
    channel->handler = handler;
    channel->context = context;
    STAILQ_INIT(&channel->waiting);
    channel->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, channel);
    channel->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, channel);
    if (channel->readable == NULL || channel->writable == NULL ||
        event_add(channel->readable, NULL) != 0) {
        channel_free(channel);
        return NULL;
    }
    channel->fd = fd;
    return channel;
}

void channel_free(struct channel *channel)
{
    if (channel == NULL)
        return;
    while (!STAILQ_EMPTY(&channel->waiting))
        drop_first(channel);
    reactor_free_event(channel->readable);
    reactor_free_event(channel->writable);
    if (channel->fd >= 0)
        close(channel->fd);
    free(channel);
}
