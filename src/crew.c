#include "crew.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "clock.h"
#include "defaults.h"
#include "heartbeat.h"
#include "hubs.h"
#include "log.h"
#include "reactor.h"
#include "sharing.h"

#define CAUSE_MAX 80
#define REAP_AGAIN_MS 10

/* One worker, and its replacements in turn. */
struct member {
    struct crew *crew;
    unsigned number;
    struct spawned spawned;
    struct channel *channel; /* NULL: it does not run */
    bool is_ready, has_left; /* left: its end of the channel is closed */
    bool is_hung;            /* it was killed for that */
    int64_t started_at;
    int64_t backoff; /* what the last replacement had to wait, ms */
    struct event *respawn;
    struct member *deputy; /* who accepts at its sockets meanwhile */
};

struct crew {
    struct event_base *base;
    const struct worker_setup *setup;
    struct crew_events events;
    bool was_ready, is_draining;
    struct hubs *hubs;
    struct sharing *sharing;
    struct heartbeat *heartbeat;
    struct event *reap_again;
    unsigned count;
    struct member members[];
};

static void log_member(const struct member *member, int priority, const char *event,
                       const char *cause)
{
    struct log_line line;

    log_begin(&line, priority, event);
    log_number(&line, "worker", member->number);
    log_number(&line, "pid", (uint64_t) member->spawned.pid);
    if (cause != NULL)
        log_text(&line, "cause", cause);
    log_end(&line);
}

/*
 * Has MEMBER accept at OWNER's sockets: its own ones, and if it is OWNER, those that all share.
 * False with errno set: not at all of them.
 */
static bool assign(struct member *member, const struct member *owner)
{
    const struct sockets *sockets = member->crew->setup->sockets;
    bool complete = true;

    for (size_t i = 0; i < sockets->count; i++) {
        struct worker_listen listen = { .address = (uint32_t) i, .owner = owner->number };

        if (member->crew->is_draining && sockets->list[i].is_passed)
            continue; /* who is queued there waits for the next instance */
        if (member == owner || sockets_is_own(sockets, i))
            complete = channel_send(member->channel, FRAME_LISTEN, &listen, sizeof(listen),
                                    sockets_fd(sockets, i, owner->number)) &&
                       complete;
    }
    return complete;
}

static bool can_stand_in(const struct member *member)
{
    return member->is_ready && !heartbeat_is_silent(member->crew->heartbeat, member->number);
}

/* While OWNER is away, or hangs, somebody else accepts what is queued at its own sockets. */
static void find_deputy(struct member *owner)
{
    struct crew *crew = owner->crew;

    if (owner->deputy != NULL || !sockets_are_own(crew->setup->sockets))
        return;
    for (unsigned i = 0; i < crew->count && owner->deputy == NULL; i++)
        if (can_stand_in(&crew->members[i]))
            owner->deputy = &crew->members[i];
    if (owner->deputy != NULL)
        assign(owner->deputy, owner);
}

/* For all that are away and have none: now there may be one. */
static void find_deputies(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->was_ready && crew->members[i].channel == NULL)
            find_deputy(&crew->members[i]);
}

static void dismiss_deputy(struct member *owner)
{
    uint32_t number = owner->number;

    if (owner->deputy != NULL)
        channel_send(owner->deputy->channel, FRAME_RELEASE, &number, sizeof(number), -1);
    owner->deputy = NULL;
}

/* A connection slot came free: wakes those who wait for one, all but FROM, who knows. */
static void pass_on_slot(struct crew *crew, const struct member *from)
{
    for (unsigned i = 0; i < crew->count; i++) {
        struct member *member = &crew->members[i];

        if (member != from && member->is_ready &&
            limits_is_waiting(crew->setup->limits, member->number) &&
            !channel_is_busy(member->channel))
            channel_send(member->channel, FRAME_SLOT, NULL, 0, -1);
    }
}

static bool are_all_ready(const struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (!crew->members[i].is_ready)
            return false;
    return true;
}

