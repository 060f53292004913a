/*
 * pattern: the bytes that are sent, so that each one is known again.
 *
 * They follow from the connection and the position alone: a byte that was changed, left out,
 * added, or given to another connection shows, and nothing that was sent has to be kept. (Of more
 * than PATTERN_PERIOD connections, those so far apart send the same.)
 */
#ifndef ECHOD_PROBE_PATTERN_H
#define ECHOD_PROBE_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#include "defaults.h"

/* After so many bytes it begins again: a prime, so that it does so at no block's border. */
#define PATTERN_PERIOD 65537

/* Makes the pattern; call once, before any thread starts. */
void pattern_init(void);

/* PIECE_MAX bytes of what CONNECTION sends, from POSITION on. */
const unsigned char *pattern_at(uint64_t connection, uint64_t position);

#endif
