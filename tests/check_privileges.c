#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/privileges.h"
#include "tests/harness.h"

static const char unknown[] = "no-such-user-here";

static void expect_found(const char *text, uid_t uid, gid_t gid, int group_count)
{
    struct privileges_error error;
    struct privileges found;

    ck_assert_msg(privileges_find(&found, text, NULL, &error), "%s: %s", error.what, error.text);
    ck_assert_uint_eq(found.uid, uid);
    ck_assert_uint_eq(found.gid, gid);
    if (group_count >= 0)
        ck_assert_int_eq(found.group_count, group_count);
    privileges_free(&found);
}

static void expect_not_found(const char *text, const char *what, const char *which)
{
    struct privileges_error error;
    struct privileges found;

    ck_assert(!privileges_find(&found, text, NULL, &error));
    ck_assert_str_eq(error.what, what);
    ck_assert_str_eq(error.text, which);
}

START_TEST(names_and_numbers_are_found)
{
    const struct passwd *root = getpwnam("root"), *nobody;

    ck_assert_ptr_nonnull(root);
    expect_found("root", 0, root->pw_gid, -1);
    expect_found("0", 0, root->pw_gid, -1);
    expect_found("root:0", 0, 0, 1);
    expect_found("54321:54322", 54321, 54322, 1);
    expect_found("4294967294:0", 4294967294U, 0, 1);
    nobody = getpwnam("nobody");
    if (nobody != NULL)
        expect_found("nobody:root", nobody->pw_uid, 0, 1);
}
END_TEST

START_TEST(who_is_not_there_is_told)
{
    char text[64];

    snprintf(text, sizeof(text), "%s:root", unknown);
    expect_not_found(unknown, "no such user", unknown);
    expect_not_found(text, "no such user", unknown);
    snprintf(text, sizeof(text), "root:%s", unknown);
    expect_not_found(text, "no such group", unknown);
    expect_not_found("54321", "no such user, and so no group: give USER:GROUP", "54321");
    /* the last number means none, and so does what does not fit */
    expect_not_found("4294967295:0", "no such user", "4294967295");
    expect_not_found("4294967296:0", "no such user", "4294967296");
    expect_not_found("0:4294967295", "no such group", "4294967295");
    expect_not_found("12345678901234567890:0", "no such user", "12345678901234567890");
    expect_not_found("-1:0", "no such user", "-1");
    expect_not_found("1x:0", "no such user", "1x");
}
END_TEST

/* Runs FUNCTION(PRIVILEGES) where it does no harm; what it returns has to be 0. */
static void in_a_process(int (*function)(const struct privileges *),
                         const struct privileges *privileges)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(function(privileges));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

/* What /proc has of us in the line that begins with NAME; empty: nothing. */
static const char *status_line(const char *name)
{
    static char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    size_t length = strlen(name);
    bool found = false;

    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
        found = strncmp(line, name, length) == 0;
    if (file != NULL)
        fclose(file);
    if (!found)
        return "";
    line[strcspn(line, "\n")] = '\0';
    return line + length;
}

static bool is_empty_set(const char *name)
{
    return strcmp(status_line(name), ":\t0000000000000000") == 0;
}

