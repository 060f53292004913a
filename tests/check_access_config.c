#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/access_config.h"
#include "src/access_map.h"
#include "src/defaults.h"
#include "tests/harness.h"
#include "tests/inject.h"

static char directory[64], file[80];

static void set_up(void)
{
    strcpy(directory, "/tmp/echod-check.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(file, sizeof(file), "%s/list", directory);
}

static void tear_down(void)
{
    unlink(file);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void write_file(const char *text)
{
    FILE *out = fopen(file, "w");

    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    ck_assert_int_eq(fclose(out), 0);
}

/* By what CONFIG hands to workers. */
static bool permits(const struct access_config *config, const char *text)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    struct access_map map = { 0 };
    bool result;

    ck_assert_int_eq(inet_pton(AF_INET, text, &address.sin_addr), 1);
    ck_assert(access_map_open(&map, config->fd));
    result = access_permits(&map.rules, (struct sockaddr *) &address);
    access_map_close(&map);
    return result;
}

/* Sources whose second is @FILE. */
static char at_file[82];
static struct access_source sources[] = {
    { false, "10.0.0.0/8,192.0.2.0/24" }, { true, at_file }, { true, "10.0.0.1" },
};
enum { SOURCES = 3 };

static void open_with(struct access_config *config, const char *text)
{
    struct access_config_error error;

    set_up();
    write_file(text);
    snprintf(at_file, sizeof(at_file), "@%s", file);
    ck_assert(access_config_open(config, sources, SOURCES, false, &error));
}

START_TEST(lists_and_files_add_up_and_files_are_read_again)
{
    struct access_config config;
    struct access_config_error error;

    open_with(&config, "# ours\n10.0.0.2\n");
    ck_assert(!permits(&config, "10.0.0.1") && !permits(&config, "10.0.0.2"));
    ck_assert(permits(&config, "10.0.0.3") && !permits(&config, "11.0.0.1"));
    write_file("10.0.0.3\n");
    ck_assert(permits(&config, "10.0.0.3")); /* not yet */
    ck_assert(access_config_reload(&config, &error));
    ck_assert(!permits(&config, "10.0.0.1") && permits(&config, "10.0.0.2"));
    ck_assert(!permits(&config, "10.0.0.3"));
    access_config_close(&config);
    ck_assert_int_eq(config.fd, -1);
    tear_down();
}
END_TEST

START_TEST(a_malformed_file_changes_nothing)
{
    struct access_config config;
    struct access_config_error error;

    open_with(&config, "10.0.0.2\n");
    write_file("10.0.0.3\n\nnonsense # here\n");
    ck_assert(!access_config_reload(&config, &error));
    ck_assert_str_eq(error.what, "malformed prefix");
    ck_assert_str_eq(error.file, file);
    ck_assert_uint_eq(error.line, 3);
    ck_assert_str_eq(error.text, "nonsense");
    ck_assert(!permits(&config, "10.0.0.2") && permits(&config, "10.0.0.3"));
    access_config_close(&config);
    tear_down();
}
END_TEST

static void expect_unreadable(struct access_config *config, const char *why)
{
    struct access_config_error error;

    ck_assert(!access_config_reload(config, &error));
    ck_assert_ptr_nonnull(strstr(error.what, why));
    ck_assert_str_eq(error.file, file);
    ck_assert_uint_eq(error.line, 0);
    ck_assert(!permits(config, "10.0.0.2"));
}

START_TEST(an_unreadable_file_changes_nothing)
{
    struct access_config config;

    open_with(&config, "10.0.0.2\n");
    ck_assert_int_eq(truncate(file, ACCESS_FILE_MOST + 1), 0);
    expect_unreadable(&config, "too large");
    unlink(file);
    expect_unreadable(&config, "No such file");
    ck_assert_int_eq(mkdir(file, 0700), 0);
    expect_unreadable(&config, "not a regular file");
    rmdir(file);
    ck_assert_int_eq(mkfifo(file, 0600), 0);
    expect_unreadable(&config, "not a regular file");
    access_config_close(&config);
    tear_down();
}
END_TEST

START_TEST(an_empty_file_allows_nobody)
{
    struct access_source allow = { false, at_file };
    struct access_config config;
    struct access_config_error error;

    open_with(&config, "");
    access_config_close(&config);
    ck_assert(access_config_open(&config, &allow, 1, false, &error));
    ck_assert(!permits(&config, "10.0.0.2"));
    access_config_close(&config);
    tear_down();
}
END_TEST

START_TEST(short_of_memory_nothing_changes)
{
    struct access_config config;
    struct access_config_error error;
    bool is_done = false;
    unsigned nth;

    open_with(&config, "10.0.0.2\n");
    write_file("10.0.0.3\n");
    for (nth = 1; !is_done; nth++) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        is_done = access_config_reload(&config, &error);
        inject_reset();
        ck_assert_int_eq(permits(&config, "10.0.0.3"), !is_done);
        if (!is_done)
            ck_assert_uint_eq(error.line, 0);
    }
    ck_assert_uint_gt(nth, 2);
    access_config_close(&config);
    tear_down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        lists_and_files_add_up_and_files_are_read_again,
        a_malformed_file_changes_nothing,
        an_unreadable_file_changes_nothing,
        an_empty_file_allows_nobody,
        short_of_memory_nothing_changes,
    };

    return HARNESS_RUN("access_config", tests);
}
