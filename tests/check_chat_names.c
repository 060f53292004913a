#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/chat_names.h"
#include "tests/harness.h"
#include "tests/inject.h"

enum { WORKERS = 3 };

static struct chat_names names;
static struct chat_members lists[WORKERS];

/* The C library's own memory, for its trees, has no other way to fail. */
static bool trees_fail;

void *__real_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));
void *__wrap_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));

void *__wrap_tsearch(const void *key, void **root, int (*compare)(const void *, const void *))
{
    return trees_fail ? NULL : __real_tsearch(key, root, compare);
}

/* Member NUMBER of WORKER, with a name unless that is NULL. */
static struct chat_member *add(unsigned worker, uint32_t number, const char *name)
{
    struct chat_member *member = chat_names_add(&names, &lists[worker], worker, number);

    ck_assert_ptr_nonnull(member);
    ck_assert_ptr_null(member->name);
    if (name != NULL)
        ck_assert(chat_names_set(&names, member, name));
    return member;
}

static void visit(const char *name, void *list)
{
    strcat(list, name);
    strcat(list, " ");
}

static const char *all(void)
{
    static char list[1000];

    list[0] = '\0';
    chat_names_each(&names, visit, list);
    return list;
}

static void remove_all(void)
{
    for (int i = 0; i < WORKERS; i++)
        while (!LIST_EMPTY(&lists[i]))
            chat_names_remove(&names, LIST_FIRST(&lists[i]));
    ck_assert_uint_eq(names.count, 0);
    ck_assert_ptr_null(names.by_name);
    ck_assert_ptr_null(names.by_number);
}

START_TEST(a_member_is_found_by_name_and_by_number)
{
    struct chat_member *one = add(0, 1, "one"), *other = add(1, 1, "other");

    ck_assert_uint_eq(names.count, 2);
    ck_assert_str_eq(one->name, "one");
    ck_assert_ptr_eq(chat_names_find(&names, "one"), one);
    ck_assert_ptr_eq(chat_names_find(&names, "other"), other);
    ck_assert_ptr_eq(chat_names_find_number(&names, 0, 1), one);
    ck_assert_ptr_eq(chat_names_find_number(&names, 1, 1), other);
    ck_assert_ptr_null(chat_names_find(&names, "on"));
    ck_assert_ptr_null(chat_names_find(&names, "One"));
    ck_assert_ptr_null(chat_names_find_number(&names, 2, 1));
    ck_assert_ptr_null(chat_names_find_number(&names, 0, 2));
    chat_names_remove(&names, one);
    ck_assert_uint_eq(names.count, 1);
    ck_assert_ptr_null(chat_names_find(&names, "one"));
    ck_assert_ptr_null(chat_names_find_number(&names, 0, 1));
    remove_all();
}
END_TEST

START_TEST(a_number_is_there_once)
{
    struct chat_member *one = add(0, 1, "one");

    ck_assert_ptr_null(chat_names_add(&names, &lists[0], 0, 1));
    ck_assert_ptr_eq(chat_names_find_number(&names, 0, 1), one);
    ck_assert_ptr_eq(LIST_FIRST(&lists[0]), one);
    ck_assert_ptr_null(LIST_NEXT(one, link));
    remove_all();
}
END_TEST

START_TEST(a_name_is_there_once)
{
    struct chat_member *one = add(0, 1, "one"), *other = add(0, 2, NULL);

    ck_assert(!chat_names_set(&names, other, "one"));
    ck_assert_ptr_null(other->name);
    ck_assert_uint_eq(names.count, 1); /* who has no name does not count */
    ck_assert(chat_names_set(&names, other, "other"));
    ck_assert(!chat_names_set(&names, other, "one"));
    ck_assert_str_eq(other->name, "other"); /* it keeps what it has */
    ck_assert_ptr_eq(chat_names_find(&names, "one"), one);
    remove_all();
}
END_TEST

