#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "config.h"
#include "src/options.h"
#include "src/reactor.h"
#include "tests/harness.h"

enum { ARGUMENTS_MOST = 8 };

/* What the service manager has passed: nothing, but where a test has it so. */
static struct activation passed;

/* Parses the words of LINE, separated by blanks, of which the parsed options keep pointers. */
static enum cmdline_result parse(struct options *options, const char *line)
{
    static char words[1024];
    char *argv[ARGUMENTS_MOST + 2] = { (char *) "echod" }, *rest = words;
    int argc = 1;

    snprintf(words, sizeof(words), "%s", line);
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0') {
            ck_assert_int_le(argc, ARGUMENTS_MOST);
            argv[argc++] = word;
        }
    return options_parse(options, argc, argv, &passed);
}

static void expect_good(struct options *options, const char *line)
{
    enum cmdline_result result;
    const char *text;

    capture_begin(STDERR_FILENO);
    result = parse(options, line);
    text = capture_end();
    ck_assert_msg(result == CMDLINE_RUN, "%s: %s", line, text);
    ck_assert_str_eq(text, "");
}

/* The line on stderr is as the interface says, and ends in QUOTED. */
static void expect_wrong(const char *line, const char *what, const char *quoted)
{
    struct options options;
    enum cmdline_result result;
    char wanted[1100];

    capture_begin(STDERR_FILENO);
    result = parse(&options, line);
    options_free(&options);
    snprintf(wanted, sizeof(wanted), "echod: %s: %s\n", what, quoted);
    ck_assert_str_eq(capture_end(), wanted);
    ck_assert_msg(result == CMDLINE_WRONG, "%s was taken", line);
}

START_TEST(defaults)
{
    struct options options;

    expect_good(&options, "");
    ck_assert_uint_eq(options.workers, 1);
    ck_assert_int_eq(options.model, SPAWN_PROCESS);
    ck_assert_ptr_null(options.backend);
    ck_assert_uint_eq(options.max_connections, 0);
    ck_assert_uint_eq(options.udp_rate, 1000);
    ck_assert_uint_eq(options.idle_timeout, 0);
    ck_assert_uint_eq(options.drain_timeout, 10000);
    ck_assert_ptr_null(options.pid_file);
    ck_assert_ptr_null(options.user);
    ck_assert_ptr_null(options.chroot);
    ck_assert_int_eq(options.sandbox, SANDBOX_DEFAULT);
    ck_assert(!options.to_syslog);
    ck_assert_int_eq(options_log_threshold(&options), LOG_NOTICE);
    ck_assert_uint_eq(options.endpoint_count, 1);
    ck_assert_str_eq(options.endpoints[0].host, "localhost");
    ck_assert_uint_eq(options.endpoints[0].port, 7777);
    options_free(&options);
}
END_TEST

START_TEST(numbers_and_names)
{
    struct options options;

    expect_good(&options, "--workers=4 --model=thread --max-connections=1000000000 --udp-rate=0");
    ck_assert_uint_eq(options.workers, 4);
    ck_assert_int_eq(options.model, SPAWN_THREAD);
    ck_assert_uint_eq(options.max_connections, 1000000000);
    ck_assert_uint_eq(options.udp_rate, 0);
    options_free(&options);
    expect_good(&options, "-w 1024 -m0 --model process");
    ck_assert_uint_eq(options.workers, 1024);
    ck_assert_int_eq(options.model, SPAWN_PROCESS);
    ck_assert_uint_eq(options.max_connections, 0);
    options_free(&options);
    expect_good(&options, "-u nobody:7 --chroot=/var/empty --sandbox=off");
    ck_assert_str_eq(options.user, "nobody:7");
    ck_assert_str_eq(options.chroot, "/var/empty");
    ck_assert_int_eq(options.sandbox, SANDBOX_OFF);
    options_free(&options);
    expect_good(&options, "--workers=auto --pid-file=/run/echod.pid --syslog");
    ck_assert_uint_eq(options.workers, (uint64_t) sysconf(_SC_NPROCESSORS_ONLN));
    ck_assert_str_eq(options.pid_file, "/run/echod.pid");
    ck_assert(options.to_syslog);
    options_free(&options);
}
END_TEST

START_TEST(the_last_of_an_option_counts)
{
    struct options options;

    expect_good(&options, "-w2 -w3 --drain-timeout=1 --drain-timeout=2");
    ck_assert_uint_eq(options.workers, 3);
    ck_assert_uint_eq(options.drain_timeout, 2000);
    options_free(&options);
}
END_TEST

