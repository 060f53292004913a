#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/probe/plot.h"
#include "src/probe/report.h"
#include "src/probe/terminal.h"
#include "tests/harness.h"

static struct tally tally;

static struct probe_options options_for(const char *text)
{
    return (struct probe_options){ .mode = PROBE_CLOSED, .size = 64, .connections = 2,
                                   .in_flight = 3, .endpoint.text = text };
}

static void begin(void)
{
    memset(&tally, 0, sizeof(tally));
}

/*
 * Two seconds in which a thousand messages came back in a millisecond each, of which the histogram
 * makes 1.001471, and a slow one.
 */
static void fill_tally(void)
{
    begin();
    tally.began_at = 1000000000;
    tally.ended_at = 3000000000;
    for (int i = 0; i < 1000; i++)
        histogram_add(&tally.latency, 1000000);
    histogram_add(&tally.latency, 500000000);
    tally_add(&tally, TALLY_MESSAGES, 1001);
    tally_add(&tally, TALLY_BYTES, 64064);
    tally_add(&tally, TALLY_LOST, 4);
    tally_add(&tally, TALLY_CORRUPT, 5);
    tally_add(&tally, TALLY_ERRORS, 6);
}

START_TEST(json_is_one_line)
{
    struct probe_options options = options_for("tcp://[::1]:7");

    fill_tally();
    capture_begin(STDOUT_FILENO);
    report_json(&options, &tally);
    ck_assert_str_eq(capture_end(),
                     "{\"endpoint\":\"tcp://[::1]:7\",\"mode\":\"closed\",\"connections\":2,"
                     "\"size\":64,\"in_flight\":3,\"seconds\":2.000000,\"messages\":1001,"
                     "\"bytes\":64064,\"rate\":500.500,\"lost\":4,\"corrupt\":5,\"errors\":6,"
                     "\"latency_us\":{\"min\":1000.000,\"p50\":1001.471,\"p90\":1001.471,"
                     "\"p99\":1001.471,\"p99.9\":1001.471,\"max\":500000.000,"
                     "\"mean\":1498.501}}\n");
}
END_TEST

START_TEST(json_of_nothing_has_no_latencies)
{
    struct probe_options options = options_for("a\"b\\c\n");

    begin();
    capture_begin(STDOUT_FILENO);
    report_json(&options, &tally);
    ck_assert_str_eq(capture_end(),
                     "{\"endpoint\":\"a\\u0022b\\u005cc\\u000a\",\"mode\":\"closed\","
                     "\"connections\":2,\"size\":64,\"in_flight\":3,\"seconds\":0.000000,"
                     "\"messages\":0,\"bytes\":0,\"rate\":0.000,\"lost\":0,\"corrupt\":0,"
                     "\"errors\":0,\"latency_us\":{\"min\":null,\"p50\":null,\"p90\":null,"
                     "\"p99\":null,\"p99.9\":null,\"max\":null,\"mean\":null}}\n");
}
END_TEST

START_TEST(a_summary_for_people)
{
    struct probe_options options = options_for("7777");

    fill_tally();
    capture_begin(STDOUT_FILENO);
    report_summary(&options, &tally);
    ck_assert_str_eq(capture_end(),
                     "--- 7777: closed, 2 x 64 bytes\n"
                     "1001 messages, 64064 bytes in 2.000 s: 500.5 messages/s, 0.03 MB/s\n"
                     "latency in ms: p50 1.001 p90 1.001 p99 1.001 p99.9 1.001 max 500.000\n"
                     "4 lost, 5 corrupt, 6 errors\n");
}
END_TEST

START_TEST(a_summary_of_nothing_has_no_latencies)
{
    struct probe_options options = options_for("7777");

    begin();
    tally_add(&tally, TALLY_LOST, 1);
    capture_begin(STDOUT_FILENO);
    report_summary(&options, &tally);
    ck_assert_str_eq(capture_end(),
                     "--- 7777: closed, 2 x 64 bytes\n"
                     "0 messages, 0 bytes in 0.000 s: 0.0 messages/s, 0.00 MB/s\n"
                     "1 lost, 0 corrupt, 0 errors\n");
}
END_TEST

START_TEST(merged_tallies)
{
    static struct tally other;

    begin();
    tally_merge(&tally, &other);
    ck_assert_uint_eq(tally.began_at, 0);
    ck_assert(tally_is_clean(&tally));
    other.connected = 3;
    other.began_at = 10;
    other.ended_at = 20;
    tally_add(&other, TALLY_LOST, 2);
    tally_merge(&tally, &other);
    other.began_at = 5;
    other.ended_at = 15;
    tally_merge(&tally, &other);
    ck_assert_uint_eq(tally.connected, 6);
    ck_assert_uint_eq(tally.began_at, 5);
    ck_assert_uint_eq(tally.ended_at, 20);
    ck_assert_uint_eq(tally_get(&tally, TALLY_LOST), 4);
    ck_assert(!tally_is_clean(&tally));
}
END_TEST

/* The latencies so far, as plotted in so many columns. */
static const char *plotted(unsigned width, bool has_blocks, bool has_colour)
{
    struct plot_style style = { width, has_blocks, has_colour };

    capture_begin(STDOUT_FILENO);
    plot_draw(&tally.latency, &style);
    return capture_end();
}

