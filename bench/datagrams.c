/* A load of datagrams, closed loop: so many sockets, so many datagrams in flight on each. What
 * comes back is verified by length, number and fill. What does not come back within a while is
 * counted as lost, and the loop goes on. The kernel cuts datagrams from what is sent in one piece
 * (UDP_SEGMENT), so that this client takes less time than any server. Prints one JSON object.
 * Usage: datagrams [-c SOCKETS] [-p IN_FLIGHT] [-s SIZE] [-d SECONDS] HOST PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define LARGEST 65507
#define PATIENCE_MS 200
#define BUFFER (1 << 20)

struct client {
    int fd;
    uint64_t next;   /* the number of the next datagram */
    int in_flight;
    double heard_at; /* seconds */
};

static struct {
    int clients, in_flight, size;
    double seconds;
} options = { 16, 16, 64, 1.0 };

static struct client *clients;
static struct mmsghdr incoming[BATCH];
static char out[BATCH][LARGEST + 1], in[BATCH][LARGEST + 1];
static struct iovec out_pieces[BATCH], in_pieces[BATCH];
static uint64_t received, lost, corrupt;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void prepare(void)
{
    for (int i = 0; i < BATCH; i++) {
        memset(out[i], 'x', LARGEST);
        out_pieces[i] = (struct iovec){ out[i], (size_t) options.size };
        in_pieces[i] = (struct iovec){ in[i], sizeof(in[i]) };
        incoming[i].msg_hdr = (struct msghdr){ .msg_iov = &in_pieces[i], .msg_iovlen = 1 };
    }
}

/* Sends COUNT more; those that the kernel does not take are lost. */
static void send_more(struct client *client, int count)
{
    int most = options.size > LARGEST / BATCH ? LARGEST / options.size : BATCH;

    while (count > 0) {
        int batch = count < most ? count : most;
        struct msghdr message = { .msg_iov = out_pieces, .msg_iovlen = (size_t) batch };

        for (int i = 0; i < batch && options.size >= 8; i++) {
            uint64_t number = client->next + (uint64_t) i;

            memcpy(out[i], &number, sizeof(number));
        }
        if (sendmsg(client->fd, &message, 0) < 0) {
            lost += (uint64_t) batch;
            return;
        }
        client->next += (uint64_t) batch;
        client->in_flight += batch;
        count -= batch;
    }
}

static bool is_exact(const struct client *client, int i)
{
    uint64_t number;

    if (incoming[i].msg_len != (unsigned) options.size)
        return false;
    if (options.size < 8)
        return memcmp(in[i], out[i], (size_t) options.size) == 0;
    memcpy(&number, in[i], sizeof(number));
    return number < client->next &&
           memcmp(in[i] + 8, out[0] + 8, (size_t) options.size - 8) == 0;
}

static void receive(struct client *client, double time)
{
    int count = recvmmsg(client->fd, incoming, BATCH, MSG_DONTWAIT, NULL);

    for (int i = 0; i < count; i++)
        if (is_exact(client, i))
            received++;
        else
            corrupt++;
    if (count <= 0)
        return;
    client->heard_at = time;
    client->in_flight -= count;
    send_more(client, options.in_flight - client->in_flight);
}

/* One that has waited in vain begins anew. */
static void give_up(double time)
{
    for (int i = 0; i < options.clients; i++)
        if (time - clients[i].heard_at > PATIENCE_MS / 1e3) {
            lost += (uint64_t) clients[i].in_flight;
            clients[i].in_flight = 0;
            clients[i].heard_at = time;
            send_more(&clients[i], options.in_flight);
        }
}

static void open_clients(int queue, const struct sockaddr_in *address)
{
    clients = calloc((size_t) options.clients, sizeof(*clients));
    if (clients == NULL)
        die("calloc");
    for (int i = 0; i < options.clients; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &clients[i] };
        const int buffer = BUFFER, size = options.size;

        clients[i].fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (clients[i].fd < 0 ||
            setsockopt(clients[i].fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)) < 0 ||
            setsockopt(clients[i].fd, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)) < 0 ||
            connect(clients[i].fd, (const struct sockaddr *) address, sizeof(*address)) < 0 ||
            epoll_ctl(queue, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
            die("socket");
    }
}

static double run(int queue)
{
    struct epoll_event events[BATCH];
    double began = now(), time = began, looked_at = began;

    for (int i = 0; i < options.clients; i++) {
        clients[i].heard_at = began;
        send_more(&clients[i], options.in_flight);
    }
    while ((time = now()) - began < options.seconds) {
        int count = epoll_wait(queue, events, BATCH, PATIENCE_MS);

        for (int i = 0; i < count; i++)
            receive(events[i].data.ptr, time);
        if (time - looked_at > PATIENCE_MS / 1e3) {
            give_up(time);
            looked_at = time;
        }
    }
    return time - began;
}

static void parse(int argc, char **argv, struct sockaddr_in *address)
{
    int letter;

    while ((letter = getopt(argc, argv, "c:p:s:d:")) >= 0)
        switch (letter) {
        case 'c':
            options.clients = atoi(optarg);
            break;
        case 'p':
            options.in_flight = atoi(optarg);
            break;
        case 's':
            options.size = atoi(optarg);
            break;
        case 'd':
            options.seconds = atof(optarg);
            break;
        default:
            exit(2);
        }
    *address = (struct sockaddr_in){ .sin_family = AF_INET };
    if (argc - optind != 2 || inet_pton(AF_INET, argv[optind], &address->sin_addr) != 1 ||
        options.clients < 1 || options.in_flight < 1 || options.size < 1 ||
        options.size > LARGEST) {
        fprintf(stderr, "usage: datagrams [-c SOCKETS] [-p IN_FLIGHT] [-s SIZE] [-d SECONDS] "
                        "HOST PORT\n");
        exit(2);
    }
    address->sin_port = htons((uint16_t) atoi(argv[optind + 1]));
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    int queue = epoll_create1(0);
    double seconds;

    parse(argc, argv, &address);
    prepare();
    open_clients(queue, &address);
    seconds = run(queue);
    printf("{\"messages\":%llu,\"seconds\":%.6f,\"rate\":%.1f,\"lost\":%llu,\"corrupt\":%llu}\n",
           (unsigned long long) received, seconds, (double) received / seconds,
           (unsigned long long) lost, (unsigned long long) corrupt);
    return 0;
}
