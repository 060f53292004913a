/*
 * failing: the real daemon (tests/failing is src/main.c and the libraries), of which a scenario
 * makes one call fail: the file that ECHOD_FAILURE names says which, and is mapped by both.
 *
 * The linker sends the calls of the program, of src/libechod.a and of libevent's archive through
 * wrappers (--wrap, see local.mk), and OpenSSL takes its memory by way of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "config.h"
#include "src/defaults.h"

#ifdef HAVE_OPENSSL
#include "tests/inject_openssl.h"
#endif

struct event;

/* As tests/failures.t has it; the file is so long. */
struct plan {
    _Atomic int thread;     /* whose calls count; 0: nobody's, EACH_WORKER: of what was forked */
    _Atomic unsigned count; /* of CALL, since it was set to 0 */
    _Atomic unsigned failed;
    unsigned first, last; /* those fail */
    int error;            /* by this errno */
    unsigned most;        /* a stream is given at most so many bytes at a time; 0: as many as fit */
    pid_t daemon;         /* told to the scenario */
    char call[16];        /* its name; "memory" for all that allocates */
    _Atomic int watched;  /* a thread; 0: none */
    _Atomic int blocks;   /* of memory that it has taken, and not given back */
};

enum { EACH_WORKER = -1, SHORTENED = 200 };

static struct plan none, *plan = &none;

/* Counts a call; true if it has to fail, with errno set. */
static bool fails(const char *call)
{
    int thread = plan->thread;
    unsigned number;

    if (thread == 0 || (thread == EACH_WORKER ? getpid() == plan->daemon : gettid() != thread) ||
        strcmp(call, plan->call) != 0)
        return false;
    number = ++plan->count;
    if (number < plan->first || number > plan->last)
        return false;
    plan->failed++;
    errno = plan->error;
    return true;
}

/* Returns MEMORY, which is COUNT blocks more or less, if it is any. */
static void *counted(void *memory, int count)
{
    int watched = plan->watched;

    if (watched != 0 && memory != NULL && gettid() == watched)
        plan->blocks += count;
    return memory;
}

static size_t shortened(size_t length)
{
    return plan->most != 0 && length > plan->most ? plan->most : length;
}

/* The linker's names: __wrap_X is called for X, and __real_X is X. */
#define WRAP(type, failure, call, name, parameters, arguments) \
    type __real_##name parameters;                             \
    type __wrap_##name parameters;                             \
    type __wrap_##name parameters                              \
    {                                                          \
        return fails(call) ? (failure) : __real_##name arguments; \
    }

WRAP(int, -1, "accept4", accept4, (int fd, struct sockaddr *from, socklen_t *length, int flags),
     (fd, from, length, flags))
WRAP(ssize_t, -1, "recv", recv, (int fd, void *data, size_t length, int flags),
     (fd, data, length, flags))
WRAP(ssize_t, -1, "recv", readv, (int fd, const struct iovec *parts, int count),
     (fd, parts, count))
WRAP(ssize_t, -1, "recvmsg", recvmsg, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(int, -1, "recvmmsg", recvmmsg,
     (int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout),
     (fd, messages, count, flags, timeout))
WRAP(ssize_t, -1, "send", send, (int fd, const void *data, size_t length, int flags),
     (fd, data, shortened(length), flags))
WRAP(ssize_t, -1, "sendmsg", sendmsg, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
WRAP(int, -1, "sendmmsg", sendmmsg,
     (int fd, struct mmsghdr *messages, unsigned count, int flags), (fd, messages, count, flags))
WRAP(int, -1, "setsockopt", setsockopt,
     (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length))
WRAP(int, -1, "getsockopt", getsockopt,
     (int fd, int level, int name, void *value, socklen_t *length),
     (fd, level, name, value, length))
WRAP(int, -1, "getsockname", getsockname, (int fd, struct sockaddr *own, socklen_t *length),
     (fd, own, length))
WRAP(int, -1, "getpeername", getpeername, (int fd, struct sockaddr *peer, socklen_t *length),
     (fd, peer, length))
WRAP(int, -1, "shutdown", shutdown, (int fd, int how), (fd, how))
WRAP(void *, MAP_FAILED, "mmap", mmap,
     (void *at, size_t length, int protection, int flags, int fd, off_t offset),
     (at, length, protection, flags, fd, offset))

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __real_free(void *memory);
void __wrap_free(void *memory);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
int __real_close(int fd);
int __wrap_close(int fd);
int __real_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event);
int __real_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout);
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
void __real_reactor_start_timer(struct event *timer, int64_t ms);
void __wrap_reactor_start_timer(struct event *timer, int64_t ms);

void *__wrap_malloc(size_t size)
{
    return fails("memory") ? NULL : counted(__real_malloc(size), 1);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails("memory") ? NULL : counted(__real_calloc(count, size), 1);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails("memory") ? NULL : counted(__real_realloc(memory, size), memory == NULL);
}

void __wrap_free(void *memory)
{
    int error = errno;

    __real_free(counted(memory, -1));
    errno = error;
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
    struct iovec first;

    if (fails("writev"))
        return -1;
    if (count == 0 || plan->most == 0)
        return __real_writev(fd, parts, count);
    first = (struct iovec){ parts->iov_base, shortened(parts->iov_len) };
    return __real_writev(fd, &first, 1);
}

/* Linux closes even so. */
int __wrap_close(int fd)
{
    bool has_failed = fails("close");
    int error = errno, result = __real_close(fd);

    if (!has_failed)
        return result;
    errno = error;
    return -1;
}

/* To take something out of a set needs nothing that could be short. */
int __wrap_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
    return what != EPOLL_CTL_DEL && fails("epoll_ctl") ? -1
                                                       : __real_epoll_ctl(epoll, what, fd, event);
}

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    return fails("epoll_wait") ? -1 : __real_epoll_wait(epoll, events, most, timeout);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return fails("ioctl") ? -1 : __real_ioctl(fd, request, argument);
}

int __wrap_fcntl(int fd, int command, ...)
{
    va_list arguments;
    long argument;

    va_start(arguments, command);
    argument = va_arg(arguments, long);
    va_end(arguments);
    return fails("fcntl") ? -1 : __real_fcntl(fd, command, argument);
}

/*
 * A second is what waits for memory or descriptors, hundreds of times here: it is made shorter. But
 * not the heartbeat's: its timer is the first that is started, before there are threads.
 */
void __wrap_reactor_start_timer(struct event *timer, int64_t ms)
{
    static struct event *heartbeat;
    bool is_shortened;

    if (heartbeat == NULL)
        heartbeat = timer;
    is_shortened = ms == RETRY_DESCRIPTORS_MS && timer != heartbeat;
    __real_reactor_start_timer(timer, is_shortened ? ms / SHORTENED : ms);
}

/* Before main, and before anybody has asked OpenSSL for anything. */
__attribute__((constructor)) static void open_plan(void)
{
    const char *path = getenv("ECHOD_FAILURE");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = fd < 0 ? MAP_FAILED
                          : __real_mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED,
                                        fd, 0);

    plan = shared != MAP_FAILED ? shared : &none;
    plan->daemon = getpid();
    if (fd >= 0)
        __real_close(fd);
#ifdef HAVE_OPENSSL
    inject_openssl();
#endif
}
