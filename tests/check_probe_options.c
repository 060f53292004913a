#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/log.h"
#include "src/probe/options.h"
#include "src/proxy.h"
#include "tests/harness.h"

enum { ARGUMENTS_MOST = 10 };

/* Parses the words of LINE, separated by blanks, of which the parsed options keep pointers. */
static enum cmdline_result parse(struct probe_options *options, const char *line)
{
    static char words[256];
    char *argv[ARGUMENTS_MOST + 2] = { (char *) "echoprobe" }, *rest = words;
    int argc = 1;

    log_start("echoprobe");
    snprintf(words, sizeof(words), "%s", line);
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0') {
            ck_assert_int_le(argc, ARGUMENTS_MOST);
            argv[argc++] = word;
        }
    return probe_options_parse(options, argc, argv);
}

static struct probe_options expect_good(const char *line)
{
    struct probe_options options;
    enum cmdline_result result;
    const char *text;

    capture_begin(STDERR_FILENO);
    result = parse(&options, line);
    text = capture_end();
    ck_assert_msg(result == CMDLINE_RUN, "%s: %s", line, text);
    ck_assert_str_eq(text, "");
    return options;
}

static void expect_wrong(const char *line, const char *complaint)
{
    struct probe_options options;
    enum cmdline_result result;
    char wanted[300];

    capture_begin(STDERR_FILENO);
    result = parse(&options, line);
    snprintf(wanted, sizeof(wanted), "echoprobe: %s\n", complaint);
    ck_assert_str_eq(capture_end(), wanted);
    ck_assert_msg(result == CMDLINE_WRONG, "%s was taken", line);
}

START_TEST(by_default_it_pings_without_end)
{
    struct probe_options options = expect_good("7777");

    ck_assert_int_eq(options.mode, PROBE_PING);
    ck_assert_str_eq(options.endpoint.host, "localhost");
    ck_assert_uint_eq(options.endpoint.port, 7777);
    ck_assert_uint_eq(options.count, 0);
    ck_assert_uint_eq(options.duration, 0);
    ck_assert_uint_eq(options.size, 64);
    ck_assert_uint_eq(options.interval, 1000);
    ck_assert_uint_eq(options.connections, 1);
    ck_assert_uint_eq(options.threads, 1);
    ck_assert_uint_eq(options.in_flight, 1);
    ck_assert_uint_eq(options.timeout, 10000);
    ck_assert(!options.json && !options.plot);
}
END_TEST

START_TEST(letters_and_values)
{
    struct probe_options options =
        expect_good("-n9 -s 1073741824 -i0.25 -c3 -W 1500ms --plot [::1]:7");

    ck_assert_uint_eq(options.count, 9);
    ck_assert_uint_eq(options.size, 1073741824);
    ck_assert_uint_eq(options.interval, 250);
    ck_assert_uint_eq(options.connections, 3);
    ck_assert_uint_eq(options.timeout, 1500);
    ck_assert(options.plot);
    ck_assert_uint_eq(expect_good("--load -p 16 7").in_flight, 16);
    ck_assert_uint_eq(expect_good("--load -t 4 -c 9 7").threads, 4);
    ck_assert_uint_eq(expect_good("--load -t 4 -c 3 7").threads, 3);
}
END_TEST

START_TEST(large_numbers_have_units)
{
    ck_assert_uint_eq(expect_good("-s 64k 7").size, 65536);
    ck_assert_uint_eq(expect_good("-s 1G 7").size, 1073741824);
    ck_assert_uint_eq(expect_good("-n 3M 7").count, 3000000);
    ck_assert_uint_eq(expect_good("-c 1k 7").connections, 1000);
    ck_assert_uint_eq(expect_good("--rate=20k 7").rate, 20000);
    expect_wrong("-n 1K 7", "malformed number: --count=1K");
    expect_wrong("-n 1kk 7", "malformed number: --count=1kk");
    expect_wrong("-n k 7", "malformed number: --count=k");
    expect_wrong("-n 99999999999999999G 7", "number out of range: --count=99999999999999999G");
    expect_wrong("-s 1025M 7", "number out of range: --size=1025M");
    expect_wrong("-p 1k --load 7", "malformed number: --in-flight=1k");
}
END_TEST

START_TEST(a_proxy_header_of_a_version)
{
    ck_assert_ptr_null(expect_good("7").proxy);
    ck_assert(expect_good("--proxy-protocol=v1 7").proxy == proxy_write_v1);
    ck_assert(expect_good("--proxy-protocol=v2 7").proxy == proxy_write_v2);
    expect_wrong("--proxy-protocol=v3 7", "neither v1 nor v2: --proxy-protocol=v3");
    expect_wrong("--proxy-protocol=v1 udp://a:7",
                 "contradictory options: --proxy-protocol with udp");
    expect_wrong("--proxy-protocol=v1 unix:///x",
                 "contradictory options: --proxy-protocol with unix");
}
END_TEST

START_TEST(a_load_ends_by_itself)
{
    ck_assert_uint_eq(expect_good("--load 7").duration, 10000);
    ck_assert_uint_eq(expect_good("--load -n 5 7").duration, 0);
    ck_assert_uint_eq(expect_good("--load -d 2 7").duration, 2000);
    ck_assert_uint_eq(expect_good("-d 2 7").duration, 2000);
    ck_assert_uint_eq(expect_good("--half-close -c 5 7").count, 5);
    ck_assert_uint_eq(expect_good("--half-close -c 5 -n 7 7").count, 7);
}
END_TEST

