#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/endpoint.h"
#include "tests/harness.h"

START_TEST(good_texts_are_understood)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } table[] = {
        { "7777", "localhost", 7777 },
        { "0", "localhost", 0 },
        { "65535", "localhost", 65535 },
        { ":7777", "*", 7777 },
        { "*:0", "*", 0 },
        { "example.org:7", "example.org", 7 },
        { "127.0.0.1:7", "127.0.0.1", 7 },
        { "[::1]:7", "::1", 7 },
        { "tcp://localhost:7777", "localhost", 7777 },
        { "tcp://*:7777", "*", 7777 },
        { "tcp://[::]:7443", "::", 7443 },
        { "tcp://[fe80::1%lo]:7", "fe80::1%lo", 7 },
        { "tcp://[::ffff:10.0.0.1]:7", "::ffff:10.0.0.1", 7 },
        { "echo+tcp://10.0.0.1:7", "10.0.0.1", 7 },
        { "tcp://my-host_1.example.:00080", "my-host_1.example.", 80 },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct endpoint endpoint;
        const char *wrong = endpoint_parse(table[i].text, &endpoint);

        ck_assert_msg(wrong == NULL, "%s: %s", table[i].text, wrong);
        ck_assert_int_eq(endpoint.service, ENDPOINT_ECHO);
        ck_assert_str_eq(endpoint.host, table[i].host);
        ck_assert_uint_eq(endpoint.port, table[i].port);
    }
}
END_TEST

START_TEST(a_service_stands_before_the_transport)
{
    static const char *const texts[] = { "chat+tcp://localhost:7777", "chat+tls://[::1]:0",
                                         "chat+unix://@chat" };
    static const enum endpoint_transport transports[] = { ENDPOINT_TCP, ENDPOINT_TLS,
                                                          ENDPOINT_UNIX };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct endpoint endpoint;

        ck_assert_ptr_null(endpoint_parse(texts[i], &endpoint));
        ck_assert_int_eq(endpoint.service, ENDPOINT_CHAT);
        ck_assert_int_eq(endpoint.transport, transports[i]);
    }
}
END_TEST

static const struct {
    const char *text, *wrong;
} malformed[] = {
    { "", "missing port" },
    { "localhost", "missing port" },
    { "tcp://", "missing port" },
    { "tcp://localhost", "missing port" },
    { "tcp://7777", "missing port" }, /* the short form has no scheme */
    { "tcp://[::1]", "missing port" },
    { "tcp://localhost:", "malformed port" },
    { "localhost:http", "malformed port" },
    { "localhost:-1", "malformed port" },
    { "localhost:+1", "malformed port" },
    { "localhost: 1", "malformed port" },
    { "localhost:1 ", "malformed port" },
    { "localhost:0x50", "malformed port" },
    { "localhost:7/", "malformed port" },
    { "7777x", "missing port" },
    { "65536", "port out of range" },
    { "localhost:65536", "port out of range" },
    { "localhost:99999999999999999999", "port out of range" },
    { "tcp://:7777", "malformed address" },
    { "tcp://host name:1", "malformed address" },
    { "tcp://a/b:1", "malformed address" },
    { "tcp://user@host:1", "malformed address" },
    { "tcp://**:1", "malformed address" },
    { "tcp://[]:1", "malformed address" },
    { "tcp://[127.0.0.1]:1", "malformed address" },
    { "tcp://[localhost]:1", "malformed address" },
    { "tcp://[::1]x:1", "malformed address" },
    { "tcp://[::g]:1", "malformed address" },
    { "tcp://[::1:1", "missing ]" },
    { "::1:7", "malformed address" },
    { "tcp://::1:7", "IPv6 address without brackets" },
    { "fe80::1:7", "IPv6 address without brackets" },
    { "chit+tcp://localhost:1", "unknown service" },
    { "+tcp://localhost:1", "unknown service" },
    { "ech+tcp://localhost:1", "unknown service" },
    { "chats+tcp://localhost:1", "unknown service" },
    { "chat://localhost:1", "unknown transport" },
    { "chat+udp://localhost:1", "only echo is served over udp" },
    { "echo+echo+tcp://localhost:1", "unknown transport" },
    { "echo+://localhost:1", "unknown transport" },
    { "://localhost:1", "unknown transport" },
    { "TCP://localhost:1", "unknown transport" },
    { "tcp4://localhost:1", "unknown transport" },
    { "sctp://localhost:1", "unknown transport" },
    { "tcp://localhost:1?color=blue", "unknown endpoint key" },
    { "tcp://localhost:1?color=", "unknown endpoint key" },
    { "7777?color=blue", "unknown endpoint key" },
    { ":7777?a=b", "unknown endpoint key" },
    { "tcp://localhost:1?a=b&c=d", "unknown endpoint key" },
    { "tcp://localhost:1?", "malformed endpoint key" },
    { "tcp://localhost:1?color", "malformed endpoint key" },
    { "tcp://localhost:1?=blue", "malformed endpoint key" },
    { "tcp://localhost:1?&a=b", "malformed endpoint key" },
    { "?a=b", "missing port" },
    { "udp://localhost:1?proxy=10.0.0.1", "this transport has no such key" },
    { "unix:///run/x?proxy=10.0.0.1", "this transport has no such key" },
    { "tcp://localhost:1?mode=0600", "this transport has no such key" },
    { "tcp://localhost:1?proxy=", "malformed endpoint key" },
    { "tcp://localhost:1?proxy=off&proxy=off", "endpoint key given twice" },
    { "unix://run/x", "neither an absolute path nor @name" },
    { "unix://", "neither an absolute path nor @name" },
    { "unix:///", "neither an absolute path nor @name" },
    { "unix://@", "neither an absolute path nor @name" },
    { "unix:///run/x?mode=", "malformed mode" },
    { "unix:///run/x?mode=0999", "malformed mode" },
    { "unix:///run/x?mode=1777", "malformed mode" },
    { "unix:///run/x?mode=u+w", "malformed mode" },
    { "unix:///run/x?mode=0000660", "malformed mode" },
    { "unix://@x?mode=0600", "an abstract name has no mode" },
};

