/*
 * Command lines, a word a line: one is taken, and then everything in it is in range and goes
 * together, or it is refused in one line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/log.h"
#include "src/options.h"

enum { WORDS_MOST = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static bool is_time(uint64_t ms, uint64_t least)
{
    return ms >= least && ms <= CMDLINE_TIME_MOST;
}

static bool is_count(uint64_t count)
{
    return count <= 1000000000;
}

static void check_taken(const struct options *options)
{
    bool has_certificate = options->tls_cert != NULL || options->tls_self_signed;

    check(options->workers >= 1 && options->workers <= 1024);
    check(options->model == SPAWN_PROCESS || options->model == SPAWN_THREAD);
    check(is_count(options->max_connections) && is_count(options->max_per_source));
    check(is_count(options->accept_rate) && is_count(options->udp_rate));
    check(is_time(options->idle_timeout, 0) && is_time(options->drain_timeout, 0));
    check(is_time(options->handshake_timeout, 1));
    check(options->endpoint_count > 0);
    check(has_certificate == options->serves_tls);
    check(options->tls_cert == NULL || !options->tls_self_signed);
    check(options->tls_key == NULL || options->tls_cert != NULL);
    check(options->chat_bus.channel == NULL || options->serves_chat);
    check(!options->quiet || options->verbose == 0);
    for (size_t i = 0; i < options->endpoint_count; i++)
        (void) options_proxies(options, &options->endpoints[i]);
}

/* Parses with what is said on stderr in *SAID, which is to be freed. */
static enum cmdline_result parse(struct options *options, int argc, char **argv, char **said)
{
    const struct activation passed = { 0 };
    FILE *before = stderr;
    enum cmdline_result result;
    size_t length;

    stderr = open_memstream(said, &length);
    check(stderr != NULL);
    result = options_parse(options, argc, argv, &passed);
    fclose(stderr);
    stderr = before;
    return result;
}

/* The words of TEXT, which it cuts up; returns how many. */
static int split(char *text, char **words)
{
    int count = 0;

    words[count++] = (char *) "echod";
    while (text != NULL && count < WORDS_MOST)
        words[count++] = strsep(&text, "\n");
    words[count] = NULL;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *words[WORDS_MOST + 1], *text = malloc(size + 1), *said = NULL;
    static bool has_begun;
    struct options options;
    enum cmdline_result result;
    const char *end;

    check(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (!has_begun) { /* --help and the like */
        log_start("fuzz_options");
        has_begun = freopen("/dev/null", "w", stdout) != NULL;
    }
    result = parse(&options, split(text, words), words, &said);
    end = strchr(said, '\n');
    if (result == CMDLINE_WRONG)
        check(end != NULL && end[1] == '\0' && strncmp(said, "fuzz_options: ", 14) == 0);
    else
        check(said[0] == '\0');
    if (result == CMDLINE_RUN)
        check_taken(&options);
    options_free(&options);
    free(said);
    free(text);
    return 0;
}
