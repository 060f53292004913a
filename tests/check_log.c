#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/log.h"
#include "tests/harness.h"

/* The line that logging KEY=DATA gives, from the level on. */
static const char *logged(const char *data, size_t length)
{
    struct log_line line;
    const char *text;

    capture_log_begin(LOG_DEBUG);
    log_begin(&line, LOG_NOTICE, "event");
    log_bytes(&line, "key", data, length);
    log_end(&line);
    text = capture_end();
    ck_assert_uint_gt(strlen(text), 25);
    return text + 25;
}

START_TEST(a_line_has_time_level_event_and_values)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    struct log_line line;
    const char *text;

    capture_log_begin(LOG_DEBUG);
    log_begin(&line, LOG_WARNING, "paused");
    log_text(&line, "reason", "descriptors");
    log_number(&line, "most", UINT64_MAX);
    log_duration(&line, "duration", 61007);
    log_end(&line);
    text = capture_end();
    for (size_t i = 0; i < strlen(shape); i++)
        ck_assert_msg(shape[i] == 'd' ? text[i] >= '0' && text[i] <= '9' : text[i] == shape[i],
                      "byte %zu of %s", i, text);
    ck_assert_str_eq(text + strlen(shape), "warning paused reason=descriptors "
                                           "most=18446744073709551615 duration=61.007\n");
}
END_TEST

