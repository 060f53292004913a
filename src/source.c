#include "source.h"

#include <string.h>
#include <sys/random.h>

bool source_key_draw(struct source_key *key)
{
    return getrandom(key->words, sizeof(key->words), 0) == (ssize_t) sizeof(key->words);
}

static uint64_t rotated(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

/* SipHash's round. */
static void mix(uint64_t state[4])
{
    state[0] += state[1];
    state[1] = rotated(state[1], 13) ^ state[0];
    state[0] = rotated(state[0], 32);
    state[2] += state[3];
    state[3] = rotated(state[3], 16) ^ state[2];
    state[0] += state[3];
    state[3] = rotated(state[3], 21) ^ state[0];
    state[2] += state[1];
    state[1] = rotated(state[1], 17) ^ state[2];
    state[2] = rotated(state[2], 32);
}

/* SipHash-1-3 of two words, without the length, which is always the same; never 0. */
static uint64_t hash(const uint64_t key[2], const uint64_t words[2])
{
    uint64_t state[4] = { key[0] ^ UINT64_C(0x736f6d6570736575),
                          key[1] ^ UINT64_C(0x646f72616e646f6d),
                          key[0] ^ UINT64_C(0x6c7967656e657261),
                          key[1] ^ UINT64_C(0x7465646279746573) };
    uint64_t result;

    for (int i = 0; i < 2; i++) {
        state[3] ^= words[i];
        mix(state);
        state[0] ^= words[i];
    }
    state[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        mix(state);
    result = state[0] ^ state[1] ^ state[2] ^ state[3];
    return result != 0 ? result : 1;
}

/* What of ADDRESS makes it a source of its own, and the family. */
static void name_source(const struct address *address, uint64_t words[2])
{
    const struct in6_addr *ip6 = &address->ip6.sin6_addr;

    words[0] = 0;
    words[1] = AF_INET;
    if (address->any.sa_family == AF_INET) {
        memcpy(&words[0], &address->ip4.sin_addr, sizeof(address->ip4.sin_addr));
    } else if (IN6_IS_ADDR_V4MAPPED(ip6)) {
        memcpy(&words[0], &ip6->s6_addr[12], sizeof(struct in_addr));
    } else {
        words[1] = AF_INET6;
        memcpy(&words[0], ip6->s6_addr, sizeof(words[0]));
    }
}

uint64_t source_hash(const struct source_key *key, const struct address *address)
{
    uint64_t words[2];

    name_source(address, words);
    return hash(key->words, words);
}