static void fill_two_humps(void)
{
    begin();
    for (int i = 0; i < 160; i++)
        histogram_add(&tally.latency, 50000);
    for (int i = 0; i < 20; i++)
        histogram_add(&tally.latency, 110000);
    histogram_add(&tally.latency, 90000); /* too few for a bar, but not none */
}

START_TEST(a_plot_of_two_humps)
{
    fill_two_humps();
    ck_assert_str_eq(plotted(60, false, false),
                     "    from messages\n"
                     "   47 us      160 |##################################### p50\n"
                     "   56 us        0 |\n"
                     "   68 us        0 |\n"
                     "   82 us        1 |#\n"
                     "  100 us       20 |##### p90 p99 p99.9 max\n");
    ck_assert_str_eq(plotted(50, true, false),
                     "    from messages\n"
                     "   47 us      160 │███████████████████████████ p50\n"
                     "   56 us        0 │\n"
                     "   68 us        0 │\n"
                     "   82 us        1 │▏\n"
                     "  100 us       20 │███▍ p90-max\n");
}
END_TEST

START_TEST(colour_tells_common_from_slow)
{
    begin();
    for (int i = 0; i < 1000; i++)
        histogram_add(&tally.latency, i < 920 ? 50000 : i < 995 ? 60000 : 70000);
    ck_assert_str_eq(plotted(40, false, true),
                     "    from messages\n"
                     "   47 us      920 |\033[36m#############\033[m\033[1m p50 p90\033[m\n"
                     "   56 us       75 |\033[33m#\033[m\033[1m p99\033[m\n"
                     "   68 us        5 |\033[31m#\033[m\033[1m p99.9 max\033[m\n");
}
END_TEST

/* The columns of the widest line of TEXT, which is ASCII. */
static size_t widest(const char *text)
{
    size_t most = 0;

    while (*text != '\0') {
        size_t length = strcspn(text, "\n");

        most = length > most ? length : most;
        text += length + 1;
    }
    return most;
}

START_TEST(a_plot_fills_its_width)
{
    for (unsigned width = 30; width < 200; width++) {
        size_t wanted = width < 40 ? 40 : width;

        fill_two_humps();
        ck_assert_uint_eq(widest(plotted(width, false, false)), wanted);
        begin();
        histogram_add(&tally.latency, 50000);
        ck_assert_uint_eq(widest(plotted(width, false, false)), wanted);
        tally.latency.buckets[1000] = UINT64_C(10000000000);
        tally.latency.count += UINT64_C(10000000000);
        ck_assert_uint_eq(widest(plotted(width, false, false)), wanted);
    }
}
END_TEST

START_TEST(a_wide_plot_has_few_rows)
{
    const char *text;

    begin();
    histogram_add(&tally.latency, 15000);
    histogram_add(&tally.latency, UINT64_C(9000000000));
    text = plotted(80, false, false);
    ck_assert_uint_le(count_lines(text), 19);
    ck_assert_ptr_nonnull(strstr(text, "   10 us        1 |####"));
    ck_assert_ptr_nonnull(strstr(text, "  4.7 s         1 |####"));
    histogram_add(&tally.latency, 1);
    text = plotted(80, false, false);
    ck_assert_uint_eq(count_lines(text), 21);
    ck_assert_ptr_nonnull(strstr(text, "\n    1 ns        1 |"));
    ck_assert_ptr_nonnull(strstr(text, "\n  3.2 s         1 |"));
}
END_TEST

START_TEST(what_is_next_to_a_border_is_drawn_too)
{
    const char *row = " 1 |#################### p50 p90 p99 p99.9 max\n";

    for (uint64_t value = 99000; value < 101000; value += 100) {
        begin();
        histogram_add(&tally.latency, value);
        ck_assert_ptr_nonnull(strstr(plotted(61, false, false), row));
    }
}
END_TEST

START_TEST(a_plot_of_nothing_is_empty)
{
    begin();
    ck_assert_str_eq(plotted(80, true, true), "");
}
END_TEST

START_TEST(the_width_is_of_the_user_or_the_terminal)
{
    setenv("COLUMNS", "50", 1);
    ck_assert_uint_eq(terminal_width(STDOUT_FILENO), 50);
    setenv("COLUMNS", "many", 1);
    ck_assert_uint_ge(terminal_width(STDOUT_FILENO), 1);
    unsetenv("COLUMNS");
    ck_assert_uint_eq(terminal_width(-1), 80);
    setenv("COLUMNS", "99999999999999999999", 1);
    ck_assert_uint_eq(terminal_width(-1), 1000);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        json_is_one_line,
        json_of_nothing_has_no_latencies,
        a_summary_for_people,
        a_summary_of_nothing_has_no_latencies,
        merged_tallies,
        a_plot_of_two_humps,
        colour_tells_common_from_slow,
        a_plot_fills_its_width,
        a_wide_plot_has_few_rows,
        what_is_next_to_a_border_is_drawn_too,
        a_plot_of_nothing_is_empty,
        the_width_is_of_the_user_or_the_terminal,
    };

    return HARNESS_RUN("probe/report", tests);
}
