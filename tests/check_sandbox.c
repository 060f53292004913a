#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/sandbox.h"
#include "tests/harness.h"

enum { DONE, REFUSED, NOT_ENTERED = 77 };

/* What is tried behind a filter: returns whether it was done. */
typedef bool attempt(void);

/* A process that goes behind a filter and tries: how it ends, as waitpid(2) has it. */
static int try(bool enter(void), attempt *tried)
{
    static const struct rlimit no_core;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (setrlimit(RLIMIT_CORE, &no_core) != 0 || !enter())
            _exit(NOT_ENTERED);
        _exit(tried() ? DONE : REFUSED);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

/* How it may end. */
enum ending { ALLOWED, FAILS, ENDS };

struct trial {
    const char *name;
    attempt *attempt;
    enum ending worker, supervisor;
};

static bool opens(void)
{
    return open("/dev/null", O_RDONLY) >= 0;
}

static bool makes_file(void)
{
    return openat(AT_FDCWD, "/tmp", O_TMPFILE | O_WRONLY, 0600) >= 0;
}

static bool executes(void)
{
    return execl("/bin/true", "true", (char *) NULL) == 0;
}

static bool makes_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static bool makes_raw_socket(void)
{
    return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0;
}

static bool makes_packet_socket(void)
{
    return socket(AF_PACKET, SOCK_DGRAM, 0) >= 0;
}

static bool makes_old_socket(void)
{
    return socket(AF_IPX, SOCK_DGRAM, 0) >= 0;
}

static bool traces(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool becomes_root(void)
{
    return setuid(0) == 0;
}

static bool stays_who_it_is(void)
{
    return setresuid(getuid(), getuid(), getuid()) == 0;
}

static bool forks(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void *nothing(void *argument)
{
    return argument;
}

static bool starts_thread(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static bool kills(void)
{
    return kill(getpid(), 0) == 0;
}

static bool signals_parent(void)
{
    return syscall(SYS_tgkill, getppid(), getppid(), 0) == 0;
}

static bool changes_root(void)
{
    return chroot("/") == 0;
}

static bool mounts(void)
{
    return syscall(SYS_mount, "none", "/nowhere", "tmpfs", 0, NULL) == 0;
}

static bool has_other_view(void)
{
    return unshare(CLONE_FILES) == 0;
}

static bool clones_into_namespace(void)
{
    pid_t pid = (pid_t) syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool makes_memory_run(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static bool makes_memory_run_later(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool loads_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0) == 0;
}

static bool has_keys(void)
{
    return syscall(SYS_keyctl, 0, 0, 0) >= 0;
}

static bool loads_module(void)
{
    return syscall(SYS_init_module, NULL, 0, "") == 0;
}

static bool looks_at_file(void)
{
    struct stat status;

    return stat("/", &status) == 0;
}

static bool listens(void)
{
    return listen(STDERR_FILENO, 1) == 0;
}

static bool binds(void)
{
    return bind(STDERR_FILENO, NULL, 0) == 0;
}

static bool connects(void)
{
    return connect(STDERR_FILENO, NULL, 0) == 0 || errno == ENOTSOCK;
}

static bool sets_option(void)
{
    return setsockopt(STDERR_FILENO, SOL_SOCKET, SO_MARK, NULL, 0) == 0 || errno == ENOTSOCK;
}

static bool pushes_terminal_input(void)
{
    return ioctl(STDERR_FILENO, TIOCSTI, "x") == 0 || errno == ENOTTY;
}

static bool changes_mode(void)
{
    return fchmodat(AT_FDCWD, "/nowhere", 0644, 0) == 0;
}

static bool removes(void)
{
    return unlinkat(AT_FDCWD, "/nowhere", 0) == 0 || errno == ENOENT;
}

static bool makes_ring(void)
{
    return syscall(SYS_io_uring_setup, 0, NULL) >= 0;
}

static const struct trial trials[] = {
    { "open", opens, FAILS, ALLOWED },
    { "open a new file", makes_file, FAILS, ALLOWED },
    { "execve", executes, ENDS, ENDS },
    { "socket", makes_socket, FAILS, ALLOWED },
    { "socket, raw", makes_raw_socket, ENDS, ENDS },
    { "socket, packets", makes_packet_socket, ENDS, ENDS },
    { "socket, IPX", makes_old_socket, ENDS, ENDS },
    { "ptrace", traces, ENDS, ENDS },
    { "setuid", becomes_root, ENDS, ENDS },
    { "setresuid", stays_who_it_is, ENDS, ENDS },
    { "fork", forks, ENDS, ALLOWED },
    { "pthread_create", starts_thread, ENDS, ALLOWED },
    { "kill", kills, ENDS, ALLOWED },
    { "tgkill of another process", signals_parent, ENDS, ALLOWED },
    { "chroot", changes_root, ENDS, ENDS },
    { "mount", mounts, ENDS, ENDS },
    { "unshare", has_other_view, ENDS, ENDS },
    { "clone into a namespace", clones_into_namespace, ENDS, ENDS },
    { "mmap, executable", makes_memory_run, ENDS, ENDS },
    { "mprotect, executable", makes_memory_run_later, ENDS, ENDS },
    { "bpf", loads_bpf, ENDS, ENDS },
    { "keyctl", has_keys, ENDS, ENDS },
    { "init_module", loads_module, ENDS, ENDS },
    { "io_uring_setup", makes_ring, ENDS, ENDS },
    { "stat", looks_at_file, ENDS, ALLOWED },
    { "listen", listens, ENDS, ENDS },
    { "bind", binds, ENDS, ENDS },
    { "connect", connects, ENDS, ALLOWED },
    { "setsockopt, any", sets_option, ENDS, ALLOWED },
    { "ioctl, any", pushes_terminal_input, ENDS, ALLOWED },
    { "chmod", changes_mode, ENDS, ENDS },
    { "unlinkat", removes, ENDS, ALLOWED },
};

static bool is_as(int status, enum ending ending)
{
    switch (ending) {
    case ALLOWED:
        return WIFEXITED(status) && WEXITSTATUS(status) == DONE;
    case FAILS:
        return WIFEXITED(status) && WEXITSTATUS(status) == REFUSED;
    case ENDS:
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    }
    return false;
}

/* A worker has the supervisor's filter as well. */
static bool enter_both(void)
{
    return sandbox_enter_supervisor() && sandbox_enter_worker();
}

START_TEST(a_worker_is_kept_from_it)
{
    const struct trial *trial = &trials[_i];
    int status = try(enter_both, trial->attempt);

    ck_assert_msg(is_as(status, trial->worker), "%s: %#x", trial->name, (unsigned) status);
}
END_TEST

/* But where a family is forbidden to the supervisor, and so ends it, to a worker it is any. */
START_TEST(a_worker_is_kept_from_it_by_its_own_filter)
{
    const struct trial *trial = &trials[_i];
    int status = try(sandbox_enter_worker, trial->attempt);

    ck_assert_msg(is_as(status, trial->worker) || is_as(status, FAILS), "%s: %#x", trial->name,
                  (unsigned) status);
}
END_TEST

START_TEST(a_supervisor_is_kept_from_it)
{
    const struct trial *trial = &trials[_i];
    int status = try(sandbox_enter_supervisor, trial->attempt);

    ck_assert_msg(is_as(status, trial->supervisor), "%s: %#x", trial->name, (unsigned) status);
}
END_TEST

/* Of the others, the whole process is the one that ends. */
static void *execute_in_thread(void *unused)
{
    (void) unused;
    if (!sandbox_enter_worker())
        _exit(NOT_ENTERED);
    executes();
    return NULL;
}

static bool has_thread_that_executes(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, execute_in_thread, NULL) == 0 &&
           pthread_join(thread, NULL) == 0;
}

START_TEST(one_thread_ends_the_process)
{
    ck_assert(is_as(try(sandbox_enter_supervisor, has_thread_that_executes), ENDS));
}
END_TEST

static void *enter_in_thread(void *unused)
{
    (void) unused;
    return sandbox_enter_worker() ? (void *) "" : NULL;
}

/* ... and only that one is behind the filter: the supervisor goes on, and sees it end. */
static bool goes_on_beside_thread(void)
{
    pthread_t thread;
    void *entered;

    return pthread_create(&thread, NULL, enter_in_thread, NULL) == 0 &&
           pthread_join(thread, &entered) == 0 && entered != NULL && opens() && forks();
}

START_TEST(a_filter_is_a_threads_own)
{
    ck_assert(is_as(try(sandbox_enter_supervisor, goes_on_beside_thread), ALLOWED));
}
END_TEST

static bool aborts(void)
{
    abort();
}

START_TEST(a_crash_ends_by_its_own_signal)
{
    int status = try(enter_both, aborts);

    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

/* What the descriptors are that a worker has: a connection, a listening socket, memory. */
static struct pair pair;
static int listening, sealed;

static bool transfers(void)
{
    char byte = 'x';
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    struct mmsghdr several = { .msg_hdr = message };

    return send(pair.client, "abcde", 5, MSG_NOSIGNAL) == 5 &&
           recv(pair.server, &byte, 1, 0) == 1 &&
           readv(pair.server, &part, 1) == 1 && recvmsg(pair.server, &message, 0) == 1 &&
           read(pair.server, &byte, 1) == 1 && recvmmsg(pair.server, &several, 1, 0, NULL) == 1 &&
           writev(pair.server, &part, 1) == 1 && sendmsg(pair.server, &message, 0) == 1 &&
           write(pair.server, &byte, 1) == 1 && sendmmsg(pair.server, &several, 1, 0) == 1 &&
           shutdown(pair.server, SHUT_WR) == 0;
}

static bool accepts(void)
{
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    return fd >= 0 && close(fd) == 0;
}

static bool waits_in_every_way(void)
{
    struct pollfd ready = { .fd = pair.server, .events = POLLOUT };
    struct timespec no_time = { 0 };
    struct timeval no_while = { 0 };
    fd_set set;

    FD_ZERO(&set);
    FD_SET(pair.server, &set);
    return poll(&ready, 1, 0) == 1 && ppoll(&ready, 1, &no_time, NULL) == 1 &&
           select(pair.server + 1, NULL, &set, NULL, &no_while) == 1 &&
           pselect(pair.server + 1, NULL, &set, NULL, &no_time, NULL) == 1;
}

static bool asks_about_sockets(void)
{
    struct tcp_info info;
    struct sockaddr_storage name;
    socklen_t length = sizeof(info), name_length = sizeof(name), other_length = sizeof(name);
    int number;

    return getsockopt(pair.server, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
           ioctl(pair.server, FIONREAD, &number) == 0 &&
           ioctl(pair.server, SIOCOUTQ, &number) == 0 &&
           fcntl(pair.server, F_SETFL, fcntl(pair.server, F_GETFL) | O_NONBLOCK) == 0 &&
           getsockname(pair.server, (struct sockaddr *) &name, &name_length) == 0 &&
           getpeername(pair.server, (struct sockaddr *) &name, &other_length) == 0;
}

/* A descriptor of sealed memory, as it comes from the supervisor. */
static bool reads_sealed_memory(void)
{
    struct stat status;
    char *mapped;

    if (fstat(sealed, &status) != 0 || fcntl(sealed, F_GET_SEALS) < 0)
        return false;
    mapped = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_SHARED, sealed, 0);
    return mapped != MAP_FAILED && mapped[0] == 'm' &&
           munmap(mapped, (size_t) status.st_size) == 0 && close(sealed) == 0;
}

/* From where small blocks come, large ones, and ones that grow. */
static bool uses_memory(void)
{
    char *small = malloc(100), *large = malloc(1 << 22), *larger = realloc(large, 1 << 24);
    bool had = small != NULL && larger != NULL;

    free(small);
    free(larger);
    return had;
}

static int compare_bytes(const void *a, const void *b)
{
    return *(const unsigned char *) a - *(const unsigned char *) b;
}

/* More than the C library sorts on its stack: as OpenSSL does with a large file of CAs. */
static bool sorts(void)
{
    static unsigned char bytes[1 << 16] = { 2, 1 };

    qsort(bytes, sizeof(bytes), 1, compare_bytes);
    return bytes[0] == 0 && bytes[sizeof(bytes) - 1] == 2;
}

static bool has_time_and_randomness(void)
{
    struct timespec now;
    char bytes[32];

    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 &&
           syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0 && /* where there is no vDSO */
           getrandom(bytes, sizeof(bytes), 0) == (ssize_t) sizeof(bytes);
}

/* Of a link-local address the C library would say the interface's name, and asks a socket. */
static bool names_link_local(void)
{
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_scope_id = 1 };
    char host[128];

    return inet_pton(AF_INET6, "fe80::1", &address.sin6_addr) == 1 &&
           getnameinfo((struct sockaddr *) &address, sizeof(address), host, sizeof(host), NULL, 0,
                       NI_NUMERICHOST) == 0 &&
           strcmp(host, "fe80::1%1") == 0;
}

static const struct {
    const char *name;
    attempt *attempt;
} needs[] = {
    { "bytes to and fro", transfers },
    { "accept4", accepts },
    { "poll, select", waits_in_every_way },
    { "sockets' state", asks_about_sockets },
    { "sealed memory", reads_sealed_memory },
    { "malloc", uses_memory },
    { "qsort", sorts },
    { "time, randomness", has_time_and_randomness },
    { "a link-local address", names_link_local },
};

static void make_descriptors(void)
{
    uint16_t port;

    pair = make_pair(0);
    set_blocking(pair.server, true);
    listening = listen_anywhere(&port);
    ck_assert_int_ge(connect_to(port), 0);
    sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(write(sealed, "memory", 6), 6);
    ck_assert_int_eq(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
}

START_TEST(a_worker_has_what_it_needs)
{
    int status;

    make_descriptors();
    status = try(enter_both, needs[_i].attempt);
    ck_assert_msg(is_as(status, ALLOWED), "%s: %#x", needs[_i].name, (unsigned) status);
}
END_TEST

/* Exit handlers, and the buffers of stdio. */
static bool exits(void)
{
    printf("%s", "");
    exit(DONE);
}

START_TEST(a_worker_may_end)
{
    ck_assert(is_as(try(enter_both, exits), ALLOWED));
}
END_TEST

/* valgrind knows no such call, and a kernel may be built without. */
static bool has_system_filters(void)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;

    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

#define COUNT(list) ((int) (sizeof(list) / sizeof((list)[0])))

int main(void)
{
    Suite *suite;
    TCase *tcase;
    SRunner *runner;
    int failed;

    if (!has_system_filters()) {
        puts("no system-call filters here: nothing is tried");
        return EXIT_SUCCESS;
    }
    suite = suite_create("sandbox");
    tcase = tcase_create("sandbox");
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(tcase, DEADLINE_MS / 1000.0);
    tcase_add_loop_test(tcase, a_worker_is_kept_from_it, 0, COUNT(trials));
    tcase_add_loop_test(tcase, a_worker_is_kept_from_it_by_its_own_filter, 0, COUNT(trials));
    tcase_add_loop_test(tcase, a_supervisor_is_kept_from_it, 0, COUNT(trials));
    tcase_add_test(tcase, one_thread_ends_the_process);
    tcase_add_test(tcase, a_filter_is_a_threads_own);
    tcase_add_test(tcase, a_crash_ends_by_its_own_signal);
    tcase_add_loop_test(tcase, a_worker_has_what_it_needs, 0, COUNT(needs));
    tcase_add_test(tcase, a_worker_may_end);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