START_TEST(malformed_texts_are_refused_for_what_is_wrong)
{
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        struct endpoint endpoint;
        const char *wrong = endpoint_parse(malformed[i].text, &endpoint);

        ck_assert_msg(wrong != NULL, "%s was taken", malformed[i].text);
        if (strcmp(malformed[i].text, "::1:7") != 0) /* begins like a short form: either word */
            ck_assert_msg(strcmp(wrong, malformed[i].wrong) == 0, "%s: %s", malformed[i].text,
                          wrong);
    }
}
END_TEST

START_TEST(transports_and_keys_are_understood)
{
    static const struct {
        const char *text, *host, *proxy;
        enum endpoint_transport transport;
        int mode;
    } table[] = {
        { "tcp://h:1", "h", NULL, ENDPOINT_TCP, -1 },
        { "echo+tls://*:1?proxy=10.0.0.0/8,::1", "*", "10.0.0.0/8,::1", ENDPOINT_TLS, -1 },
        { "h:1?proxy=off", "h", "off", ENDPOINT_TCP, -1 },
        { "udp://[::]:1", "::", NULL, ENDPOINT_UDP, -1 },
        { "unix:///run/e:c h.sock", "/run/e:c h.sock", NULL, ENDPOINT_UNIX, -1 },
        { "echo+unix:///x?mode=0660", "/x", NULL, ENDPOINT_UNIX, 0660 },
        { "unix:///x?mode=0", "/x", NULL, ENDPOINT_UNIX, 0 },
        { "unix://@a/b", "@a/b", NULL, ENDPOINT_UNIX, -1 },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct endpoint endpoint;
        const char *wrong = endpoint_parse(table[i].text, &endpoint);

        ck_assert_msg(wrong == NULL, "%s: %s", table[i].text, wrong);
        ck_assert_int_eq(endpoint.transport, table[i].transport);
        ck_assert_str_eq(endpoint.host, table[i].host);
        ck_assert_int_eq(endpoint.mode, table[i].mode);
        ck_assert_int_eq(endpoint.proxy != NULL, table[i].proxy != NULL);
        if (table[i].proxy != NULL) {
            ck_assert_uint_eq(endpoint.proxy_length, strlen(table[i].proxy));
            ck_assert_int_eq(strncmp(endpoint.proxy, table[i].proxy, endpoint.proxy_length), 0);
        }
    }
}
END_TEST

START_TEST(the_longest_path_fits)
{
    char text[160] = "unix:///", name[ENDPOINT_TEXT_MAX];
    struct endpoint endpoint;

    memset(text + 8, 'p', ENDPOINT_PATH_MAX);
    ck_assert_str_eq(endpoint_parse(text, &endpoint), "path too long for a socket");
    text[7 + ENDPOINT_PATH_MAX] = '\0';
    ck_assert_ptr_null(endpoint_parse(text, &endpoint));
    endpoint_format(&endpoint, NULL, name);
    ck_assert_str_eq(name, text);
}
END_TEST

