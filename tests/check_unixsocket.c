#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/unixsocket.h"
#include "tests/harness.h"
#include "tests/inject.h"

static char directory[32], path[64];

/* A directory of the test's own, and a path in it. */
static void prepare(void)
{
    snprintf(directory, sizeof(directory), "/tmp/echod-unix.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/s", directory);
}

static void clean_up(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0); /* nothing else was left there */
}

static int try_connect(const char *name)
{
    struct sockaddr_un address;
    socklen_t length = unixsocket_address(name, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *) &address, length) == 0)
        return fd;
    close(fd);
    return -1;
}

static int listen_well(const char *name, int mode, struct unixsocket *file)
{
    const char *wrong;
    int fd = unixsocket_listen(name, mode, file, &wrong);

    ck_assert_msg(fd >= 0, "%s: %s", name, wrong);
    return fd;
}

/* It cannot listen at NAME, for the reason WHY, and nothing stays open. */
static void expect_wrong(const char *name, const char *why)
{
    int before = open_descriptors();
    struct unixsocket file;
    const char *wrong;

    ck_assert_int_eq(unixsocket_listen(name, -1, &file, &wrong), -1);
    inject_reset();
    ck_assert_str_eq(wrong, why);
    ck_assert_int_eq(open_descriptors(), before);
}

static mode_t mode_of(const char *name)
{
    struct stat status;

    ck_assert_int_eq(lstat(name, &status), 0);
    ck_assert(S_ISSOCK(status.st_mode));
    return status.st_mode & 0777;
}

START_TEST(it_listens_and_goes)
{
    struct unixsocket file;
    int fd, client;

    prepare();
    fd = listen_well(path, -1, &file);
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    client = try_connect(path);
    ck_assert_int_ge(client, 0);
    unixsocket_remove(&file);
    ck_assert_int_ne(access(path, F_OK), 0);
    unixsocket_remove(&file); /* again does no harm */
    close(client);
    close(fd);
    clean_up();
}
END_TEST

START_TEST(the_mode_is_as_asked_for)
{
    static const int modes[] = { 0, 0600, 0660, 0666, 0777 };
    mode_t before = umask(027);
    struct unixsocket file;

    prepare();
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        close(listen_well(path, modes[i], &file));
        ck_assert_int_eq(mode_of(path), modes[i]);
        unixsocket_remove(&file);
    }
    close(listen_well(path, -1, &file));
    ck_assert_int_eq(mode_of(path), 0750);
    unixsocket_remove(&file);
    ck_assert_int_eq(umask(before), 027);
    clean_up();
}
END_TEST

START_TEST(a_stale_file_is_replaced)
{
    struct unixsocket stale, file;
    int fd, client;

    prepare();
    close(listen_well(path, -1, &stale));
    fd = listen_well(path, -1, &file);
    client = try_connect(path);
    ck_assert_int_ge(client, 0);
    unixsocket_remove(&stale); /* it is not its own any more */
    ck_assert_int_eq(access(path, F_OK), 0);
    unixsocket_remove(&file);
    ck_assert_int_ne(access(path, F_OK), 0);
    close(client);
    close(fd);
    clean_up();
}
END_TEST

START_TEST(a_live_one_stays)
{
    struct unixsocket file;
    int fd;

    prepare();
    fd = listen_well(path, -1, &file);
    listen(fd, 0);
    for (int i = 0; i < 3; i++) /* also when it accepts nobody, and its queue is full */
        expect_wrong(path, strerror(EADDRINUSE));
    unixsocket_remove(&file);
    close(fd);
    clean_up();
}
END_TEST

START_TEST(other_files_stay)
{
    char target[80];
    int fd;

    prepare();
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    expect_wrong(path, "exists and is not a socket");
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    expect_wrong(path, "exists and is not a socket");
    unlink(path);
    snprintf(target, sizeof(target), "%s/nowhere", directory);
    ck_assert_int_eq(symlink(target, path), 0);
    expect_wrong(path, "exists and is not a socket");
    clean_up();
    expect_wrong("/nowhere/of/that/name", strerror(ENOENT));
    expect_wrong("/", strerror(EADDRINUSE));
}
END_TEST

START_TEST(an_abstract_name_has_no_file)
{
    struct unixsocket file;
    char name[64];
    int fd, client;

    snprintf(name, sizeof(name), "@echod/test.%d", (int) getpid());
    fd = listen_well(name, -1, &file);
    expect_wrong(name, strerror(EADDRINUSE));
    client = try_connect(name);
    ck_assert_int_ge(client, 0);
    unixsocket_remove(&file);
    close(client);
    close(fd);
}
END_TEST

START_TEST(who_is_queued_is_accepted_and_nobody_else)
{
    struct unixsocket file;
    int fd, first, second, accepted[2];

    prepare();
    fd = listen_well(path, -1, &file);
    first = try_connect(path);
    second = try_connect(path);
    unixsocket_stop_queueing(fd);
    ck_assert_int_eq(try_connect(path), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    accepted[0] = accept(fd, NULL, NULL);
    accepted[1] = accept(fd, NULL, NULL);
    ck_assert(accepted[0] >= 0 && accepted[1] >= 0);
    ck_assert_int_eq(accept(fd, NULL, NULL), -1);
    ck_assert_int_eq(errno, EAGAIN);
    unixsocket_remove(&file);
    close(first);
    close(second);
    close(accepted[0]);
    close(accepted[1]);
    close(fd);
    clean_up();
}
END_TEST

/* Only root can give away at all; whoever owns the directory may put a link in the place of ours. */
START_TEST(what_is_not_ours_is_not_given_away)
{
    char victim[64];
    struct unixsocket file;
    struct stat status;
    int fd, other;

    prepare();
    snprintf(victim, sizeof(victim), "%s/victim", directory);
    fd = listen_well(path, -1, &file);
    unixsocket_give(&file, getuid() + 1, getgid());
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_uid, getuid() == 0 ? 1 : getuid());
    other = open(victim, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(other, 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(link(victim, path), 0);
    unixsocket_give(&file, getuid() + 1, getgid());
    ck_assert_int_eq(fstat(other, &status), 0);
    ck_assert_uint_eq(status.st_uid, getuid());
    unixsocket_remove(&file);
    close(other);
    close(fd);
    unlink(victim);
    clean_up();
}
END_TEST

START_TEST(failures_leave_nothing)
{
    prepare();
    inject_fail(INJECT_SOCKET, 1, 1, EMFILE);
    expect_wrong(path, strerror(EMFILE));
    inject_fail(INJECT_BIND, 1, 1, EACCES);
    expect_wrong(path, strerror(EACCES));
    clean_up();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_listens_and_goes,
        the_mode_is_as_asked_for,
        a_stale_file_is_replaced,
        a_live_one_stays,
        other_files_stay,
        an_abstract_name_has_no_file,
        who_is_queued_is_accepted_and_nobody_else,
        what_is_not_ours_is_not_given_away,
        failures_leave_nothing,
    };

    return HARNESS_RUN("unixsocket", tests);
}