START_TEST(values_are_quoted_and_escaped)
{
    static const struct {
        const char *data;
        size_t length;
        const char *shown;
    } table[] = {
        { "plain-1.2:3/[]", 14, "plain-1.2:3/[]" },
        { "", 0, "\"\"" },
        { "two words", 9, "\"two words\"" },
        { "a=b", 3, "\"a=b\"" },
        { "say \"hi\"", 8, "\"say \\\"hi\\\"\"" },
        { "back\\slash", 10, "\"back\\\\slash\"" },
        { "\a\b\t\n\v\f\r", 7, "\"\\a\\b\\t\\n\\v\\f\\r\"" },
        { "\0x", 2, "\"\\x00x\"" },
        { "\x1b[2J", 4, "\"\\x1b[2J\"" },
        { "\x7f", 1, "\"\\x7f\"" },
        { "\xc3\xa9", 2, "\"\\xc3\\xa9\"" },
        { "\x9b", 1, "\"\\x9b\"" }, /* a terminal's CSI in one byte */
        { "x\n2026 error forged", 19, "\"x\\n2026 error forged\"" },
        { "%s%n", 4, "%s%n" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char wanted[128];

        snprintf(wanted, sizeof(wanted), "notice event key=%s\n", table[i].shown);
        ck_assert_str_eq(logged(table[i].data, table[i].length), wanted);
    }
}
END_TEST

START_TEST(every_byte_stays_on_its_line)
{
    for (int byte = 0; byte < 256; byte++) {
        char data = (char) byte;
        const char *text = logged(&data, 1);

        ck_assert_uint_eq(count_lines(text), 1);
        for (; *text != '\n'; text++)
            ck_assert_msg(*text >= ' ' && *text < 0x7f, "byte %d", byte);
    }
}
END_TEST

/* A value of LENGTH bytes, each BYTE, in a line: whole, and ending as it should. */
static void check_long(int byte, size_t length, char before_newline)
{
    static char data[3 * LOG_LINE_MAX];
    const char *text;

    memset(data, byte, length);
    text = logged(data, length);
    ck_assert_uint_le(strlen(text) + 25, LOG_LINE_MAX);
    ck_assert_uint_gt(strlen(text) + 25, LOG_LINE_MAX - 16);
    ck_assert_uint_eq(count_lines(text), 1);
    ck_assert_int_eq(text[strlen(text) - 1], '\n');
    ck_assert_int_eq(text[strlen(text) - 2], before_newline);
}

START_TEST(a_long_line_is_cut_and_stays_a_line)
{
    for (size_t extra = 0; extra < 16; extra++) {
        check_long('x', LOG_LINE_MAX - 8 + extra, 'x');
        check_long(' ', LOG_LINE_MAX - 8 + extra, '"');
        check_long('\n', LOG_LINE_MAX - 8 + extra, '"');
        check_long(1, LOG_LINE_MAX - 8 + extra, '"');
    }
    check_long(1, 3 * (size_t) LOG_LINE_MAX, '"');
}
END_TEST

START_TEST(what_follows_a_full_line_is_harmless)
{
    static char data[2 * LOG_LINE_MAX];
    struct log_line line;
    const char *text;

    memset(data, 'x', sizeof(data) - 1);
    capture_log_begin(LOG_DEBUG);
    log_begin(&line, LOG_NOTICE, "event");
    for (int i = 0; i < 3; i++) {
        log_text(&line, "key", data);
        log_text(&line, "quoted", "a b");
        log_number(&line, "number", 1);
        log_duration(&line, "duration", 1);
    }
    log_end(&line);
    text = capture_end();
    ck_assert_uint_le(strlen(text), LOG_LINE_MAX);
    ck_assert_uint_eq(count_lines(text), 1);
}
END_TEST

static void log_one(int priority)
{
    struct log_line line;

    log_begin(&line, priority, "event");
    log_text(&line, "key", "value");
    log_end(&line);
}

START_TEST(the_threshold_leaves_out_what_is_less_urgent)
{
    static const char *const levels[] = { [LOG_ERR] = "error",
                                          [LOG_WARNING] = "warning",
                                          [LOG_NOTICE] = "notice",
                                          [LOG_INFO] = "info",
                                          [LOG_DEBUG] = "debug" };

    for (int threshold = LOG_ERR; threshold <= LOG_DEBUG; threshold++) {
        const char *text;

        capture_log_begin(threshold);
        for (int priority = LOG_ERR; priority <= LOG_DEBUG; priority++) {
            ck_assert_int_eq(log_wants(priority), priority <= threshold);
            log_one(priority);
        }
        text = capture_end();
        ck_assert_uint_eq(count_lines(text), (size_t) (threshold - LOG_ERR + 1));
        for (int priority = LOG_ERR; priority <= LOG_DEBUG; priority++) {
            char wanted[32];

            snprintf(wanted, sizeof(wanted), "Z %s event key=value\n", levels[priority]);
            ck_assert_int_eq(strstr(text, wanted) != NULL, priority <= threshold);
        }
    }
}
END_TEST

/* Has the log write to FD; returns what restores stderr. */
static int redirect(int fd)
{
    int saved = dup(STDERR_FILENO);

    dup2(fd, STDERR_FILENO);
    log_open(LOG_DEBUG, false);
    return saved;
}

static void restore(int saved)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    log_open(LOG_NOTICE, false);
}

/* Reads what is there; the last line is then in TEXT, and its count the result. */
static size_t read_lines(int fd, char *text, size_t size)
{
    size_t lines = 0;
    ssize_t length;

    while ((length = read(fd, text, size - 1)) > 0) {
        text[length] = '\0';
        lines += count_lines(text);
    }
    return lines;
}

/* Fills FDS[1], empties it by FDS[0], and sees that the lines that were lost are told. */
static void check_lost(const int fds[2])
{
    struct log_lost lost = { 0 };
    int saved = redirect(fds[1]);
    static char text[1 << 20];
    size_t lines;
    uint64_t dropped;

    log_count_lost_in(&lost);
    errno = ENOENT;
    for (int i = 0; i < 20000; i++)
        log_one(LOG_NOTICE);
    ck_assert_int_eq(errno, ENOENT);
    dropped = lost.lines;
    lines = read_lines(fds[0], text, sizeof(text));
    ck_assert_uint_gt(dropped, 0);
    ck_assert_uint_eq(lines + dropped, 20000);
    log_one(LOG_NOTICE);
    log_one(LOG_NOTICE);
    ck_assert_uint_eq(read_lines(fds[0], text, sizeof(text)), 3);
    ck_assert_uint_eq(strtoull(strstr(text, " warning lost lines=") + 20, NULL, 10), dropped);
    ck_assert_ptr_eq(strstr(text, "notice"), strstr(strchr(text, '\n'), "notice"));
    ck_assert_uint_eq(lost.lines, lost.told);
    log_count_lost_in(NULL);
    restore(saved);
}

