#include "pattern.h"

/* Connections begin so far apart that neighbours do not have each other's bytes soon. */
#define CONNECTION_STEP 40503

/* One period, and as much of it again as is asked for at a time: no piece is ever cut. */
static unsigned char table[PATTERN_PERIOD + PIECE_MAX];

void pattern_init(void)
{
    uint64_t state = 1;

    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        state ^= state << 13; /* Marsaglia's xorshift */
        state ^= state >> 7;
        state ^= state << 17;
        table[i] = (unsigned char) (state >> 32);
    }
    for (size_t i = PATTERN_PERIOD; i < sizeof(table); i++)
        table[i] = table[i - PATTERN_PERIOD];
}

const unsigned char *pattern_at(uint64_t connection, uint64_t position)
{
    return &table[(connection * CONNECTION_STEP + position) % PATTERN_PERIOD];
}
