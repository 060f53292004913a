/*
 * Frames: the input says who sends what. A channel, against a model; the crew and the hub of the
 * chat, in the supervisor, as a worker could send them that was taken over; and a room, which hears
 * of others by way of the hub. (A worker believes what its own channel brings: the supervisor could
 * do anything to it.) Nothing stays open, and what others hear is a line or a name.
 */
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/channel.h"
#include "src/chat_frames.h"
#include "src/chat_hub.h"
#include "src/chat_room.h"
#include "src/chatline.h"
#include "src/crew.h"
#include "src/log.h"
#include "src/reactor.h"

enum { WORKERS = 2, FDS_MOST = 3, PACKET_MOST = CHANNEL_PAYLOAD_MAX + 256 };

/* What the input has left. */
static struct {
    const uint8_t *data;
    size_t size;
} input;

/* One to be sent. */
static struct {
    unsigned char data[PACKET_MOST];
    size_t length, fds;
} packet;

static struct event_base *base;
static struct stats *stats;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static unsigned next_byte(void)
{
    if (input.size == 0)
        return 0;
    input.size--;
    return *input.data++;
}

/* How many descriptors are open, as far as it matters: the lowest that is free. */
static int lowest_free(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    close(fd);
    return fd;
}

/*
 * A byte says how many descriptors come along and what it is: a frame, whose type is the next byte;
 * a long one; one as the chat's questions are; or anything.
 */
static void make_packet(void)
{
    unsigned how = next_byte();
    uint32_t type = how % 4 == 3 ? 0 : next_byte() % 16;
    size_t head = how % 4 == 3 ? 0 : sizeof(type), length = next_byte();

    if (how % 4 == 1)
        length *= 65;
    if (how % 4 == 2)
        length = sizeof(struct chat_question);
    memset(packet.data, 'x', sizeof(packet.data));
    memcpy(packet.data, &type, head);
    for (size_t i = 0; i < length && input.size > 0 && i < 256; i++)
        packet.data[head + i] = (unsigned char) next_byte();
    if (how % 4 == 2) /* a member that may be there */
        memset(packet.data + head + 1, 0, 3);
    packet.length = head + length;
    packet.fds = how / 4 % (FDS_MOST + 1);
}