static void on_ready(struct member *member)
{
    struct crew *crew = member->crew;

    member->is_ready = true;
    heartbeat_answered(crew->heartbeat, member->number);
    log_member(member, LOG_NOTICE, "worker-started", NULL);
    dismiss_deputy(member);
    if (!crew->is_draining)
        find_deputies(crew);
    if (crew->was_ready || crew->is_draining || !are_all_ready(crew))
        return;
    crew->was_ready = true;
    crew->events.ready(crew->events.context);
}

/* A worker may have been taken over: nothing that it says is believed to be as it should be. */
static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct member *member = context;
    struct crew *crew = member->crew;
    uint32_t reason;

    if (fd >= 0)
        close(fd);
    if (type == FRAME_READY && !member->is_ready) {
        on_ready(member);
    } else if (type < SHARED_FRAMES && length == sizeof(bool)) {
        sharing_answered(crew->sharing, member->number, type,
                         *(const unsigned char *) payload != 0);
    } else if (type == FRAME_BEAT && member->is_ready) {
        heartbeat_answered(crew->heartbeat, member->number);
    } else if (type == FRAME_SLOT) {
        pass_on_slot(crew, member);
    } else if (type == FRAME_PAUSED && length == sizeof(reason)) {
        memcpy(&reason, payload, sizeof(reason));
        crew->events.paused(crew->events.context, (enum pause_reason) reason);
    }
}

/* It is about to end; a thread tells so in no other way. */
static void on_channel_ended(void *context)
{
    struct member *member = context;

    member->has_left = true;
    sharing_leave(member->crew->sharing, member->number);
    crew_reap(member->crew);
}

static const struct channel_handler channel_handler = { .received = on_frame,
                                                        .ended = on_channel_ended };

static int run_member(void *argument, int fd)
{
    const struct member *member = argument;

    return worker_run(member->crew->setup, member->number, fd);
}

/* Its channel, with all in it that it needs to serve. Returns the worker's end, or -1. */
static int open_channel(struct member *member)
{
    int fds[2];

    if (!channel_pair(fds))
        return -1;
    member->channel = channel_new(member->crew->base, fds[0], &channel_handler, member);
    if (member->channel == NULL)
        close(fds[0]);
    else if (hubs_join(member->crew->hubs, member->number, member->channel) &&
             sharing_join(member->crew->sharing, member->number, member->channel) &&
             assign(member, member) &&
             channel_send(member->channel, FRAME_READY, NULL, 0, -1))
        return fds[1];
    close(fds[1]);
    return -1;
}

static void close_channel(struct member *member)
{
    heartbeat_forget(member->crew->heartbeat, member->number);
    hubs_leave(member->crew->hubs, member->number);
    sharing_leave(member->crew->sharing, member->number);
    channel_free(member->channel);
    member->channel = NULL;
    member->is_ready = false;
}

/* False with errno set. */
static bool start_member(struct member *member)
{
    int fd = open_channel(member), error;

    member->has_left = member->is_hung = false;
    member->started_at = clock_ms();
    heartbeat_expect(member->crew->heartbeat, member->number);
    if (fd >= 0 && spawn_start(&member->spawned, member->crew->setup->options->model, run_member,
                               member, fd))
        return true;
    error = errno;
    close_channel(member);
    errno = error;
    return false;
}

/* A short life, or none: the next one has to wait, for longer each time. */
static void respawn_later(struct member *member)
{
    member->backoff = member->backoff == 0 ? RESPAWN_FIRST_MS : member->backoff * 2;
    if (member->backoff > RESPAWN_MOST_MS)
        member->backoff = RESPAWN_MOST_MS;
    reactor_start_timer(member->respawn, member->backoff);
}

static void respawn(struct member *member)
{
    if (start_member(member)) {
        atomic_fetch_add(&member->crew->setup->stats->worker_restarts, 1);
    } else {
        log_failure(LOG_ERR, "worker-failed", "start", errno);
        respawn_later(member);
    }
}

static void on_respawn(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    respawn(context);
}

/* It is nobody's deputy any more. */
static void replace_as_deputy(struct member *gone)
{
    struct crew *crew = gone->crew;

    for (unsigned i = 0; i < crew->count; i++)
        if (crew->members[i].deputy == gone)
            crew->members[i].deputy = NULL;
    if (!crew->is_draining)
        find_deputies(crew);
}

