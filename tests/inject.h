/*
 * inject: makes system calls and allocations fail when a test says so.
 *
 * The linker sends the calls of the program, of src/libechod.a and of libevent's archive through
 * wrappers (--wrap, see units.mk). Those count, and let pass until told otherwise. What a test
 * does as a client it does with read and write, which are not wrapped.
 */
#ifndef ECHOD_TESTS_INJECT_H
#define ECHOD_TESTS_INJECT_H

#include <stddef.h>

enum inject_call {
    INJECT_ACCEPT, /* accept4 */
    INJECT_SOCKET, /* socket */
    INJECT_BIND,   /* bind */
    INJECT_READ,   /* readv, recv, recvmsg, recvmmsg */
    INJECT_WRITE,  /* writev, send, sendmsg; sendmmsg counts each message */
    INJECT_MEMORY, /* malloc, calloc, realloc */
    INJECT_FORK,   /* fork */
    INJECT_THREAD, /* pthread_create: ERROR is its result */
    INJECT_CALLS
};

/* Lets all calls pass again, and counts from zero. */
void inject_reset(void);

/* The NTH call from now on (1: the next), and TIMES in all, fail with errno ERROR. */
void inject_fail(enum inject_call call, unsigned nth, unsigned times, int error);

/* Each NTH call from now on fails with errno ERROR. */
void inject_fail_each(enum inject_call call, unsigned nth, int error);

/* READ and WRITE move at most BYTES a call. */
void inject_short(enum inject_call call, size_t bytes);

/* READ and WRITE fail with EAGAIN, are short, or pass, as SEED decides. */
void inject_random(enum inject_call call, unsigned seed);

/* recvmmsg() says that datagrams come from ADDRESS, of LENGTH bytes, which is not copied. */
void inject_source(const void *address, size_t length);

/* socket() for address family FAMILY fails, as where the kernel lacks it. */
void inject_lack_family(int family);

/* Calls since inject_reset; and how many of them were made to fail. */
unsigned inject_count(enum inject_call call);
unsigned inject_failures(enum inject_call call);

#endif
