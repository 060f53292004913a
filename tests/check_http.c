#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/defaults.h"
#include "src/http.h"
#include "src/log.h"
#include "src/reactor.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* One server, and what its only route was asked. */
static struct {
    struct event_base *base;
    struct http *http;
    int listener;
    uint16_t port;
    unsigned asked;
    char accept[64];
} here;

static void answer(void *context, struct http_exchange *exchange)
{
    ck_assert_ptr_eq(context, &here);
    here.asked++;
    snprintf(here.accept, sizeof(here.accept), "%s", exchange->accept ? exchange->accept : "-");
    evbuffer_add_printf(exchange->body, "hello\n");
}

static const struct http_route routes[] = { { "/", answer } };

static void start(void)
{
    memset(&here, 0, sizeof(here));
    here.base = reactor_new(NULL);
    here.listener = listen_anywhere(&here.port);
    set_blocking(here.listener, false);
    here.http = http_new(here.base, routes, 1, &here);
    ck_assert_ptr_nonnull(here.http);
    ck_assert(http_listen(here.http, here.listener));
}

static void stop(void)
{
    http_free(here.http);
    ck_assert(is_open(here.listener));
    close(here.listener);
    event_base_free(here.base);
}

/* What came so far, and whether that is all. */
struct client {
    int fd;
    bool has_ended;
    size_t length;
    char text[4096];
};

static bool has_answer(void *context)
{
    struct client *client = context;
    ssize_t count;

    do {
        count = read(client->fd, client->text + client->length,
                     sizeof(client->text) - 1 - client->length);
        if (count > 0)
            client->length += (size_t) count;
    } while (count > 0);
    client->text[client->length] = '\0';
    client->has_ended = count == 0 || (count < 0 && errno != EAGAIN);
    return client->has_ended || strstr(client->text, "\r\n\r\nhello\n") != NULL;
}

static struct client connect_client(const char *request)
{
    struct client client = { .fd = connect_to(here.port) };

    ck_assert_int_ge(client.fd, 0);
    set_blocking(client.fd, false);
    ck_assert_int_eq(write(client.fd, request, strlen(request)), (ssize_t) strlen(request));
    return client;
}

#define REQUEST "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n"

static void expect_answer(struct client *client)
{
    client->length = 0;
    ck_assert(loop_until(here.base, has_answer, client));
    ck_assert(strncmp(client->text, "HTTP/1.1 200 OK\r\n", 17) == 0);
    ck_assert(!client->has_ended);
}

START_TEST(a_route_is_asked_and_answers)
{
    struct client client;
    int before = open_descriptors();

    start();
    client = connect_client(REQUEST);
    expect_answer(&client);
    ck_assert_str_eq(here.accept, "text/plain");
    ck_assert_ptr_nonnull(strstr(client.text, "\r\nContent-Length: 6\r\n"));
    ck_assert_ptr_nonnull(strstr(client.text, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    ck_assert_int_eq(write(client.fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    expect_answer(&client);
    ck_assert_str_eq(here.accept, "-");
    ck_assert_uint_eq(here.asked, 2);
    stop();
    ck_assert(reads_eof(client.fd));
    close(client.fd);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* Others are in the kernel's queue then; nothing is read of them, and nothing is owed. */
START_TEST(it_can_end_at_any_time)
{
    int before = open_descriptors();

    for (unsigned rounds = 0; rounds < 12; rounds++) {
        struct client clients[3];

        start();
        for (int i = 0; i < 3; i++)
            clients[i] = connect_client(i == 1 ? "GET /" : REQUEST);
        for (unsigned round = 0; round < rounds; round++)
            event_base_loop(here.base, EVLOOP_NONBLOCK);
        stop();
        for (int i = 0; i < 3; i++)
            close(clients[i].fd);
        ck_assert_int_eq(open_descriptors(), before);
    }
}
END_TEST

/* evhttp tells nothing of one that never asks; should we miss its end, its place is lost. */
START_TEST(who_never_asks_leaves_no_trace)
{
    struct client client;
    int before;

    start();
    before = open_descriptors();
    for (int i = 0; i < 3 * HTTP_CONNECTIONS; i++) {
        close(connect_client("").fd);
        loop_for(here.base, 1);
    }
    client = connect_client(REQUEST);
    expect_answer(&client);
    close(client.fd);
    loop_for(here.base, 20);
    ck_assert_int_eq(open_descriptors(), before);
    stop();
}
END_TEST

START_TEST(without_descriptors_it_waits)
{
    struct client client;
    const char *log;

    start();
    capture_log_begin(LOG_WARNING);
    inject_reset();
    inject_fail(INJECT_ACCEPT, 1, 2, EMFILE); /* one is in reserve */
    client = connect_client(REQUEST);
    loop_for(here.base, RETRY_DESCRIPTORS_MS / 4);
    ck_assert_uint_eq(inject_count(INJECT_ACCEPT), 2);
    expect_answer(&client);
    inject_reset();
    log = capture_end();
    ck_assert_uint_eq(count_lines(log), 1);
    ck_assert_ptr_nonnull(strstr(log, " metrics-failed what=accept error=\"Too many open files\""));
    close(client.fd);
    stop();
}
END_TEST

static void lack_memory_for(int64_t ms)
{
    unsigned failures;

    inject_reset(); /* libcheck takes memory too */
    inject_fail(INJECT_MEMORY, 1, UINT_MAX, ENOMEM);
    loop_for(here.base, ms);
    failures = inject_failures(INJECT_MEMORY);
    inject_reset();
    ck_assert_uint_gt(failures, 0);
}

/* evhttp does not survive each single failure: see has_memory(). */
START_TEST(without_memory_it_waits)
{
    struct client idle, newcomer, next;

    start();
    capture_log_begin(LOG_WARNING);
    idle = connect_client(REQUEST);
    expect_answer(&idle);
    newcomer = connect_client(REQUEST);
    ck_assert_int_eq(write(idle.fd, REQUEST, strlen(REQUEST)), (ssize_t) strlen(REQUEST));
    lack_memory_for(50);
    next = connect_client(REQUEST);
    expect_answer(&next);
    close(idle.fd);
    close(newcomer.fd);
    loop_for(here.base, 20);
    close(next.fd);
    capture_end();
    stop();
}
END_TEST

START_TEST(without_memory_there_is_none)
{
    int before = open_descriptors();
    unsigned failed = 1;
    bool listens;

    capture_log_begin(LOG_WARNING);
    for (unsigned nth = 1; failed > 0; nth++) {
        here.base = reactor_new(NULL);
        here.listener = listen_anywhere(&here.port);
        ck_assert_ptr_nonnull(here.base);
        inject_reset();
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        here.http = http_new(here.base, routes, 1, &here);
        listens = here.http != NULL && http_listen(here.http, here.listener);
        failed = inject_failures(INJECT_MEMORY);
        inject_reset();
        ck_assert(listens == (failed == 0));
        stop();
    }
    capture_end();
    ck_assert_int_eq(open_descriptors(), before);
    http_free(NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_route_is_asked_and_answers,
        it_can_end_at_any_time,
        who_never_asks_leaves_no_trace,
        without_descriptors_it_waits,
        without_memory_it_waits,
        without_memory_there_is_none,
    };

    return HARNESS_RUN("http", tests);
}