/* It does not run any more: what it held is free. */
static void clean_up(struct member *member, enum close_reason reason)
{
    const struct worker_setup *setup = member->crew->setup;

    close_channel(member);
    limits_worker_died(setup->limits, member->number);
    if (setup->quota != NULL)
        quota_worker_died(setup->quota, member->number);
    stats_worker_died(setup->stats, member->number, reason);
}

static void on_died(struct member *member, const char *cause)
{
    struct crew *crew = member->crew;

    log_member(member, LOG_ERR, "worker-died", cause);
    pass_on_slot(crew, member);
    if (!crew->was_ready) {
        crew->events.failed(crew->events.context);
    } else if (clock_ms() - member->started_at >= WORKER_SETTLED_MS) {
        member->backoff = 0;
        respawn(member);
    } else {
        respawn_later(member);
    }
}

static void describe_hang(const struct member *member, char *cause, size_t size)
{
    if (member->is_ready)
        snprintf(cause, size, "no heartbeat for %d s", HEARTBEATS_HUNG * HEARTBEAT_MS / 1000);
    else
        snprintf(cause, size, "not ready after %d s", HEARTBEATS_STARTING * HEARTBEAT_MS / 1000);
}

/* What cannot be sent for want of memory is no question; who has left will not answer any. */
static bool on_ask(void *context, unsigned number)
{
    const struct crew *crew = context;
    const struct member *member = &crew->members[number];

    return channel_send(member->channel, FRAME_BEAT, NULL, 0, -1) || member->has_left;
}

static void on_look(void *context, unsigned number)
{
    const struct crew *crew = context;

    channel_receive_waiting(crew->members[number].channel);
}

/* Who is queued at its own sockets is not to wait until it answers, or is killed. */
static void on_silent(void *context, unsigned number, bool is_silent)
{
    struct crew *crew = context;

    if (!is_silent)
        dismiss_deputy(&crew->members[number]);
    else if (!crew->is_draining)
        find_deputy(&crew->members[number]);
}

/* A process that is killed is replaced as any that dies; with a thread all end, as in a crash. */
static void on_hung(void *context, unsigned number)
{
    struct crew *crew = context;
    struct member *member = &crew->members[number];
    char cause[CAUSE_MAX];

    member->is_hung = true;
    if (spawn_strike(&member->spawned))
        return;
    describe_hang(member, cause, sizeof(cause));
    log_member(member, LOG_ERR, "worker-died", cause);
    crew->events.failed(crew->events.context);
}

static bool is_anyone_left(const struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->members[i].spawned.running)
            return true;
    return false;
}

static bool is_member(const struct crew *crew, pid_t pid)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->members[i].spawned.running && crew->members[i].spawned.pid == pid)
            return true;
    return false;
}

/*
 * As process 1 of a container we are the parent of everybody whose own parent has ended, and nobody
 * else will wait for them. A worker that ended just now has a SIGCHLD of its own to come.
 */
static void reap_orphans(const struct crew *crew)
{
    siginfo_t ended = { 0 };

    while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid > 0 &&
           !is_member(crew, ended.si_pid)) {
        waitpid(ended.si_pid, NULL, WNOHANG);
        ended.si_pid = 0;
    }
}

void crew_reap(struct crew *crew)
{
    bool is_someone_leaving = false;
    char cause[CAUSE_MAX];

    for (unsigned i = 0; i < crew->count; i++) {
        struct member *member = &crew->members[i];
        bool has_failed;

        if (!spawn_has_ended(&member->spawned, cause, sizeof(cause), &has_failed)) {
            if (member->spawned.running && member->has_left)
                is_someone_leaving = true;
            continue;
        }
        if (member->is_hung)
            describe_hang(member, cause, sizeof(cause));
        clean_up(member, CLOSE_CRASH);
        if (!crew->is_draining)
            on_died(member, cause);
        else if (has_failed)
            log_member(member, LOG_ERR, "worker-died", cause);
        replace_as_deputy(member);
    }
    reap_orphans(crew);
    if (is_someone_leaving)
        reactor_start_timer(crew->reap_again, REAP_AGAIN_MS);
    if (crew->is_draining && !is_anyone_left(crew))
        crew->events.ended(crew->events.context);
}

