/*
 * source: who counts as one client to limits and rates, and where tables that all workers share
 * keep it.
 *
 * A source is an IPv4 address, also one that is mapped into IPv6, or an IPv6 network of 64 bits,
 * of which one customer mostly has all; the port does not matter. Tables have a fixed size, so
 * sources can fall on the same place; the hash has a random key (SipHash), so that nobody can aim
 * at the place of another.
 */
#ifndef ECHOD_SOURCE_H
#define ECHOD_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "address.h"

/* Of a table's hash. */
struct source_key {
    uint64_t words[2];
};

/* Draws a new one; false: the kernel has no random number. */
bool source_key_draw(struct source_key *key);

/* Of the source that the IP address ADDRESS belongs to; never 0. */
uint64_t source_hash(const struct source_key *key, const struct address *address);

#endif
