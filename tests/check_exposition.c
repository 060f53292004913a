#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "src/exposition.h"
#include "src/sockets.h"
#include "src/stats.h"
#include "tests/harness.h"

enum { WORKERS = 2, TCP = 0, UDP, TCP_AGAIN, CHAT, ADDRESSES };

static const struct endpoint tcp = { .transport = ENDPOINT_TCP };
static const struct endpoint udp = { .transport = ENDPOINT_UDP };
static const struct endpoint chat = { .service = ENDPOINT_CHAT, .transport = ENDPOINT_UNIX };

static struct listening list[ADDRESSES] = {
    [TCP] = { .endpoint = &tcp, .name = "tcp://127.0.0.1:7" },
    [UDP] = { .endpoint = &udp, .name = "udp://127.0.0.1:7" },
    [TCP_AGAIN] = { .endpoint = &tcp, .name = "tcp://127.0.0.1:7" },
    [CHAT] = { .endpoint = &chat, .name = "chat+unix:///a\"b\\c\nd\xff" },
};

/* As it stands in the text, in both formats. */
#define CHAT_LABEL "endpoint=\"chat+unix:///a\\\"b\\\\c\\nd\\\\xff\""
#define TCP_LABEL "endpoint=\"tcp://127.0.0.1:7\""
#define UDP_LABEL "endpoint=\"udp://127.0.0.1:7\""

/* What is written of the first COUNT addresses; the caller frees it. */
static char *write_some(struct stats *stats, enum exposition_format format, size_t count)
{
    const struct sockets some = { .list = list, .count = count };
    const struct exposition facts = { stats, &some, "ep\"oll" };
    struct evbuffer *out = evbuffer_new();
    char *text;

    ck_assert(exposition_write(out, &facts, format));
    evbuffer_add(out, "", 1);
    text = strdup((const char *) evbuffer_pullup(out, -1));
    evbuffer_free(out);
    return text;
}

static char *write_text(struct stats *stats, enum exposition_format format)
{
    return write_some(stats, format, ADDRESSES);
}

/* Does TEXT have LINE, whole? */
static bool has_line(const char *text, const char *line)
{
    size_t length = strlen(line);

    for (const char *at = text; (at = strstr(at, line)) != NULL; at++)
        if ((at == text || at[-1] == '\n') && at[length] == '\n')
            return true;
    return false;
}

static void assert_line(const char *text, const char *line)
{
    ck_assert_msg(has_line(text, line), "no line %s in:\n%s", line, text);
}

static size_t count_text(const char *text, const char *part)
{
    size_t count = 0;

    for (; (text = strstr(text, part)) != NULL; text++)
        count++;
    return count;
}

static struct stats *make_stats(void)
{
    struct stats *stats = stats_new(WORKERS, ADDRESSES);

    ck_assert_ptr_nonnull(stats);
    return stats;
}

START_TEST(every_series_is_there_from_the_start)
{
    struct stats *stats = make_stats();
    char *text = write_text(stats, EXPOSITION_PROMETHEUS), line[200];

    assert_line(text, "# TYPE echod_connections_active gauge");
    assert_line(text, "# TYPE echod_connections_accepted_total counter");
    assert_line(text, "echod_connections_active{" TCP_LABEL "} 0");
    assert_line(text, "echod_connections_active{" CHAT_LABEL "} 0");
    for (int i = 0; i < REFUSE_REASONS; i++) {
        snprintf(line, sizeof(line), "echod_connections_refused_total{%s,reason=\"%s\"} 0",
                 TCP_LABEL, refuse_reason_name((enum refuse_reason) i));
        assert_line(text, line);
    }
    for (int i = 0; i < CLOSE_REASONS; i++) {
        snprintf(line, sizeof(line), "echod_connections_closed_total{%s,reason=\"%s\"} 0",
                 CHAT_LABEL, close_reason_name((enum close_reason) i));
        assert_line(text, line);
    }
    for (int i = 0; i < DROP_REASONS; i++) {
        snprintf(line, sizeof(line), "echod_datagrams_dropped_total{%s,reason=\"%s\"} 0",
                 UDP_LABEL, drop_reason_name((enum drop_reason) i));
        assert_line(text, line);
    }
    assert_line(text, "echod_accept_pauses_total{reason=\"descriptors\"} 0");
    assert_line(text, "echod_accept_pauses_total{reason=\"max-connections\"} 0");
    assert_line(text, "echod_received_bytes_total{" UDP_LABEL "} 0");
    assert_line(text, "echod_sent_bytes_total{" TCP_LABEL "} 0");
    assert_line(text, "echod_datagrams_sent_total{" UDP_LABEL "} 0");
    assert_line(text, "echod_workers 2");
    assert_line(text, "echod_worker_restarts_total 0");
    assert_line(text, "echod_chat_messages_total 0");
    assert_line(text, "echod_chat_members 0");
    assert_line(text, "echod_chat_dropped_total 0");
    assert_line(text, "echod_log_lines_lost_total 0");
    free(text);
    stats_free(stats);
}
END_TEST

