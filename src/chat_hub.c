#include "chat_hub.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "chat_elsewhere.h"
#include "chat_frames.h"
#include "chat_names.h"
#include "chatline.h"
#include "clock.h"
#include "defaults.h"
#include "gauge.h"
#include "options.h"
#include "reactor.h"
#include "stats.h"

/* A line of the hub's own, with up to two names in it. */
#define NOTICE_MAX (2 * CHAT_NAME_MOST + 64)
/* The list of names is told in lines of so many bytes. */
#define WHO_LINE 1000

/* The way to one worker's room. */
struct link {
    struct hub *hub;
    unsigned worker;
    struct channel *channel; /* NULL: it does not run */
    struct chat_members members;
    size_t count; /* of them */
    struct gauge gauge;
    bool is_unheard; /* it is not read from */
};

struct hub {
    struct event_base *base;
    struct stats *stats;
    struct chat_names names;
    uint64_t guests; /* names given so far */
    struct elsewhere *elsewhere; /* NULL: there is no bus */
    struct gauge bus_gauge;
    struct event *tick;
    size_t members_most; /* of a room: no worker has more connections than descriptors */
    unsigned count;
    struct link links[];
};

/* The list of names, as it is written. */
struct who {
    struct link *to;
    struct chat_answer answer;
    char line[WHO_LINE];
    size_t length;
    const char *separator; /* before the next name */
};

static const struct gauge_limits link_limits = { CHAT_MUCH, CHAT_WORKER_PATIENCE_MS };

static enum gauge_state look(struct link *link)
{
    size_t waiting = link->channel != NULL ? channel_waiting(link->channel) : 0;

    if (waiting <= CHAT_MUCH) { /* nearly always: nobody is asked what was taken */
        link->gauge.state = GAUGE_FREE;
        return GAUGE_FREE;
    }
    return gauge_look(&link->gauge, &link_limits, waiting, channel_taken(link->channel),
                      clock_ms());
}

/* What other servers are told. */
static enum gauge_state look_at_bus(struct hub *hub)
{
    return gauge_look(&hub->bus_gauge, &link_limits, elsewhere_pending(hub->elsewhere),
                      elsewhere_taken(hub->elsewhere), clock_ms());
}

/* Reads from it or not: of one that is stuck what it asks would wait, too. */
static void listen_to(struct link *link, bool is_held)
{
    bool is_unheard = is_held || link->gauge.state == GAUGE_MUTE;

    if (link->channel != NULL && is_unheard != link->is_unheard)
        channel_listen(link->channel, !is_unheard);
    link->is_unheard = is_unheard;
}

/* Nobody is heard while there is one with much waiting, be it by what it asked for itself. */
static void adjust(struct hub *hub)
{
    enum gauge_state bus = look_at_bus(hub);
    bool is_held = bus == GAUGE_HOLDS, is_watched = bus != GAUGE_FREE;

    for (unsigned i = 0; i < hub->count; i++) {
        enum gauge_state state = look(&hub->links[i]);

        is_held = is_held || state == GAUGE_HOLDS;
        is_watched = is_watched || state != GAUGE_FREE;
    }
    for (unsigned i = 0; i < hub->count; i++)
        listen_to(&hub->links[i], is_held);
    if (is_watched && !event_pending(hub->tick, EV_TIMEOUT, NULL))
        reactor_start_timer(hub->tick, CHAT_TICK_MS);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    adjust(context);
}

static size_t count_lines(const char *text, size_t length)
{
    const char *end = text + length;
    size_t lines = 0;

    while ((text = memchr(text, '\n', (size_t) (end - text))) != NULL) {
        lines++;
        text++;
    }
    return lines;
}

static void count_dropped(struct hub *hub, const char *text, size_t length)
{
    atomic_fetch_add(&hub->stats->chat_dropped, count_lines(text, length));
}

/* False: too much waits for it, if nobody waits until it has taken some. */
static bool has_room(struct link *link, bool can_wait)
{
    return (look(link) == GAUGE_HOLDS && can_wait) || channel_waiting(link->channel) <= CHAT_MOST;
}

/* To all rooms but FROM's, which may be NULL. If who said it CAN_WAIT, it will. */
static void tell(struct hub *hub, const struct link *from, bool can_wait, const char *text,
                 size_t length)
{
    for (unsigned i = 0; i < hub->count; i++) {
        struct link *link = &hub->links[i];

        if (link != from && link->channel != NULL &&
            !(has_room(link, can_wait) &&
              channel_send(link->channel, CHAT_HEAR, text, length, -1)))
            count_dropped(hub, text, length);
    }
    adjust(hub);
}

static void tell_all(struct hub *hub, const char *text, size_t length)
{
    tell(hub, NULL, true, text, length);
}

/* Other servers are not slowed down by how we do. */
static void on_heard(void *context, const char *text, size_t length)
{
    tell(context, NULL, false, text, length);
}

