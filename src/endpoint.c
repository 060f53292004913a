#include "endpoint.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const service_names[ENDPOINT_SERVICES] = { [ENDPOINT_ECHO] = "echo" };

/* `SERVICE+TRANSPORT`, LENGTH bytes of SCHEME. */
static const char *parse_scheme(const char *scheme, size_t length, struct endpoint *endpoint)
{
    const char *plus = memchr(scheme, '+', length);
    size_t service_length = plus != NULL ? (size_t) (plus - scheme) : 0;
    int service = ENDPOINT_ECHO;

    if (plus != NULL) {
        for (service = 0; service < ENDPOINT_SERVICES; service++)
            if (strlen(service_names[service]) == service_length &&
                memcmp(service_names[service], scheme, service_length) == 0)
                break;
        if (service == ENDPOINT_SERVICES)
            return "unknown service";
        scheme = plus + 1;
        length -= service_length + 1;
    }
    endpoint->service = (enum endpoint_service) service;
    if (length != 3 || memcmp(scheme, "tcp", 3) != 0)
        return "unknown transport";
    return NULL;
}

static const char *parse_port(const char *text, uint16_t *port)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value;

    if (digits == 0 || text[digits] != '\0')
        return "malformed port";
    value = digits > 5 ? 65536 : strtoul(text, NULL, 10);
    if (value > 65535)
        return "port out of range";
    *port = (uint16_t) value;
    return NULL;
}

