/* The closed loop: each answer is followed by the next message; so is a datagram that is lost. */
#include "../clock.h"
#include "modes.h"

static bool begin(struct share *share)
{
    for (size_t i = 0; i < share->count; i++) {
        struct client *client = &share->clients[i];

        share_allow(share, client, share->common->options->in_flight, clock_ns());
        client_push(client);
    }
    return true;
}

static void on_answered(struct share *share, struct client *client, uint64_t first,
                        uint64_t messages, uint64_t corrupt)
{
    (void) first;
    (void) corrupt;
    share_allow(share, client, messages, client->moved_at);
}

static void on_lost(struct share *share, struct client *client, uint64_t message)
{
    (void) message;
    share_allow(share, client, 1, clock_ns());
}

const struct mode closed_mode = {
    .begin = begin,
    .answered = on_answered,
    .lost = on_lost,
    .due = share_due,
};
