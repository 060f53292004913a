/* clock: the time that deadlines and idle times are measured by. */
#ifndef ECHOD_CLOCK_H
#define ECHOD_CLOCK_H

#include <stdint.h>
#include <sys/time.h>
#include <time.h>

/*
 * Milliseconds since an arbitrary start; never set back. As coarse as the kernel's tick (4 ms at
 * most), because that costs no system call and is read for every message.
 */
static inline int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* MS milliseconds, as libevent takes a time. */
static inline struct timeval clock_timeval(int64_t ms)
{
    return (struct timeval){ .tv_sec = (time_t) (ms / 1000), .tv_usec = (int) (ms % 1000) * 1000 };
}

#endif