START_TEST(a_name_that_was_given_up_is_free)
{
    struct chat_member *one = add(0, 1, "one"), *other = add(1, 7, "other");

    ck_assert(chat_names_set(&names, one, "two"));
    ck_assert_ptr_null(chat_names_find(&names, "one"));
    ck_assert_uint_eq(names.count, 2);
    ck_assert(chat_names_set(&names, other, "one"));
    ck_assert_str_eq(all(), "one two ");
    chat_names_remove(&names, other);
    ck_assert(chat_names_set(&names, one, "one"));
    ck_assert_str_eq(all(), "one ");
    remove_all();
}
END_TEST

START_TEST(names_are_listed_in_the_order_of_their_bytes)
{
    char longest[CHAT_NAME_MOST + 1] = "";

    ck_assert_str_eq(all(), "");
    memset(longest, 'z', CHAT_NAME_MOST);
    add(0, 1, longest);
    add(1, 2, "b");
    add(2, 3, "ab");
    add(0, 4, "a");
    add(0, 5, NULL);
    add(1, 6, "B-_9");
    ck_assert_str_eq(all(), "B-_9 a ab b zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz ");
    remove_all();
}
END_TEST

/* Many come, get other names and go, in an order that SEED decides, beside a plain table. */
START_TEST(any_order_of_coming_and_going)
{
    enum { NUMBERS = 60, STEPS = 4000 };
    struct chat_member *members[NUMBERS] = { NULL };
    unsigned taken[NUMBERS] = { 0 }; /* 1 + who has this name */
    size_t count = 0;

    srand(1);
    for (int step = 0; step < STEPS; step++) {
        unsigned who = (unsigned) rand() % NUMBERS, what = (unsigned) rand() % NUMBERS;
        char name[8];

        snprintf(name, sizeof(name), "%u", what);
        if (members[who] == NULL) {
            members[who] = add(who % WORKERS, who, NULL);
        } else if (what % 3 == 0) {
            for (unsigned i = 0; i < NUMBERS; i++) {
                count -= (taken[i] == who + 1);
                taken[i] = taken[i] == who + 1 ? 0 : taken[i];
            }
            chat_names_remove(&names, members[who]);
            members[who] = NULL;
        } else if (chat_names_set(&names, members[who], name)) {
            ck_assert_uint_eq(taken[what], 0);
            count++;
            for (unsigned i = 0; i < NUMBERS; i++) {
                count -= (taken[i] == who + 1);
                taken[i] = taken[i] == who + 1 ? 0 : taken[i];
            }
            taken[what] = who + 1;
        } else {
            ck_assert_uint_ne(taken[what], 0);
        }
        ck_assert_uint_eq(names.count, count);
        ck_assert_ptr_eq(chat_names_find(&names, name),
                         taken[what] != 0 ? members[taken[what] - 1] : NULL);
        ck_assert_ptr_eq(chat_names_find_number(&names, who % WORKERS, who), members[who]);
    }
    remove_all();
}
END_TEST

START_TEST(short_of_memory_nothing_has_changed)
{
    struct chat_member *one = add(0, 1, "one"), *member;
    bool failed = true, was_set;

    for (unsigned nth = 1; failed; nth++) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        member = chat_names_add(&names, &lists[0], 0, 2);
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(member == NULL, failed);
        ck_assert_ptr_eq(chat_names_find_number(&names, 0, 2), member);
    }
    failed = true;
    for (unsigned nth = 1; failed; nth++) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        was_set = chat_names_set(&names, one, "other");
        failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        ck_assert_int_eq(was_set, !failed);
        ck_assert_str_eq(one->name, failed ? "one" : "other");
        ck_assert_str_eq(all(), failed ? "one " : "other ");
    }
    trees_fail = true;
    ck_assert_ptr_null(chat_names_add(&names, &lists[0], 0, 3));
    ck_assert(!chat_names_set(&names, one, "third"));
    ck_assert_str_eq(all(), "other ");
    trees_fail = false;
    remove_all();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_member_is_found_by_name_and_by_number,
        a_number_is_there_once,
        a_name_is_there_once,
        a_name_that_was_given_up_is_free,
        names_are_listed_in_the_order_of_their_bytes,
        any_order_of_coming_and_going,
        short_of_memory_nothing_has_changed,
    };

    return HARNESS_RUN("chat_names", tests);
}
