#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/channel.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* One end, and what came: frame number N has type N, and a payload that N decides. */
struct end {
    struct channel *channel;
    uint32_t frames;
    int ended, descriptors, last_fd;
    uint32_t wanted;   /* frames: for has_all */
    bool free_at_once; /* in the callback */
};

static struct event_base *base;

static size_t length_of(uint32_t number)
{
    return number % 3 == 0 ? CHANNEL_PAYLOAD_MAX : number * 7 % 300;
}

static void fill(unsigned char *payload, uint32_t number)
{
    for (size_t i = 0; i < length_of(number); i++)
        payload[i] = (unsigned char) (number + i * 13);
}

static void on_received(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    unsigned char wanted[CHANNEL_PAYLOAD_MAX];
    struct end *end = context;

    ck_assert_uint_eq(type, end->frames);
    ck_assert_uint_eq(length, length_of(type));
    fill(wanted, type);
    ck_assert(memcmp(payload, wanted, length) == 0);
    end->frames++;
    if (fd >= 0) {
        end->descriptors++;
        if (end->last_fd >= 0)
            close(end->last_fd);
        end->last_fd = fd;
    }
    if (end->free_at_once) {
        channel_free(end->channel);
        end->channel = NULL;
    }
}

static void on_ended(void *context)
{
    struct end *end = context;

    end->ended++;
    if (end->free_at_once) {
        channel_free(end->channel);
        end->channel = NULL;
    }
}

static const struct channel_handler handler = { .received = on_received, .ended = on_ended };

static unsigned drained;

static void on_drained(void *context)
{
    (void) context;
    drained++;
}

static const struct channel_handler telling = { on_received, on_ended, on_drained };

/* The first is told when no frame waits any more. */
static void make_channels(struct end *a, struct end *b)
{
    int fds[2];

    base = reactor_new(NULL);
    drained = 0;
    *a = *b = (struct end){ .last_fd = -1 };
    ck_assert(channel_pair(fds));
    a->channel = channel_new(base, fds[0], &telling, a);
    b->channel = channel_new(base, fds[1], &handler, b);
    ck_assert_ptr_nonnull(a->channel);
    ck_assert_ptr_nonnull(b->channel);
}

static void free_channels(struct end *a, struct end *b)
{
    channel_free(a->channel);
    channel_free(b->channel);
    if (a->last_fd >= 0)
        close(a->last_fd);
    if (b->last_fd >= 0)
        close(b->last_fd);
    event_base_free(base);
}

static bool send_number(struct end *from, uint32_t number, int fd)
{
    unsigned char payload[CHANNEL_PAYLOAD_MAX];

    fill(payload, number);
    return channel_send(from->channel, number, payload, length_of(number), fd);
}

static bool has_all(void *context)
{
    struct end *end = context;

    return end->frames >= end->wanted;
}

static bool has_ended(void *context)
{
    return ((struct end *) context)->ended > 0;
}

START_TEST(frames_arrive_whole_and_in_order)
{
    struct end a, b;

    make_channels(&a, &b);
    for (b.wanted = 1; b.wanted <= 20; b.wanted++) {
        ck_assert(send_number(&a, b.wanted - 1, -1));
        ck_assert(!channel_is_busy(a.channel));
        ck_assert(loop_until(base, has_all, &b));
    }
    ck_assert_int_eq(b.descriptors, 0);
    ck_assert(send_number(&b, 0, -1)); /* and back */
    a.wanted = 1;
    ck_assert(loop_until(base, has_all, &a));
    free_channels(&a, &b);
}
END_TEST

START_TEST(a_slow_peer_gets_all_in_order)
{
    struct end a, b;
    int before, fds[2];

    make_channels(&a, &b);
    before = open_descriptors();
    ck_assert_int_eq(pipe(fds), 0);
    b.wanted = 600;
    for (uint32_t i = 0; i < b.wanted; i++)
        ck_assert(send_number(&a, i, i % 10 == 9 ? fds[1] : -1));
    ck_assert(channel_is_busy(a.channel));
    close(fds[1]); /* queued frames hold copies of their own */
    ck_assert(loop_until(base, has_all, &b));
    ck_assert_uint_eq(b.frames, 600);
    ck_assert_int_eq(b.descriptors, 60);
    ck_assert(!channel_is_busy(a.channel));
    send_text(b.last_fd, "through");
    expect_text(fds[0], "through");
    close(fds[0]);
    close(b.last_fd);
    b.last_fd = -1;
    ck_assert_int_eq(open_descriptors(), before);
    free_channels(&a, &b);
}
END_TEST

