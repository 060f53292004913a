#include "sharing.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "defaults.h"
#include "log.h"
#include "reactor.h"

/* How far a worker is with one of them. */
struct share {
    unsigned unheard; /* times that it was sent this, and has not answered */
    bool is_behind;   /* it did not get the last one, or could not use it */
};

struct sharer {
    struct channel *channel; /* NULL: it is not here */
    struct share shares[SHARED_FRAMES];
};

struct sharing {
    const struct worker_setup *setup;
    void (*shared)(void *context);
    void *context;
    struct event *again;
    unsigned count;
    struct sharer sharers[];
};

/* The descriptor of what FRAME shares; -1: there is nothing. */
static int shared_fd(const struct worker_setup *setup, unsigned frame)
{
    if (frame == FRAME_TLS)
        return setup->tls != NULL ? setup->tls->fd : -1;
    return setup->access != NULL ? setup->access->fd : -1;
}

static void log_not_shared(unsigned frame)
{
    if (frame == FRAME_TLS)
        log_failure(LOG_ERR, "tls-failed", "credentials", errno);
    else
        log_failure(LOG_ERR, "access-failed", "lists", errno);
}

/* False with errno set: it has not got what FRAME shares. */
static bool share(const struct sharing *sharing, struct sharer *sharer, unsigned frame)
{
    struct share *share = &sharer->shares[frame];
    int fd = shared_fd(sharing->setup, frame);

    if (fd < 0)
        return true;
    share->is_behind = !channel_send(sharer->channel, frame, NULL, 0, fd);
    if (!share->is_behind)
        share->unheard++;
    return !share->is_behind;
}

/* To all, or only to those that could not take it; in a while again, if need be. */
static void share_with(struct sharing *sharing, unsigned frame, bool only_behind)
{
    for (unsigned i = 0; i < sharing->count; i++) {
        struct sharer *sharer = &sharing->sharers[i];

        if (sharer->channel == NULL || (only_behind && !sharer->shares[frame].is_behind))
            continue;
        if (share(sharing, sharer, frame))
            continue;
        log_not_shared(frame);
        reactor_start_timer(sharing->again, SHARE_AGAIN_MS);
    }
}

static void on_again(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    for (unsigned frame = 0; frame < SHARED_FRAMES; frame++)
        share_with(context, frame, true);
}

static bool is_up_to_date(const struct sharer *sharer)
{
    for (unsigned frame = 0; frame < SHARED_FRAMES; frame++)
        if (sharer->shares[frame].unheard > 0 || sharer->shares[frame].is_behind)
            return false;
    return true;
}

static void tell_shared(const struct sharing *sharing)
{
    for (unsigned i = 0; i < sharing->count; i++)
        if (!is_up_to_date(&sharing->sharers[i]))
            return;
    sharing->shared(sharing->context);
}

struct sharing *sharing_new(struct event_base *base, const struct worker_setup *setup,
                            void (*shared)(void *context), void *context)
{
    unsigned count = (unsigned) setup->options->workers;
    struct sharing *sharing = calloc(1, sizeof(*sharing) + count * sizeof(struct sharer));

    if (sharing == NULL)
        return NULL;
    sharing->setup = setup;
    sharing->shared = shared;
    sharing->context = context;
    sharing->count = count;
    sharing->again = event_new(base, -1, 0, on_again, sharing);
    if (sharing->again != NULL)
        return sharing;
    free(sharing);
    return NULL;
}

void sharing_free(struct sharing *sharing)
{
    if (sharing == NULL)
        return;
    reactor_free_event(sharing->again);
    free(sharing);
}

bool sharing_join(struct sharing *sharing, unsigned worker, struct channel *channel)
{
    struct sharer *sharer = &sharing->sharers[worker];

    sharer->channel = channel;
    for (unsigned frame = 0; frame < SHARED_FRAMES; frame++)
        if (!share(sharing, sharer, frame))
            return false;
    return true;
}

void sharing_leave(struct sharing *sharing, unsigned worker)
{
    memset(&sharing->sharers[worker], 0, sizeof(sharing->sharers[worker]));
    tell_shared(sharing);
}

void sharing_renew(struct sharing *sharing, unsigned changed)
{
    for (unsigned frame = 0; frame < SHARED_FRAMES; frame++)
        if (changed & 1u << frame)
            share_with(sharing, frame, false);
    tell_shared(sharing);
}

/* It is the last answer that counts. */
void sharing_answered(struct sharing *sharing, unsigned worker, uint32_t frame, bool has_taken)
{
    struct share *share = &sharing->sharers[worker].shares[frame];

    if (share->unheard == 0)
        return;
    share->unheard--;
    if (share->unheard > 0)
        return;
    if (has_taken) {
        tell_shared(sharing);
    } else {
        share->is_behind = true;
        reactor_start_timer(sharing->again, SHARE_AGAIN_MS);
    }
}