START_TEST(a_place_has_the_series_of_its_kind_once)
{
    struct stats *stats = make_stats();
    char *text = write_text(stats, EXPOSITION_PROMETHEUS);

    ck_assert_uint_eq(count_text(text, "echod_connections_accepted_total{"), 2);
    ck_assert_uint_eq(count_text(text, "echod_connections_closed_total{"), 2 * CLOSE_REASONS);
    ck_assert_uint_eq(count_text(text, "echod_connections_refused_total{"), 2 * REFUSE_REASONS);
    ck_assert_uint_eq(count_text(text, "echod_datagrams_received_total{"), 1);
    ck_assert_uint_eq(count_text(text, "echod_datagrams_dropped_total{"), DROP_REASONS);
    ck_assert_uint_eq(count_text(text, "echod_received_bytes_total{"), 3);
    free(text);
    stats_free(stats);
}
END_TEST

/* Sums of different counters, at different places, all differ. */
START_TEST(no_counter_is_forgotten_or_confused)
{
    static const char *const names[STATS_COUNTER_COUNT] = {
        [STATS_accepted] = "echod_connections_accepted_total{%s} %d",
        [STATS_received_bytes] = "echod_received_bytes_total{%s} %d",
        [STATS_sent_bytes] = "echod_sent_bytes_total{%s} %d",
        [STATS_reads] = NULL, /* only for the status page */
        [STATS_datagrams_received] = "echod_datagrams_received_total{%s} %d",
        [STATS_datagrams_sent] = "echod_datagrams_sent_total{%s} %d",
        [STATS_chat_messages] = NULL, /* told without endpoint, below */
    };
    struct stats *stats = make_stats();
    char *text, line[200];

    for (unsigned worker = 0; worker < WORKERS; worker++)
        for (unsigned i = 0; i < ADDRESSES; i++)
            for (unsigned counter = 0; counter < STATS_COUNTER_COUNT; counter++)
                stats_add(&stats_block(stats, worker, i)->counter[counter],
                          (i + 1) * 1000 + (counter + 1) * 10 + worker);
    stats_add(&stats_block(stats, 1, TCP)->closed[CLOSE_RESET], 5);
    stats_add(&stats_block(stats, 0, TCP_AGAIN)->closed[CLOSE_RESET], 2);
    stats_add(&stats_block(stats, 1, CHAT)->refused[REFUSE_ACCEPT_RATE], 11);
    stats_add(&stats_block(stats, 1, UDP)->dropped[DROP_RATE], 13);
    text = write_text(stats, EXPOSITION_PROMETHEUS);
    for (int counter = 0; counter < STATS_COUNTER_COUNT; counter++) {
        bool is_of_datagrams =
            counter == STATS_datagrams_received || counter == STATS_datagrams_sent;
        int unit = (counter + 1) * 10;

        if (names[counter] == NULL)
            continue;
        /* Two addresses have one name: 2 x 1000 + 2 x 3000, in two workers each. */
        snprintf(line, sizeof(line), names[counter], is_of_datagrams ? UDP_LABEL : TCP_LABEL,
                 is_of_datagrams ? 2 * 2000 + 2 * unit + 1 : 2 * 4000 + 4 * unit + 2);
        assert_line(text, line);
    }
    snprintf(line, sizeof(line), "echod_chat_messages_total %d",
             2 * 10000 + ADDRESSES * (2 * (STATS_chat_messages + 1) * 10 + 1));
    assert_line(text, line);
    assert_line(text, "echod_connections_closed_total{" TCP_LABEL ",reason=\"reset\"} 7");
    assert_line(text, "echod_connections_active{" TCP_LABEL "} 8035"); /* 8042 - 7 */
    assert_line(text, "echod_connections_refused_total{" CHAT_LABEL ",reason=\"accept-rate\"} 11");
    assert_line(text, "echod_datagrams_dropped_total{" UDP_LABEL ",reason=\"rate\"} 13");
    free(text);
    stats_free(stats);
}
END_TEST

START_TEST(what_has_no_endpoint_is_told)
{
    struct stats *stats = make_stats();
    char *text, line[200];

    stats->worker_restarts = 3;
    stats->chat_members = 4;
    stats->chat_dropped = 5;
    stats->lost.lines = UINT64_MAX;
    stats->paused[PAUSE_MAX_CONNECTIONS] = 7;
    stats->started_unix_ms = 1764412345007;
    text = write_text(stats, EXPOSITION_PROMETHEUS);
    assert_line(text, "echod_worker_restarts_total 3");
    assert_line(text, "echod_chat_members 4");
    assert_line(text, "echod_chat_dropped_total 5");
    assert_line(text, "echod_log_lines_lost_total 18446744073709551615");
    assert_line(text, "echod_accept_pauses_total{reason=\"max-connections\"} 7");
    assert_line(text, "echod_start_time_seconds 1764412345.007");
    snprintf(line, sizeof(line),
             "echod_build_info{version=\"%s\",libevent=\"%s\",backend=\"ep\\\"oll\"} 1",
             PACKAGE_VERSION, event_get_version());
    assert_line(text, line);
    free(text);
    stats_free(stats);
}
END_TEST