/* Who does not listen lets frames wait at the sender, which knows how much, and when no more. */
START_TEST(frames_wait_for_who_does_not_listen)
{
    uint64_t taken;
    size_t waiting;
    struct end a, b;

    make_channels(&a, &b);
    channel_listen(b.channel, false);
    ck_assert_uint_eq(channel_waiting(a.channel), 0);
    ck_assert(send_number(&a, 0, -1));
    loop_for(base, 10);
    ck_assert_uint_eq(b.frames, 0);
    for (b.wanted = 1; channel_waiting(a.channel) < 100000; b.wanted++)
        ck_assert(send_number(&a, b.wanted, -1));
    waiting = channel_waiting(a.channel);
    taken = channel_taken(a.channel);
    loop_for(base, 10);
    ck_assert_uint_eq(channel_waiting(a.channel), waiting);
    ck_assert_uint_eq(channel_taken(a.channel), taken);
    ck_assert_uint_eq(drained, 0);
    channel_listen(b.channel, true);
    channel_listen(b.channel, true); /* twice is once */
    event_base_loop(base, EVLOOP_ONCE);
    channel_listen(b.channel, false);
    ck_assert_uint_gt(b.frames, 0); /* one or two, and that shows */
    ck_assert_uint_lt(b.frames, b.wanted);
    ck_assert_uint_ne(channel_taken(a.channel), taken);
    channel_listen(b.channel, true);
    ck_assert(loop_until(base, has_all, &b));
    ck_assert_uint_eq(channel_waiting(a.channel), 0);
    ck_assert_uint_eq(drained, 1);
    free_channels(&a, &b);
}
END_TEST

START_TEST(who_does_not_listen_hears_of_the_end_later_and_once)
{
    struct end a, b;

    make_channels(&a, &b);
    channel_listen(b.channel, false);
    ck_assert(send_number(&a, 0, -1));
    channel_free(a.channel);
    a.channel = NULL;
    loop_for(base, 10);
    ck_assert_int_eq(b.ended, 0);
    channel_listen(b.channel, true);
    ck_assert(loop_until(base, has_ended, &b));
    ck_assert_uint_eq(b.frames, 1);
    channel_listen(b.channel, false);
    channel_listen(b.channel, true);
    loop_for(base, 10);
    ck_assert_int_eq(b.ended, 1);
    free_channels(&a, &b);
}
END_TEST

START_TEST(both_ways_at_once)
{
    struct end a, b;

    make_channels(&a, &b);
    a.wanted = b.wanted = 300;
    for (uint32_t i = 0; i < 300; i++)
        ck_assert(send_number(&a, i, -1) && send_number(&b, i, -1));
    ck_assert(loop_until(base, has_all, &a));
    ck_assert(loop_until(base, has_all, &b));
    free_channels(&a, &b);
}
END_TEST

START_TEST(frames_before_the_end_still_arrive)
{
    struct end a, b;

    make_channels(&a, &b);
    for (uint32_t i = 0; i < 5; i++)
        ck_assert(send_number(&a, i, -1));
    channel_free(a.channel);
    a.channel = NULL;
    ck_assert(loop_until(base, has_ended, &b));
    ck_assert_uint_eq(b.frames, 5);
    loop_for(base, 20);
    ck_assert_int_eq(b.ended, 1); /* told once */
    ck_assert(!send_number(&b, 0, -1));
    free_channels(&a, &b);
}
END_TEST

START_TEST(the_end_of_a_peer_that_was_slow)
{
    struct end a, b;
    int before;

    make_channels(&a, &b);
    before = open_descriptors();
    for (uint32_t i = 0; i < 300; i++)
        ck_assert(send_number(&a, i, STDERR_FILENO));
    ck_assert(channel_is_busy(a.channel));
    channel_free(b.channel);
    b.channel = NULL;
    ck_assert(loop_until(base, has_ended, &a));
    free_channels(&a, &b);
    /* What was queued is released, its descriptors too; both ends and the base are gone. */
    ck_assert_int_lt(open_descriptors(), before);
}
END_TEST

