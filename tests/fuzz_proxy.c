/*
 * The parser of PROXY headers: whatever comes, a header is read in the same way however much of it
 * comes at a time, and takes no byte of what follows.
 */
#include <stdlib.h>
#include <string.h>

#include "src/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_whole(const uint8_t *data, const struct proxy_header *header)
{
    struct proxy_header again, part;

    check(proxy_parse(data, header->length, &again) == PROXY_WHOLE);
    check(again.length == header->length && again.has_client == header->has_client);
    if (header->has_client)
        check(address_equal(&again.client, &header->client) &&
              address_equal(&again.destination, &header->destination));
    for (size_t length = 0; length < header->length; length += 1 + length / 8) {
        check(proxy_parse(data, length, &part) == PROXY_PARTIAL);
        check(part.length > length && part.length <= header->length);
    }
}

/* What we write of a client is read as such. */
static void check_written(const struct proxy_header *header)
{
    char text[PROXY_V1_MOST + 1];
    struct proxy_header again;
    size_t length = proxy_write_v2(&header->client, &header->destination, text);

    check(proxy_parse(text, length, &again) == PROXY_WHOLE && again.length == length);
    check(address_equal(&again.client, &header->client));
    length = proxy_write_v1(&header->client, &header->destination, text);
    check(proxy_parse(text, length, &again) == PROXY_WHOLE && again.length == length);
    check(again.has_client && address_equal(&again.client, &header->client));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header;

    switch (proxy_parse(data, size, &header)) {
    case PROXY_PARTIAL:
        check(header.length > size && header.length <= PROXY_MOST);
        break;
    case PROXY_WHOLE:
        check(header.length <= size);
        check_whole(data, &header);
        if (header.has_client)
            check_written(&header);
        break;
    case PROXY_MALFORMED:
        check(header.wrong != NULL);
        break;
    }
    return 0;
}