START_TEST(a_host_of_any_length_does_no_harm)
{
    for (size_t length = 200; length < 600; length++) {
        char text[640] = "tcp://";
        struct endpoint endpoint;
        const char *wrong;

        memset(text + 6, 'h', length);
        memcpy(text + 6 + length, ":7777", sizeof(":7777"));
        wrong = endpoint_parse(text, &endpoint);
        ck_assert_msg((wrong == NULL) == (length <= ENDPOINT_HOST_MAX), "length %zu", length);
        if (wrong == NULL)
            ck_assert_uint_eq(strlen(endpoint.host), length);
    }
}
END_TEST

START_TEST(any_text_is_taken_or_refused)
{
    static const char letters[] = "tcp://[]:*?&=+.%0123456789abf\n ";
    unsigned random = 1;

    for (int i = 0; i < 20000; i++) {
        struct endpoint endpoint;
        char text[24];
        size_t length = (random >> 16) % sizeof(text);

        for (size_t k = 0; k < length; k++) {
            random = random * 1103515245u + 12345u;
            text[k] = letters[(random >> 16) % (sizeof(letters) - 1)];
        }
        text[length] = '\0';
        if (endpoint_parse(text, &endpoint) == NULL)
            ck_assert_msg(endpoint.transport == ENDPOINT_UNIX ||
                              (strspn(endpoint.host, " \n?&=+[]/") == 0 && endpoint.host[0] != '\0'),
                          "%s gave %s", text, endpoint.host);
    }
}
END_TEST

static const struct endpoint tcp = { .transport = ENDPOINT_TCP };

/* The addresses that TEXT stands for, which the caller frees. */
static struct address *resolve(const char *text, size_t *count)
{
    struct address *addresses = NULL;
    struct endpoint endpoint;
    const char *wrong = endpoint_parse(text, &endpoint);

    if (wrong == NULL)
        wrong = endpoint_resolve(&endpoint, &addresses, count);
    ck_assert_msg(wrong == NULL, "%s: %s", text, wrong);
    ck_assert_uint_ge(*count, 1);
    return addresses;
}

START_TEST(numeric_addresses_come_back_as_they_are)
{
    static const struct {
        const char *text, *name;
    } table[] = {
        { "127.0.0.1:7777", "tcp://127.0.0.1:7777" },
        { "tcp://[::1]:1", "tcp://[::1]:1" },
        { "tcp://[0:0:0:0:0:0:0:0]:7443", "tcp://[::]:7443" },
        { "tcp://0.0.0.0:0", "tcp://0.0.0.0:0" },
        { "tcp://[::ffff:10.0.0.1]:65535", "tcp://[::ffff:10.0.0.1]:65535" },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char name[ENDPOINT_TEXT_MAX];
        size_t count;
        struct address *addresses = resolve(table[i].text, &count);

        ck_assert_uint_eq(count, 1);
        endpoint_format(&tcp, &addresses[0], name);
        ck_assert_str_eq(name, table[i].name);
        address_format(&addresses[0], name);
        ck_assert_str_eq(name, table[i].name + strlen("tcp://"));
        free(addresses);
    }
}
END_TEST

START_TEST(a_zone_survives)
{
    char name[ENDPOINT_TEXT_MAX];
    size_t count;
    struct address *addresses;

    if (if_nametoindex("lo") == 0)
        return; /* another system's name for the loopback */
    addresses = resolve("tcp://[fe80::1%lo]:7", &count);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(addresses[0].ip6.sin6_scope_id, if_nametoindex("lo"));
    address_format(&addresses[0], name);
    ck_assert_str_eq(name, "[fe80::1%lo]:7");
    free(addresses);
}
END_TEST

START_TEST(localhost_is_each_address_once)
{
    size_t count;
    struct address *addresses = resolve("7777", &count);

    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(address_port(&addresses[i]), 7777);
        for (size_t k = 0; k < i; k++)
            ck_assert(!address_equal(&addresses[i], &addresses[k]));
    }
    free(addresses);
}
END_TEST

/* The linker's names for getaddrinfo: one name that is known twice, one of a foreign family. */
int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    bool twice = strcmp(host, "twice.test") == 0, foreign = strcmp(host, "foreign.test") == 0;
    int error = __real_getaddrinfo(twice || foreign ? "127.0.0.1" : host, service, hints, found);

    if (error == 0 && foreign)
        (*found)->ai_addr->sa_family = AF_UNIX;
    if (error != 0 || !twice)
        return error;
    error = __real_getaddrinfo("127.0.0.1", service, hints, &(*found)->ai_next);
    if (error == 0)
        error = __real_getaddrinfo("::1", service, hints, &(*found)->ai_next->ai_next);
    return error;
}