START_TEST(every_backend_can_be_asked_for)
{
    for (const char **method = reactor_backends(); *method != NULL; method++) {
        struct options options;
        char line[64];

        snprintf(line, sizeof(line), "--backend=%s", *method);
        expect_good(&options, line);
        ck_assert_str_eq(options.backend, *method);
        options_free(&options);
    }
}
END_TEST

START_TEST(times)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } table[] = {
        { "0", 0 },         { "0ms", 0 },           { "0.0h", 0 },
        { "1", 1000 },      { "1s", 1000 },         { "1ms", 1 },
        { "2m", 120000 },   { "3h", 10800000 },     { "1.5", 1500 },
        { ".5", 500 },      { ".25m", 15000 },
        { "1.5m", 90000 },  { "0.25s", 250 },       { "0.001", 1 },
        { "0.5h", 1800000 }, { "250ms", 250 },      { "8784h", 31622400000 },
        { "007", 7000 },    { "1.0000000000000000000000000001s", 1000 },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct options options;
        char line[64];

        snprintf(line, sizeof(line), "-i %s --drain-timeout=%s", table[i].text, table[i].text);
        expect_good(&options, line);
        ck_assert_msg(options.idle_timeout == table[i].ms, "%s", table[i].text);
        ck_assert_uint_eq(options.drain_timeout, table[i].ms);
        options_free(&options);
    }
}
END_TEST

START_TEST(malformed_times_are_refused)
{
    static const struct {
        const char *text, *what;
    } table[] = {
        { "", "malformed time" },      { "s", "malformed time" },     { "-1", "malformed time" },
        { "+1", "malformed time" },    { ".", "malformed time" },    { "1.", "malformed time" },
        { "1.s", "malformed time" },   { "1,5", "malformed time" },   { "1.5.5", "malformed time" },
        { "1d", "malformed time" },    { "1S", "malformed time" },    { "1sec", "malformed time" },
        { "1e3", "malformed time" },   { "0x10", "malformed time" },  { "inf", "malformed time" },
        { "nan", "malformed time" },   { "10sx", "malformed time" },  { "1m30s", "malformed time" },
        { "8785h", "time out of range" },
        { "99999999999999999999s", "time out of range" },
        { "18446744073709551616ms", "time out of range" },
        { "5124095576030432h", "time out of range" }, /* would overflow to little */
        { "0.0001ms", "time out of range" },          /* would be never */
    };
    static const char *const names[] = { "--idle-timeout", "--drain-timeout" };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        for (size_t k = 0; k < 2; k++) {
            char line[80];

            snprintf(line, sizeof(line), "%s=%s", names[k], table[i].text);
            expect_wrong(line, table[i].what, line);
        }
}
END_TEST

START_TEST(a_long_value_is_quoted_whole)
{
    char line[900] = "--workers=";

    memset(line + strlen(line), '9', sizeof(line) - strlen(line) - 1);
    expect_wrong(line, "number out of range", line);
}
END_TEST

