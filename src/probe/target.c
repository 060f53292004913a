#include "target.h"

#include <stdlib.h>

#include "../unixsocket.h"

const char *target_find(struct target *target, const struct endpoint *endpoint)
{
    *target = (struct target){ .endpoint = endpoint, .count = 1 };
    if (endpoint->transport != ENDPOINT_UNIX)
        return endpoint_resolve(endpoint, &target->addresses, &target->count);
    target->length = unixsocket_address(endpoint->host, &target->local);
    return NULL;
}

void target_free(struct target *target)
{
    free(target->addresses);
    target->addresses = NULL;
}

const struct sockaddr *target_address(const struct target *target, size_t index,
                                      socklen_t *length)
{
    if (target->addresses == NULL) {
        *length = target->length;
        return (const struct sockaddr *) &target->local;
    }
    *length = target->addresses[index].length;
    return &target->addresses[index].any;
}

void target_format(const struct target *target, size_t index, char *out)
{
    const struct address none = { 0 };

    endpoint_format(target->endpoint, target->addresses == NULL ? &none : &target->addresses[index],
                    out);
}

void target_name(const struct target *target, size_t index, char *out)
{
    if (target->addresses == NULL)
        target_format(target, index, out);
    else
        address_format(&target->addresses[index], out);
}
