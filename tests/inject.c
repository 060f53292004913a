#include "inject.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* What one kind of call has to do; atomic, for workers that are threads. */
static struct {
    _Atomic unsigned count, failures;
    _Atomic unsigned first, last, each; /* calls by their count; 0: none */
    _Atomic int error;
    _Atomic size_t limit; /* bytes; 0: none */
    _Atomic unsigned random;
} plans[INJECT_CALLS];

static _Atomic int lacking_family = AF_UNSPEC;

static struct {
    const void *address; /* NULL: the true one */
    size_t length;
} source;

void inject_reset(void)
{
    for (int i = 0; i < INJECT_CALLS; i++) {
        plans[i].first = plans[i].last = plans[i].each = plans[i].random = 0;
        plans[i].count = plans[i].failures = 0;
        plans[i].limit = 0;
    }
    lacking_family = AF_UNSPEC;
    source.address = NULL;
}

void inject_fail(enum inject_call call, unsigned nth, unsigned times, int error)
{
    unsigned first = plans[call].count + nth;

    plans[call].error = error;
    plans[call].last = times > UINT_MAX - first ? UINT_MAX : first + times - 1;
    plans[call].first = first;
}

void inject_fail_each(enum inject_call call, unsigned nth, int error)
{
    plans[call].error = error;
    plans[call].each = nth;
}

void inject_short(enum inject_call call, size_t bytes)
{
    plans[call].limit = bytes;
}

void inject_random(enum inject_call call, unsigned seed)
{
    plans[call].error = EAGAIN;
    plans[call].random = seed != 0 ? seed : 1;
}

void inject_source(const void *address, size_t length)
{
    source.address = address;
    source.length = length;
}

void inject_lack_family(int family)
{
    lacking_family = family;
}

unsigned inject_count(enum inject_call call)
{
    return plans[call].count;
}

unsigned inject_failures(enum inject_call call)
{
    return plans[call].failures;
}

/* A number from a stream of CALL's own (xorshift): the same SEED is the same test. */
static unsigned next_random(enum inject_call call)
{
    uint32_t value = plans[call].random;

    value ^= value << 13;
    value ^= value >> 17;
    value ^= value << 5;
    plans[call].random = value;
    return value;
}

/* Counts a call; true if it has to fail, with errno set. *LIMIT: the bytes that it may move. */
static bool fails(enum inject_call call, size_t *limit)
{
    unsigned number = ++plans[call].count;
    bool fail = plans[call].first != 0 && number >= plans[call].first &&
                number <= plans[call].last;

    *limit = plans[call].limit != 0 ? plans[call].limit : SIZE_MAX;
    if (plans[call].each != 0 && number % plans[call].each == 0)
        fail = true;
    if (plans[call].random != 0) {
        unsigned choice = next_random(call);

        fail = fail || choice % 4 == 0;
        if (choice % 4 == 1)
            *limit = 1 + choice / 4 % 3000;
    }
    if (fail) {
        plans[call].failures++;
        errno = plans[call].error;
    }
    return fail;
}

static bool fails_at_all(enum inject_call call)
{
    size_t limit;

    return fails(call, &limit);
}

/* Shortens *PARTS to the first that holds anything, and that to LIMIT bytes, in ROOM. */
static void shorten(const struct iovec **parts, int *count, size_t limit, struct iovec *room)
{
    if (limit == SIZE_MAX)
        return;
    while (*count > 1 && (*parts)->iov_len == 0) {
        ++*parts;
        --*count;
    }
    if (*count == 0)
        return;
    *room = **parts;
    if (room->iov_len > limit)
        room->iov_len = limit;
    *parts = room;
    *count = 1;
}

