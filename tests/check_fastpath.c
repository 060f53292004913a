#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/defaults.h"
#include "src/fastpath.h"
#include "src/spare.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* A bufferevent on the fast path, and what its callbacks saw. */
struct end {
    struct bufferevent *bev;
    struct pair pair;
    struct evbuffer *got; /* all that came */
    unsigned reads, events;
    short what; /* of the last event */
    int error;  /* errno then */
};

static struct event_base *base;

static void on_read(struct bufferevent *bev, void *argument)
{
    struct end *end = argument;

    end->reads++;
    evbuffer_add_buffer(end->got, bufferevent_get_input(bev));
}

static void on_event(struct bufferevent *bev, short what, void *argument)
{
    struct end *end = argument;

    (void) bev;
    end->error = errno;
    end->what = what;
    end->events++;
}

static struct end end_new(int buffer)
{
    struct end end = { .pair = make_pair(buffer), .got = evbuffer_new() };

    end.bev = bufferevent_socket_new(base, end.pair.server, BEV_OPT_CLOSE_ON_FREE);
    fastpath_attach(end.bev);
    return end;
}

/* At its place in memory: callbacks get its address. */
static void end_start(struct end *end)
{
    bufferevent_setcb(end->bev, on_read, NULL, on_event, end);
    ck_assert_int_eq(bufferevent_enable(end->bev, EV_READ), 0);
}

static void end_free(struct end *end)
{
    bufferevent_free(end->bev);
    evbuffer_free(end->got);
    close(end->pair.client);
    event_base_loop(base, EVLOOP_NONBLOCK); /* libevent frees later */
}

static void begin(void)
{
    base = reactor_new(NULL);
}

static void finish(void)
{
    inject_reset();
    event_base_free(base);
    spare_release();
}

static bool has_read(void *end)
{
    return ((struct end *) end)->reads > 0;
}

static bool has_event(void *end)
{
    return ((struct end *) end)->events > 0;
}

/* The byte at POSITION of what SEED sends. */
static char byte_of(unsigned seed, size_t position)
{
    return (char) (seed * 31 + position * 7 + position / 251);
}

static void write_bytes(int fd, unsigned seed, size_t from, size_t count)
{
    static char data[BULK_READ];

    ck_assert_uint_le(count, sizeof(data));
    for (size_t i = 0; i < count; i++)
        data[i] = byte_of(seed, from + i);
    ck_assert_int_eq(write(fd, data, count), (ssize_t) count);
}

static void expect_bytes(struct evbuffer *buffer, unsigned seed, size_t count)
{
    const unsigned char *data = evbuffer_pullup(buffer, -1);

    ck_assert_uint_eq(evbuffer_get_length(buffer), count);
    for (size_t i = 0; i < count; i++)
        ck_assert_msg((char) data[i] == byte_of(seed, i), "byte %zu differs", i);
}

START_TEST(one_call_reads_what_is_there)
{
    static const size_t sizes[] = { 1, 64, 4096, 4097, 50000 };

    begin();
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct end end = end_new(0);

        end_start(&end);
        write_bytes(end.pair.client, i, 0, sizes[i]);
        inject_reset();
        ck_assert(loop_until(base, has_read, &end));
        ck_assert_uint_eq(inject_count(INJECT_READ), 1);
        ck_assert_uint_eq(end.reads, 1);
        expect_bytes(end.got, i, sizes[i]);
        end_free(&end);
    }
    finish();
}
END_TEST

