#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/access_map.h"
#include "src/sealed.h"
#include "tests/harness.h"

static void add(struct access_list *list, const char *text)
{
    struct access_item item;

    ck_assert_ptr_null(access_parse(list, text, strlen(text), &item));
    access_compile(list);
}

/* Seals such rules; NULL: none of that kind. */
static int seal(const char *allow, const char *deny)
{
    struct access_rules rules = { .is_closed = allow != NULL };
    int fd;

    if (allow != NULL)
        add(&rules.allow, allow);
    if (deny != NULL)
        add(&rules.deny, deny);
    fd = access_map_seal(&rules);
    access_release(&rules.allow);
    access_release(&rules.deny);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static bool permits(const struct access_map *map, const char *text)
{
    struct sockaddr_in ip4 = { .sin_family = AF_INET };
    struct sockaddr_in6 ip6 = { .sin6_family = AF_INET6 };

    if (inet_pton(AF_INET, text, &ip4.sin_addr) == 1)
        return access_permits(&map->rules, (struct sockaddr *) &ip4);
    ck_assert_int_eq(inet_pton(AF_INET6, text, &ip6.sin6_addr), 1);
    return access_permits(&map->rules, (struct sockaddr *) &ip6);
}

START_TEST(what_is_sealed_decides)
{
    struct access_map map = { 0 };
    int fd = seal("10.0.0.0/8,::/0", "10.1.0.0/16,2001:db8::/32,192.0.2.1");

    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert(access_map_open(&map, fd));
    close(fd); /* the memory stays */
    ck_assert(permits(&map, "10.0.0.1") && permits(&map, "::1"));
    ck_assert(!permits(&map, "10.1.0.1") && !permits(&map, "2001:db8::1"));
    ck_assert(!permits(&map, "11.0.0.1"));
    access_map_close(&map);
    ck_assert_ptr_null(map.memory);
    access_map_close(&map);
}
END_TEST

START_TEST(new_ones_take_the_place_of_old_ones)
{
    struct access_map map = { 0 };
    int first = seal(NULL, "10.0.0.1"), second = seal("10.0.0.1", NULL);

    ck_assert(access_map_open(&map, first));
    ck_assert(!permits(&map, "10.0.0.1") && permits(&map, "10.0.0.2"));
    ck_assert(access_map_open(&map, second));
    ck_assert(permits(&map, "10.0.0.1") && !permits(&map, "10.0.0.2"));
    close(first);
    close(second);
    access_map_close(&map);
}
END_TEST

START_TEST(nobody_can_change_them)
{
    int fd = seal(NULL, "10.0.0.1");

    ck_assert_int_eq(write(fd, "x", 1), -1);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_ptr_eq(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    close(fd);
}
END_TEST

static void expect_refused(struct access_map *map, const void *data, size_t length)
{
    const struct iovec part = { (void *) data, length };
    int fd = sealed_new("test", &part, 1);

    errno = 0;
    ck_assert(!access_map_open(map, fd));
    ck_assert_int_eq(errno, EINVAL);
    close(fd);
}

START_TEST(what_is_none_is_refused_and_changes_nothing)
{
    static const uint64_t many[][9] = {
        { 2, 0, 0, 0, 0 },          /* more than there are */
        { 0, 0, 2, 0, 0 },
        { 1, 2, 0, 0, 0 },          /* more of IPv4 than all */
        { 0, 0, 1, 2, 0 },
        { 0, 0, 0, 0, 0 },          /* less than there are */
        { UINT64_MAX, 0, 2, 0, 0 }, /* one, if nobody looks */
    };
    struct access_map map = { 0 };
    int fd = seal(NULL, "10.0.0.1");

    ck_assert(access_map_open(&map, fd));
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
        expect_refused(&map, many[i], sizeof(many[i]));
    expect_refused(&map, many[0], 39);
    expect_refused(&map, "", 0);
    expect_refused(&map, (const uint64_t[]){ 1, 0, 0, 0, 0, 0 }, 48);
    ck_assert(!access_map_open(&map, -1));
    ck_assert_int_eq(errno, EBADF);
    ck_assert(!permits(&map, "10.0.0.1") && permits(&map, "10.0.0.2"));
    close(fd);
    access_map_close(&map);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_sealed_decides,
        new_ones_take_the_place_of_old_ones,
        nobody_can_change_them,
        what_is_none_is_refused_and_changes_nothing,
    };

    return HARNESS_RUN("access_map", tests);
}