/* The linker's names: __wrap_X is called for X, and __real_X is X. */
int __real_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
ssize_t __real_readv(int fd, const struct iovec *parts, int count);
ssize_t __wrap_readv(int fd, const struct iovec *parts, int count);
ssize_t __real_recv(int fd, void *data, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t length, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __real_send(int fd, const void *data, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
int __real_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout);
int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
pid_t __real_fork(void);
pid_t __wrap_fork(void);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    return fails_at_all(INJECT_ACCEPT) ? -1 : __real_accept4(fd, address, length, flags);
}

int __wrap_socket(int family, int type, int protocol)
{
    if (lacking_family != AF_UNSPEC && family == lacking_family) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return fails_at_all(INJECT_SOCKET) ? -1 : __real_socket(family, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    return fails_at_all(INJECT_BIND) ? -1 : __real_bind(fd, address, length);
}

ssize_t __wrap_readv(int fd, const struct iovec *parts, int count)
{
    struct iovec room;
    size_t limit;

    if (fails(INJECT_READ, &limit))
        return -1;
    shorten(&parts, &count, limit, &room);
    return __real_readv(fd, parts, count);
}

ssize_t __wrap_recv(int fd, void *data, size_t length, int flags)
{
    size_t limit;

    if (fails(INJECT_READ, &limit))
        return -1;
    return __real_recv(fd, data, length < limit ? length : limit, flags);
}

/* Not shortened: it carries frames, which a short read would truncate. */
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    return fails_at_all(INJECT_READ) ? -1 : __real_recvmsg(fd, message, flags);
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
    struct iovec room;
    size_t limit;

    if (fails(INJECT_WRITE, &limit))
        return -1;
    shorten(&parts, &count, limit, &room);
    return __real_writev(fd, parts, count);
}

ssize_t __wrap_send(int fd, const void *data, size_t length, int flags)
{
    size_t limit;

    if (fails(INJECT_WRITE, &limit))
        return -1;
    return __real_send(fd, data, length < limit ? length : limit, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct msghdr copy = *message;
    const struct iovec *parts = message->msg_iov;
    int count = (int) message->msg_iovlen;
    struct iovec room;
    size_t limit;

    if (fails(INJECT_WRITE, &limit))
        return -1;
    shorten(&parts, &count, limit, &room);
    copy.msg_iov = (struct iovec *) parts;
    copy.msg_iovlen = (size_t) count;
    return __real_sendmsg(fd, &copy, flags);
}

/* Of datagrams, which are whole or not there, fewer are moved: the limit is of their number. */
int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout)
{
    size_t limit;
    int got;

    if (fails(INJECT_READ, &limit))
        return -1;
    got = __real_recvmmsg(fd, messages, count < limit ? count : (unsigned) limit, flags, timeout);
    for (int i = 0; i < got && source.address != NULL; i++) {
        memcpy(messages[i].msg_hdr.msg_name, source.address, source.length);
        messages[i].msg_hdr.msg_namelen = (socklen_t) source.length;
    }
    return got;
}

/* As the kernel does it: up to the first that fails, which fails again as the first of all. */
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    for (unsigned sent = 0; sent < count; sent++) {
        size_t limit;

        if (fails(INJECT_WRITE, &limit)) {
            if (sent == 0)
                return -1;
            plans[INJECT_WRITE].count--;
            plans[INJECT_WRITE].failures--;
            return (int) sent;
        }
        if (sent >= limit)
            return (int) sent;
        if (__real_sendmmsg(fd, &messages[sent], 1, flags) != 1)
            return sent > 0 ? (int) sent : -1;
    }
    return (int) count;
}

void *__wrap_malloc(size_t size)
{
    return fails_at_all(INJECT_MEMORY) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_at_all(INJECT_MEMORY) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails_at_all(INJECT_MEMORY) ? NULL : __real_realloc(memory, size);
}

pid_t __wrap_fork(void)
{
    return fails_at_all(INJECT_FORK) ? -1 : __real_fork();
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    return fails_at_all(INJECT_THREAD)
               ? errno
               : __real_pthread_create(thread, attributes, function, argument);
}
