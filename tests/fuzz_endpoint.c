/* Endpoints, and lists of prefixes: any text is taken or refused; what is taken is as it says. */
#include <stdlib.h>
#include <string.h>

#include "src/access.h"
#include "src/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void try_list(const char *text, size_t length)
{
    struct access_list list = { 0 };
    struct sockaddr_in6 anybody = { .sin6_family = AF_INET6 };
    struct access_item item;
    const char *wrong = access_parse(&list, text, length, &item);

    check(wrong == NULL ? list.count > 0
                        : list.count == 0 && item.text >= text &&
                              item.text + item.length <= text + length);
    access_compile(&list);
    (void) access_contains(&list, (struct sockaddr *) &anybody);
    access_release(&list);
}

static void try_endpoint(const char *text)
{
    struct endpoint endpoint;
    char name[ENDPOINT_TEXT_MAX];

    if (endpoint_parse(text, &endpoint) != NULL)
        return;
    check(endpoint.host[0] != '\0' && strlen(endpoint.host) <= ENDPOINT_HOST_MAX);
    check(endpoint.proxy == NULL || endpoint.proxy_length > 0);
    if (endpoint.transport != ENDPOINT_UNIX)
        return;
    endpoint_format(&endpoint, NULL, name);
    check(strlen(name) < sizeof(name) && strstr(text, endpoint.host) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    try_list(text, size);
    try_endpoint(text);
    free(text);
    return 0;
}