START_TEST(malformed_values_are_quoted)
{
    static const struct {
        const char *line, *what, *quoted; /* NULL: the line */
    } table[] = {
        { "--workers=0", "number out of range", NULL },
        { "--workers=1025", "number out of range", NULL },
        { "--workers=-1", "malformed number", NULL },
        { "--workers=", "malformed number", NULL },
        { "--workers=1.5", "malformed number", NULL },
        { "--workers=AUTO", "malformed number", NULL },
        { "--workers=0x2", "malformed number", NULL },
        { "--workers=18446744073709551617", "number out of range", NULL },
        { "-w two", "malformed number", "--workers=two" },
        { "--max-connections=many", "malformed number", NULL },
        { "--max-connections=-5", "malformed number", NULL },
        { "-m 5k", "malformed number", "--max-connections=5k" },
        { "--udp-rate=-1", "malformed number", NULL },
        { "--udp-rate=1.5", "malformed number", NULL },
        { "--udp-rate=1000000001", "number out of range", NULL },
        { "--max-connections=1000000001", "number out of range", NULL },
        { "--model=fiber", "unknown model", NULL },
        { "--model=", "unknown model", NULL },
        { "--backend=iocp", "unknown backend", NULL },
        { "--sandbox=maybe", "neither on nor off", NULL },
        { "-u :group", "not USER or USER:GROUP", "--user=:group" },
        { "--user=user:", "not USER or USER:GROUP", NULL },
        { "--user=", "empty value", NULL },
        { "--chroot=", "empty value", NULL },
        { "-b EPOLL", "unknown backend", "--backend=EPOLL" },
        { "--pid-file=", "empty value", NULL },
        { "--frobnicate", "unknown option", NULL },
        { "--proxy-protocol=", "malformed prefix", NULL },
        { "--proxy-protocol", "option needs a value", NULL },
        { "--proxy-protocol=off", "malformed prefix", NULL },
        { "--proxy-protocol=10.0.0.0/8,localhost", "malformed prefix", NULL },
        { "--proxy-protocol=::1/129", "prefix length out of range", NULL },
        { "--handshake-timeout=0", "time out of range", NULL },
        { "tcp://localhost:1?proxy=", "malformed endpoint key", NULL },
        { "tcp://localhost:1?proxy=on", "malformed prefix", NULL },
        { "tcp://localhost:1?proxy=off,::1", "malformed prefix", NULL },
        { "tcp://localhost:1?proxy=10.0.0.0/33", "prefix length out of range", NULL },
        { "tcp://localhost:1?proxy=::1&proxy=off", "endpoint key given twice", NULL },
        { "udp://localhost:1?proxy=::1", "this transport has no such key", NULL },
        { "unix:///tmp/x?proxy=off", "this transport has no such key", NULL },
        { "-x", "unknown option", "-x" },
        { "-vx", "unknown option", "-x" },
        { "--workers", "option needs a value", NULL },
        { "-w", "option needs a value", "-w" },
        { "--quiet=yes", "option takes no value", NULL },
        { "-q -v", "contradictory options", "--quiet --verbose" },
        { "-vv --quiet", "contradictory options", "--quiet --verbose" },
        { "localhost", "missing port", NULL },
        { "7777 tcp://localhost:x", "malformed port", "tcp://localhost:x" },
        { "tcp://localhost:1?a=b", "unknown endpoint key", NULL },
        { "chat+udp://localhost:1", "only echo is served over udp", NULL },
        { "chatter+tcp://localhost:1", "unknown service", NULL },
        { "7777 -- --workers=2", "missing port", "--workers=2" },
        { "--proxy-protocol=::1 udp://[::1]:1 unix://@x", "no tcp or tls endpoint",
          "--proxy-protocol" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        expect_wrong(table[i].line, table[i].what,
                     table[i].quoted != NULL ? table[i].quoted : table[i].line);
}
END_TEST

START_TEST(a_hostile_value_stays_one_line)
{
    char value[2000], *argv[] = { (char *) "echod", value, NULL };
    struct options options;
    const char *text;

    memset(value, '\n', sizeof(value) - 1);
    memcpy(value, "--workers=\x1b[2J", 14);
    value[sizeof(value) - 1] = '\0';
    capture_begin(STDERR_FILENO);
    ck_assert_int_eq(options_parse(&options, 2, argv, &passed), CMDLINE_WRONG);
    options_free(&options);
    text = capture_end();
    ck_assert_uint_eq(count_lines(text), 1);
    ck_assert_ptr_null(strchr(text, '\x1b'));
    ck_assert_ptr_nonnull(strstr(text, "--workers=\\x1b[2J\\n"));
}
END_TEST

/* Is 192.0.2.NUMBER believed at the endpoint of this INDEX? */
static bool is_believed(const struct options *options, size_t index, uint32_t number)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(0xc0000200 + number) };
    const struct access_list *list = options_proxies(options, &options->endpoints[index]);

    ck_assert_ptr_nonnull(list);
    return access_contains(list, (struct sockaddr *) &address);
}

START_TEST(proxies_are_those_of_the_endpoint_or_of_all)
{
    static const struct endpoint other = { .transport = ENDPOINT_TCP };
    struct options options;

    expect_good(&options, "--proxy-protocol=192.0.2.1 --proxy-protocol=192.0.2.2 tcp://[::1]:1 "
                          "tcp://[::1]:2?proxy=192.0.2.3,::1 tcp://[::1]:3?proxy=off "
                          "udp://[::1]:4 unix://@x");
    ck_assert(is_believed(&options, 0, 1) && is_believed(&options, 0, 2));
    ck_assert(!is_believed(&options, 0, 3));
    ck_assert(is_believed(&options, 1, 3) && !is_believed(&options, 1, 1));
    for (size_t i = 2; i < 5; i++)
        ck_assert_ptr_null(options_proxies(&options, &options.endpoints[i]));
    ck_assert_ptr_nonnull(options_proxies(&options, &other)); /* not from the command line */
    options_free(&options);
    expect_good(&options, "7777 tcp://[::1]:1?proxy=192.0.2.0/31");
    ck_assert_ptr_null(options_proxies(&options, &options.endpoints[0]));
    ck_assert(is_believed(&options, 1, 0) && is_believed(&options, 1, 1));
    ck_assert(!is_believed(&options, 1, 2));
    options_free(&options);
}
END_TEST

