/* The closed loop: each answer is followed by the next message. */
#include "../clock.h"
#include "modes.h"

static bool begin(struct share *share)
{
    for (size_t i = 0; i < share->count; i++) {
        struct client *client = &share->clients[i];
        uint64_t now = clock_ns();

        for (uint64_t j = 0; j < share->common->options->in_flight; j++)
            share_allow(share, client, now);
        client_push(client);
    }
    return true;
}

static void on_answered(struct share *share, struct client *client, uint64_t latency,
                        bool is_exact)
{
    (void) latency;
    (void) is_exact;
    share_allow(share, client, client->moved_at);
}

const struct mode closed_mode = {
    .begin = begin,
    .answered = on_answered,
    .due = share_due,
};
