/*
 * sealed: memory with a descriptor that nobody can change any more: what the supervisor hands to
 * the workers.
 */
#ifndef ECHOD_SEALED_H
#define ECHOD_SEALED_H

#include <sys/uio.h>

/*
 * Memory that holds COUNT PARTS one behind the other; NAME is for /proc alone. Returns a
 * descriptor, close-on-exec, or -1 with errno set.
 */
int sealed_new(const char *name, const struct iovec *parts, int count);

#endif