START_TEST(what_the_resolver_says_twice_is_one)
{
    struct address mark, *addresses;
    struct endpoint endpoint;
    char name[ENDPOINT_TEXT_MAX];
    size_t count;

    addresses = resolve("twice.test:7", &count);
    ck_assert_uint_eq(count, 2);
    address_format(&addresses[0], name);
    ck_assert_str_eq(name, "127.0.0.1:7");
    address_format(&addresses[1], name);
    ck_assert_str_eq(name, "[::1]:7");
    free(addresses);
    addresses = &mark;
    ck_assert_ptr_null(endpoint_parse("foreign.test:7", &endpoint));
    ck_assert_str_eq(endpoint_resolve(&endpoint, &addresses, &count),
                     "no IPv4 or IPv6 address");
    ck_assert_ptr_eq(addresses, &mark);
}
END_TEST

START_TEST(all_addresses_are_one_of_each_family)
{
    size_t count;
    struct address *addresses = resolve(":7777", &count);
    bool ip4 = false, ip6 = false;

    ck_assert_uint_eq(count, 2);
    for (size_t i = 0; i < count; i++) {
        char name[ENDPOINT_TEXT_MAX];

        address_format(&addresses[i], name);
        ip4 = ip4 || strcmp(name, "0.0.0.0:7777") == 0;
        ip6 = ip6 || strcmp(name, "[::]:7777") == 0;
    }
    ck_assert(ip4 && ip6);
    free(addresses);
}
END_TEST

START_TEST(what_does_not_resolve_is_told)
{
    struct address mark, *addresses = &mark;
    struct endpoint endpoint;
    size_t count;
    const char *wrong;

    ck_assert_ptr_null(endpoint_parse("no-such-host.invalid:1", &endpoint));
    wrong = endpoint_resolve(&endpoint, &addresses, &count);
    ck_assert_ptr_nonnull(wrong);
    ck_assert_uint_gt(strlen(wrong), 0);
    ck_assert_ptr_eq(addresses, &mark);
}
END_TEST

START_TEST(addresses_differ_by_family_host_port_and_zone)
{
    static const char *const texts[] = { "127.0.0.1:1", "127.0.0.1:2", "127.0.0.2:1",
                                         "[::1]:1",     "[::1]:2",     "[::2]:1" };
    enum { COUNT = sizeof(texts) / sizeof(texts[0]) };
    struct address *list[COUNT], zoned;
    size_t count;

    for (size_t i = 0; i < COUNT; i++)
        list[i] = resolve(texts[i], &count);
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < COUNT; k++)
            ck_assert_int_eq(address_equal(list[i], list[k]), i == k);
    zoned = *list[3];
    zoned.ip6.sin6_scope_id = 1;
    ck_assert(!address_equal(list[3], &zoned));
    for (size_t i = 0; i < COUNT; i++)
        free(list[i]);
}
END_TEST

START_TEST(foreign_families_become_empty)
{
    struct sockaddr_storage from = { .ss_family = AF_UNIX };

    ck_assert_uint_eq(address_from((struct sockaddr *) &from, sizeof(from)).length, 0);
    from.ss_family = AF_INET6; /* cut short */
    ck_assert_uint_eq(
        address_from((struct sockaddr *) &from, sizeof(struct sockaddr_in)).length, 0);
}
END_TEST

START_TEST(the_longest_address_fits)
{
    struct address address = { .length = sizeof(address.ip6) };
    char name[ENDPOINT_TEXT_MAX];

    address.ip6.sin6_family = AF_INET6;
    memset(&address.ip6.sin6_addr, 0xfe, sizeof(address.ip6.sin6_addr));
    address.ip6.sin6_scope_id = 4294967295u;
    address_set_port(&address, 65535);
    endpoint_format(&tcp, &address, name);
    ck_assert_ptr_nonnull(strstr(name, "fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe"));
    ck_assert_str_eq(name + strlen(name) - 7, "]:65535");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        good_texts_are_understood,
        a_service_stands_before_the_transport,
        malformed_texts_are_refused_for_what_is_wrong,
        transports_and_keys_are_understood,
        the_longest_path_fits,
        a_host_of_any_length_does_no_harm,
        any_text_is_taken_or_refused,
        numeric_addresses_come_back_as_they_are,
        a_zone_survives,
        localhost_is_each_address_once,
        what_the_resolver_says_twice_is_one,
        all_addresses_are_one_of_each_family,
        what_does_not_resolve_is_told,
        addresses_differ_by_family_host_port_and_zone,
        foreign_families_become_empty,
        the_longest_address_fits,
    };

    return HARNESS_RUN("endpoint", tests);
}
