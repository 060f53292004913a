/*
 * sandbox: which system calls a thread may still make, once it has all that it needs (seccomp(2)).
 *
 * The only file that knows libseccomp. What honest code never asks for ends the whole process,
 * with SIGSYS; what the C library asks for on its own account, and can do without, fails.
 * Configured without libseccomp, or with a sanitizer, whose calls are not ours, nothing is called
 * but sandbox_missing.
 */
#ifndef ECHOD_SANDBOX_H
#define ECHOD_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

#ifdef HAVE_LIBSECCOMP

/* Why this build has no filter; NULL: it has one. */
static inline const char *sandbox_missing(void)
{
    return NULL;
}

/*
 * Has the calling thread, and those that it starts from then on, make only calls that a worker
 * needs: it serves descriptors that it has, or is sent, and makes none. There is no way back. On
 * failure returns false with errno set, and nothing changes.
 */
bool sandbox_enter_worker(void);

/*
 * The same for the supervisor, which may do more: start and end workers, open files for reading,
 * connect. Both filters hold for the workers that it starts.
 */
bool sandbox_enter_supervisor(void);

#else

static inline const char *sandbox_missing(void)
{
    return "built without libseccomp";
}

static inline bool sandbox_enter_worker(void)
{
    return false;
}

static inline bool sandbox_enter_supervisor(void)
{
    return false;
}

#endif
#endif
