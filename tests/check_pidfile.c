#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/pidfile.h"
#include "tests/harness.h"

static char directory[64];
static char path[96];

static void make_directory(void)
{
    snprintf(directory, sizeof(directory), "/tmp/echod-check.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/echod.pid", directory);
}

static int files_in_directory(void)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    int count = 0;

    while ((entry = readdir(stream)) != NULL)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    closedir(stream);
    return count;
}

/* Is the file at PATH our number, a newline, and nothing else? */
static bool holds_our_pid(const char *where)
{
    char wanted[32], text[32] = "";
    int fd = open(where, O_RDONLY);

    if (fd < 0)
        return false;
    ck_assert_int_ge(read(fd, text, sizeof(text) - 1), 0);
    close(fd);
    snprintf(wanted, sizeof(wanted), "%d\n", (int) getpid());
    return strcmp(text, wanted) == 0;
}

START_TEST(it_is_written_and_removed)
{
    struct pidfile file;
    int before;

    make_directory();
    before = open_descriptors();
    ck_assert_ptr_null(pidfile_open(&file, path));
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert(pidfile_publish(&file));
    ck_assert(holds_our_pid(path));
    ck_assert_int_eq(files_in_directory(), 1); /* no draft left */
    pidfile_close(&file);
    ck_assert_int_eq(files_in_directory(), 0);
    ck_assert_int_eq(open_descriptors(), before);
    pidfile_close(&file);
    rmdir(directory);
}
END_TEST

START_TEST(an_old_file_is_replaced)
{
    struct pidfile file;
    FILE *old;

    make_directory();
    old = fopen(path, "w");
    fputs("1234567890123456789\n", old);
    fclose(old);
    ck_assert_ptr_null(pidfile_open(&file, path));
    ck_assert(pidfile_publish(&file));
    ck_assert(holds_our_pid(path));
    pidfile_close(&file);
    rmdir(directory);
}
END_TEST

static void expect_refused(const char *wanted)
{
    struct pidfile file;
    const char *wrong = pidfile_open(&file, path);

    ck_assert_ptr_nonnull(wrong);
    ck_assert_str_eq(wrong, wanted);
    pidfile_close(&file);
    ck_assert_int_eq(files_in_directory(), 1);
}

START_TEST(what_is_no_file_of_ours_stays)
{
    char victim[96];

    make_directory();
    snprintf(victim, sizeof(victim), "%s/victim", directory);
    ck_assert_int_eq(symlink(victim, path), 0);
    expect_refused("not a regular file");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    expect_refused("not a regular file");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    expect_refused("not a regular file");
    ck_assert_int_eq(rmdir(path), 0);
    rmdir(directory);
}
END_TEST

START_TEST(what_was_not_written_is_not_removed)
{
    struct pidfile file;
    FILE *others;

    make_directory();
    others = fopen(path, "w");
    fclose(others);
    ck_assert_ptr_null(pidfile_open(&file, path));
    pidfile_close(&file);
    ck_assert_int_eq(access(path, F_OK), 0);
    unlink(path);
    rmdir(directory);
}
END_TEST

START_TEST(no_path_is_no_file)
{
    struct pidfile file;

    ck_assert_ptr_null(pidfile_open(&file, NULL));
    ck_assert(pidfile_publish(&file));
    pidfile_close(&file);
}
END_TEST

START_TEST(no_directory_is_told_at_once)
{
    struct pidfile file;

    ck_assert_str_eq(pidfile_open(&file, "/nonexistent/echod.pid"), strerror(ENOENT));
    pidfile_close(&file);
    ck_assert_ptr_nonnull(pidfile_open(&file, "/proc/echod.pid")); /* no place for files */
    pidfile_close(&file);
    ck_assert_str_eq(pidfile_open(&file, "/tmp/"), strerror(EISDIR));
    pidfile_close(&file);
}
END_TEST

START_TEST(what_cannot_be_written_leaves_nothing)
{
    struct pidfile file;

    make_directory();
    ck_assert_ptr_null(pidfile_open(&file, path));
    ck_assert_int_eq(mkdir(path, 0700), 0); /* nothing can be renamed to it */
    errno = 0;
    ck_assert(!pidfile_publish(&file));
    ck_assert_int_eq(errno, EISDIR);
    pidfile_close(&file);
    ck_assert_int_eq(files_in_directory(), 1);
    rmdir(path);
    rmdir(directory);
}
END_TEST

START_TEST(a_relative_path_means_where_we_started)
{
    struct pidfile file;
    int here = open(".", O_RDONLY | O_DIRECTORY);

    make_directory();
    ck_assert_int_eq(chdir(directory), 0);
    ck_assert_ptr_null(pidfile_open(&file, "echod.pid"));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert(pidfile_publish(&file));
    ck_assert(holds_our_pid(path));
    pidfile_close(&file);
    ck_assert_int_eq(files_in_directory(), 0);
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    rmdir(directory);
}
END_TEST

/* Whoever owns the directory may put a link there to a file that is not its own. */
START_TEST(what_stands_in_the_place_of_the_draft_stays)
{
    struct pidfile file;
    char draft[128], victim[96];
    struct stat status;
    FILE *others;

    make_directory();
    snprintf(victim, sizeof(victim), "%s/victim", directory);
    snprintf(draft, sizeof(draft), "%s/.echod.pid.%d", directory, (int) getpid());
    others = fopen(victim, "w");
    fputs("theirs\n", others);
    fclose(others);
    ck_assert_int_eq(link(victim, draft), 0);
    ck_assert_ptr_null(pidfile_open(&file, path));
    ck_assert_int_eq(unlink(draft), 0);
    ck_assert_int_eq(link(victim, draft), 0);
    pidfile_give(&file, getuid() + 1, getgid() + 1);
    ck_assert_int_eq(stat(victim, &status), 0);
    ck_assert_uint_eq(status.st_uid, getuid());
    ck_assert_uint_eq(status.st_gid, getgid());
    ck_assert_int_eq(status.st_size, strlen("theirs\n"));
    pidfile_close(&file);
    unlink(draft);
    unlink(path);
    unlink(victim);
    rmdir(directory);
}
END_TEST

/* In a directory of root's; whoever may remove it in the end sees it gone, else it is empty. */
START_TEST(what_is_given_away_has_a_number_once_it_is_published)
{
    struct pidfile file;
    struct stat status;

    make_directory();
    ck_assert_ptr_null(pidfile_open(&file, path));
    ck_assert(pidfile_give(&file, getuid() + 1, getgid()));
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_size, 0);
    ck_assert_int_eq(files_in_directory(), 1);
    ck_assert(pidfile_publish(&file));
    ck_assert(holds_our_pid(path));
    pidfile_close(&file);
    ck_assert_int_eq(files_in_directory(), 0);
    rmdir(directory);
}
END_TEST

START_TEST(a_file_in_the_root_directory)
{
    struct pidfile file;

    if (pidfile_open(&file, "/echod-check.pid") == NULL) /* or we may not write there */
        ck_assert_int_eq(access("/echod-check.pid", F_OK), -1);
    pidfile_close(&file);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_is_written_and_removed,
        an_old_file_is_replaced,
        what_is_no_file_of_ours_stays,
        what_was_not_written_is_not_removed,
        no_path_is_no_file,
        no_directory_is_told_at_once,
        what_cannot_be_written_leaves_nothing,
        a_relative_path_means_where_we_started,
        what_stands_in_the_place_of_the_draft_stays,
        what_is_given_away_has_a_number_once_it_is_published,
        a_file_in_the_root_directory,
    };

    return HARNESS_RUN("pidfile", tests);
}