START_TEST(the_handler_may_free_it)
{
    struct end a, b;

    make_channels(&a, &b);
    b.free_at_once = true;
    b.wanted = 1;
    for (uint32_t i = 0; i < 5; i++)
        ck_assert(send_number(&a, i, -1));
    ck_assert(loop_until(base, has_all, &b));
    a.free_at_once = true;
    ck_assert(loop_until(base, has_ended, &a));
    ck_assert_uint_eq(b.frames, 1);
    free_channels(&a, &b);
}
END_TEST

/* A packet as channel_send makes none: LENGTH bytes, and COUNT descriptors. */
static bool send_raw(int fd, const void *data, size_t length, size_t count)
{
    int passed[3] = { STDERR_FILENO, STDERR_FILENO, STDERR_FILENO };
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(passed))] = { 0 };
    struct cmsghdr *header = (struct cmsghdr *) (void *) control;
    struct iovec part = { (void *) data, length };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = CMSG_SPACE(count * sizeof(int)) };

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), passed, count * sizeof(int));
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) length;
}

/* Who is not what it was may send anything: no descriptor stays behind. */
START_TEST(descriptors_that_no_frame_has_are_closed)
{
    struct end end = { .last_fd = -1, .frames = 1, .wanted = 2 };
    unsigned char frame[sizeof(uint32_t) + CHANNEL_PAYLOAD_MAX] = { 0 };
    int fds[2], before;

    memcpy(frame, &end.frames, sizeof(uint32_t));
    fill(frame + sizeof(uint32_t), 1);
    base = reactor_new(NULL);
    ck_assert(channel_pair(fds));
    end.channel = channel_new(base, fds[0], &handler, &end);
    before = open_descriptors();
    ck_assert(send_raw(fds[1], frame, sizeof(uint32_t) + length_of(1), 2));
    ck_assert(loop_until(base, has_all, &end));
    if (end.last_fd >= 0)
        close(end.last_fd);
    ck_assert_int_eq(open_descriptors(), before);
    ck_assert(send_raw(fds[1], frame, 2, 1)); /* no frame at all */
    ck_assert(loop_until(base, has_ended, &end));
    ck_assert_int_eq(open_descriptors(), before);
    channel_free(end.channel);
    close(fds[1]);
    event_base_free(base);
}
END_TEST

static int raw_end;

