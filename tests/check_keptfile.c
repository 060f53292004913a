#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/keptfile.h"
#include "tests/harness.h"

/* A directory with a file in it, and beside it an empty one. */
static char top[64];
static char path[96], empty[96];

static void write_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
    close(fd);
}

static void make_files(void)
{
    snprintf(top, sizeof(top), "/tmp/echod-check.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/file", top);
    snprintf(empty, sizeof(empty), "%s/empty", top);
    write_file(path, "first");
    ck_assert_int_eq(mkdir(empty, 0755), 0);
}

static void remove_files(void)
{
    unlink(path);
    rmdir(empty);
    ck_assert_int_eq(rmdir(top), 0);
}

static bool holds(const struct keptfile *file, const char *text)
{
    char got[16] = "";
    int fd = keptfile_open(file, O_RDONLY);

    if (fd < 0)
        return false;
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_ge(read(fd, got, sizeof(got) - 1), 0);
    close(fd);
    return strcmp(got, text) == 0;
}

START_TEST(without_a_hold_it_is_the_path)
{
    int before = open_descriptors();
    struct keptfile file;

    make_files();
    ck_assert(keptfile_find(&file, path, false));
    ck_assert_int_eq(open_descriptors(), before);
    ck_assert(holds(&file, "first"));
    keptfile_forget(&file);
    keptfile_forget(&file);
    ck_assert(keptfile_find(&file, "/nowhere/file", false));
    ck_assert_int_eq(keptfile_open(&file, O_RDONLY), -1);
    ck_assert_int_eq(errno, ENOENT);
    keptfile_forget(&file);
    remove_files();
}
END_TEST

START_TEST(one_that_takes_its_place_is_found)
{
    int before = open_descriptors();
    struct keptfile file;

    make_files();
    ck_assert(keptfile_find(&file, path, true));
    unlink(path);
    ck_assert_int_eq(keptfile_open(&file, O_RDONLY), -1);
    ck_assert_int_eq(errno, ENOENT);
    write_file(path, "second");
    ck_assert(holds(&file, "second"));
    keptfile_forget(&file);
    ck_assert_int_eq(open_descriptors(), before);
    remove_files();
}
END_TEST

START_TEST(a_relative_path_means_where_we_started)
{
    int here = open(".", O_RDONLY | O_DIRECTORY);
    struct keptfile file;

    make_files();
    ck_assert_int_eq(chdir(top), 0);
    ck_assert(keptfile_find(&file, "file", true));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert(holds(&file, "first"));
    keptfile_forget(&file);
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    remove_files();
}
END_TEST

START_TEST(a_directory_that_is_not_there)
{
    int before = open_descriptors();
    struct keptfile file;
    char *longer = malloc(8192);

    ck_assert(!keptfile_find(&file, "/nowhere/file", true));
    ck_assert_int_eq(errno, ENOENT);
    keptfile_forget(&file);
    memset(longer, '/', 8191);
    longer[8191] = '\0';
    ck_assert(!keptfile_find(&file, longer, true));
    ck_assert_int_eq(errno, ENAMETOOLONG);
    keptfile_forget(&file);
    free(longer);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* As root only. */
START_TEST(it_is_found_from_another_root)
{
    struct keptfile held, not_held;
    int status;
    pid_t pid;

    if (geteuid() != 0)
        return;
    make_files();
    ck_assert(keptfile_find(&held, path, true));
    ck_assert(keptfile_find(&not_held, path, false));
    pid = fork();
    if (pid == 0) {
        if (chroot(empty) != 0 || chdir("/") != 0)
            _exit(1);
        _exit(holds(&held, "first") && !holds(&not_held, "first") ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    keptfile_forget(&held);
    keptfile_forget(&not_held);
    remove_files();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        without_a_hold_it_is_the_path,          one_that_takes_its_place_is_found,
        a_relative_path_means_where_we_started, a_directory_that_is_not_there,
        it_is_found_from_another_root,
    };

    return HARNESS_RUN("keptfile", tests);
}
