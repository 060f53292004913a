#include "live.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../clock.h"
#include "terminal.h"

/* Back to the line's beginning, and nothing right of it. */
#define CLEAR_LINE "\r\033[K"

void live_begin(struct live *live)
{
    *live = (struct live){ .is_wanted = terminal_has_escapes(STDERR_FILENO) };
    live->began_at = live->last_at = clock_ns();
}

void live_show(struct live *live, const uint64_t *counters)
{
    uint64_t now = clock_ns();
    double since = (double) (now - live->last_at) / 1e9;
    char line[256];

    if (!live->is_wanted || now <= live->last_at)
        return;
    snprintf(line, sizeof(line),
             "%.0f s  %.0f messages/s  %.2f MB/s  %llu lost  %llu corrupt  %llu errors",
             (double) (now - live->began_at) / 1e9,
             (double) (counters[TALLY_MESSAGES] - live->last[TALLY_MESSAGES]) / since,
             (double) (counters[TALLY_BYTES] - live->last[TALLY_BYTES]) / since / 1e6,
             (unsigned long long) counters[TALLY_LOST],
             (unsigned long long) counters[TALLY_CORRUPT],
             (unsigned long long) counters[TALLY_ERRORS]);
    /* a line that wraps could not be taken away */
    fprintf(stderr, CLEAR_LINE "%.*s", (int) terminal_width(STDERR_FILENO) - 1, line);
    fflush(stderr);
    memcpy(live->last, counters, sizeof(live->last));
    live->last_at = now;
}

void live_clear(const struct live *live)
{
    if (live->is_wanted)
        fputs(CLEAR_LINE, stderr);
}
