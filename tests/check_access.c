#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/access.h"
#include "src/address.h"
#include "tests/harness.h"

static void add(struct access_list *list, const char *text)
{
    struct access_item item;
    const char *wrong = access_parse(list, text, strlen(text), &item);

    ck_assert_msg(wrong == NULL, "%s: %s", text, wrong);
}

/* LIST from TEXT, which is well-formed. */
static struct access_list parse(const char *text)
{
    struct access_list list = { 0 };

    add(&list, text);
    access_compile(&list);
    return list;
}

static struct address make_address(const char *text)
{
    struct address address = { .ip4 = { .sin_family = AF_INET, .sin_port = htons(7) } };

    if (inet_pton(AF_INET, text, &address.ip4.sin_addr) != 1) {
        address.ip6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(7) };
        ck_assert_int_eq(inet_pton(AF_INET6, text, &address.ip6.sin6_addr), 1);
    }
    return address;
}

static bool contains(const struct access_list *list, const char *text)
{
    struct address address = make_address(text);

    return access_contains(list, &address.any);
}

START_TEST(a_prefix_holds_its_addresses_and_no_others)
{
    static const struct {
        const char *list, *inside, *outside; /* these two: separated by spaces */
    } table[] = {
        { "10.0.0.0/8", "10.0.0.0 10.255.255.255 10.1.2.3", "9.255.255.255 11.0.0.0 ::1" },
        { "10.1.2.3/8", "10.0.0.0 10.255.255.255", "11.1.2.3" }, /* host bits do not count */
        { "10.0.0.1", "10.0.0.1", "10.0.0.0 10.0.0.2" },
        { "10.0.0.1/32", "10.0.0.1", "10.0.0.0 10.0.0.2" },
        { "10.0.0.2/31", "10.0.0.2 10.0.0.3", "10.0.0.1 10.0.0.4" },
        { "192.168.96.0/19", "192.168.96.0 192.168.127.255", "192.168.95.255 192.168.128.0" },
        { "128.0.0.0/1", "128.0.0.0 255.255.255.255", "127.255.255.255 0.0.0.0" },
        { "0.0.0.0/0", "0.0.0.0 255.255.255.255 ::ffff:1.2.3.4", ":: ::1 ::fffe:1.2.3.4" },
        { "::/0", ":: ::1 ffff::", "0.0.0.0 127.0.0.1 ::ffff:1.2.3.4" },
        { "::1", "::1", ":: ::2 127.0.0.1" },
        { "2001:db8::/32", "2001:db8:: 2001:db8:ffff::1", "2001:db7:ffff:: 2001:db9::" },
        { "2001:db8::/127", "2001:db8:: 2001:db8::1", "2001:db8::2" },
        { "2001:DB8::/33", "2001:db8:7fff::", "2001:db8:8000::" },
        { "fe80::/10", "fe80::1 febf::", "fec0:: fe7f::" },
        { "10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1 ::10.0.0.1" },
        { "::ffff:10.0.0.0/104", "10.0.0.1 ::ffff:10.0.0.1", "11.0.0.1 ::1" },
        { "::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2" },
        { "::ffff:0:0/95", "::fffe:1.2.3.4", "1.2.3.4" }, /* IPv6 beside IPv4 */
        { "::/0,0.0.0.0/1", ":: ::ffff:127.0.0.1 ffff::", "128.0.0.0 ::ffff:128.0.0.0" },
        { "10.0.0.0/9,10.128.0.0/9", "10.127.255.255 10.128.0.0", "9.255.255.255 11.0.0.0" },
        { "10.1.0.0/16,10.0.0.0/8,10.2.3.4", "10.0.0.0 10.1.2.3 10.2.3.4 10.255.255.255",
          "9.255.255.255 11.0.0.0" },
        { "10.0.0.0/8,10.0.0.0/8,10.0.0.0/32", "10.0.0.0 10.255.255.255", "11.0.0.0" },
        { "::/1,4000::/2,::ffff:0:0/95,1.2.3.4", ":: 7fff:: 1.2.3.4", "8000:: 1.2.3.5" },
        { "127.0.0.1,::1,10.0.0.0/8", "127.0.0.1 ::1 10.9.9.9", "127.0.0.2 ::2 11.0.0.0" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct access_list list = parse(table[i].list);

        for (int side = 0; side < 2; side++) {
            char text[128], *rest = text, *address;

            snprintf(text, sizeof(text), "%s", side == 0 ? table[i].inside : table[i].outside);
            while ((address = strsep(&rest, " ")) != NULL)
                ck_assert_msg(contains(&list, address) == (side == 0), "%s, %s", table[i].list,
                              address);
        }
        access_release(&list);
    }
}
END_TEST

START_TEST(every_prefix_length_is_exact)
{
    for (unsigned bits = 0; bits <= 128; bits++) {
        struct access_list list;
        char text[64];

        snprintf(text, sizeof(text), "5555:5555:5555:5555:5555:5555:5555:5555/%u", bits);
        list = parse(text);
        for (unsigned flipped = 0; flipped < 128; flipped++) {
            struct sockaddr_in6 ip6 = { .sin6_family = AF_INET6 };

            memset(&ip6.sin6_addr, 0x55, sizeof(ip6.sin6_addr));
            ip6.sin6_addr.s6_addr[flipped / 8] ^= (uint8_t) (0x80 >> flipped % 8);
            ck_assert_msg(access_contains(&list, (struct sockaddr *) &ip6) == (flipped >= bits),
                          "/%u, bit %u", bits, flipped);
        }
        access_release(&list);
    }
}
END_TEST

START_TEST(malformed_lists_are_refused_for_what_is_wrong)
{
    static const struct {
        const char *text, *wrong;
        size_t at; /* the offending item */
    } table[] = {
        { "", "malformed prefix", 0 },
        { ",", "malformed prefix", 0 },
        { "10.0.0.1,", "malformed prefix", 9 },
        { "10.0.0.1,,::1", "malformed prefix", 9 },
        { "10.0.0.1 ,::1", "malformed prefix", 0 },
        { "10.0.0.1, ::1", "malformed prefix", 9 },
        { "localhost", "malformed prefix", 0 },
        { "10.0.0", "malformed prefix", 0 },
        { "10.0.0/8", "malformed prefix", 0 },
        { "10.0.0.256", "malformed prefix", 0 },
        { "010.0.0.1", "malformed prefix", 0 }, /* octal to some */
        { "10.0.0.0/", "malformed prefix", 0 },
        { "10.0.0.0/a", "malformed prefix", 0 },
        { "10.0.0.0/-1", "malformed prefix", 0 },
        { "10.0.0.0/+8", "malformed prefix", 0 },
        { "10.0.0.0/8/8", "malformed prefix", 0 },
        { "10.0.0.0/255.0.0.0", "malformed prefix", 0 },
        { "/8", "malformed prefix", 0 },
        { "[::1]", "malformed prefix", 0 },
        { "fe80::1%lo", "malformed prefix", 0 },
        { "::g", "malformed prefix", 0 },
        { "1:2:3:4:5:6:7:8:9", "malformed prefix", 0 },
        { "10.0.0.0/33", "prefix length out of range", 0 },
        { "::1,10.0.0.0/33", "prefix length out of range", 4 },
        { "::1,10.0.0.0/99999999999999999999", "prefix length out of range", 4 },
        { "::/129", "prefix length out of range", 0 },
        { "@/etc/list", "malformed prefix", 0 },
        { "::1,@/etc/list", "malformed prefix", 4 },
        { "1111:2222:3333:4444:5555:6666:7777:8888/1000000000000000000", "malformed prefix", 0 },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct access_list list = parse("192.0.2.1");
        struct access_item item;
        const char *wrong =
            access_parse(&list, table[i].text, strlen(table[i].text), &item);

        ck_assert_msg(wrong != NULL, "%s was taken", table[i].text);
        ck_assert_msg(strcmp(wrong, table[i].wrong) == 0, "%s: %s", table[i].text, wrong);
        ck_assert_msg(item.text == table[i].text + table[i].at, "%s: at %s", table[i].text,
                      item.text);
        ck_assert_uint_eq(item.length, strcspn(item.text, ","));
        ck_assert_uint_eq(list.count, 1);
        ck_assert(contains(&list, "192.0.2.1"));
        access_release(&list);
    }
}
END_TEST

START_TEST(no_more_than_length_is_read)
{
    static const char text[] = "10.0.0.0/8,::1&mode=0660";
    struct access_list list = { 0 };
    struct access_item item;

    ck_assert_ptr_null(access_parse(&list, text, strlen("10.0.0.0/8,::1"), &item));
    ck_assert_uint_eq(list.count, 2);
    ck_assert_ptr_nonnull(access_parse(&list, "::1\0/8", 6, &item)); /* a zero byte is no end */
    access_release(&list);
}
END_TEST

START_TEST(lists_add_up_and_are_released)
{
    struct access_list list = parse("10.0.0.0/8");

    add(&list, "::1");
    access_compile(&list);
    ck_assert(contains(&list, "10.0.0.1") && contains(&list, "::1"));
    access_release(&list);
    ck_assert(!contains(&list, "10.0.0.1") && !contains(&list, "::1"));
    access_release(&list);
}
END_TEST

START_TEST(other_families_are_in_no_list)
{
    struct access_list list = parse("0.0.0.0/0,::/0");
    struct sockaddr_storage address = { .ss_family = AF_UNIX };

    ck_assert(!access_contains(&list, (struct sockaddr *) &address));
    address.ss_family = AF_UNSPEC;
    ck_assert(!access_contains(&list, (struct sockaddr *) &address));
    access_release(&list);
}
END_TEST

START_TEST(what_is_part_of_something_else_is_dropped)
{
    struct access_list list =
        parse("10.1.0.0/16,::/0,10.0.0.0/8,2001:db8::1,10.1.2.3,::ffff:10.9.9.9");

    ck_assert_uint_eq(list.count, 2);
    ck_assert_uint_eq(list.ip4_count, 1);
    access_release(&list);
}
END_TEST

START_TEST(lines_have_comments_and_space_around)
{
    static const char text[] =
        "# who\n\n10.0.0.0/8\n \t::1 # me\r\n\r\n  #\n192.0.2.1#x\n192.0.2.2";
    struct access_list list = { 0 };
    struct access_item item;

    ck_assert_ptr_null(access_parse_lines(&list, text, strlen(text), &item));
    access_compile(&list);
    ck_assert_uint_eq(list.count, 4);
    ck_assert(contains(&list, "10.9.9.9") && contains(&list, "::1"));
    ck_assert(contains(&list, "192.0.2.1") && contains(&list, "192.0.2.2"));
    access_release(&list);
    ck_assert_ptr_null(access_parse_lines(&list, "", 0, &item));
    ck_assert_ptr_null(access_parse_lines(&list, NULL, 0, &item));
    ck_assert_uint_eq(list.count, 0);
    access_release(&list);
}
END_TEST

START_TEST(a_malformed_line_is_told)
{
    static const struct {
        const char *text, *item;
        unsigned long line;
    } table[] = {
        { "x", "x", 1 },
        { "10.0.0.0/8\n\n# no\n  10.0.0  # yes\n::1\n", "10.0.0", 4 },
        { "::1\n10.0.0.1,10.0.0.2\n", "10.0.0.1,10.0.0.2", 2 },
        { "::1\n10.0.0.1 10.0.0.2\n", "10.0.0.1 10.0.0.2", 2 },
        { "::1\n@other\n", "@other", 2 },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct access_list list = parse("192.0.2.1");
        struct access_item item;
        const char *wrong =
            access_parse_lines(&list, table[i].text, strlen(table[i].text), &item);

        ck_assert_ptr_nonnull(wrong);
        ck_assert_str_eq(wrong, "malformed prefix");
        ck_assert_uint_eq(item.line, table[i].line);
        ck_assert_uint_eq(item.length, strlen(table[i].item));
        ck_assert_mem_eq(item.text, table[i].item, item.length);
        ck_assert_uint_eq(list.count, 1);
        access_release(&list);
    }
}
END_TEST

static bool permits(const char *allow, const char *deny, const char *text)
{
    struct access_rules rules = { .is_closed = allow != NULL };
    struct address address = make_address(text);
    bool result;

    if (allow != NULL && allow[0] != '\0')
        add(&rules.allow, allow);
    if (deny != NULL)
        add(&rules.deny, deny);
    access_compile(&rules.allow);
    access_compile(&rules.deny);
    result = access_permits(&rules, &address.any);
    access_release(&rules.allow);
    access_release(&rules.deny);
    return result;
}

START_TEST(deny_wins_and_allow_excludes_all_others)
{
    ck_assert(permits(NULL, NULL, "10.0.0.1"));
    ck_assert(!permits(NULL, "10.0.0.0/8", "10.0.0.1"));
    ck_assert(permits(NULL, "10.0.0.0/8", "11.0.0.1"));
    ck_assert(permits("10.0.0.0/8", NULL, "10.0.0.1"));
    ck_assert(permits("10.0.0.0/8", NULL, "::ffff:10.0.0.1"));
    ck_assert(!permits("10.0.0.0/8", NULL, "11.0.0.1"));
    ck_assert(!permits("10.0.0.0/8", NULL, "::1"));
    ck_assert(!permits("10.0.0.0/8", "10.0.0.1", "10.0.0.1"));
    ck_assert(!permits("10.0.0.1", "10.0.0.0/8", "10.0.0.1"));
    ck_assert(permits("10.0.0.0/8", "10.0.0.1", "10.0.0.2"));
    ck_assert(!permits("::/0", NULL, "10.0.0.1"));
    ck_assert(permits("::/0", "0.0.0.0/0", "::1"));
    ck_assert(!permits("", NULL, "10.0.0.1")); /* an empty list is one */
}
END_TEST

/* As many as there may be, from a generator: each is in it, its neighbours are not. */
START_TEST(ten_thousand_prefixes)
{
    enum { COUNT = 10000 };
    struct access_list list = { 0 };
    char text[INET_ADDRSTRLEN + 4];

    for (unsigned i = 0; i < COUNT; i++) {
        unsigned mixed = i * 7919 % COUNT;

        snprintf(text, sizeof(text), "10.%u.%u.%u/31", mixed >> 14, mixed >> 6 & 255,
                 (mixed & 63) << 2);
        add(&list, text);
    }
    access_compile(&list);
    ck_assert_uint_eq(list.count, COUNT);
    for (unsigned i = 0; i < 4 * COUNT; i++) {
        snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        ck_assert_msg(contains(&list, text) == (i % 4 < 2), "%s", text);
    }
    access_release(&list);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_prefix_holds_its_addresses_and_no_others,
        every_prefix_length_is_exact,
        malformed_lists_are_refused_for_what_is_wrong,
        no_more_than_length_is_read,
        lists_add_up_and_are_released,
        other_families_are_in_no_list,
        what_is_part_of_something_else_is_dropped,
        lines_have_comments_and_space_around,
        a_malformed_line_is_told,
        deny_wins_and_allow_excludes_all_others,
        ten_thousand_prefixes,
    };

    return HARNESS_RUN("access", tests);
}
