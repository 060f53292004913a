/* The yardstick for UDP: what the kernel alone allows. One thread, level-triggered epoll; a batch
 * is received, turned round so that it goes back from the address that was dialled, and sent.
 * Usage: raw_udp PORT */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BATCH 32
#define ROOM 65536
#define BUFFER (1 << 20)

static struct mmsghdr messages[BATCH];
static struct iovec pieces[BATCH];
static struct sockaddr_in peers[BATCH];
static _Alignas(struct cmsghdr) char control[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];
static char data[BATCH][ROOM];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_at(int port)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons((uint16_t) port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1, buffer = BUFFER;

    if (fd < 0 || setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0 ||
        bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
        die("bind");
    return fd;
}

static void clear(int count)
{
    for (int i = 0; i < count; i++) {
        pieces[i] = (struct iovec){ data[i], ROOM };
        messages[i].msg_hdr = (struct msghdr){ .msg_name = &peers[i],
                                               .msg_namelen = sizeof(peers[i]),
                                               .msg_iov = &pieces[i],
                                               .msg_iovlen = 1,
                                               .msg_control = control[i],
                                               .msg_controllen = sizeof(control[i]) };
    }
}

static void echo(int fd)
{
    int count = recvmmsg(fd, messages, BATCH, 0, NULL);

    for (int i = 0; i < count; i++) {
        struct in_pktinfo *info = (struct in_pktinfo *) CMSG_DATA((struct cmsghdr *) control[i]);

        info->ipi_ifindex = 0;
        pieces[i].iov_len = messages[i].msg_len;
    }
    for (int sent = 0, now; sent < count; sent += now) {
        now = sendmmsg(fd, messages + sent, (unsigned) (count - sent), 0);
        if (now <= 0)
            now = 1; /* which is lost */
    }
    clear(count > 0 ? count : 0);
}

int main(int argc, char **argv)
{
    struct epoll_event event = { .events = EPOLLIN };
    int fd = open_at(argc > 1 ? atoi(argv[1]) : 7777), queue = epoll_create1(0);

    clear(BATCH);
    if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
    for (;;)
        if (epoll_wait(queue, &event, 1, -1) == 1)
            echo(fd);
}
