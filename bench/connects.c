/* Opens connections to an echo server; on each, one message goes out and must come back exact. Each
 * is then closed (how many a second?), or with -k kept (what does an idle one cost?).
 *
 * A ring of connections is under way at a time: the oldest is waited for while the server works on
 * the others, so plain blocking calls do. When all are open, one line of JSON is printed. With -k
 * it then reads commands: a line means "another message on each, please", the end the end. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_WORDS 8 /* of 8 bytes: 64 bytes, as in the columns of small messages */
#define RING 64         /* connections under way, unless -r says otherwise */
#define PATIENCE_S 10   /* a server that takes longer is counted as failed */

struct options {
    long count, ring;
    bool keep;
    struct in_addr source; /* the address to come from; 0.0.0.0: as the kernel chooses */
    struct sockaddr_in server;
};

struct tally {
    long verified, failed;
    double seconds;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void set_options(int fd)
{
    const struct timeval patience = { .tv_sec = PATIENCE_S };
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

/* The port is left to connect(), which may take one that is in use towards other servers. */
static bool bind_source(int fd, struct in_addr address)
{
    const struct sockaddr_in source = { .sin_family = AF_INET, .sin_addr = address };
    int on = 1;

    return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) == 0 &&
           bind(fd, (const struct sockaddr *) &source, sizeof(source)) == 0;
}

/* Returns a descriptor, or -1. */
static int open_connection(const struct options *options)
{
    const struct sockaddr *server = (const struct sockaddr *) &options->server;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        return -1;
    set_options(fd);
    if (bind_source(fd, options->source) && connect(fd, server, sizeof(options->server)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* What only this connection of this process sends, in this round. */
static void compose(uint64_t *message, long number, long round)
{
    for (int i = 0; i < MESSAGE_WORDS; i++)
        message[i] = ((uint64_t) getpid() << 40 ^ (uint64_t) number << 8 ^ (uint64_t) round) *
                     (uint64_t) (2 * i + 1);
}

/* A failure shows when no echo comes. */
static void send_message(int fd, long number, long round)
{
    uint64_t message[MESSAGE_WORDS];

    compose(message, number, round);
    (void) send(fd, message, sizeof(message), MSG_NOSIGNAL);
}

static bool is_echoed(int fd, long number, long round)
{
    uint64_t expected[MESSAGE_WORDS], got[MESSAGE_WORDS];

    compose(expected, number, round);
    return recv(fd, got, sizeof(got), MSG_WAITALL) == (ssize_t) sizeof(got) &&
           memcmp(got, expected, sizeof(got)) == 0;
}

/* After a first failure nothing more is waited for: the server has had its time. */
static void finish(const struct options *options, int fd, long number, long round,
                   struct tally *tally)
{
    if (fd >= 0 && tally->failed == 0 && is_echoed(fd, number, round))
        tally->verified++;
    else
        tally->failed++;
    if (!options->keep && fd >= 0)
        close(fd);
}

/* One message on every connection; the first round opens them, and closes them unless kept. */
static struct tally go_round(const struct options *options, int *fds, long round)
{
    struct tally tally = { 0 };
    double began = now();

    for (long i = 0; i < options->count + options->ring; i++) {
        long oldest = i - options->ring;

        if (oldest >= 0)
            finish(options, fds[oldest], oldest, round, &tally);
        if (i < options->count) {
            if (round == 0)
                fds[i] = tally.failed == 0 ? open_connection(options) : -1;
            if (fds[i] >= 0)
                send_message(fds[i], i, round);
        }
    }
    tally.seconds = now() - began;
    return tally;
}

static void report(struct tally tally)
{
    printf("{\"verified\": %ld, \"failed\": %ld, \"seconds\": %.3f, \"rate\": %.1f}\n",
           tally.verified, tally.failed, tally.seconds, (double) tally.verified / tally.seconds);
    fflush(stdout);
}

static void usage(void)
{
    fputs("usage: connects [-k] [-n COUNT] [-r UNDER-WAY] [-b SOURCE-ADDRESS] ADDRESS PORT\n",
          stderr);
    exit(2);
}

static struct options parse(int argc, char **argv)
{
    struct options options = { .count = 1000, .ring = RING, .server.sin_family = AF_INET };
    int option;

    while ((option = getopt(argc, argv, "kn:r:b:")) != -1) {
        if (option == 'k')
            options.keep = true;
        else if (option == 'n')
            options.count = atol(optarg);
        else if (option == 'r')
            options.ring = atol(optarg);
        else if (option != 'b' || inet_aton(optarg, &options.source) == 0)
            usage();
    }
    if (argc - optind != 2 || options.count < 1 || options.ring < 1 ||
        inet_aton(argv[optind], &options.server.sin_addr) == 0)
        usage();
    options.server.sin_port = htons((uint16_t) atoi(argv[optind + 1]));
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    int *fds = calloc((size_t) options.count, sizeof(*fds));
    long round = 0;

    if (fds == NULL) {
        perror("connects");
        return 1;
    }
    do
        report(go_round(&options, fds, round++));
    while (options.keep && getchar() != EOF);
    free(fds);
    return 0;
}