START_TEST(access_lists_are_kept_in_order)
{
    struct options options;

    expect_good(&options, "--deny=10.0.0.1,::1 --allow=@/x --deny=::/0 udp://[::1]:4 unix://@x");
    ck_assert_uint_eq(options.access_count, 3);
    ck_assert(options.access[0].denies && !options.access[1].denies && options.access[2].denies);
    ck_assert_str_eq(options.access[0].text, "10.0.0.1,::1");
    ck_assert_str_eq(options.access[1].text, "@/x"); /* not looked for yet */
    options_free(&options);
    ck_assert_ptr_null(options.access);
    expect_good(&options, "");
    ck_assert_uint_eq(options.access_count, 0);
    options_free(&options);
}
END_TEST

START_TEST(wrong_access_lists_are_told_by_the_item)
{
    expect_wrong("--allow=", "malformed prefix", "--allow=");
    expect_wrong("--allow=::1 --deny=10.0.0.1,x,y", "malformed prefix", "--deny=x");
    expect_wrong("--deny=10.0.0.0/33", "prefix length out of range", "--deny=10.0.0.0/33");
    expect_wrong("--deny=::1,@/x", "malformed prefix", "--deny=@/x");
    expect_wrong("--deny=@", "no file is named", "--deny=@");
    expect_wrong("--allow=::1 unix://@x", "no tcp, tls or udp endpoint", "--allow");
    expect_wrong("--deny=::1 --allow=::1 unix://@x", "no tcp, tls or udp endpoint", "--deny");
}
END_TEST

#ifdef HAVE_OPENSSL
START_TEST(what_is_for_tls_needs_a_tls_endpoint)
{
    static const char *const given[] = { "--tls-self-signed", "--tls-cert=x", "--tls-client-ca=x",
                                         "--tls-min-version=1.2", "--tls-min-version=1.3" };

    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        char name[64];

        snprintf(name, sizeof(name), "%.*s", (int) strcspn(given[i], "="), given[i]);
        expect_wrong(given[i], "no tls endpoint", name);
    }
}
END_TEST

START_TEST(passed_sockets_are_endpoints)
{
    struct passed sockets[] = { { .fd = 3, .text = "it" } };
    struct options options;

    passed = (struct activation){ .list = sockets, .count = 1 };
    sockets[0].endpoint.transport = ENDPOINT_UDP;
    expect_wrong("--proxy-protocol=::1", "no tcp or tls endpoint", "--proxy-protocol");
    sockets[0].endpoint.transport = ENDPOINT_TCP;
    expect_wrong("--tls-min-version=1.3", "no tls endpoint", "--tls-min-version");
    expect_good(&options, "--proxy-protocol=::1 udp://[::1]:1");
    options_free(&options);
    sockets[0].endpoint.transport = ENDPOINT_TLS;
    expect_good(&options, "--proxy-protocol=::1 --tls-min-version=1.3 --tls-self-signed");
    options_free(&options);
    passed = (struct activation){ 0 };
}
END_TEST
#endif
START_TEST(the_bus_of_chats)
{
    struct options options;

#ifdef HAVE_HIREDIS
    expect_good(&options, "");
    ck_assert_ptr_null(options.chat_bus.channel);
    options_free(&options);
    expect_good(&options, "--chat-bus=redis://[::1]:6379/room chat+tcp://[::1]:1");
    ck_assert_str_eq(options.chat_bus.server.host, "::1");
    ck_assert_str_eq(options.chat_bus.channel, "room");
    options_free(&options);
    expect_wrong("--chat-bus=redis://[::1]:6379", "no chat endpoint", "--chat-bus");
    expect_wrong("--chat-bus=", "not redis://HOST:PORT[/CHANNEL]", "--chat-bus=");
    expect_wrong("--chat-bus=redis://localhost", "missing port", "--chat-bus=redis://localhost");
#else
    (void) options;
    expect_wrong("--chat-bus=redis://[::1]:6379", "built without Redis",
                 "--chat-bus=redis://[::1]:6379");
#endif
}
END_TEST