static void on_bus_drained(void *context)
{
    adjust(context);
}

/* What the members of a room said: for those of the other rooms, here and elsewhere. */
static void pass_on(struct link *from, const char *text, size_t length)
{
    struct hub *hub = from->hub;

    if (!elsewhere_say(hub->elsewhere, text, length))
        count_dropped(hub, text, length);
    tell(hub, from, true, text, length);
}

static void answer(struct link *link, const struct chat_answer *answer, const char *text,
                   size_t length)
{
    char payload[CHANNEL_PAYLOAD_MAX];

    memcpy(payload, answer, sizeof(*answer));
    memcpy(payload + sizeof(*answer), text, length);
    channel_send(link->channel, CHAT_ANSWER, payload, sizeof(*answer) + length, -1);
    adjust(link->hub);
}

/* Gives MEMBER the name that it asks for, and tells it so, and all. */
static void rename_member(struct link *link, struct chat_member *member, const char *name)
{
    struct chat_answer given = { .member = member->number, .is_last = true };
    char before[CHAT_NAME_MOST + 1], notice[NOTICE_MAX];
    struct hub *hub = link->hub;
    bool is_taken;
    int length;

    if (strcmp(member->name, name) == 0) {
        length = snprintf(notice, sizeof(notice), "* you are %s\n", name);
        answer(link, &given, notice, (size_t) length);
        return;
    }
    memcpy(before, member->name, strlen(member->name) + 1);
    is_taken = elsewhere_has(hub->elsewhere, name) || chat_names_find(&hub->names, name) != NULL;
    if (is_taken || !chat_names_set(&hub->names, member, name)) {
        length = snprintf(notice, sizeof(notice), "* %s is %s\n", name,
                          is_taken ? "taken" : "not to be had: no memory");
        answer(link, &given, notice, (size_t) length);
        return;
    }
    length = snprintf(notice, sizeof(notice), "* %s is now %s\n", before, name);
    tell_all(hub, notice, (size_t) length);
    elsewhere_renamed(hub->elsewhere, before, name);
    memcpy(given.name, name, strlen(name) + 1);
    answer(link, &given, "", 0);
}

/* The next guest's name that nobody has. */
static bool name_guest(struct hub *hub, struct chat_member *member)
{
    char name[CHAT_NAME_MOST + 1];

    do
        snprintf(name, sizeof(name), "guest%llu", (unsigned long long) ++hub->guests);
    while (chat_names_find(&hub->names, name) != NULL || elsewhere_has(hub->elsewhere, name));
    return chat_names_set(&hub->names, member, name);
}

static void count_members(const struct hub *hub)
{
    atomic_store(&hub->stats->chat_members, hub->names.count);
}

/* NULL: no memory, or it cannot be. */
static struct chat_member *add_member(struct link *link, uint32_t number)
{
    struct hub *hub = link->hub;
    struct chat_member *member = NULL;

    if (link->count < hub->members_most)
        member = chat_names_add(&hub->names, &link->members, link->worker, number);
    if (member != NULL && !name_guest(hub, member)) {
        chat_names_remove(&hub->names, member);
        member = NULL;
    }
    link->count += (member != NULL);
    count_members(hub);
    return member;
}

static void join_member(struct link *link, uint32_t number)
{
    struct chat_answer given = { .member = number, .is_last = true };
    struct hub *hub = link->hub;
    struct chat_member *member = add_member(link, number);
    char notice[NOTICE_MAX];
    int length;

    if (member == NULL) { /* the answer gives no name */
        answer(link, &given, "", 0);
        return;
    }
    length = snprintf(notice, sizeof(notice), "* %s joined\n", member->name);
    tell_all(hub, notice, (size_t) length); /* it is in no room yet, and does not hear it */
    elsewhere_joined(hub->elsewhere, member->name);
    memcpy(given.name, member->name, strlen(member->name) + 1);
    length = snprintf(notice, sizeof(notice), "* you are %s, %zu here\n", member->name,
                      hub->names.count);
    answer(link, &given, notice, (size_t) length);
}

static void remove_member(struct hub *hub, struct chat_member *member)
{
    char notice[NOTICE_MAX];
    int length = snprintf(notice, sizeof(notice), "* %s left\n", member->name);

    elsewhere_left(hub->elsewhere, member->name);
    hub->links[member->worker].count--;
    chat_names_remove(&hub->names, member);
    count_members(hub);
    tell_all(hub, notice, (size_t) length);
}

static void end_who_line(struct who *who)
{
    who->line[who->length++] = '\n';
    answer(who->to, &who->answer, who->line, who->length);
}

static void add_who(const char *name, void *context)
{
    struct who *who = context;

    if (who->length + strlen(who->separator) + strlen(name) + 1 > sizeof(who->line)) {
        end_who_line(who);
        who->length = 0;
        who->separator = "* ";
    }
    who->length += (size_t) snprintf(&who->line[who->length], sizeof(who->line) - who->length,
                                     "%s%s", who->separator, name);
    who->separator = ", ";
}

