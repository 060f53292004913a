/*
 * privileges: what the process may do as it was started, given up for good.
 *
 * Once, in the only thread, when all that needs them is done. What has to be found by its path
 * afterwards is held by a descriptor: see keptfile.h, pidfile.h and unixsocket.h.
 */
#ifndef ECHOD_PRIVILEGES_H
#define ECHOD_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Who to become, and where to live. One that is all zero changes neither. */
struct privileges {
    const char *user; /* as the caller named it; NULL: who we are */
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary ones; on the heap */
    int group_count;
    const char *root; /* the new root directory; NULL: it stays */
};

/* Why it cannot be: "WHAT: TEXT". */
struct privileges_error {
    char what[160];
    char text[256];
};

/*
 * Looks up USER[:GROUP], names or numbers, whose text has to outlive *PRIVILEGES; and takes ROOT
 * with it. Without GROUP they are all groups of the user, who has to be known then. NULL: none.
 * On failure returns false, *ERROR says why, and there is nothing to free.
 */
bool privileges_find(struct privileges *privileges, const char *user, const char *root,
                     struct privileges_error *error);
void privileges_free(struct privileges *privileges);

/*
 * Enters the root directory; becomes the user, with its groups and with no capability at all, nor
 * any that could be had again; and, whatever was asked for, has no program that is executed ever
 * gain any (no_new_privs). What is not so in the end is a failure. Then returns false, *ERROR says
 * why, and the process is good for nothing but to end.
 */
bool privileges_give_up(const struct privileges *privileges, struct privileges_error *error);

/* Sees that memory with secrets in it never becomes a file: no core is dumped from now on. */
void privileges_forbid_core(void);

#endif
