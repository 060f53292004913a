/* Half-close: all at once, then FIN; all has to come back, then EOF. */
#include "../clock.h"
#include "modes.h"

static bool begin(struct share *share)
{
    for (size_t i = 0; i < share->count; i++) {
        struct client *client = &share->clients[i];

        if (client->phase != CLIENT_OPEN)
            continue;
        client_allow(client, client->target, clock_ns());
        client_push(client);
        client_finish(client);
    }
    return true;
}

/* The beginning: what takes long to be sent has taken long. */
static uint64_t due(const struct share *share, const struct client *client, uint64_t message)
{
    (void) client;
    (void) message;
    return share->began_at;
}

const struct mode half_close_mode = {
    .needs_eof = true,
    .begin = begin,
    .due = due,
};