START_TEST(a_full_pipe_loses_lines_and_tells)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    check_lost(fds);
    /* The description that others share was left blocking. */
    ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(a_full_socket_loses_lines_and_tells)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    check_lost(fds);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(a_broken_pipe_ends_nobody)
{
    struct log_lost lost = { 0 };
    int fds[2], saved;

    ck_assert_int_eq(pipe(fds), 0);
    saved = redirect(fds[1]);
    log_count_lost_in(&lost);
    close(fds[0]);
    log_one(LOG_NOTICE);
    ck_assert_uint_eq(lost.lines, 1);
    log_count_lost_in(NULL);
    restore(saved);
    close(fds[1]);
}
END_TEST

START_TEST(the_journal_gets_priorities_and_no_time)
{
    struct stat status;
    char stream[64];
    int fds[2], saved;
    char text[256] = "";

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(fstat(fds[1], &status), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t) status.st_dev,
             (uintmax_t) status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    saved = redirect(fds[1]);
    log_one(LOG_ERR);
    log_one(LOG_DEBUG);
    unsetenv("JOURNAL_STREAM");
    restore(saved);
    ck_assert_int_gt(read(fds[0], text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "<3>error event key=value\n<7>debug event key=value\n");
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(a_journal_elsewhere_does_not_count)
{
    setenv("JOURNAL_STREAM", "1:1", 1);
    ck_assert_str_eq(logged("x", 1), "notice event key=x\n");
    unsetenv("JOURNAL_STREAM");
}
END_TEST

START_TEST(libevents_messages_are_lines)
{
    const char *text;

    log_start("echod");
    capture_log_begin(LOG_DEBUG);
    /* Two priorities are asked for once events exist: libevent warns. */
    struct event_base *base = event_base_new();
    struct event *event = event_new(base, 12345, EV_READ, NULL, NULL);

    event_add(event, NULL);
    text = capture_end();
    event_free(event);
    event_base_free(base);
    ck_assert_ptr_nonnull(strstr(text, "Z warning libevent message=\""));
    ck_assert_uint_eq(count_lines(text), 1);
}
END_TEST

START_TEST(a_failure_names_what_and_why)
{
    const char *text;

    capture_log_begin(LOG_NOTICE);
    log_failure(LOG_ERR, "worker-failed", "start", ENOMEM);
    text = capture_end();
    ck_assert_ptr_nonnull(
        strstr(text, "Z error worker-failed what=start error=\"Cannot allocate memory\"\n"));
}
END_TEST

START_TEST(a_startup_error_is_one_line)
{
    static const struct {
        const char *text, *shown;
    } table[] = {
        { "tcp://a b=\"c\"\\", "echod: wrong: tcp://a b=\"c\"\\\n" },
        { "", "echod: wrong: \n" },
        { "a\nb\x1b[2J\xff%s", "echod: wrong: a\\nb\\x1b[2J\\xff%s\n" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        capture_begin(STDERR_FILENO);
        log_startup_error("wrong", table[i].text);
        ck_assert_str_eq(capture_end(), table[i].shown);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_line_has_time_level_event_and_values,
        values_are_quoted_and_escaped,
        every_byte_stays_on_its_line,
        a_long_line_is_cut_and_stays_a_line,
        what_follows_a_full_line_is_harmless,
        the_threshold_leaves_out_what_is_less_urgent,
        a_full_pipe_loses_lines_and_tells,
        a_full_socket_loses_lines_and_tells,
        a_broken_pipe_ends_nobody,
        the_journal_gets_priorities_and_no_time,
        a_journal_elsewhere_does_not_count,
        libevents_messages_are_lines,
        a_failure_names_what_and_why,
        a_startup_error_is_one_line,
    };

    return HARNESS_RUN("log", tests);
}
