/* files: what the user keeps in files, as a whole. */
#ifndef ECHOD_FILES_H
#define ECHOD_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "credentials.h"
#include "keptfile.h"

/*
 * Reads all of FILE, a regular file of at most MOST bytes, to *BLOB, which has to be empty. Returns
 * NULL, or why it can not; *BLOB may hold a part then. *IS_FORBIDDEN: we lack the permission.
 */
const char *files_read(struct blob *blob, const struct keptfile *file, size_t most,
                       bool *is_forbidden);

#endif