static bool send_packet(int fd)
{
    int passed[FDS_MOST] = { 1, 1, 1 };
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(passed))] = { 0 };
    struct cmsghdr *header = (struct cmsghdr *) (void *) control;
    struct iovec part = { packet.data, packet.length };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

    if (packet.fds > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(packet.fds * sizeof(int));
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(packet.fds * sizeof(int));
        memcpy(CMSG_DATA(header), passed, packet.fds * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static void turn(void)
{
    for (int i = 0; i < 4; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

/* A channel: each packet that is one is a frame as it was sent; the first that is none, the end. */

static unsigned frames, ends;

static void on_model_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    size_t sent = packet.length - sizeof(type);

    (void) context;
    frames++;
    check(memcmp(packet.data, &type, sizeof(type)) == 0);
    check(length == (sent < CHANNEL_PAYLOAD_MAX ? sent : CHANNEL_PAYLOAD_MAX));
    check(memcmp(packet.data + sizeof(type), payload, length) == 0);
    check((fd >= 0) == (packet.fds > 0));
    if (fd >= 0)
        close(fd);
}

static void on_model_end(void *context)
{
    (void) context;
    ends++;
}

static void try_channel(void)
{
    static const struct channel_handler handler = { on_model_frame, on_model_end, NULL };
    struct channel *channel;
    unsigned wanted = 0;
    int fds[2];

    frames = ends = 0;
    check(channel_pair(fds));
    channel = channel_new(base, fds[0], &handler, NULL);
    check(channel != NULL);
    while (input.size > 0 && ends == 0) {
        make_packet();
        if (send_packet(fds[1]))
            wanted += packet.length >= sizeof(uint32_t);
        turn();
        check(frames == wanted && (ends > 0) == (packet.length < sizeof(uint32_t)));
    }
    channel_free(channel);
    close(fds[1]);
}

/* The hub: the rooms of two workers are ours. */

static void on_told(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct chat_answer answer;

    (void) context;
    check(fd < 0 && (type == CHAT_HEAR || type == CHAT_ANSWER));
    if (type == CHAT_HEAR) {
        check(length > 0);
        return;
    }
    check(length >= sizeof(answer));
    memcpy(&answer, payload, sizeof(answer));
    check(answer.name[CHAT_NAME_MOST] == '\0');
    check(answer.name[0] == '\0' || chatline_is_name(answer.name, strlen(answer.name)));
}

static void on_room_end(void *context)
{
    (void) context;
}

static const struct channel_handler room_handler = { on_told, on_room_end, NULL };

static struct {
    struct channel *channel;
    int fd; /* the channel's */
} rooms[WORKERS];

static void open_room(void *hub, unsigned worker)
{
    int fds[2];

    check(channel_pair(fds) && chat_hub.join(hub, worker, fds[0]));
    rooms[worker].fd = fds[1];
    rooms[worker].channel = channel_new(base, fds[1], &room_handler, NULL);
    check(rooms[worker].channel != NULL);
}

static void try_hub(void)
{
    const struct options options = { .workers = WORKERS };
    void *hub = chat_hub.start(base, &options, stats);

    check(hub != NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        open_room(hub, i);
    while (input.size > 0) {
        unsigned worker = next_byte() % (WORKERS + 1);

        if (worker == WORKERS) { /* one dies, and is replaced */
            worker = next_byte() % WORKERS;
            channel_free(rooms[worker].channel);
            chat_hub.leave(hub, worker);
            open_room(hub, worker);
        }
        make_packet();
        send_packet(rooms[worker].fd);
        turn();
    }
    chat_hub.stop(hub);
    for (unsigned i = 0; i < WORKERS; i++)
        channel_free(rooms[i].channel);
}

/* A room, in which nobody is. */

static void on_go_on(void *context)
{
    (void) context;
    check(false);
}

static void try_room(void)
{
    struct room *room;
    int fds[2];

    check(channel_pair(fds));
    room = room_new(base, fds[0], false, on_go_on);
    check(room != NULL);
    while (input.size > 0) {
        make_packet();
        send_packet(fds[1]);
        turn();
    }
    room_free(room);
    close(fds[1]);
}

/* The crew: its workers are ours, too. */

static struct {
    const struct spawned *spawned;
    int fd; /* its end of the channel */
    bool is_struck;
} workers[WORKERS];
static struct event *beat; /* the heartbeat's timer, the first that is started */

bool __wrap_spawn_start(struct spawned *spawned, enum spawn_model model,
                        spawn_function *function, void *argument, int fd);
bool __wrap_spawn_strike(const struct spawned *spawned);
bool __wrap_spawn_has_ended(struct spawned *spawned, char *cause, size_t size, bool *has_failed);
void __real_reactor_start_timer(struct event *timer, int64_t ms);
void __wrap_reactor_start_timer(struct event *timer, int64_t ms);

void __wrap_reactor_start_timer(struct event *timer, int64_t ms)
{
    if (beat == NULL)
        beat = timer;
    __real_reactor_start_timer(timer, ms);
}

static unsigned worker_of(const struct spawned *spawned)
{
    unsigned worker = 0;

    while (workers[worker].spawned != NULL && workers[worker].spawned != spawned)
        worker++;
    check(worker < WORKERS);
    return worker;
}

bool __wrap_spawn_start(struct spawned *spawned, enum spawn_model model,
                        spawn_function *function, void *argument, int fd)
{
    unsigned worker = worker_of(spawned);

    (void) function;
    (void) argument;
    if (workers[worker].spawned != NULL)
        close(workers[worker].fd);
    *spawned = (struct spawned){ .model = model, .running = true, .pid = -1 };
    workers[worker].spawned = spawned;
    workers[worker].fd = fd;
    workers[worker].is_struck = false;
    return true;
}

bool __wrap_spawn_strike(const struct spawned *spawned)
{
    workers[worker_of(spawned)].is_struck = true;
    return true;
}

bool __wrap_spawn_has_ended(struct spawned *spawned, char *cause, size_t size, bool *has_failed)
{
    unsigned worker = worker_of(spawned);

    if (!spawned->running || !workers[worker].is_struck)
        return false;
    snprintf(cause, size, "struck");
    *has_failed = true;
    spawned->running = false;
    return true;
}

static unsigned ready;

static void on_ready(void *context)
{
    (void) context;
    ready++;
}

static void on_event(void *context)
{
    (void) context;
}

static void on_paused(void *context, enum pause_reason reason)
{
    (void) context;
    (void) reason;
}

static void try_crew(void)
{
    const struct crew_events events = { on_ready, on_event, on_event, on_paused, on_event, NULL };
    const struct options options = { .workers = WORKERS };
    struct access_config access = { .fd = 1 };
    struct tls_config tls = { .fd = 1 };
    struct sockets sockets = { .workers = WORKERS };
    struct worker_setup setup = { .options = &options, .sockets = &sockets, .stats = stats };
    struct crew *crew;

    memset(workers, 0, sizeof(workers));
    beat = NULL;
    ready = 0;
    setup.limits = limits_new(WORKERS, 1);
    setup.tls = next_byte() % 2 == 0 ? NULL : &tls;
    setup.access = next_byte() % 2 == 0 ? NULL : &access;
    crew = crew_new(base, &setup, &events);
    check(setup.limits != NULL && crew != NULL && crew_start(crew));
    while (input.size > 0) {
        unsigned worker = next_byte();

        make_packet();
        send_packet(workers[worker % WORKERS].fd);
        if (worker % 16 == 14)
            event_active(beat, EV_TIMEOUT, 0);
        turn();
        if (worker % 16 == 13) /* as SIGCHLD would */
            crew_reap(crew);
        if (worker % 16 == 15)
            crew_share(crew, next_byte());
    }
    check(ready <= 1);
    crew_free(crew);
    for (unsigned i = 0; i < WORKERS; i++)
        close(workers[i].fd);
    limits_free(setup.limits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(void) = { try_channel, try_hub, try_room, try_crew };
    int before;

    if (base == NULL) {
        log_start("fuzz_channel");
        log_open(LOG_ERR, false);
        base = reactor_new(NULL);
        stats = stats_new(WORKERS, 1);
    }
    input.data = data;
    input.size = size;
    before = lowest_free();
    tries[next_byte() % 4]();
    event_base_loop(base, EVLOOP_NONBLOCK); /* libevent frees later */
    check(lowest_free() == before);
    return 0;
}