static int is_given_up(const struct privileges *privileges)
{
    struct privileges_error error;

    if (!privileges_give_up(privileges, &error))
        return 1;
    if (strcmp(status_line("Uid"), ":\t54321\t54321\t54321\t54321") != 0 ||
        strcmp(status_line("Gid"), ":\t54322\t54322\t54322\t54322") != 0 ||
        strcmp(status_line("Groups"), ":\t54322 ") != 0)
        return 2;
    if (!is_empty_set("CapInh") || !is_empty_set("CapPrm") || !is_empty_set("CapEff") ||
        !is_empty_set("CapBnd") || !is_empty_set("CapAmb"))
        return 3;
    if (strcmp(status_line("NoNewPrivs"), ":\t1") != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        return 4;
    return setuid(0) != 0 && setgid(0) != 0 && setgroups(0, NULL) != 0 ? 0 : 5;
}

/* A user whom nobody knows has no process whose rights these could be. */
START_TEST(nothing_is_left_nor_had_again)
{
    struct privileges_error error;
    struct privileges one;

    if (geteuid() != 0)
        return;
    ck_assert(privileges_find(&one, "54321:54322", NULL, &error));
    in_a_process(is_given_up, &one);
    privileges_free(&one);
}
END_TEST

static int has_groups_of_user(const struct privileges *privileges)
{
    struct privileges_error error;
    int count;

    if (!privileges_give_up(privileges, &error))
        return 1;
    count = getgroups(0, NULL);
    return count == privileges->group_count && count > 0 ? 0 : 2;
}

START_TEST(without_a_group_they_are_the_users)
{
    struct privileges_error error;
    struct privileges one;

    if (geteuid() != 0 || getpwnam("nobody") == NULL)
        return;
    ck_assert(privileges_find(&one, "nobody", NULL, &error));
    in_a_process(has_groups_of_user, &one);
    privileges_free(&one);
}
END_TEST

static int has_entered(const struct privileges *privileges)
{
    struct privileges_error error;
    struct stat root, wanted;
    char here[64];

    if (stat(privileges->root, &wanted) != 0 || !privileges_give_up(privileges, &error) ||
        stat("/", &root) != 0)
        return 1;
    if (root.st_ino != wanted.st_ino || getcwd(here, sizeof(here)) == NULL)
        return 2;
    return strcmp(here, "/") == 0 && geteuid() == 0 ? 0 : 3;
}

START_TEST(the_root_directory_is_entered)
{
    char directory[] = "/tmp/echod-check.XXXXXX";
    struct privileges one = { .root = directory };

    if (geteuid() != 0)
        return;
    ck_assert_ptr_nonnull(mkdtemp(directory));
    in_a_process(has_entered, &one);
    rmdir(directory);
}
END_TEST

static int keeps_all_but_programs(const struct privileges *privileges)
{
    uid_t before = geteuid();
    struct privileges_error error;
    char held[64];

    snprintf(held, sizeof(held), "%s", status_line("CapEff"));
    if (!privileges_give_up(privileges, &error) || geteuid() != before)
        return 1;
    if (strcmp(held, status_line("CapEff")) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1)
        return 2;
    return strcmp(status_line("NoNewPrivs"), ":\t1") == 0 ? 0 : 3;
}

START_TEST(with_nothing_given_only_programs_gain_none)
{
    struct privileges_error error;
    struct privileges none;

    ck_assert(privileges_find(&none, NULL, NULL, &error));
    in_a_process(keeps_all_but_programs, &none);
    privileges_free(&none);
}
END_TEST

/* One who is not root, as such: becomes the user first. */
static int is_refused(const struct privileges *privileges)
{
    struct privileges other_root = { .root = "/tmp" };
    struct privileges_error error;

    if (geteuid() == 0 && setuid(54320) != 0)
        return 1;
    if (privileges_give_up(privileges, &error) || strcmp(error.text, "54321:54322") != 0 ||
        strcmp(error.what, "cannot change user (Operation not permitted)") != 0)
        return 2;
    if (privileges_give_up(&other_root, &error) || strcmp(error.text, "/tmp") != 0 ||
        strcmp(error.what, "cannot change root directory (Operation not permitted)") != 0)
        return 3;
    return 0;
}

START_TEST(who_may_not_change_is_told)
{
    struct privileges_error error;
    struct privileges one;

    ck_assert(privileges_find(&one, "54321:54322", NULL, &error));
    in_a_process(is_refused, &one);
    privileges_free(&one);
}
END_TEST

static int dumps_no_core(const struct privileges *unused)
{
    struct rlimit limit;

    (void) unused;
    privileges_forbid_core();
    return getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 1 ? 0 : 1;
}

START_TEST(secrets_stay_out_of_files)
{
    in_a_process(dumps_no_core, NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_and_numbers_are_found,        who_is_not_there_is_told,
        nothing_is_left_nor_had_again,      without_a_group_they_are_the_users,
        the_root_directory_is_entered,      with_nothing_given_only_programs_gain_none,
        who_may_not_change_is_told,         secrets_stay_out_of_files,
    };

    return HARNESS_RUN("privileges", tests);
}