static void list_names(struct who *who, const struct chat_names *names, const char *where)
{
    who->separator = "";
    who->length = (size_t) snprintf(who->line, sizeof(who->line), "* %zu %s%s", names->count,
                                    where, names->count > 0 ? ": " : "");
    chat_names_each(names, add_who, who);
}

static void tell_who(struct link *link, uint32_t number)
{
    struct hub *hub = link->hub;
    const struct chat_names *there = elsewhere_names(hub->elsewhere);
    struct who who = { .to = link, .answer = { .member = number } };

    list_names(&who, &hub->names, "here");
    if (there != NULL) {
        end_who_line(&who);
        list_names(&who, there, "elsewhere");
    }
    who.answer.is_last = true;
    end_who_line(&who);
}

static void on_question(struct link *link, enum chat_frame frame, struct chat_question question)
{
    struct hub *hub = link->hub;
    struct chat_member *member =
        chat_names_find_number(&hub->names, link->worker, question.member);

    question.name[CHAT_NAME_MOST] = '\0';
    if (frame == CHAT_JOIN)
        join_member(link, question.member);
    else if (member == NULL) /* it could not join */
        return;
    else if (frame == CHAT_LEAVE)
        remove_member(hub, member);
    else if (frame == CHAT_NICK && chatline_is_name(question.name, strlen(question.name)))
        rename_member(link, member, question.name);
    else if (frame == CHAT_WHO)
        tell_who(link, question.member);
}

/* A worker may have been taken over: what it says is looked at before others hear of it. */
static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct link *link = context;
    struct chat_question question;

    if (fd >= 0)
        close(fd);
    if (type == CHAT_SAY && length > 0) {
        pass_on(link, payload, length);
    } else if (length == sizeof(question)) {
        memcpy(&question, payload, sizeof(question));
        on_question(link, (enum chat_frame) type, question);
    }
}

/* Its worker is gone, and so are its members; what it had said until then still counts. */
static void close_link(struct link *link)
{
    struct chat_member *member;

    if (link->channel == NULL)
        return;
    channel_receive_rest(link->channel);
    channel_free(link->channel);
    link->channel = NULL;
    while ((member = LIST_FIRST(&link->members)) != NULL)
        remove_member(link->hub, member);
    adjust(link->hub);
}

static void on_ended(void *context)
{
    close_link(context);
}

static void on_drained(void *context)
{
    const struct link *link = context;

    adjust(link->hub);
}

static const struct channel_handler link_handler = { on_frame, on_ended, on_drained };

static void stop(void *context)
{
    struct hub *hub = context;

    elsewhere_free(hub->elsewhere);
    for (unsigned i = 0; i < hub->count; i++) {
        struct link *link = &hub->links[i];
        struct chat_member *member;

        channel_free(link->channel);
        while ((member = LIST_FIRST(&link->members)) != NULL)
            chat_names_remove(&hub->names, member);
    }
    reactor_free_event(hub->tick);
    free(hub);
}

/* False: no memory. */
static bool join_bus(struct hub *hub, const struct options *options)
{
    const struct elsewhere_handler handler = { on_heard, on_bus_drained, hub };

    if (options->chat_bus.channel == NULL)
        return true;
    hub->elsewhere = elsewhere_new(hub->base, options->bus_servers, options->bus_server_count,
                                   options->chat_bus.channel, &hub->names, &handler);
    return hub->elsewhere != NULL;
}

static void *start(struct event_base *base, const struct options *options, struct stats *stats)
{
    unsigned count = (unsigned) options->workers;
    struct hub *hub = calloc(1, sizeof(*hub) + count * sizeof(hub->links[0]));

    if (hub == NULL)
        return NULL;
    hub->base = base;
    hub->stats = stats;
    hub->count = count;
    hub->members_most = (size_t) sysconf(_SC_OPEN_MAX);
    for (unsigned i = 0; i < count; i++) {
        hub->links[i].hub = hub;
        hub->links[i].worker = i;
        LIST_INIT(&hub->links[i].members);
    }
    hub->tick = event_new(base, -1, 0, on_tick, hub);
    if (hub->tick != NULL && join_bus(hub, options))
        return hub;
    stop(hub);
    return NULL;
}

static bool join(void *context, unsigned worker, int fd)
{
    struct hub *hub = context;
    struct link *link = &hub->links[worker];

    close_link(link);
    link->channel = channel_new(hub->base, fd, &link_handler, link);
    if (link->channel == NULL) {
        close(fd);
        return false;
    }
    link->is_unheard = false;
    adjust(hub);
    return true;
}

static void leave(void *context, unsigned worker)
{
    struct hub *hub = context;

    close_link(&hub->links[worker]);
}

const struct service_hub chat_hub = {
    .start = start,
    .join = join,
    .leave = leave,
    .stop = stop,
};
