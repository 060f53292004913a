#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/preface.h"
#include "src/proxy.h"
#include "src/reactor.h"
#include "src/tcp.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define V1 "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"
#define V2 "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\4\xd2\0\x50"

/* One preface over a connection, and what became of it. */
static struct {
    struct event_base *base;
    struct pair pair;
    struct preface *preface;
    unsigned parts, ended;
    enum preface_event end;
    int error;
    struct proxy_header header;
} here;

static void on_preface(void *context, enum preface_event how, const struct proxy_header *header)
{
    if (how == PREFACE_PART) {
        here.parts++; /* and no check, which takes memory */
        return;
    }
    ck_assert_ptr_eq(context, &here);
    here.error = errno;
    here.ended++;
    here.end = how;
    here.header = *header;
    here.preface = NULL;
}

static void begin(void)
{
    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.pair = make_pair(0);
    here.preface = preface_new(here.base, here.pair.server, on_preface, &here);
    ck_assert_ptr_nonnull(here.preface);
}

static void finish(void)
{
    inject_reset();
    preface_free(here.preface);
    close(here.pair.server);
    close(here.pair.client);
    event_base_free(here.base);
}

static void send_bytes(const void *data, size_t length)
{
    ck_assert_int_eq(write(here.pair.client, data, length), (ssize_t) length);
}

static bool has_ended(void *context)
{
    (void) context;
    return here.ended > 0;
}

/* All that was sent is with the preface. */
static bool has_come(void *context)
{
    return has_ended(context) || (here.parts > 0 && tcp_unread(here.pair.server) == 0);
}

static void expect_end(enum preface_event how)
{
    ck_assert(loop_until(here.base, has_ended, NULL));
    ck_assert_uint_eq(here.ended, 1);
    ck_assert_int_eq(here.end, how);
}

/* The header has come; what follows it is TEXT, and nobody has touched that. */
static void expect_client_and(const char *text)
{
    char client[ADDRESS_TEXT_MAX];

    expect_end(PREFACE_WHOLE);
    ck_assert(here.header.has_client);
    address_format(&here.header.client, client);
    ck_assert_str_eq(client, "192.0.2.1:1234");
    expect_text(here.pair.server, text);
}

static const struct {
    const char *data;
    size_t length;
} headers[] = { { V1, sizeof(V1) - 1 }, { V2, sizeof(V2) - 1 } };

START_TEST(a_header_split_anywhere_is_read_at_once)
{
    for (size_t i = 0; i < 2; i++)
        for (size_t part = 1; part < headers[i].length; part++) {
            begin();
            send_bytes(headers[i].data, part);
            ck_assert(loop_until(here.base, has_come, NULL));
            ck_assert_uint_eq(here.ended, 0);
            send_bytes(headers[i].data + part, headers[i].length - part);
            send_text(here.pair.client, "hello");
            expect_client_and("hello");
            finish();
        }
}
END_TEST

START_TEST(a_header_byte_by_byte_is_read)
{
    for (size_t i = 0; i < 2; i++) {
        begin();
        for (size_t part = 1; part <= headers[i].length; part++) {
            send_bytes(headers[i].data + part - 1, 1);
            ck_assert(loop_until(here.base, has_come, NULL));
        }
        send_text(here.pair.client, "hello");
        expect_client_and("hello");
        finish();
    }
}
END_TEST

START_TEST(not_a_byte_behind_the_header_is_taken)
{
    for (size_t i = 0; i < 2; i++) {
        char data[4096];

        begin();
        memset(data, 'x', sizeof(data));
        memcpy(data, headers[i].data, headers[i].length);
        send_bytes(data, sizeof(data)); /* in one segment */
        data[sizeof(data) - 1] = '\0';
        expect_client_and(data + headers[i].length);
        finish();
    }
}
END_TEST

START_TEST(who_waits_for_the_rest_does_not_spin)
{
    size_t part = 20;
    unsigned calls;

    begin();
    send_bytes(V1, part);
    ck_assert(loop_until(here.base, has_come, NULL));
    calls = inject_count(INJECT_READ);
    loop_for(here.base, 20);
    ck_assert_uint_eq(inject_count(INJECT_READ), calls);
    finish();
}
END_TEST

/* The longest header, all of it one TLV. */
static uint8_t *make_longest(void)
{
    uint8_t *data = calloc(1, PROXY_MOST);

    memcpy(data, V2, sizeof(V2) - 1);
    data[14] = data[15] = 0xff;
    data[28] = 4;
    data[29] = (uint8_t) ((PROXY_MOST - 28 - 3) >> 8);
    data[30] = (uint8_t) (PROXY_MOST - 28 - 3);
    return data;
}

START_TEST(the_longest_header_is_read_in_whatever_pieces)
{
    uint8_t *data = make_longest();

    for (size_t piece = 30; piece < PROXY_MOST; piece *= 7) {
        begin();
        for (size_t sent = 0; sent < PROXY_MOST;) {
            size_t length = PROXY_MOST - sent < piece ? PROXY_MOST - sent : piece;

            send_bytes(data + sent, length);
            sent += length;
            ck_assert(loop_until(here.base, has_come, NULL));
        }
        send_text(here.pair.client, "hello");
        expect_client_and("hello");
        finish();
    }
    free(data);
}
END_TEST

/* What handling the first PART bytes of DATA takes; how many of them came before: *COME. */
static unsigned count_allocations(const uint8_t *data, size_t *come, size_t part)
{
    unsigned before, after;

    send_bytes(data + *come, part - *come);
    *come = part;
    before = inject_count(INJECT_MEMORY);
    do
        event_base_loop(here.base, EVLOOP_ONCE);
    while (tcp_unread(here.pair.server) > 0);
    after = inject_count(INJECT_MEMORY);
    return after - before;
}