START_TEST(in_the_open_loop_a_time_is_a_number_of_messages)
{
    ck_assert_uint_eq(expect_good("--rate=100 7").count, 1000);
    ck_assert_uint_eq(expect_good("--rate=3 -d 0.5 7").count, 2);
    ck_assert_uint_eq(expect_good("--rate=100 -d 2 -n 150 7").count, 150);
    ck_assert_uint_eq(expect_good("--rate=100 -d 1 -n 150 7").count, 100);
    ck_assert_uint_eq(expect_good("--rate=100 -d 2 7").duration, 0);
    ck_assert_uint_eq(expect_good("--rate=100 7").in_flight, 0);
    ck_assert_uint_eq(expect_good("--rate=100 -p 4 7").in_flight, 4);
    ck_assert_uint_eq(expect_good("--rate=100000000 -s 1 -d 8784h 7").count,
                      UINT64_C(3162240000000000));
}
END_TEST

START_TEST(datagrams_have_sizes_and_patience_of_their_own)
{
    ck_assert_uint_eq(expect_good("udp://a:7").timeout, 1000);
    ck_assert_uint_eq(expect_good("-W 3 udp://a:7").timeout, 3000);
    ck_assert_uint_eq(expect_good("-s 0 udp://a:7").size, 0);
    ck_assert_uint_eq(expect_good("-s 65507 --load -n 10000000000 udp://a:7").size, 65507);
    ck_assert_uint_eq(expect_good("unix:///x").timeout, 10000);
}
END_TEST

START_TEST(modes_have_names)
{
    ck_assert_str_eq(probe_mode_name(expect_good("7").mode), "ping");
    ck_assert_str_eq(probe_mode_name(expect_good("--load 7").mode), "closed");
    ck_assert_str_eq(probe_mode_name(expect_good("--rate=1 7").mode), "open");
    ck_assert_str_eq(probe_mode_name(expect_good("--half-close 7").mode), "half-close");
}
END_TEST

START_TEST(what_contradicts_is_wrong)
{
    expect_wrong("--load --rate=1 7", "contradictory options: --load --rate");
    expect_wrong("--half-close --load 7", "contradictory options: --load --half-close");
    expect_wrong("--rate=1 --half-close 7", "contradictory options: --rate --half-close");
    expect_wrong("--load -i 1 7", "contradictory options: --load --interval");
    expect_wrong("--rate=1 -i 1 7", "contradictory options: --rate --interval");
    expect_wrong("--half-close -i 1 7", "contradictory options: --half-close --interval");
    expect_wrong("--half-close -d 1 7", "contradictory options: --half-close --duration");
    expect_wrong("--half-close -p 1 7", "contradictory options: --half-close --in-flight");
    expect_wrong("-p 2 7", "contradictory options: --in-flight without a load");
    expect_wrong("--half-close udp://a:7", "contradictory options: --half-close with udp");
    expect_wrong("--insecure 7", "contradictory options: --insecure without tls");
    expect_wrong("--tls-ca=x udp://a:7", "contradictory options: --tls-ca without tls");
    expect_wrong("--json --plot 7", "contradictory options: --json --plot");
}
END_TEST

START_TEST(values_out_of_range_are_wrong)
{
    expect_wrong("-n 0 7", "number out of range: --count=0");
    expect_wrong("-s 0 7", "only udp has empty messages: --size=0");
    expect_wrong("-s 65508 udp://a:7", "larger than a datagram: --size=65508");
    expect_wrong("-s 1073741825 7", "number out of range: --size=1073741825");
    expect_wrong("-c 0 7", "number out of range: --connections=0");
    expect_wrong("-t 0 7", "number out of range: --threads=0");
    expect_wrong("-p 65537 --load 7", "number out of range: --in-flight=65537");
    expect_wrong("--rate=0 7", "number out of range: --rate=0");
    expect_wrong("-i 0 7", "time out of range: --interval=0");
    expect_wrong("-W 0 7", "time out of range: --timeout=0");
    expect_wrong("-d 9000h 7", "time out of range: --duration=9000h");
    expect_wrong("--rate=1000000 -s 1000000000 -d 9999 7",
                 "more bytes than can be counted: --size");
}
END_TEST

START_TEST(exactly_one_endpoint_that_can_be_connected_to)
{
    expect_wrong("", "missing endpoint: see --help");
    expect_wrong("7 8", "more than one endpoint: 8");
    expect_wrong("*:7", "no host to connect to: *:7");
    expect_wrong(":7", "no host to connect to: :7");
    expect_wrong("localhost:0", "no port to connect to: localhost:0");
    expect_wrong("tcp://localhost", "missing port: tcp://localhost");
    expect_wrong("udp://*:7", "no host to connect to: udp://*:7");
    expect_wrong("unix://x", "neither an absolute path nor @name: unix://x");
    expect_wrong("unix:///x?mode=0600", "endpoint keys are for the server: unix:///x?mode=0600");
    expect_wrong("7?proxy=off", "endpoint keys are for the server: 7?proxy=off");
    ck_assert_str_eq(expect_good("unix:///x").endpoint.host, "/x");
    ck_assert_str_eq(expect_good("unix://@x").endpoint.host, "@x");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        by_default_it_pings_without_end,
        letters_and_values,
        large_numbers_have_units,
        a_proxy_header_of_a_version,
        a_load_ends_by_itself,
        in_the_open_loop_a_time_is_a_number_of_messages,
        datagrams_have_sizes_and_patience_of_their_own,
        modes_have_names,
        what_contradicts_is_wrong,
        values_out_of_range_are_wrong,
        exactly_one_endpoint_that_can_be_connected_to,
    };

    return HARNESS_RUN("probe/options", tests);
}
