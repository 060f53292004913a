#include "gauge.h"

enum gauge_state gauge_look(struct gauge *gauge, const struct gauge_limits *limits,
                            size_t waiting, uint64_t taken, int64_t now)
{
    if (waiting <= limits->much) {
        gauge->state = GAUGE_FREE;
        return GAUGE_FREE;
    }
    if (gauge->state == GAUGE_FREE || gauge->taken != taken) {
        gauge->taken = taken;
        gauge->moved_at = now;
    }
    gauge->state = now - gauge->moved_at < limits->patience ? GAUGE_HOLDS : GAUGE_MUTE;
    return gauge->state;
}
