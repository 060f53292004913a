/*
 * chat_names: who is in the chat: each member once by its name, and by who serves it. The hub's
 * directory, and so the one place where it is decided who gets a name.
 */
#ifndef ECHOD_CHAT_NAMES_H
#define ECHOD_CHAT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "defaults.h"

struct chat_member {
    LIST_ENTRY(chat_member) link; /* for who serves it */
    unsigned worker;
    uint32_t number;  /* the worker's for it */
    const char *name; /* NULL: it has none yet */
};

LIST_HEAD(chat_members, chat_member);

struct chat_names {
    void *by_name, *by_number; /* trees */
    size_t count;
};

/* A member that has no NAME yet, in LIST; NULL: no memory, or WORKER has that NUMBER already. */
struct chat_member *chat_names_add(struct chat_names *names, struct chat_members *list,
                                   unsigned worker, uint32_t number);

/* Gives it a name, or another one. False: no memory, or somebody has it; it keeps what it has. */
bool chat_names_set(struct chat_names *names, struct chat_member *member, const char *name);

/* NULL: nobody. */
struct chat_member *chat_names_find(const struct chat_names *names, const char *name);
struct chat_member *chat_names_find_number(const struct chat_names *names, unsigned worker,
                                           uint32_t number);

void chat_names_remove(struct chat_names *names, struct chat_member *member);

/* Calls VISIT for each name, in the order of its bytes. */
typedef void chat_names_visitor(const char *name, void *context);
void chat_names_each(const struct chat_names *names, chat_names_visitor *visit, void *context);

#endif