static void on_received_send_more(void *context, uint32_t type, const void *payload, size_t length,
                                  int fd)
{
    (void) payload;
    (void) length;
    (void) fd;
    ++*(unsigned *) context;
    (void) send(raw_end, &type, sizeof(type), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* With each frame that is received, counted in FRAMES, comes another one, for ever. */
static struct channel *start_endless(unsigned *frames)
{
    static const struct channel_handler endless = { .received = on_received_send_more };
    int fds[2];

    base = reactor_new(NULL);
    ck_assert(channel_pair(fds));
    raw_end = fds[1];
    return channel_new(base, fds[0], &endless, frames);
}

static void send_three(void)
{
    const uint32_t type = 0;

    for (int i = 0; i < 3; i++)
        ck_assert(send(raw_end, &type, sizeof(type), 0) == sizeof(type));
}

START_TEST(the_rest_has_an_end)
{
    unsigned frames = 0;
    struct channel *channel = start_endless(&frames);

    send_three();
    channel_receive_rest(channel);
    ck_assert_uint_eq(frames, 3);
    channel_free(channel);
    close(raw_end);
    event_base_free(base);
}
END_TEST

/* The same; here the channel goes on. */
START_TEST(what_waits_is_received_at_once)
{
    unsigned frames = 0;
    struct channel *channel = start_endless(&frames);

    channel_receive_waiting(channel);
    ck_assert_uint_eq(frames, 0);
    send_three();
    channel_receive_waiting(channel);
    ck_assert_uint_eq(frames, 3);
    channel_receive_waiting(channel);
    ck_assert_uint_eq(frames, 6);
    close(raw_end);
    channel_receive_waiting(channel);
    ck_assert_uint_eq(frames, 9);
    channel_receive_waiting(channel);
    ck_assert_uint_eq(frames, 9);
    channel_free(channel);
    event_base_free(base);
}
END_TEST

enum { EVENTS = 20 };

static struct {
    struct event *events[EVENTS];
    struct end *first;
    uint32_t frames_before; /* received before any of EVENTS was called */
    bool is_called;
} round_of;

static void on_other(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    (void) context;
    if (!round_of.is_called)
        round_of.frames_before = round_of.first->frames;
    round_of.is_called = true;
}

START_TEST(one_that_goes_first_waits_for_no_other_event)
{
    struct end a, b;

    make_channels(&a, &b);
    channel_go_first(b.channel);
    round_of.first = &b;
    for (int i = 0; i < EVENTS; i++) {
        round_of.events[i] = event_new(base, -1, 0, on_other, NULL);
        event_active(round_of.events[i], EV_TIMEOUT, 0);
    }
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(send_number(&a, i, -1));
    b.wanted = 3;
    ck_assert(loop_until(base, has_all, &b));
    event_base_loop(base, EVLOOP_NONBLOCK);
    ck_assert(round_of.is_called);
    ck_assert_uint_eq(round_of.frames_before, 3);
    for (int i = 0; i < EVENTS; i++)
        event_free(round_of.events[i]);
    free_channels(&a, &b);
}
END_TEST

START_TEST(busy_moments_of_the_kernel_lose_nothing)
{
    static const int errors[] = { EAGAIN, ENOBUFS };

    for (size_t k = 0; k < 2; k++) {
        struct end a, b;

        make_channels(&a, &b);
        b.wanted = 60;
        inject_fail_each(INJECT_WRITE, 2, errors[k]);
        for (uint32_t i = 0; i < b.wanted; i++)
            ck_assert(send_number(&a, i, i % 7 == 0 ? STDERR_FILENO : -1));
        ck_assert(loop_until(base, has_all, &b));
        ck_assert_int_eq(b.descriptors, 9);
        ck_assert_uint_gt(inject_failures(INJECT_WRITE), 5);
        inject_reset();
        inject_fail_each(INJECT_READ, 2, k == 0 ? EAGAIN : EINTR);
        b.frames = 0;
        for (uint32_t i = 0; i < b.wanted; i++)
            ck_assert(send_number(&a, i, -1));
        ck_assert(loop_until(base, has_all, &b));
        ck_assert_int_eq(b.ended, 0);
        inject_reset();
        free_channels(&a, &b);
    }
}
END_TEST

START_TEST(short_of_memory_it_says_so)
{
    struct end a, b;
    uint32_t number = 0;
    bool sent;

    make_channels(&a, &b);
    while (!channel_is_busy(a.channel))
        ck_assert(send_number(&a, number++, -1));
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    sent = send_number(&a, number, -1);
    inject_reset();
    ck_assert(!sent);
    b.wanted = number;
    ck_assert(loop_until(base, has_all, &b)); /* what was promised arrives */
    free_channels(&a, &b);
}
END_TEST

START_TEST(a_channel_that_cannot_be_made_leaves_the_descriptor)
{
    unsigned nth = 0;
    bool failed = true;

    while (failed) {
        struct end end = { .last_fd = -1 };
        int fds[2];

        base = reactor_new(NULL);
        ck_assert(channel_pair(fds));
        inject_fail(INJECT_MEMORY, ++nth, 1, ENOMEM);
        end.channel = channel_new(base, fds[0], &handler, &end);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(end.channel == NULL, failed);
        ck_assert(is_open(fds[0]));
        if (failed)
            close(fds[0]);
        channel_free(end.channel);
        close(fds[1]);
        event_base_free(base);
    }
    ck_assert_uint_gt(nth, 3);
    channel_free(NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        frames_arrive_whole_and_in_order,
        a_slow_peer_gets_all_in_order,
        frames_wait_for_who_does_not_listen,
        who_does_not_listen_hears_of_the_end_later_and_once,
        both_ways_at_once,
        frames_before_the_end_still_arrive,
        the_end_of_a_peer_that_was_slow,
        the_handler_may_free_it,
        descriptors_that_no_frame_has_are_closed,
        the_rest_has_an_end,
        what_waits_is_received_at_once,
        one_that_goes_first_waits_for_no_other_event,
        busy_moments_of_the_kernel_lose_nothing,
        short_of_memory_it_says_so,
        a_channel_that_cannot_be_made_leaves_the_descriptor,
    };

    return HARNESS_RUN("channel", tests);
}