START_TEST(memory_follows_the_bytes_that_came_not_those_announced)
{
    uint8_t *data = make_longest();
    size_t come = 0;

    begin();
    ck_assert_uint_eq(count_allocations(data, &come, 100), 1); /* 128 */
    ck_assert_uint_eq(count_allocations(data, &come, 128), 0);
    ck_assert_uint_eq(count_allocations(data, &come, 129), 1); /* 256 */
    ck_assert_uint_eq(count_allocations(data, &come, 256), 0);
    send_bytes(data + come, 1);
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    event_base_loop(here.base, EVLOOP_ONCE);
    inject_reset();
    expect_end(PREFACE_ERROR);
    ck_assert_int_eq(here.error, ENOMEM);
    finish();
    free(data);
}
END_TEST

START_TEST(short_and_failing_reads_change_nothing)
{
    for (unsigned seed = 1; seed <= 1000; seed++) {
        begin();
        inject_random(INJECT_READ, seed);
        send_bytes(headers[seed % 2].data, headers[seed % 2].length);
        send_text(here.pair.client, "hello");
        expect_client_and("hello");
        finish();
    }
    for (size_t bytes = 1; bytes < 50; bytes++) {
        begin();
        inject_short(INJECT_READ, bytes);
        send_bytes(V1 "hello", sizeof(V1 "hello") - 1);
        expect_client_and("hello");
        finish();
    }
}
END_TEST

START_TEST(the_second_read_may_be_shorter_or_fail)
{
    begin();
    inject_fail(INJECT_READ, 2, 1, EAGAIN); /* 1: the look; 2: the same bytes again */
    send_text(here.pair.client, V1 "hello");
    expect_client_and("hello");
    finish();
    begin();
    inject_fail(INJECT_READ, 2, 1, EINTR);
    send_text(here.pair.client, V1 "hello");
    expect_client_and("hello");
    finish();
    begin();
    inject_fail(INJECT_READ, 2, 1, ECONNRESET);
    send_text(here.pair.client, V1);
    expect_end(PREFACE_ERROR);
    ck_assert_int_eq(here.error, ECONNRESET);
    finish();
}
END_TEST

START_TEST(an_end_before_any_byte_is_no_fault)
{
    begin();
    shutdown(here.pair.client, SHUT_WR);
    expect_end(PREFACE_EOF);
    finish();
}
END_TEST

START_TEST(an_end_in_the_middle_is_malformed)
{
    for (size_t i = 0; i < 2; i++) {
        begin();
        send_bytes(headers[i].data, headers[i].length - 1);
        shutdown(here.pair.client, SHUT_WR);
        expect_end(PREFACE_MALFORMED);
        ck_assert_str_eq(here.header.wrong, "the header ends early");
        finish();
    }
}
END_TEST

START_TEST(a_malformed_header_is_told)
{
    begin();
    send_text(here.pair.client, "GET / HTTP/1.1\r\n");
    expect_end(PREFACE_MALFORMED);
    ck_assert_str_eq(here.header.wrong, "no PROXY header");
    finish();
}
END_TEST

START_TEST(a_reset_is_told)
{
    begin();
    abort_connection(here.pair.client);
    here.pair.client = -1;
    expect_end(PREFACE_ERROR);
    ck_assert_int_eq(here.error, ECONNRESET);
    finish();
}
END_TEST

START_TEST(without_memory_nothing_is_left_behind)
{
    int fd;

    begin();
    fd = fcntl(here.pair.server, F_DUPFD_CLOEXEC, 300); /* beyond libevent's table: it grows */
    ck_assert_int_ge(fd, 0);
    for (unsigned nth = 1, failures = 1; failures > 0; nth++) {
        struct preface *another;

        inject_reset();
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        another = preface_new(here.base, fd, on_preface, &here);
        failures = inject_failures(INJECT_MEMORY);
        inject_reset(); /* libcheck too takes memory */
        ck_assert_int_eq(another == NULL, failures > 0);
        preface_free(another);
        ck_assert(failures == 0 || nth < 10);
    }
    close(fd);
    send_text(here.pair.client, V1 "hello");
    expect_client_and("hello");
    finish();
}
END_TEST

START_TEST(who_gives_up_hears_no_more)
{
    size_t part = 3;

    begin();
    send_bytes(V1, part);
    ck_assert(loop_until(here.base, has_come, NULL));
    preface_free(here.preface);
    here.preface = NULL;
    send_bytes(&V1[part], sizeof(V1) - 1 - part);
    loop_for(here.base, 5);
    ck_assert_uint_eq(here.ended, 0);
    expect_text(here.pair.server, &V1[part]);
    preface_free(NULL);
    finish();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_header_split_anywhere_is_read_at_once,
        a_header_byte_by_byte_is_read,
        not_a_byte_behind_the_header_is_taken,
        who_waits_for_the_rest_does_not_spin,
        the_longest_header_is_read_in_whatever_pieces,
        memory_follows_the_bytes_that_came_not_those_announced,
        short_and_failing_reads_change_nothing,
        the_second_read_may_be_shorter_or_fail,
        an_end_before_any_byte_is_no_fault,
        an_end_in_the_middle_is_malformed,
        a_malformed_header_is_told,
        a_reset_is_told,
        without_memory_nothing_is_left_behind,
        who_gives_up_hears_no_more,
    };

    return HARNESS_RUN("preface", tests);
}