/* What is kept must not be overwritten by what others receive, whoever lets go first. */
START_TEST(what_is_kept_stays_as_it_was)
{
    struct end ends[3];

    begin();
    for (unsigned i = 0; i < 3; i++) {
        ends[i] = end_new(0);
        end_start(&ends[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        write_bytes(ends[i].pair.client, i, 0, 30000);
        ck_assert(loop_until(base, has_read, &ends[i]));
    }
    expect_bytes(ends[0].got, 0, 30000);
    end_free(&ends[0]);
    ends[1].reads = 0;
    write_bytes(ends[1].pair.client, 1, 30000, 30000);
    ck_assert(loop_until(base, has_read, &ends[1]));
    expect_bytes(ends[1].got, 1, 60000);
    expect_bytes(ends[2].got, 2, 30000);
    end_free(&ends[2]);
    end_free(&ends[1]);
    finish();
}
END_TEST

/* As the connection's end, or a failure, reach a bufferevent that is left alone. */
static void expect_end(int error, short what)
{
    struct end end = end_new(0);

    end_start(&end);
    if (error != 0)
        inject_fail(INJECT_READ, 1, 1, error);
    else
        shutdown(end.pair.client, SHUT_WR);
    if (error != 0)
        write_bytes(end.pair.client, 1, 0, 1);
    ck_assert(loop_until(base, has_event, &end));
    ck_assert_int_eq(end.what, BEV_EVENT_READING | what);
    if (error != 0)
        ck_assert_int_eq(end.error, error);
    ck_assert_int_eq(bufferevent_get_enabled(end.bev) & EV_READ, 0);
    loop_for(base, 20);
    ck_assert_uint_eq(end.events, 1); /* and told once */
    ck_assert_uint_eq(end.reads, 0);
    end_free(&end);
}

START_TEST(the_end_is_an_event)
{
    begin();
    expect_end(0, BEV_EVENT_EOF);
    expect_end(ECONNRESET, BEV_EVENT_ERROR);
    expect_end(ETIMEDOUT, BEV_EVENT_ERROR);
    finish();
}
END_TEST

START_TEST(nothing_there_is_no_event)
{
    static const int errors[] = { EAGAIN, EINTR };

    begin();
    for (unsigned i = 0; i < 2; i++) {
        struct end end = end_new(0);

        end_start(&end);
        inject_fail(INJECT_READ, 1, 3, errors[i]);
        write_bytes(end.pair.client, i, 0, 10);
        ck_assert(loop_until(base, has_read, &end));
        ck_assert_uint_eq(end.events, 0);
        expect_bytes(end.got, i, 10);
        end_free(&end);
    }
    finish();
}
END_TEST

/* Bytes may be lost then, so the connection must not go on as if they were not. */
START_TEST(without_memory_it_is_an_error)
{
    begin();
    for (unsigned nth = 1; nth <= 2; nth++) { /* the buffer; what refers to it */
        struct end end = end_new(0);

        spare_release();
        end_start(&end);
        write_bytes(end.pair.client, 1, 0, 10);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        ck_assert(loop_until(base, has_event, &end));
        ck_assert_int_eq(end.what, BEV_EVENT_READING | BEV_EVENT_ERROR);
        ck_assert_int_eq(end.error, ENOMEM);
        ck_assert_uint_eq(end.reads, 0);
        end_free(&end);
    }
    finish();
}
END_TEST

/* DATA of COUNT bytes in PIECES chains. */
static struct evbuffer *data_of(unsigned seed, size_t count, unsigned pieces)
{
    static char bytes[8][BULK_READ];
    struct evbuffer *data = evbuffer_new();

    for (unsigned i = 0; i < pieces; i++) {
        for (size_t k = 0; k < count / pieces; k++)
            bytes[i][k] = byte_of(seed, i * (count / pieces) + k);
        evbuffer_add_reference(data, bytes[i], count / pieces, NULL, NULL);
    }
    return data;
}

START_TEST(what_the_kernel_takes_is_gone)
{
    begin();
    for (unsigned pieces = 1; pieces <= 8; pieces *= 2) {
        struct end end = end_new(0);
        struct evbuffer *data = data_of(pieces, 800, pieces), *back = evbuffer_new();
        size_t sent = 0;

        end_start(&end);
        inject_short(INJECT_WRITE, 300);
        while (sent < 800) {
            size_t now = fastpath_send(end.bev, data);

            ck_assert_uint_gt(now, 0);
            ck_assert_uint_le(now, 300);
            sent += now;
            ck_assert_uint_eq(evbuffer_get_length(data), 800 - sent);
        }
        evbuffer_read(back, end.pair.client, 800);
        expect_bytes(back, pieces, 800);
        ck_assert_uint_eq(fastpath_send(end.bev, data), 0); /* nothing is left */
        inject_reset();
        evbuffer_free(data);
        evbuffer_free(back);
        end_free(&end);
    }
    finish();
}
END_TEST

START_TEST(many_pieces_take_more_than_one_call)
{
    struct evbuffer *data, *back = evbuffer_new();
    struct end end;

    begin();
    end = end_new(0);
    data = data_of(3, 800, 8);
    while (evbuffer_get_length(data) > 0)
        ck_assert_uint_le(fastpath_send(end.bev, data), 400);
    evbuffer_read(back, end.pair.client, 800);
    expect_bytes(back, 3, 800);
    evbuffer_free(data);
    evbuffer_free(back);
    end_free(&end);
    finish();
}
END_TEST

START_TEST(what_it_does_not_take_stays)
{
    struct evbuffer *data;
    struct end end;

    begin();
    end = end_new(0);
    data = data_of(1, 100, 1);
    end_start(&end);
    inject_fail(INJECT_WRITE, 1, 1, EAGAIN);
    ck_assert_uint_eq(fastpath_send(end.bev, data), 0);
    expect_bytes(data, 1, 100);
    loop_for(base, 20);
    ck_assert_uint_eq(end.events, 0);
    inject_fail(INJECT_WRITE, 1, 1, EHOSTUNREACH);
    ck_assert_uint_eq(fastpath_send(end.bev, data), 0);
    expect_bytes(data, 1, 100);
    ck_assert_uint_eq(end.events, 0); /* not from within */
    ck_assert(loop_until(base, has_event, &end));
    ck_assert_int_eq(end.what, BEV_EVENT_WRITING | BEV_EVENT_ERROR);
    ck_assert_int_eq(end.error, EHOSTUNREACH);
    evbuffer_free(data);
    end_free(&end);
    finish();
}
END_TEST

START_TEST(an_error_is_for_nobody_if_it_is_freed_first)
{
    struct evbuffer *data;
    struct end end;

    begin();
    end = end_new(0);
    data = data_of(1, 100, 1);
    end_start(&end);
    inject_fail(INJECT_WRITE, 1, 1, EPIPE);
    ck_assert_uint_eq(fastpath_send(end.bev, data), 0);
    evbuffer_free(data);
    end_free(&end);
    ck_assert_uint_eq(end.events, 0);
    finish();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        one_call_reads_what_is_there,
        what_is_kept_stays_as_it_was,
        the_end_is_an_event,
        nothing_there_is_no_event,
        without_memory_it_is_an_error,
        what_the_kernel_takes_is_gone,
        many_pieces_take_more_than_one_call,
        what_it_does_not_take_stays,
        an_error_is_for_nobody_if_it_is_freed_first,
    };

    return HARNESS_RUN("fastpath", tests);
}