/* What stood in brackets: a numeric IPv6 address, with a zone or without. */
static bool is_ip6(const char *text)
{
    struct addrinfo hints = { .ai_family = AF_INET6, .ai_flags = AI_NUMERICHOST };
    struct addrinfo *found;

    if (getaddrinfo(text, NULL, &hints, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

static bool is_host(const char *text)
{
    if (strcmp(text, "*") == 0)
        return true;
    for (const char *c = text; *c != '\0'; c++)
        if (!isalnum((unsigned char) *c) && strchr("-._", *c) == NULL)
            return false;
    return *text != '\0';
}

/* `HOST:PORT`, `[IPV6]:PORT` or `*:PORT`. ADDRESS is ours to cut up. */
static const char *parse_address(char *address, struct endpoint *endpoint)
{
    char *colon = strrchr(address, ':');
    char *bracket = strchr(address, ']');
    bool bracketed = address[0] == '[';
    const char *host = bracketed ? address + 1 : address;

    if (bracketed && bracket == NULL)
        return "missing ]";
    if (colon == NULL || (bracketed && bracket > colon))
        return "missing port";
    *colon = '\0';
    if (bracketed) {
        if (bracket + 1 != colon)
            return "malformed address";
        *bracket = '\0';
    } else if (strchr(host, ':') != NULL) {
        return "IPv6 address without brackets";
    }
    if (strlen(host) > ENDPOINT_HOST_MAX || !(bracketed ? is_ip6(host) : is_host(host)))
        return "malformed address";
    memcpy(endpoint->host, host, strlen(host) + 1);
    return parse_port(colon + 1, &endpoint->port);
}

/* `KEY=VALUE[&...]`. No transport of today has a key. */
static const char *parse_parameters(const char *parameters)
{
    size_t key = strcspn(parameters, "=&");

    return key == 0 || parameters[key] != '=' ? "malformed endpoint key" : "unknown endpoint key";
}

const char *endpoint_parse(const char *text, struct endpoint *endpoint)
{
    const char *separator = strstr(text, "://");
    const char *wrong = NULL;
    char address[ENDPOINT_HOST_MAX + sizeof("[]:65535")];
    size_t length;

    *endpoint = (struct endpoint){ .service = ENDPOINT_ECHO, .text = text };
    if (separator != NULL) {
        wrong = parse_scheme(text, (size_t) (separator - text), endpoint);
        text = separator + 3;
    }
    length = strcspn(text, "?");
    if (wrong == NULL && text[length] == '?')
        wrong = parse_parameters(text + length + 1);
    if (wrong != NULL)
        return wrong;
    if (length >= sizeof(address))
        return "malformed address";
    if (separator == NULL && length > 0 && strspn(text, "0123456789") == length)
        snprintf(address, sizeof(address), "localhost:%.*s", (int) length, text);
    else if (separator == NULL && text[0] == ':')
        snprintf(address, sizeof(address), "*%.*s", (int) length, text);
    else
        snprintf(address, sizeof(address), "%.*s", (int) length, text);
    return parse_address(address, endpoint);
}

static bool is_listed(const struct address *list, size_t count, const struct address *address)
{
    for (size_t i = 0; i < count; i++)
        if (address_equal(&list[i], address))
            return true;
    return false;
}

static const char *all_addresses(uint16_t port, struct address **addresses, size_t *count)
{
    struct address *list = calloc(2, sizeof(*list));

    if (list == NULL)
        return "out of memory";
    list[0].length = sizeof(list[0].ip6);
    list[0].ip6.sin6_family = AF_INET6;
    list[0].ip6.sin6_addr = in6addr_any;
    list[1].length = sizeof(list[1].ip4);
    list[1].ip4.sin_family = AF_INET;
    list[1].ip4.sin_addr.s_addr = htonl(INADDR_ANY);
    address_set_port(&list[0], port);
    address_set_port(&list[1], port);
    *addresses = list;
    *count = 2;
    return NULL;
}

const char *endpoint_resolve(const struct endpoint *endpoint, struct address **addresses,
                             size_t *count)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found, *one;
    struct address *list;
    size_t length = 1;
    int error;

    if (strcmp(endpoint->host, "*") == 0)
        return all_addresses(endpoint->port, addresses, count);
    error = getaddrinfo(endpoint->host, NULL, &hints, &found);
    if (error != 0)
        return gai_strerror(error);
    for (one = found; one != NULL; one = one->ai_next)
        length++;
    list = calloc(length, sizeof(*list));
    *count = 0;
    for (one = found; list != NULL && one != NULL; one = one->ai_next) {
        struct address address = address_from(one->ai_addr, one->ai_addrlen);

        address_set_port(&address, endpoint->port);
        if (address.length != 0 && !is_listed(list, *count, &address))
            list[(*count)++] = address;
    }
    freeaddrinfo(found);
    if (list == NULL)
        return "out of memory";
    if (*count == 0) {
        free(list);
        return "no IPv4 or IPv6 address";
    }
    *addresses = list;
    return NULL;
}

struct address address_from(const struct sockaddr *from, socklen_t length)
{
    struct address address = { 0 };

    if ((from->sa_family == AF_INET && length >= sizeof(address.ip4)) ||
        (from->sa_family == AF_INET6 && length >= sizeof(address.ip6))) {
        address.length =
            from->sa_family == AF_INET ? sizeof(address.ip4) : sizeof(address.ip6);
        memcpy(&address.any, from, address.length);
    }
    return address;
}

void address_format(const struct address *address, char *out)
{
    char host[INET6_ADDRSTRLEN + 1 + 16]; /* the 16: a zone, which is an interface's name */

    if (getnameinfo(&address->any, address->length, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) != 0)
        snprintf(host, sizeof(host), "?");
    snprintf(out, ENDPOINT_TEXT_MAX, address->any.sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
             host, address_port(address));
}

void endpoint_format(enum endpoint_service service, const struct address *address, char *out)
{
    char where[ENDPOINT_TEXT_MAX];
    bool plain = service == ENDPOINT_ECHO;

    address_format(address, where);
    snprintf(out, ENDPOINT_TEXT_MAX, "%s%stcp://%.100s", plain ? "" : service_names[service],
             plain ? "" : "+", where);
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family || address_port(a) != address_port(b))
        return false;
    if (a->any.sa_family == AF_INET)
        return a->ip4.sin_addr.s_addr == b->ip4.sin_addr.s_addr;
    return memcmp(&a->ip6.sin6_addr, &b->ip6.sin6_addr, sizeof(a->ip6.sin6_addr)) == 0 &&
           a->ip6.sin6_scope_id == b->ip6.sin6_scope_id;
}

uint16_t address_port(const struct address *address)
{
    return ntohs(address->any.sa_family == AF_INET6 ? address->ip6.sin6_port
                                                    : address->ip4.sin_port);
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->any.sa_family == AF_INET6)
        address->ip6.sin6_port = htons(port);
    else
        address->ip4.sin_port = htons(port);
}
