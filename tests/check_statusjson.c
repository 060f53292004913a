#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "src/statusjson.h"
#include "tests/harness.h"

enum { WORKERS = 2, ADDRESSES = 3 };

static const struct endpoint tcp = { .transport = ENDPOINT_TCP };
static const struct endpoint udp = { .transport = ENDPOINT_UDP };
static const struct endpoint chat = { .service = ENDPOINT_CHAT, .transport = ENDPOINT_UNIX };

static struct listening list[ADDRESSES] = {
    { .endpoint = &tcp, .name = "tcp://127.0.0.1:7" },
    { .endpoint = &udp, .name = "udp://127.0.0.1:7" },
    { .endpoint = &chat, .name = "chat+unix:///a\"b\\c\nd\xff<" },
};
static const struct sockets sockets = { .list = list, .count = ADDRESSES };
static const struct crew_worker crew[WORKERS] = { { .pid = 17, .is_ready = true }, { .pid = 18, .is_ready = true, .is_silent = true } };

static struct stats *make_stats(void)
{
    struct stats *stats = stats_new(WORKERS, ADDRESSES);

    ck_assert_ptr_nonnull(stats);
    stats->started_unix_ms = 1764412345007;
    for (unsigned worker = 0; worker < WORKERS; worker++)
        for (unsigned i = 0; i < ADDRESSES; i++)
            for (unsigned counter = 0; counter < STATS_COUNTER_COUNT; counter++)
                stats_add(&stats_block(stats, worker, i)->counter[counter],
                          (i + 1) * 1000 + (counter + 1) * 10 + worker);
    return stats;
}

/* What is written; the caller frees it. */
static char *write_text(struct stats *stats, bool is_draining)
{
    const struct statusjson facts = { stats, &sockets, "epoll", crew, is_draining };
    struct evbuffer *out = evbuffer_new();
    char *text;

    ck_assert(statusjson_write(out, &facts));
    evbuffer_add(out, "", 1);
    text = strdup((const char *) evbuffer_pullup(out, -1));
    evbuffer_free(out);
    return text;
}

static void assert_part(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "no %s in:\n%s", part, text);
}

START_TEST(it_says_what_runs)
{
    struct stats *stats = make_stats();
    char *text = write_text(stats, false), *draining = write_text(stats, true);

    assert_part(text, "{\"version\":\"" PACKAGE_VERSION "\",\"libevent\":\"");
    assert_part(text, event_get_version());
    assert_part(text, ",\"backend\":\"epoll\",\"started\":1764412345.007,\"uptime\":");
    assert_part(text, ",\"draining\":false,");
    assert_part(draining, ",\"draining\":true,");
    free(text);
    free(draining);
    stats_free(stats);
}
END_TEST

START_TEST(endpoints_have_their_own_counts)
{
    struct stats *stats = make_stats();
    char *text;

    stats_add(&stats_block(stats, 1, 0)->closed[CLOSE_EOF], 11);
    stats_add(&stats_block(stats, 1, 0)->refused[REFUSE_DENY], 3);
    stats_add(&stats_block(stats, 0, 0)->refused[REFUSE_ACCEPT_RATE], 4);
    stats_add(&stats_block(stats, 0, 1)->dropped[DROP_FULL], 5);
    text = write_text(stats, false);
    assert_part(text, "{\"name\":\"tcp://127.0.0.1:7\",\"service\":\"echo\",\"transport\":\"tcp\","
                      "\"active\":2010,\"accepted\":2021,\"messages\":4182,"
                      "\"received_bytes\":2041,\"sent_bytes\":2061,");
    assert_part(text, "\"refused\":7,\"dropped\":0}");
    assert_part(text, "\"refused\":0,\"dropped\":5}");
    /* Of the chat its lines: 2 x 3000 + 2 x 70 + 1. */
    assert_part(text, "{\"name\":\"chat+unix:///a\\\"b\\\\c\\nd\\\\xff<\",\"service\":\"chat\","
                      "\"transport\":\"unix\",\"active\":6021,\"accepted\":6021,"
                      "\"messages\":6141,");
    free(text);
    stats_free(stats);
}
END_TEST

START_TEST(workers_have_their_own_counts)
{
    struct stats *stats = make_stats();
    char *text = write_text(stats, false);

    assert_part(text, "\"workers\":[{\"number\":0,\"pid\":17,\"ready\":true,\"silent\":false,\"active\":6030,"
                      "\"accepted\":6030,\"received_bytes\":6060,\"sent_bytes\":6090},"
                      "{\"number\":1,\"pid\":18,\"ready\":true,\"silent\":true,\"active\":6033,");
    free(text);
    stats_free(stats);
}
END_TEST

START_TEST(totals_have_every_reason)
{
    struct stats *stats = make_stats();
    char *text, part[80];

    stats->worker_restarts = 3;
    stats->chat_members = 4;
    stats->chat_dropped = 5;
    stats->lost.lines = UINT64_MAX;
    stats->paused[PAUSE_DESCRIPTORS] = 7;
    stats_add(&stats_block(stats, 0, 2)->closed[CLOSE_SLOW], 9);
    text = write_text(stats, false);
    assert_part(text, "\"totals\":{\"active\":12054,");
    assert_part(text, ",\"chat_members\":4,\"chat_dropped\":5,\"worker_restarts\":3,"
                      "\"log_lines_lost\":18446744073709551615,\"refused\":{\"deny\":0,");
    for (int i = 0; i < CLOSE_REASONS; i++) {
        snprintf(part, sizeof(part), "\"%s\":%d", close_reason_name((enum close_reason) i),
                 i == CLOSE_SLOW ? 9 : 0);
        assert_part(text, part);
    }
    for (int i = 0; i < DROP_REASONS; i++) {
        snprintf(part, sizeof(part), "\"%s\":0", drop_reason_name((enum drop_reason) i));
        assert_part(text, part);
    }
    assert_part(text, "\"paused\":{\"descriptors\":7,\"max-connections\":0}");
    free(text);
    stats_free(stats);
}
END_TEST

START_TEST(a_parser_reads_it)
{
    struct stats *stats = make_stats();
    char *text = write_text(stats, false);
    FILE *file = tmpfile();

    fputs(text, file);
    rewind(file);
    ck_assert_int_ge(dup2(fileno(file), STDIN_FILENO), 0);
    if (system("command -v python3 >/dev/null") == 0)
        ck_assert_int_eq(system("python3 -c 'import sys, json; it = json.load(sys.stdin)\n"
                                "name = it[\"endpoints\"][2][\"name\"]\n"
                                "assert name == \"chat+unix:///a\\\"b\\\\c\\nd\\\\xff<\", name\n"
                                "assert it[\"totals\"][\"closed\"][\"eof\"] == 0, it'"),
                         0);
    fclose(file);
    free(text);
    stats_free(stats);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_says_what_runs,        endpoints_have_their_own_counts, workers_have_their_own_counts,
        totals_have_every_reason, a_parser_reads_it,
    };

    return HARNESS_RUN("statusjson", tests);
}
