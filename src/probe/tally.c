#include "tally.h"

void tally_merge(struct tally *tally, const struct tally *other)
{
    for (int i = 0; i < TALLY_COUNTERS; i++)
        tally_add(tally, (enum tally_counter) i, tally_get(other, (enum tally_counter) i));
    tally->connected += other->connected;
    if (tally->began_at == 0 || (other->began_at != 0 && other->began_at < tally->began_at))
        tally->began_at = other->began_at;
    if (other->ended_at > tally->ended_at)
        tally->ended_at = other->ended_at;
    histogram_merge(&tally->latency, &other->latency);
}

double tally_seconds(const struct tally *tally)
{
    if (tally->began_at == 0 || tally->ended_at <= tally->began_at)
        return 0;
    return (double) (tally->ended_at - tally->began_at) / 1e9;
}

bool tally_is_clean(const struct tally *tally)
{
    return tally_get(tally, TALLY_LOST) == 0 && tally_get(tally, TALLY_CORRUPT) == 0 &&
           tally_get(tally, TALLY_ERRORS) == 0;
}