static void on_reap_again(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    crew_reap(context);
}

struct crew *crew_new(struct event_base *base, const struct worker_setup *setup,
                      const struct crew_events *events)
{
    struct heartbeat_events beats = { on_ask, on_look, on_silent, on_hung, NULL };
    unsigned count = (unsigned) setup->options->workers;
    struct crew *crew = calloc(1, sizeof(*crew) + count * sizeof(struct member));
    bool complete;

    if (crew == NULL)
        return NULL;
    crew->base = base;
    crew->setup = setup;
    crew->events = *events;
    crew->count = count;
    crew->reap_again = event_new(base, -1, 0, on_reap_again, crew);
    beats.context = crew;
    crew->heartbeat = heartbeat_new(base, count, &beats);
    crew->hubs = hubs_new(base, setup);
    crew->sharing = sharing_new(base, setup, events->shared, events->context);
    complete = crew->reap_again != NULL && crew->hubs != NULL && crew->sharing != NULL &&
               crew->heartbeat != NULL;
    for (unsigned i = 0; i < count; i++) {
        struct member *member = &crew->members[i];

        member->crew = crew;
        member->number = i;
        member->respawn = event_new(base, -1, 0, on_respawn, member);
        complete = complete && member->respawn != NULL;
    }
    if (complete)
        return crew;
    crew_free(crew);
    return NULL;
}

void crew_free(struct crew *crew)
{
    if (crew == NULL)
        return;
    for (unsigned i = 0; i < crew->count; i++) {
        channel_free(crew->members[i].channel);
        reactor_free_event(crew->members[i].respawn);
    }
    hubs_free(crew->hubs);
    sharing_free(crew->sharing);
    heartbeat_free(crew->heartbeat);
    reactor_free_event(crew->reap_again);
    free(crew);
}

bool crew_start(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (!start_member(&crew->members[i])) {
            log_failure(LOG_ERR, "worker-failed", "start", errno);
            return false;
        }
    return true;
}

struct crew_worker crew_worker(const struct crew *crew, unsigned number)
{
    const struct member *member = &crew->members[number];

    return (struct crew_worker){ .pid = member->spawned.running ? member->spawned.pid : 0,
                                 .is_ready = member->is_ready,
                                 .is_silent = heartbeat_is_silent(crew->heartbeat, number) };
}

bool crew_is_answering(const struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (heartbeat_is_silent(crew->heartbeat, i))
            return false;
    return true;
}

void crew_share(struct crew *crew, unsigned changed)
{
    sharing_renew(crew->sharing, changed);
}

/* Clients are queued at the sockets of MEMBER, and nobody is there to accept them. */
static bool is_deserted(const struct member *member)
{
    const struct crew *crew = member->crew;

    if (member->channel != NULL || member->deputy != NULL)
        return false;
    return sockets_are_own(crew->setup->sockets) || !is_anyone_left(crew);
}

void crew_drain(struct crew *crew)
{
    crew->is_draining = true;
    for (unsigned i = 0; i < crew->count; i++) {
        struct member *member = &crew->members[i];

        event_del(member->respawn);
        if (is_deserted(member) && !start_member(member))
            log_failure(LOG_ERR, "worker-failed", "start", errno);
        if (member->channel != NULL)
            channel_send(member->channel, FRAME_DRAIN, NULL, 0, -1);
    }
    crew_reap(crew);
}

bool crew_kill(struct crew *crew, enum close_reason reason)
{
    bool all = true;

    for (unsigned i = 0; i < crew->count; i++) {
        struct member *member = &crew->members[i];

        if (!member->spawned.running)
            continue;
        if (spawn_kill(&member->spawned)) {
            log_member(member, LOG_ERR, "worker-died", "killed at shutdown");
            clean_up(member, reason);
        } else {
            all = false;
        }
    }
    return all;
}
