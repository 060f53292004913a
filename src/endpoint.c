#include "endpoint.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const service_names[ENDPOINT_SERVICES] = {
    [ENDPOINT_ECHO] = "echo",
    [ENDPOINT_CHAT] = "chat",
};

static const char *const transport_names[ENDPOINT_TRANSPORTS + 1] = {
    [ENDPOINT_TCP] = "tcp",
    [ENDPOINT_TLS] = "tls",
    [ENDPOINT_UDP] = "udp",
    [ENDPOINT_UNIX] = "unix",
    [ENDPOINT_HTTP] = "http",
};

/* Are the first LENGTH bytes of TEXT all of WORD? */
static bool is_word(const char *word, const char *text, size_t length)
{
    return strlen(word) == length && memcmp(word, text, length) == 0;
}

/* The index of the first LENGTH bytes of TEXT in NAMES; COUNT: they are not there. */
static int find_name(const char *const *names, int count, const char *text, size_t length)
{
    int found = 0;

    while (found < count && !is_word(names[found], text, length))
        found++;
    return found;
}

const char *endpoint_parse_scheme(const char *scheme, size_t length, struct endpoint *endpoint)
{
    const char *plus = memchr(scheme, '+', length);
    size_t service_length = plus != NULL ? (size_t) (plus - scheme) : 0;
    int service = ENDPOINT_ECHO, transport;

    if (plus != NULL) {
        service = find_name(service_names, ENDPOINT_SERVICES, scheme, service_length);
        if (service == ENDPOINT_SERVICES)
            return "unknown service";
        scheme = plus + 1;
        length -= service_length + 1;
    }
    transport = find_name(transport_names, ENDPOINT_TRANSPORTS, scheme, length);
    if (transport == ENDPOINT_TRANSPORTS)
        return "unknown transport";
    if (service != ENDPOINT_ECHO && transport == ENDPOINT_UDP)
        return "only echo is served over udp";
    endpoint->service = (enum endpoint_service) service;
    endpoint->transport = (enum endpoint_transport) transport;
    return NULL;
}

const char *endpoint_service_name(enum endpoint_service service)
{
    return service_names[service];
}

const char *endpoint_transport_name(enum endpoint_transport transport)
{
    return transport_names[transport];
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

/* `/PATH` or `@NAME`. */
static const char *parse_path(const char *path, size_t length, struct endpoint *endpoint)
{
    if ((path[0] != '/' && path[0] != '@') || length < 2)
        return "neither an absolute path nor @name";
    if (length > ENDPOINT_PATH_MAX)
        return "path too long for a socket";
    memcpy(endpoint->host, path, length);
    endpoint->host[length] = '\0';
    return NULL;
}

/* An octal number of permission bits. */
static const char *parse_mode(const char *value, size_t length, struct endpoint *endpoint)
{
    size_t digits = strspn(value, "01234567");
    unsigned long mode = strtoul(value, NULL, 8);

    if (endpoint->host[0] == '@')
        return "an abstract name has no mode";
    if (digits != length || length == 0 || length > 5 || mode > 0777)
        return "malformed mode";
    endpoint->mode = (int) mode;
    return NULL;
}

static const char *parse_proxy(const char *value, size_t length, struct endpoint *endpoint)
{
    endpoint->proxy = value;
    endpoint->proxy_length = length;
    return length == 0 ? "malformed endpoint key" : NULL;
}

struct parameter {
    const char *key;
    unsigned transports; /* that have it: a bit each, 1 << enum endpoint_transport */
    const char *(*parse)(const char *value, size_t length, struct endpoint *endpoint);
};

static const struct parameter parameters[] = {
    { "proxy", 1u << ENDPOINT_TCP | 1u << ENDPOINT_TLS, parse_proxy },
    { "mode", 1u << ENDPOINT_UNIX, parse_mode },
};

enum { PARAMETERS = sizeof(parameters) / sizeof(parameters[0]) };

/* `KEY=VALUE`; SEEN has a bit for each that came before. */
static const char *parse_parameter(const char *text, size_t length, struct endpoint *endpoint,
                                   unsigned *seen)
{
    const char *value = memchr(text, '=', length);
    size_t key = value != NULL ? (size_t) (value - text) : 0, i = 0;

    if (key == 0)
        return "malformed endpoint key";
    while (i < PARAMETERS && !is_word(parameters[i].key, text, key))
        i++;
    if (i == PARAMETERS || !(parameters[i].transports & 1u << endpoint->transport))
        return i == PARAMETERS ? "unknown endpoint key" : "this transport has no such key";
    if (*seen & 1u << i)
        return "endpoint key given twice";
    *seen |= 1u << i;
    return parameters[i].parse(value + 1, length - key - 1, endpoint);
}

/* `KEY=VALUE[&...]` */
static const char *parse_parameters(const char *text, struct endpoint *endpoint)
{
    const char *wrong = NULL;
    unsigned seen = 0;

    for (bool more = true; wrong == NULL && more;) {
        size_t length = strcspn(text, "&");

        wrong = parse_parameter(text, length, endpoint, &seen);
        more = text[length] == '&';
        text += length + 1;
    }
    return wrong;
}

/* The ADDRESS of an IP transport, or a short form of all, if IS_SHORT. */
static const char *parse_host(const char *text, size_t length, bool is_short,
                              struct endpoint *endpoint)
{
    char address[ENDPOINT_HOST_MAX + sizeof("[]:65535")];
    const char *before = "";

    if (length >= sizeof(address))
        return "malformed address";
    if (is_short && length > 0 && strspn(text, "0123456789") == length)
        before = "localhost:";
    else if (is_short && text[0] == ':')
        before = "*";
    snprintf(address, sizeof(address), "%s%.*s", before, (int) length, text);
    return parse_address(address, endpoint);
}

const char *endpoint_parse(const char *text, struct endpoint *endpoint)
{
    const char *separator = strstr(text, "://");
    const char *wrong = NULL;
    size_t length;

    *endpoint = (struct endpoint){ .service = ENDPOINT_ECHO, .mode = -1, .text = text };
    if (separator != NULL) {
        wrong = endpoint_parse_scheme(text, (size_t) (separator - text), endpoint);
        text = separator + 3;
    }
    if (wrong != NULL)
        return wrong;
    length = strcspn(text, "?");
    if (endpoint->transport == ENDPOINT_UNIX)
        wrong = parse_path(text, length, endpoint);
    else
        wrong = parse_host(text, length, separator == NULL, endpoint);
    if (wrong == NULL && text[length] == '?')
        wrong = parse_parameters(text + length + 1, endpoint);
    return wrong;
}

const char *endpoint_parse_http(const char *text, struct endpoint *endpoint)
{
    *endpoint = (struct endpoint){ .transport = ENDPOINT_HTTP, .mode = -1, .text = text };
    return strstr(text, "://") == NULL ? parse_host(text, strlen(text), true, endpoint)
                                       : "not HOST:PORT";
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

void endpoint_format(const struct endpoint *endpoint, const struct address *address, char *out)
{
    char where[ADDRESS_TEXT_MAX];
    bool is_plain = endpoint->service == ENDPOINT_ECHO;
    const char *at = endpoint->host;

    if (endpoint->transport != ENDPOINT_UNIX) {
        address_format(address, where);
        at = where;
    }
    snprintf(out, ENDPOINT_TEXT_MAX, "%s%s%s://%.*s",
             is_plain ? "" : service_names[endpoint->service], is_plain ? "" : "+",
             transport_names[endpoint->transport], ENDPOINT_PATH_MAX, at);
}