START_TEST(open_metrics_has_its_own_ways)
{
    struct stats *stats = make_stats();
    char *text = write_text(stats, EXPOSITION_OPENMETRICS);

    assert_line(text, "# TYPE echod_build info");
    assert_line(text, "# TYPE echod_received_bytes counter");
    assert_line(text, "# UNIT echod_received_bytes bytes");
    assert_line(text, "# UNIT echod_start_time_seconds seconds");
    assert_line(text, "# TYPE echod_workers gauge");
    assert_line(text, "echod_received_bytes_total{" CHAT_LABEL "} 0");
    ck_assert_str_eq(text + strlen(text) - strlen("\n# EOF\n"), "\n# EOF\n");
    ck_assert_ptr_null(strstr(text, "_total counter"));
    free(text);
    text = write_text(stats, EXPOSITION_PROMETHEUS);
    ck_assert_ptr_null(strstr(text, "# EOF"));
    ck_assert_ptr_null(strstr(text, "# UNIT"));
    free(text);
    stats_free(stats);
}
END_TEST

/* COMMAND reads TEXT, and is content without a word. */
static void assert_content(const char *command, const char *text)
{
    FILE *file = tmpfile(), *pipe;
    char complaint[400];
    size_t length;

    fputs(text, file);
    rewind(file);
    ck_assert_int_ge(dup2(fileno(file), STDIN_FILENO), 0);
    pipe = popen(command, "re");
    ck_assert_ptr_nonnull(pipe);
    length = fread(complaint, 1, sizeof(complaint) - 1, pipe);
    complaint[length] = '\0';
    ck_assert_msg(pclose(pipe) == 0 && length == 0, "%s: %s\n%s", command, complaint, text);
    fclose(file);
}

/* The same of what is written, with and without series of every family. */
static void assert_approved(enum exposition_format format, const char *command)
{
    struct stats *stats = make_stats();

    for (size_t count = 0; count <= ADDRESSES; count++) {
        char *text = write_some(stats, format, count);

        assert_content(command, text);
        free(text);
    }
    stats_free(stats);
}

START_TEST(promtool_approves)
{
    if (system("command -v promtool >/dev/null 2>&1") == 0)
        assert_approved(EXPOSITION_PROMETHEUS, "promtool check metrics 2>&1");
}
END_TEST

START_TEST(a_parser_of_open_metrics_approves)
{
    if (system("python3 -c 'import prometheus_client.openmetrics' 2>/dev/null") == 0)
        assert_approved(EXPOSITION_OPENMETRICS,
                        "python3 -c 'import sys, prometheus_client.openmetrics.parser as parser\n"
                        "list(parser.text_fd_to_metric_families(sys.stdin))' 2>&1");
}
END_TEST

START_TEST(the_accept_header_decides)
{
    static const struct {
        const char *accept;
        enum exposition_format format;
    } table[] = {
        { NULL, EXPOSITION_PROMETHEUS },
        { "", EXPOSITION_PROMETHEUS },
        { "*/*", EXPOSITION_PROMETHEUS },
        { "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
          EXPOSITION_PROMETHEUS },
        { "text/plain", EXPOSITION_PROMETHEUS },
        { "application/json", EXPOSITION_PROMETHEUS }, /* neither: better that than nothing */
        { "application/openmetrics-text", EXPOSITION_OPENMETRICS },
        { "application/openmetrics-text;q=0,*/*;q=0.1", EXPOSITION_PROMETHEUS },
        { "application/openmetrics-text;q=0", EXPOSITION_PROMETHEUS },
        { "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
          EXPOSITION_PROMETHEUS },
        { "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
          "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
          EXPOSITION_OPENMETRICS },
        { "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9",
          EXPOSITION_PROMETHEUS },
        { "application/openmetrics-text;version=1.0.0;q=0.5, text/plain;q=0.5",
          EXPOSITION_OPENMETRICS },
        { "application/*", EXPOSITION_OPENMETRICS },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        ck_assert_msg(exposition_choose(table[i].accept) == table[i].format, "%s",
                      table[i].accept);
    ck_assert_str_eq(exposition_content_type(EXPOSITION_PROMETHEUS),
                     "text/plain; version=0.0.4; charset=utf-8");
    ck_assert_str_eq(exposition_content_type(EXPOSITION_OPENMETRICS),
                     "application/openmetrics-text; version=1.0.0; charset=utf-8");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_series_is_there_from_the_start,
        a_place_has_the_series_of_its_kind_once,
        no_counter_is_forgotten_or_confused,
        what_has_no_endpoint_is_told,
        open_metrics_has_its_own_ways,
        promtool_approves,
        a_parser_of_open_metrics_approves,
        the_accept_header_decides,
    };

    return HARNESS_RUN("exposition", tests);
}
