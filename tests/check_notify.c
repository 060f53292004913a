#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "src/clock.h"
#include "src/notify.h"
#include "src/reactor.h"
#include "src/unixsocket.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* The manager's end, and what it is told. */
static struct {
    struct event_base *base;
    char name[64];
    int manager;
    uint64_t connections;
    bool is_unwell;
    char heard[256];
    const char *wanted;
} here;

static uint64_t count(void *context)
{
    ck_assert_ptr_eq(context, &here);
    return here.connections;
}

static bool is_well(void *context)
{
    ck_assert_ptr_eq(context, &here);
    return !here.is_unwell;
}

static const struct notify_facts facts = { count, is_well, &here };

static void open_manager(void)
{
    struct sockaddr_un address;
    socklen_t length = unixsocket_address(here.name, &address);

    here.manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(here.manager, (struct sockaddr *) &address, length), 0);
}

static struct notify *start(void)
{
    memset(&here, 0, sizeof(here));
    snprintf(here.name, sizeof(here.name), "@echod-check-notify-%d", (int) getpid());
    open_manager();
    here.base = reactor_new(NULL);
    setenv("NOTIFY_SOCKET", here.name, 1);
    return notify_new(here.base, &facts);
}

static void stop(struct notify *notify)
{
    inject_reset();
    notify_free(notify);
    event_base_free(here.base);
    close(here.manager);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

/* The next message, if one is there. */
static const char *hear(void)
{
    ssize_t length = read(here.manager, here.heard, sizeof(here.heard) - 1);

    here.heard[length > 0 ? length : 0] = '\0';
    return here.heard;
}

static bool has_heard(void *context)
{
    (void) context;
    return strstr(hear(), here.wanted) != NULL;
}

static void wait_for(const char *text)
{
    here.wanted = text;
    ck_assert_msg(loop_until(here.base, has_heard, NULL), "no %s", text);
}

START_TEST(states_are_told_at_once)
{
    struct notify *notify = start();
    unsigned long long when;

    ck_assert_ptr_nonnull(notify);
    ck_assert_str_eq(hear(), "");
    notify_ready(notify);
    ck_assert_str_eq(hear(), "READY=1\nSTATUS=Serving, 0 connections");
    notify_reloading(notify);
    ck_assert_int_eq(sscanf(hear(), "RELOADING=1\nMONOTONIC_USEC=%llu", &when), 1);
    ck_assert_uint_le(when, clock_ns() / 1000);
    here.connections = 1;
    notify_ready(notify);
    ck_assert_str_eq(hear(), "READY=1\nSTATUS=Serving, 1 connection");
    here.connections = 12;
    notify_stopping(notify, 11000);
    ck_assert_str_eq(hear(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=11000000\n"
                             "STATUS=Draining, 12 connections");
    ck_assert_str_eq(hear(), "");
    stop(notify);
}
END_TEST

START_TEST(connections_are_told_when_they_change)
{
    struct notify *notify = start();

    here.connections = 5;
    loop_for(here.base, 1200); /* it does not serve yet: nothing */
    ck_assert_str_eq(hear(), "");
    notify_ready(notify);
    hear();
    here.connections = 7;
    wait_for("STATUS=Serving, 7 connections");
    ck_assert_ptr_null(strstr(here.heard, "READY"));
    loop_for(here.base, 1200);
    ck_assert_str_eq(hear(), "");
    stop(notify);
}
END_TEST

/* Fills the manager's queue; returns how much fits. */
static int fill(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), sent = 0;
    struct sockaddr_un address;
    socklen_t length = unixsocket_address(here.name, &address);

    while (sendto(fd, "X", 1, 0, (struct sockaddr *) &address, length) == 1)
        sent++;
    close(fd);
    return sent;
}

START_TEST(what_a_full_queue_did_not_take_is_owed)
{
    struct notify *notify = start();
    int before = fill();

    ck_assert_int_gt(before, 0);
    notify_ready(notify);
    here.connections = 3;
    loop_for(here.base, 1200);
    notify_stopping(notify, 11000); /* the newer one */
    for (int i = 0; i < before; i++)
        ck_assert_str_eq(hear(), "X");
    ck_assert_str_eq(hear(), "");
    here.wanted = "";
    wait_for("STOPPING=1\nEXTEND_TIMEOUT_USEC=11000000\nSTATUS=Draining, 3 connections");
    here.connections = 2;
    wait_for("STATUS=Draining, 2 connections");
    stop(notify);
}
END_TEST

START_TEST(a_manager_that_comes_again_is_told)
{
    struct notify *notify = start();

    close(here.manager);
    notify_ready(notify); /* to nobody */
    open_manager();
    wait_for("READY=1");
    notify_stopping(notify, 11000);
    ck_assert_ptr_nonnull(strstr(hear(), "STOPPING=1"));
    stop(notify);
}
END_TEST

START_TEST(the_watchdog)
{
    static const struct {
        const char *usec, *pid;
        bool is_fed;
    } table[] = {
        { "20000", NULL, true },  { "1", NULL, false },      { "1000", NULL, true },
        { "20000", "1", false },  { "-20000", NULL, false }, { "20000x", NULL, false },
        { "", NULL, false },      { "99999999999999999999999", NULL, false },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct notify *notify;

        setenv("WATCHDOG_USEC", table[i].usec, 1);
        if (table[i].pid != NULL)
            setenv("WATCHDOG_PID", table[i].pid, 1);
        notify = start();
        if (table[i].is_fed)
            wait_for("WATCHDOG=1");
        else
            loop_for(here.base, 50);
        ck_assert_msg(table[i].is_fed || hear()[0] == '\0', "%s", table[i].usec);
        stop(notify);
    }
}
END_TEST

START_TEST(the_watchdog_is_not_fed_while_we_are_not_well)
{
    struct notify *notify;

    setenv("WATCHDOG_USEC", "20000", 1);
    notify = start();
    here.is_unwell = true;
    loop_for(here.base, 100);
    ck_assert_str_eq(hear(), "");
    here.is_unwell = false;
    wait_for("WATCHDOG=1");
    stop(notify);
}
END_TEST

/* Half of the manager's time was over: what is left may not be enough for another half. */
START_TEST(the_watchdog_is_fed_as_soon_as_we_are_well)
{
    struct notify *notify;

    setenv("WATCHDOG_USEC", "3000000", 1);
    notify = start();
    here.is_unwell = true;
    loop_for(here.base, 1700);
    ck_assert_str_eq(hear(), "");
    here.is_unwell = false;
    loop_for(here.base, 700);
    ck_assert_str_eq(hear(), "WATCHDOG=1");
    stop(notify);
}
END_TEST

START_TEST(without_a_manager_there_is_nothing_to_do)
{
    stop(start());
    here.base = reactor_new(NULL);
    unsetenv("NOTIFY_SOCKET");
    ck_assert_ptr_null(notify_new(here.base, &facts));
    setenv("NOTIFY_SOCKET", "", 1);
    ck_assert_ptr_null(notify_new(here.base, &facts));
    notify_ready(NULL);
    notify_reloading(NULL);
    notify_stopping(NULL, 0);
    notify_free(NULL);
    event_base_free(here.base);
}
END_TEST

START_TEST(one_that_cannot_be_reached_is_a_warning)
{
    char longest[200];
    const char *const names[] = { "@echod-check-nobody", "/nowhere/at/all", "vsock:2:1", longest };

    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int before = open_descriptors();
        const char *text;

        here.base = reactor_new(NULL);
        setenv("NOTIFY_SOCKET", names[i], 1);
        capture_log_begin(LOG_WARNING);
        ck_assert_ptr_null(notify_new(here.base, &facts));
        text = capture_end();
        ck_assert_uint_eq(count_lines(text), 1);
        ck_assert_ptr_nonnull(strstr(text, "Z warning notify-failed what="));
        event_base_free(here.base);
        ck_assert_int_eq(open_descriptors(), before);
    }
}
END_TEST

START_TEST(short_of_memory)
{
    unsigned nth = 1;
    bool failed = true;

    for (; failed; nth++) {
        struct notify *notify;

        stop(start());
        open_manager();
        here.base = reactor_new(NULL);
        capture_log_begin(LOG_ERR);
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        notify = notify_new(here.base, &facts);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        capture_end();
        ck_assert(failed || notify != NULL);
        stop(notify);
    }
    ck_assert_uint_gt(nth, 3);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        states_are_told_at_once,
        connections_are_told_when_they_change,
        what_a_full_queue_did_not_take_is_owed,
        a_manager_that_comes_again_is_told,
        the_watchdog,
        the_watchdog_is_not_fed_while_we_are_not_well,
        the_watchdog_is_fed_as_soon_as_we_are_well,
        without_a_manager_there_is_nothing_to_do,
        one_that_cannot_be_reached_is_a_warning,
        short_of_memory,
    };

    return HARNESS_RUN("notify", tests);
}