START_TEST(endpoints_keep_their_order_and_text)
{
    struct options options;

    expect_good(&options, "7001 -w 2 tcp://[::1]:7002 :7003");
    ck_assert_uint_eq(options.workers, 2);
    ck_assert_uint_eq(options.endpoint_count, 3);
    ck_assert_str_eq(options.endpoints[0].text, "7001");
    ck_assert_str_eq(options.endpoints[1].text, "tcp://[::1]:7002");
    ck_assert_str_eq(options.endpoints[2].text, ":7003");
    ck_assert_str_eq(options.endpoints[1].host, "::1");
    ck_assert_str_eq(options.endpoints[2].host, "*");
    ck_assert_uint_eq(options.endpoints[2].port, 7003);
    options_free(&options);
}
END_TEST

START_TEST(verbosity)
{
    static const struct {
        const char *line;
        int threshold;
    } table[] = {
        { "", LOG_NOTICE },  { "-v", LOG_INFO },          { "-vv", LOG_DEBUG },
        { "-vvv", LOG_DEBUG }, { "-v --verbose", LOG_DEBUG }, { "-q", LOG_ERR },
        { "--quiet", LOG_ERR },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct options options;

        expect_good(&options, table[i].line);
        ck_assert_int_eq(options_log_threshold(&options), table[i].threshold);
        options_free(&options);
    }
}
END_TEST

/* What is printed on stdout in answer to LINE. */
static const char *answered(const char *line)
{
    enum cmdline_result result;
    struct options options;
    const char *text;

    capture_begin(STDOUT_FILENO);
    result = parse(&options, line);
    options_free(&options);
    text = capture_end();
    ck_assert_int_eq(result, CMDLINE_DONE);
    return text;
}

START_TEST(help_has_every_option)
{
    static const char *const names[] = {
        "-w, --workers=N|auto",   "--model=process|thread", "-b, --backend=NAME",
        "--list-backends",        "-m, --max-connections=N", "-i, --idle-timeout=TIME",
        "--max-per-source=N",     "--accept-rate=N",        "--udp-rate=N",
        "--drain-timeout=TIME",   "--pid-file=FILE",
        "--drain-delay=TIME",     "--metrics=HOST:PORT",
        "--allow=LIST",           "--deny=LIST",
        "-v, --verbose",          "-q, --quiet",            "--syslog",
        "--help",                 "--version",              "tcp://localhost:7777",
        "-u, --user=USER[:GROUP]", "--chroot=DIR",          "--sandbox=on|off",
    };
    const char *text = answered("--help");

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_msg(strstr(text, names[i]) != NULL, "no %s", names[i]);
    ck_assert_int_eq(strncmp(text, "Usage: echod [OPTION...] [ENDPOINT...]\n", 39), 0);
    for (; *text != '\0'; text = strchr(text, '\n') + 1)
        ck_assert_msg(strcspn(text, "\n") <= 80, "%s", text);
}
END_TEST

START_TEST(version_and_backends)
{
    char wanted[256] = "";

    ck_assert_ptr_nonnull(strstr(answered("--version"), "echod " PACKAGE_VERSION "\n"));
    for (const char **method = reactor_backends(); *method != NULL; method++) {
        strcat(wanted, *method);
        strcat(wanted, "\n");
    }
    ck_assert_str_eq(answered("--list-backends"), wanted);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        defaults,
        numbers_and_names,
        the_last_of_an_option_counts,
        every_backend_can_be_asked_for,
        times,
        malformed_times_are_refused,
        a_long_value_is_quoted_whole,
        malformed_values_are_quoted,
        a_hostile_value_stays_one_line,
        proxies_are_those_of_the_endpoint_or_of_all,
        access_lists_are_kept_in_order,
        wrong_access_lists_are_told_by_the_item,
#ifdef HAVE_OPENSSL
        what_is_for_tls_needs_a_tls_endpoint,
        passed_sockets_are_endpoints,
#endif
        the_bus_of_chats,
        endpoints_keep_their_order_and_text,
        verbosity,
        help_has_every_option,
        version_and_backends,
    };

    return HARNESS_RUN("options", tests);
}
