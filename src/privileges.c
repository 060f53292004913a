#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sets of capabilities as the kernel takes them: 64 bits, in halves. */
struct capabilities {
    struct __user_cap_data_struct halves[_LINUX_CAPABILITY_U32S_3];
};

static bool fail(struct privileges_error *error, const char *what, const char *why,
                 const char *text)
{
    if (why != NULL)
        snprintf(error->what, sizeof(error->what), "%s (%s)", what, why);
    else
        snprintf(error->what, sizeof(error->what), "%s", what);
    snprintf(error->text, sizeof(error->text), "%s", text);
    return false;
}

/* A number of a user or group; the last one stands for none. */
static bool parse_number(const char *text, uint32_t *number)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long long value = strtoull(text, NULL, 10);

    *number = (uint32_t) value;
    return digits > 0 && digits <= 10 && text[digits] == '\0' && value < UINT32_MAX;
}

/* All groups of NAME, of which *GID is one. False: no memory. */
static bool find_groups(struct privileges *privileges, const char *name)
{
    int count = 0;

    (void) getgrouplist(name, privileges->gid, NULL, &count); /* only how many there are */
    privileges->groups = calloc((size_t) count, sizeof(*privileges->groups));
    privileges->group_count = count;
    return privileges->groups != NULL &&
           getgrouplist(name, privileges->gid, privileges->groups, &privileges->group_count) >= 0;
}

static bool find_group(struct privileges *privileges, const char *name,
                       struct privileges_error *error)
{
    const struct group *entry = getgrnam(name);

    if (entry != NULL)
        privileges->gid = entry->gr_gid;
    else if (!parse_number(name, &privileges->gid))
        return fail(error, "no such group", NULL, name);
    privileges->groups = malloc(sizeof(*privileges->groups));
    if (privileges->groups == NULL)
        return fail(error, "out of memory", NULL, name);
    privileges->groups[0] = privileges->gid;
    privileges->group_count = 1;
    return true;
}

/* GROUP NULL: those of the user, whom the system has to know for that. */
static bool find_user(struct privileges *privileges, const char *name, const char *group,
                      struct privileges_error *error)
{
    const struct passwd *entry = getpwnam(name);

    if (entry != NULL)
        privileges->uid = entry->pw_uid;
    else if (parse_number(name, &privileges->uid))
        entry = getpwuid(privileges->uid);
    else
        return fail(error, "no such user", NULL, name);
    if (group != NULL)
        return find_group(privileges, group, error);
    if (entry == NULL)
        return fail(error, "no such user, and so no group: give USER:GROUP", NULL, name);
    privileges->gid = entry->pw_gid;
    return find_groups(privileges, entry->pw_name) || fail(error, "out of memory", NULL, name);
}

bool privileges_find(struct privileges *privileges, const char *user, const char *root,
                     struct privileges_error *error)
{
    const char *colon = user != NULL ? strchr(user, ':') : NULL;
    char *name;
    bool found;

    *privileges = (struct privileges){ .user = user, .root = root };
    if (user == NULL)
        return true;
    name = strndup(user, colon != NULL ? (size_t) (colon - user) : strlen(user));
    if (name == NULL)
        return fail(error, "out of memory", NULL, user);
    found = find_user(privileges, name, colon != NULL ? colon + 1 : NULL, error);
    free(name);
    if (!found)
        privileges_free(privileges);
    return found;
}

void privileges_free(struct privileges *privileges)
{
    free(privileges->groups);
    *privileges = (struct privileges){ 0 };
}

static long call_capabilities(long number, struct capabilities *capabilities)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

    return syscall(number, &header, capabilities->halves);
}

/* What is asked for by number is there, or else there are no more. */
static bool is_capability(unsigned long capability)
{
    return prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
}

/*
 * What even a program with capabilities in its file could not get back. It takes CAP_SETPCAP, which
 * a container may not have: then no_new_privs alone stands in the way.
 */
static void empty_bounding_set(void)
{
    for (unsigned long capability = 0; is_capability(capability); capability++)
        (void) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static bool empty_sets(void)
{
    struct capabilities none = { 0 };

    /* A kernel that has no ambient set has none in it. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
        return false;
    return call_capabilities(SYS_capset, &none) == 0;
}

static bool has_capabilities(void)
{
    struct capabilities held = { 0 };

    if (call_capabilities(SYS_capget, &held) != 0)
        return true;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        if ((held.halves[i].permitted | held.halves[i].effective | held.halves[i].inheritable) != 0)
            return true;
    return false;
}

/* Does the kernel say the same? And does it refuse what we were? */
static bool is_user(const struct privileges *privileges)
{
    uid_t uid, effective, saved;
    gid_t gid, effective_gid, saved_gid;

    if (getresuid(&uid, &effective, &saved) != 0 ||
        getresgid(&gid, &effective_gid, &saved_gid) != 0)
        return false;
    return uid == privileges->uid && effective == uid && saved == uid && gid == privileges->gid &&
           effective_gid == gid && saved_gid == gid &&
           getgroups(0, NULL) == privileges->group_count && !has_capabilities() &&
           (uid == 0 || setuid(0) != 0);
}

static bool become(const struct privileges *privileges, struct privileges_error *error)
{
    empty_bounding_set();
    if (setgroups((size_t) privileges->group_count, privileges->groups) != 0 ||
        setresgid(privileges->gid, privileges->gid, privileges->gid) != 0 ||
        setresuid(privileges->uid, privileges->uid, privileges->uid) != 0 || !empty_sets())
        return fail(error, "cannot change user", strerror(errno), privileges->user);
    /* As the kernel has it already where the user has changed: no other process of the user's may
     * read what we have in memory. */
    (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return is_user(privileges) ||
           fail(error, "cannot change user for good", NULL, privileges->user);
}

bool privileges_give_up(const struct privileges *privileges, struct privileges_error *error)
{
    if (privileges->root != NULL && (chroot(privileges->root) != 0 || chdir("/") != 0))
        return fail(error, "cannot change root directory", strerror(errno), privileges->root);
    if (privileges->user != NULL && !become(privileges, error))
        return false;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ||
           fail(error, "cannot start", strerror(errno), "no_new_privs");
}

/* With 0 a program that the kernel pipes cores to would still get it; with 1 it does not, either. */
void privileges_forbid_core(void)
{
    const struct rlimit none = { 1, 1 };

    (void) setrlimit(RLIMIT_CORE, &none);
}
