/*
 * A connection, against a model that is exact to the byte: the input says what a client does, step
 * by step, and when the reactor has its turn.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/access.h"
#include "src/clock.h"
#include "src/conn.h"
#include "src/echo.h"
#include "src/log.h"
#include "src/reactor.h"

enum { STEP_SEND, STEP_RECEIVE, STEP_TURN, STEP_SHUT, STEP_DRAIN, STEP_ABORT, STEPS };
enum { PIECE_MOST = 16384, BUFFER = 4096, TURNS_MOST = 100000 };

static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7777\r\n";

static struct conn_set set;
static struct conn_origin origins[2]; /* the second one expects a PROXY header */
static struct access_list everybody;

/* The client, and what it may expect. */
static struct {
    int fd;
    size_t skipped;        /* of what is sent, so much is a PROXY header */
    size_t sent, received; /* in bytes; of what is sent, the header counts too */
    uint64_t read_before;  /* by the daemon, for those who came earlier */
    size_t owed;           /* what it had read when we drained */
    bool shut, drained, aborted, ended;
} client;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void ignore(void *context)
{
    (void) context;
}

static void set_up(void)
{
    struct access_item item;

    if (set.base != NULL)
        return;
    log_start("fuzz_conn");
    signal(SIGPIPE, SIG_IGN);
    set.base = reactor_new(NULL);
    set.stats = stats_new(1, 2);
    TAILQ_INIT(&set.shaking);
    TAILQ_INIT(&set.active);
    TAILQ_INIT(&set.lingering);
    set.closed = set.shakes = set.lingers = ignore;
    check(access_parse(&everybody, "0.0.0.0/0,::/0", 14, &item) == NULL);
    access_compile(&everybody);
    for (unsigned i = 0; i < 2; i++)
        origins[i] = (struct conn_origin){ .service = &echo_service,
                                           .transport = ENDPOINT_UNIX,
                                           .name = "unix://@fuzz",
                                           .stats = stats_block(set.stats, 0, i),
                                           .proxies = i == 1 ? &everybody : NULL };
}

/* The byte at POSITION of what the client sends. */
static char byte_at(size_t position)
{
    if (position < client.skipped)
        return header[position];
    position -= client.skipped;
    return (char) (position ^ position >> 8 ^ position >> 16);
}

static void send_some(size_t most)
{
    static char piece[PIECE_MOST];
    ssize_t sent;

    if (client.shut || client.aborted)
        return;
    for (size_t i = 0; i < most; i++)
        piece[i] = byte_at(client.sent + i);
    sent = send(client.fd, piece, most, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0)
        client.sent += (size_t) sent;
}

static void receive_some(size_t most)
{
    static char piece[PIECE_MOST];
    ssize_t got;

    if (client.aborted || client.ended)
        return;
    got = recv(client.fd, piece, most, MSG_DONTWAIT);
    client.ended = most > 0 && (got == 0 || (got < 0 && errno != EAGAIN));
    for (ssize_t i = 0; i < got; i++)
        check(piece[i] == byte_at(client.skipped + client.received + (size_t) i));
    client.received += got > 0 ? (size_t) got : 0;
    check(client.received <= client.sent);
}

/* What the daemon has read of all. */
static uint64_t bytes_read(void)
{
    return stats_sum_all(set.stats).counter[STATS_received_bytes];
}

/* What was read goes back, and nothing else. */
static void drain(void)
{
    struct conn *conn = TAILQ_FIRST(&set.active);

    if (conn == NULL)
        return;
    if (!client.drained)
        client.owed = (size_t) (bytes_read() - client.read_before);
    client.drained = true;
    conn_finish(conn, CLOSE_DRAIN);
}

static void step(unsigned what, size_t amount)
{

    switch (what) {
    case STEP_SEND:
        send_some(amount * amount / 4);
        break;
    case STEP_RECEIVE:
        receive_some(amount * amount / 4);
        break;
    case STEP_TURN:
        event_base_loop(set.base, EVLOOP_NONBLOCK);
        break;
    case STEP_SHUT:
        client.shut = shutdown(client.fd, SHUT_WR) == 0 || client.shut;
        break;
    case STEP_DRAIN:
        drain();
        break;
    case STEP_ABORT:
        if (!client.aborted)
            close(client.fd);
        client.aborted = true;
        break;
    }
}

/* The client reads to the end: before that every byte has to come back, or all that was read. */
static void finish(void)
{
    if (!client.aborted)
        step(STEP_SHUT, 0);
    for (int turns = 0; !client.ended && !client.aborted; turns++) {
        check(turns < TURNS_MOST);
        event_base_loop(set.base, EVLOOP_NONBLOCK);
        receive_some(PIECE_MOST);
    }
    if (!client.aborted && !client.drained && client.sent >= client.skipped)
        check(client.received == client.sent - client.skipped);
    if (!client.aborted && client.drained)
        check(client.received >= client.owed);
    if (!client.aborted)
        close(client.fd);
    for (int i = 0; i < 3; i++)
        event_base_loop(set.base, EVLOOP_NONBLOCK);
    while (!TAILQ_EMPTY(&set.active))
        conn_cut(TAILQ_FIRST(&set.active), clock_ms());
    while (!TAILQ_EMPTY(&set.lingering))
        conn_cut(TAILQ_FIRST(&set.lingering), clock_ms());
    check(TAILQ_EMPTY(&set.shaking));
    event_base_loop(set.base, EVLOOP_NONBLOCK); /* libevent frees later */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct address peer = { .local = { .family = AF_UNIX }, .length = sizeof(peer.local) };
    const int buffer = BUFFER;
    int fds[2];

    set_up();
    if (size == 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return 0;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
    memset(&client, 0, sizeof(client));
    client.fd = fds[1];
    client.read_before = bytes_read();
    client.skipped = data[0] & 1 ? sizeof(header) - 1 : 0;
    check(conn_new(&set, &origins[data[0] & 1], fds[0], &peer));
    for (size_t i = 1; i + 1 < size; i += 2)
        step(data[i] % STEPS, data[i + 1]);
    finish();
    return 0;
}
