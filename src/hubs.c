#include "hubs.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "channel.h"

struct hubs {
    const struct worker_setup *setup;
    void *list[ENDPOINT_SERVICES]; /* NULL: that service has none, or is not served */
};

static const struct service_hub *hub_of(const struct hubs *hubs, size_t service)
{
    return hubs->setup->services[service]->hub;
}

struct hubs *hubs_new(struct event_base *base, const struct worker_setup *setup)
{
    struct hubs *hubs = calloc(1, sizeof(*hubs));

    if (hubs == NULL)
        return NULL;
    hubs->setup = setup;
    for (size_t i = 0; i < setup->sockets->count; i++) {
        size_t service = setup->sockets->list[i].endpoint->service;

        if (hub_of(hubs, service) == NULL || hubs->list[service] != NULL)
            continue;
        hubs->list[service] = hub_of(hubs, service)->start(base, setup->options, setup->stats);
        if (hubs->list[service] == NULL) {
            hubs_free(hubs);
            return NULL;
        }
    }
    return hubs;
}

void hubs_free(struct hubs *hubs)
{
    if (hubs == NULL)
        return;
    for (size_t i = 0; i < ENDPOINT_SERVICES; i++)
        if (hubs->list[i] != NULL)
            hub_of(hubs, i)->stop(hubs->list[i]);
    free(hubs);
}

static bool join(struct hubs *hubs, size_t service, unsigned worker, struct channel *channel)
{
    uint32_t number = (uint32_t) service;
    int ends[2];
    bool sent;

    if (!channel_pair(ends))
        return false;
    sent = channel_send(channel, FRAME_BUS, &number, sizeof(number), ends[1]);
    close(ends[1]);
    if (sent)
        return hub_of(hubs, service)->join(hubs->list[service], worker, ends[0]);
    close(ends[0]);
    return false;
}

bool hubs_join(struct hubs *hubs, unsigned worker, struct channel *channel)
{
    for (size_t i = 0; i < ENDPOINT_SERVICES; i++)
        if (hubs->list[i] != NULL && !join(hubs, i, worker, channel)) {
            hubs_leave(hubs, worker);
            return false;
        }
    return true;
}

void hubs_leave(struct hubs *hubs, unsigned worker)
{
    for (size_t i = 0; i < ENDPOINT_SERVICES; i++)
        if (hubs->list[i] != NULL)
            hub_of(hubs, i)->leave(hubs->list[i], worker);
}
