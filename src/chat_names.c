#include "chat_names.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* What the tree of names is made of: a member has two for a moment, when it gets another name. */
struct named {
    char name[CHAT_NAME_MOST + 1];
    struct chat_member *member;
};

struct visit {
    chat_names_visitor *visit;
    void *context;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct named *) a)->name, ((const struct named *) b)->name);
}

static int compare_numbers(const void *a, const void *b)
{
    const struct chat_member *one = a, *other = b;

    if (one->worker != other->worker)
        return one->worker < other->worker ? -1 : 1;
    return (one->number > other->number) - (one->number < other->number);
}

struct chat_member *chat_names_add(struct chat_names *names, struct chat_members *list,
                                   unsigned worker, uint32_t number)
{
    struct chat_member *member = calloc(1, sizeof(*member)), **node;

    if (member == NULL)
        return NULL;
    member->worker = worker;
    member->number = number;
    node = tsearch(member, &names->by_number, compare_numbers);
    if (node == NULL || *node != member) {
        free(member);
        return NULL;
    }
    LIST_INSERT_HEAD(list, member, link);
    return member;
}

/* The name that it has is nobody's from now on. */
static void drop_name(struct chat_names *names, struct chat_member *member)
{
    struct named *named = (struct named *) (void *) member->name; /* where it begins */

    if (named == NULL)
        return;
    tdelete(named, &names->by_name, compare_names);
    free(named);
    member->name = NULL;
    names->count--;
}

bool chat_names_set(struct chat_names *names, struct chat_member *member, const char *name)
{
    struct named *named = calloc(1, sizeof(*named)), **node;

    if (named == NULL)
        return false;
    memcpy(named->name, name, strlen(name) + 1);
    named->member = member;
    node = tsearch(named, &names->by_name, compare_names);
    if (node == NULL || *node != named) {
        free(named);
        return false;
    }
    drop_name(names, member);
    member->name = named->name;
    names->count++;
    return true;
}

struct chat_member *chat_names_find(const struct chat_names *names, const char *name)
{
    struct named wanted, **node;

    memcpy(wanted.name, name, strlen(name) + 1);
    node = tfind(&wanted, &names->by_name, compare_names);
    return node != NULL ? (*node)->member : NULL;
}

struct chat_member *chat_names_find_number(const struct chat_names *names, unsigned worker,
                                           uint32_t number)
{
    struct chat_member wanted = { .worker = worker, .number = number }, **node;

    node = tfind(&wanted, &names->by_number, compare_numbers);
    return node != NULL ? *node : NULL;
}

void chat_names_remove(struct chat_names *names, struct chat_member *member)
{
    drop_name(names, member);
    tdelete(member, &names->by_number, compare_numbers);
    LIST_REMOVE(member, link);
    free(member);
}

static void visit_node(const void *node, VISIT when, void *context)
{
    const struct visit *visit = context;

    if (when == postorder || when == leaf)
        visit->visit((*(struct named *const *) node)->name, visit->context);
}

void chat_names_each(const struct chat_names *names, chat_names_visitor *visit, void *context)
{
    struct visit visited = { visit, context };

    twalk_r(names->by_name, visit_node, &visited);
}
