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
    ck_assert(pidfile_open(&file, path));
    ck_assert_int_eq(files_in_directory(), 0);
    ck_assert(pidfile_write(&file));
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
    ck_assert(pidfile_open(&file, path));
    ck_assert(pidfile_write(&file));
    ck_assert(holds_our_pid(path));
    pidfile_close(&file);
    rmdir(directory);
}
END_TEST

START_TEST(a_link_is_replaced_and_not_followed)
{
    struct pidfile file;
    char victim[96];

    make_directory();
    snprintf(victim, sizeof(victim), "%s/victim", directory);
    ck_assert_int_eq(symlink(victim, path), 0);
    ck_assert(pidfile_open(&file, path));
    ck_assert(pidfile_write(&file));
    ck_assert(holds_our_pid(path));
    ck_assert_int_ne(access(victim, F_OK), 0);
    pidfile_close(&file);
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
    ck_assert(pidfile_open(&file, path));
    pidfile_close(&file);
    ck_assert_int_eq(access(path, F_OK), 0);
    unlink(path);
    rmdir(directory);
}
END_TEST

START_TEST(no_path_is_no_file)
{
    struct pidfile file;

    ck_assert(pidfile_open(&file, NULL));
    ck_assert(pidfile_write(&file));
    pidfile_close(&file);
}
END_TEST

START_TEST(no_directory_is_told_at_once)
{
    struct pidfile file;

    ck_assert(!pidfile_open(&file, "/nonexistent/echod.pid"));
    ck_assert_int_eq(errno, ENOENT);
    pidfile_close(&file);
}
END_TEST

START_TEST(what_cannot_be_written_leaves_nothing)
{
    struct pidfile file;

    make_directory();
    ck_assert_int_eq(mkdir(path, 0700), 0); /* nothing can be renamed to it */
    ck_assert(pidfile_open(&file, path));
    errno = 0;
    ck_assert(!pidfile_write(&file));
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
    ck_assert(pidfile_open(&file, "echod.pid"));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert(pidfile_write(&file));
    ck_assert(holds_our_pid(path));
    pidfile_close(&file);
    ck_assert_int_eq(files_in_directory(), 0);
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    rmdir(directory);
}
END_TEST

START_TEST(a_file_in_the_root_directory)
{
    struct pidfile file;

    /* Only found, not written: the root may be ours in a container. */
    ck_assert(pidfile_open(&file, "/echod-check.pid"));
    pidfile_close(&file);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_is_written_and_removed,
        an_old_file_is_replaced,
        a_link_is_replaced_and_not_followed,
        what_was_not_written_is_not_removed,
        no_path_is_no_file,
        no_directory_is_told_at_once,
        what_cannot_be_written_leaves_nothing,
        a_relative_path_means_where_we_started,
        a_file_in_the_root_directory,
    };

    return HARNESS_RUN("pidfile", tests);
}
