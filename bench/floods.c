/* Hostile clients, from a few sources, for so many seconds; one line of JSON tells what they did:
 *
 *   connect  opens connections and closes them at once
 *   reset    opens them, sends, and resets them before an answer can come
 *   hold     keeps as many as it gets, and tries again for those that it does not
 *   byte     the same, and sends one byte at a time on them, by turns
 *   deaf     the same, and sends all that it gets rid of, and never reads
 *   udp      datagrams from one source
 *   forged   datagrams, each from a source of its own that does not exist (needs CAP_NET_RAW)
 *
 * RATE is what they try a second; 0: as many as they can. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FIRST_SOURCE 0x7f000101u /* 127.0.1.1; and the next ones */
#define FORGED_SOURCE 0x7f100000u /* and a million more */
#define FORGED_MASK 0xfffffu
#define PAYLOAD 64
#define TICK_US 500 /* how long it rests when it is ahead of its rate */

static struct {
    double seconds, rate;
    unsigned sources, count; /* COUNT connections are held */
    struct sockaddr_in server;
} options = { .seconds = 2, .sources = 4, .count = 1000 };

static char payload[65536];
static unsigned long tried, made, unanswered, refused;
static int *held; /* descriptors; -1: none there */

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* A socket of the next source. */
static int open_socket(int type)
{
    const struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(FIRST_SOURCE + (uint32_t) (tried % options.sources)) };
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1;

    if (fd < 0)
        die("socket");
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *) &source, sizeof(source)) < 0)
        die("bind");
    return fd;
}

/* On loopback a handshake is over when connect(2) returns, unless the server's queue is full. */
static void count_outcome(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLOUT };
    socklen_t length = sizeof(int);
    int error = 0;

    if (poll(&ready, 1, 0) == 0) {
        unanswered++;
        return;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == ECONNREFUSED)
        refused++;
    else
        made++;
}

static int open_connection(void)
{
    int fd = open_socket(SOCK_STREAM), least = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &least, sizeof(least));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least));
    if (connect(fd, (const struct sockaddr *) &options.server, sizeof(options.server)) < 0 &&
        errno != EINPROGRESS && errno != EADDRNOTAVAIL)
        die("connect");
    count_outcome(fd);
    return fd;
}

static void connect_and_close(void)
{
    close(open_connection());
}

static void send_and_reset(void)
{
    const struct linger at_once = { .l_onoff = 1 };
    int fd = open_connection();

    (void) send(fd, payload, PAYLOAD, MSG_NOSIGNAL);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(fd);
}

/* The next of those that are held, which is there if the server did not end it. */
static int hold_next(void)
{
    int *fd = &held[tried % options.count];
    char end;

    if (*fd >= 0) {
        ssize_t got = recv(*fd, &end, 1, MSG_PEEK);

        if (got > 0 || (got < 0 && errno == EAGAIN))
            return *fd;
        close(*fd);
    }
    return *fd = open_connection();
}

static void hold(void)
{
    hold_next();
}

static void send_byte(void)
{
    char answers[256];
    int fd = hold_next();

    (void) send(fd, payload, 1, MSG_NOSIGNAL);
    (void) recv(fd, answers, sizeof(answers), 0);
}

static void send_much(void)
{
    (void) send(hold_next(), payload, sizeof(payload), MSG_NOSIGNAL);
}

static void send_datagram(void)
{
    static int fd = -1;

    if (fd < 0) {
        fd = open_socket(SOCK_DGRAM);
        if (connect(fd, (const struct sockaddr *) &options.server, sizeof(options.server)) < 0)
            die("connect");
    }
    if (send(fd, payload, PAYLOAD, 0) == PAYLOAD)
        made++;
}

static void send_forged(void)
{
    static int fd = -1;
    struct {
        struct iphdr ip;
        struct udphdr udp;
        char data[PAYLOAD];
    } packet = { .ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
                         .saddr = htonl(FORGED_SOURCE + (uint32_t) (tried & FORGED_MASK)),
                         .daddr = options.server.sin_addr.s_addr },
                 .udp = { .source = htons((uint16_t) (10000 + tried % 50000)),
                          .dest = options.server.sin_port,
                          .len = htons(sizeof(struct udphdr) + PAYLOAD) } };

    if (fd < 0)
        fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (fd < 0)
        die("raw socket");
    if (sendto(fd, &packet, sizeof(packet), 0, (const struct sockaddr *) &options.server,
               sizeof(options.server)) > 0)
        made++;
}

static const struct attack {
    const char *name;
    void (*once)(void);
} attacks[] = {
    { "connect", connect_and_close }, { "reset", send_and_reset }, { "hold", hold },
    { "byte", send_byte },            { "deaf", send_much },       { "udp", send_datagram },
    { "forged", send_forged },
};

static double run(const struct attack *attack)
{
    double began = now(), passed = 0;

    for (; passed < options.seconds; passed = now() - began) {
        if (options.rate > 0 && (double) tried >= passed * options.rate) {
            usleep(TICK_US);
            continue;
        }
        attack->once();
        tried++;
    }
    return passed;
}

/* Those that the server has not ended. */
static unsigned count_held(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < options.count; i++) {
        struct pollfd ready = { .fd = held[i], .events = POLLOUT | POLLRDHUP };

        if (held[i] >= 0 && poll(&ready, 1, 0) >= 0 &&
            (ready.revents & (POLLHUP | POLLERR | POLLRDHUP)) == 0)
            count++;
    }
    return count;
}

static void usage(void)
{
    fputs("usage: floods [-d SECONDS] [-r RATE] [-s SOURCES] [-n HELD] "
          "connect|reset|hold|byte|deaf|udp|forged ADDRESS PORT\n", stderr);
    exit(2);
}

static const struct attack *parse(int argc, char **argv)
{
    int letter;

    while ((letter = getopt(argc, argv, "d:r:s:n:")) >= 0)
        switch (letter) {
        case 'd':
            options.seconds = atof(optarg);
            break;
        case 'r':
            options.rate = atof(optarg);
            break;
        case 's':
            options.sources = (unsigned) atoi(optarg);
            break;
        case 'n':
            options.count = (unsigned) atoi(optarg);
            break;
        default:
            usage();
        }
    options.server.sin_family = AF_INET;
    if (argc - optind != 3 || options.sources < 1 || options.count < 1 ||
        inet_pton(AF_INET, argv[optind + 1], &options.server.sin_addr) != 1)
        usage();
    options.server.sin_port = htons((uint16_t) atoi(argv[optind + 2]));
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++)
        if (strcmp(argv[optind], attacks[i].name) == 0)
            return &attacks[i];
    usage();
    return NULL;
}

int main(int argc, char **argv)
{
    const struct attack *attack = parse(argc, argv);
    double seconds;

    held = malloc(options.count * sizeof(*held));
    if (held == NULL)
        die("malloc");
    memset(held, -1, options.count * sizeof(*held));
    seconds = run(attack);
    printf("{\"tried\": %lu, \"made\": %lu, \"unanswered\": %lu, \"refused\": %lu, "
           "\"held\": %u, \"seconds\": %.3f, \"rate\": %.1f}\n",
           tried, made, unanswered, refused, count_held(), seconds, (double) made / seconds);
    return 0;
}
