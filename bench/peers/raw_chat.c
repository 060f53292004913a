/* The yardstick for the chat: what the kernel alone allows. One thread, level-triggered epoll; what
 * was said in one round of it goes to each member in one piece, by a call that waits until there is
 * room. Nothing can be asked, and names are given. Usage: raw_chat PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 64
#define MEMBERS 4096 /* descriptors, which they are counted by */
#define LONGEST 4096
#define INPUT 65536
#define PREFIX 20 /* a name and what follows it */
#define OUTPUT (EVENTS * INPUT * PREFIX) /* as if all sent empty lines; memory only once touched */

struct member {
    bool here;
    char name[PREFIX];
    size_t rest_length;
    char rest[LONGEST]; /* of a line that is not all here yet */
};

/* What one author said in this round. */
struct piece {
    int author;
    size_t begin, end;
};

static struct member members[MEMBERS];
static struct piece pieces[EVENTS];
static char input[LONGEST + INPUT], output[OUTPUT];
static size_t output_length;
static int queue, piece_count, guests, member_count, highest;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_on(int port)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons((uint16_t) port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    /* Linux has accepted sockets inherit TCP_NODELAY. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        die("listen");
    return fd;
}

static void watch(int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static void add(const char *text, size_t length)
{
    memcpy(output + output_length, text, length);
    output_length += length;
}

static void notice(const struct member *member, const char *what)
{
    add("* ", 2);
    add(member->name, strlen(member->name));
    add(what, strlen(what));
}

static void join(int fd)
{
    struct member *member = &members[fd];
    char greeting[80];
    int length;

    *member = (struct member){ .here = true };
    member_count++;
    highest = fd > highest ? fd : highest;
    snprintf(member->name, sizeof(member->name), "guest%d", ++guests);
    length = snprintf(greeting, sizeof(greeting), "* you are %s, %d here\n", member->name,
                      member_count);
    (void) send(fd, greeting, (size_t) length, MSG_NOSIGNAL);
    notice(member, " joined\n");
    watch(fd);
}

static void leave(int fd)
{
    members[fd].here = false;
    member_count--;
    notice(&members[fd], " left\n");
    close(fd);
}

static void hear(int fd)
{
    struct member *member = &members[fd];
    char *line = input, *newline, *end;
    ssize_t got;

    memcpy(input, member->rest, member->rest_length);
    got = recv(fd, input + member->rest_length, INPUT, 0);
    end = input + member->rest_length + (got > 0 ? got : 0);
    for (; (newline = memchr(line, '\n', (size_t) (end - line))) != NULL; line = newline + 1) {
        add(member->name, strlen(member->name));
        add(": ", 2);
        add(line, (size_t) (newline + 1 - line));
    }
    member->rest_length = (size_t) (end - line);
    if (got <= 0 || member->rest_length > LONGEST)
        leave(fd);
    else
        memcpy(member->rest, line, member->rest_length);
}

/* All that others said, in one piece unless it said something itself. */
static void tell(int fd)
{
    struct iovec spans[EVENTS];
    struct msghdr message = { .msg_iov = spans };
    size_t end = 0;

    for (int i = 0; i < piece_count; i++) {
        size_t length = pieces[i].end - pieces[i].begin;

        if (pieces[i].author == fd || length == 0)
            continue;
        if (message.msg_iovlen > 0 && end == pieces[i].begin)
            spans[message.msg_iovlen - 1].iov_len += length;
        else
            spans[message.msg_iovlen++] = (struct iovec){ output + pieces[i].begin, length };
        end = pieces[i].end;
    }
    if (message.msg_iovlen > 0)
        (void) sendmsg(fd, &message, MSG_NOSIGNAL);
}

static void serve(int listener, int fd)
{
    size_t begin = output_length;

    if (fd != listener) {
        hear(fd);
    } else {
        fd = accept(listener, NULL, NULL);
        if (fd < 0 || fd >= MEMBERS)
            die("accept");
        join(fd);
    }
    pieces[piece_count++] = (struct piece){ fd, begin, output_length };
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 7777);

    queue = epoll_create1(0);
    watch(listener);
    for (;;) {
        int count = epoll_wait(queue, events, EVENTS, -1);

        piece_count = 0;
        output_length = 0;
        for (int i = 0; i < count; i++)
            serve(listener, events[i].data.fd);
        for (int fd = 0; fd <= highest; fd++)
            if (members[fd].here)
                tell(fd);
    }
}
