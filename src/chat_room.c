#include "chat_room.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "channel.h"
#include "chat_frames.h"
#include "clock.h"
#include "conn.h"
#include "defaults.h"
#include "gauge.h"
#include "reactor.h"

/* The hub's lines have no author here. */
enum { NOBODY = 0 };

/* Text that goes to several, and is freed when the last of them has it. */
struct block {
    size_t users;
    size_t length, room;
    char text[];
};

/* Whose text in a block ends where; it begins where the one before ends. */
struct span {
    uint32_t author;
    size_t end;
};

struct room_member {
    TAILQ_ENTRY(room_member) link;    /* in members, or newcomers */
    TAILQ_ENTRY(room_member) stopped; /* in stopped, if is_stopped */
    TAILQ_ENTRY(room_member) watched; /* in watched, unless gauge says that it is free */
    TAILQ_ENTRY(room_member) doomed;  /* in doomed, if is_doomed */
    struct room *room;
    struct conn *conn;
    void *context;
    uint32_t number;
    char name[CHAT_NAME_MOST + 1]; /* empty: a newcomer */
    bool awaits;                   /* an answer of the hub's */
    bool is_stopped;               /* it wanted to speak, and is to go on... */
    bool is_full;                  /* ... or will be, once it has taken what waits for it */
    bool has_spoken;               /* in this block */
    bool is_doomed;                /* it is to be closed, for the reason */
    enum close_reason reason;
    struct gauge gauge;
};

TAILQ_HEAD(member_queue, room_member);

struct room {
    struct channel *bus;
    bool is_alone, is_deaf; /* deaf: it does not read the bus */
    int64_t heard_at;       /* when it last read a frame */
    room_go_on *go_on;
    struct member_queue members, newcomers, stopped, watched, doomed;
    uint32_t last_number;
    size_t holders;       /* of those watched, who make progress */
    struct block *block;  /* what was said, and not yet passed on; NULL: nothing */
    struct span *spans;   /* of it */
    size_t span_count, span_room;
    struct evbuffer *out; /* for a moment */
    char up[CHANNEL_PAYLOAD_MAX]; /* of it, what the hub is to have */
    size_t up_length;
    struct event *flush;  /* active: this round of events is to be ended, see schedule */
    struct event *tick;   /* looks at those that are watched */
};

static const struct gauge_limits member_limits = { CHAT_MUCH, CHAT_MEMBER_PATIENCE_MS };

static bool is_newcomer(const struct room_member *member)
{
    return member->name[0] == '\0';
}

/* At the end of this round of events the block goes out, and it is seen who is to be read from. */
static void schedule(struct room *room)
{
    event_active(room->flush, EV_TIMEOUT, 0);
}

/* Has MEMBER closed at the end of this round: here we may be deep inside a callback of its own. */
static void doom(struct room_member *member, enum close_reason reason)
{
    if (!member->is_doomed)
        TAILQ_INSERT_TAIL(&member->room->doomed, member, doomed);
    member->is_doomed = true;
    member->reason = reason;
    schedule(member->room);
}

static void close_doomed(struct room *room)
{
    struct room_member *member;

    while ((member = TAILQ_FIRST(&room->doomed)) != NULL)
        conn_close(member->conn, member->reason);
}

static bool is_held(const struct room *room)
{
    return room->holders > 0 || channel_waiting(room->bus) > CHAT_MUCH ||
           (room->block != NULL && room->block->length > CHAT_MUCH);
}

/* How MEMBER does, and what follows for the room. */
static enum gauge_state look(struct room_member *member)
{
    struct room *room = member->room;
    enum gauge_state before = member->gauge.state, now;
    size_t pending = conn_pending(member->conn);

    if (pending <= CHAT_MUCH && before == GAUGE_FREE) /* as most are */
        return GAUGE_FREE;
    now = gauge_look(&member->gauge, &member_limits, pending, conn_taken(member->conn),
                     clock_ms());
    room->holders += (now == GAUGE_HOLDS);
    room->holders -= (before == GAUGE_HOLDS);
    if (before == GAUGE_FREE && now != GAUGE_FREE)
        TAILQ_INSERT_TAIL(&room->watched, member, watched);
    if (before != GAUGE_FREE && now == GAUGE_FREE)
        TAILQ_REMOVE(&room->watched, member, watched);
    return now;
}

/* Who takes nothing is closed, once it costs too much. */
static void judge(struct room_member *member)
{
    if (look(member) == GAUGE_MUTE && conn_pending(member->conn) > CHAT_MOST)
        doom(member, CLOSE_SLOW);
}

static void stop(struct room_member *member)
{
    if (!member->is_stopped)
        TAILQ_INSERT_TAIL(&member->room->stopped, member, stopped);
    member->is_stopped = true;
}

/* Lets those go on who were stopped, until it has to be stopped again. */
static void wake(struct room *room)
{
    struct room_member *member;

    while (!is_held(room) && (member = TAILQ_FIRST(&room->stopped)) != NULL) {
        TAILQ_REMOVE(&room->stopped, member, stopped);
        member->is_stopped = false;
        room->go_on(member->context);
    }
}

/*
 * Who is read from follows from how much waits. Now and then a frame of the bus is read all the
 * same: the hub is to see that we are only slow. And when the bus is read from again it comes
 * first, at the end of this round; if authors did, there would be too much again by then, always.
 */
static void adjust(struct room *room)
{
    bool was_deaf = room->is_deaf;

    room->is_deaf = room->holders > 0 && clock_ms() - room->heard_at < CHAT_SIGN_MS;
    if (room->is_deaf != was_deaf)
        channel_listen(room->bus, was_deaf);
    if (was_deaf && !room->is_deaf)
        reactor_start_timer(room->tick, 0);
    else if (!TAILQ_EMPTY(&room->watched) && !event_pending(room->tick, EV_TIMEOUT, NULL))
        reactor_start_timer(room->tick, CHAT_TICK_MS);
    if (!was_deaf)
        wake(room);
}

/* Sends TEXT to MEMBER alone. */
static void send_text(struct room_member *member, const char *text, size_t length)
{
    struct evbuffer *out = member->room->out;

    if (length == 0 || member->is_doomed)
        return;
    if (evbuffer_add(out, text, length) != 0) {
        doom(member, CLOSE_ERROR);
        return;
    }
    conn_send(member->conn, out);
    if (look(member) != GAUGE_FREE)
        schedule(member->room);
}

static void release(const void *text, size_t length, void *block)
{
    struct block *used = block;

    (void) text;
    (void) length;
    if (--used->users == 0)
        free(used);
}

/* Adds TEXT of BLOCK to what is about to be sent; false: no memory. */
static bool share(struct evbuffer *out, struct block *block, size_t begin, size_t end)
{
    if (begin == end)
        return true;
    if (evbuffer_add_reference(out, &block->text[begin], end - begin, release, block) != 0)
        return false;
    block->users++;
    return true;
}

/* All that others said. */
static bool share_foreign(const struct room_member *member, struct block *block)
{
    const struct room *room = member->room;
    size_t begin = 0, end = 0;
    bool complete = true;

    for (size_t i = 0; i < room->span_count; i++) {
        if (room->spans[i].author == member->number) {
            complete = complete && share(room->out, block, begin, end);
            begin = room->spans[i].end;
        }
        end = room->spans[i].end;
    }
    return complete && share(room->out, block, begin, end);
}

static void deliver(struct room_member *member, struct block *block)
{
    struct evbuffer *out = member->room->out;
    bool complete = member->has_spoken ? share_foreign(member, block)
                                       : share(out, block, 0, block->length);

    member->has_spoken = false;
    if (!complete) {
        evbuffer_drain(out, evbuffer_get_length(out));
        doom(member, CLOSE_ERROR);
        return;
    }
    if (evbuffer_get_length(out) > 0)
        conn_send(member->conn, out);
    judge(member);
}

/* Gives back what BLOCK has room for and does not need: it may have to wait. */
static struct block *fit(struct block *block)
{
    struct block *fitted = realloc(block, sizeof(*block) + block->length);

    if (fitted == NULL)
        return block;
    fitted->room = fitted->length;
    return fitted;
}

/* To the hub, what was said here. */
static void send_up(struct room *room)
{
    if (room->up_length > 0)
        channel_send(room->bus, CHAT_SAY, room->up, room->up_length, -1);
    room->up_length = 0;
}

/* What was said goes out to all who are here now. Nobody comes or goes by that. */
static void pass_on(struct room *room)
{
    struct room_member *member;
    struct block *block;

    send_up(room);
    if (room->block == NULL)
        return;
    block = fit(room->block);
    block->users = 1;
    TAILQ_FOREACH(member, &room->members, link)
        if (!member->is_doomed)
            deliver(member, block);
    room->block = NULL;
    room->span_count = 0;
    release(NULL, 0, block);
}

static void on_flush(evutil_socket_t fd, short what, void *context)
{
    struct room *room = context;

    (void) fd;
    (void) what;
    pass_on(room);
    close_doomed(room);
    adjust(room);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct room *room = context;
    struct room_member *member, *next;

    (void) fd;
    (void) what;
    for (member = TAILQ_FIRST(&room->watched); member != NULL; member = next) {
        next = TAILQ_NEXT(member, watched); /* it may not have to be watched any longer */
        judge(member);
    }
    adjust(room);
}

/* Room for LENGTH bytes more in the block, and a span; false: no memory. */
static bool make_room(struct room *room, size_t length)
{
    size_t used = room->block != NULL ? room->block->length : 0;
    size_t had = room->block != NULL ? room->block->room : 0;

    if (room->span_count == room->span_room) {
        size_t count = room->span_room + CHAT_SPANS;
        struct span *grown = realloc(room->spans, count * sizeof(*grown));

        if (grown == NULL)
            return false;
        room->spans = grown;
        room->span_room = count;
    }
    if (had - used < length) {
        size_t more = had > length ? had : length + CHAT_BLOCK;
        struct block *grown = realloc(room->block, sizeof(*grown) + had + more);

        if (grown == NULL)
            return false;
        grown->length = used;
        grown->room = had + more;
        room->block = grown;
    }
    return true;
}

static void append(struct room *room, const char *text, size_t length)
{
    memcpy(&room->block->text[room->block->length], text, length);
    room->block->length += length;
}

/* What was appended last is AUTHOR's. */
static void end_span(struct room *room, uint32_t author)
{
    struct span *last = &room->spans[room->span_count];

    if (room->span_count > 0 && last[-1].author == author)
        last--;
    else
        room->span_count++;
    *last = (struct span){ author, room->block->length };
    schedule(room);
}

/* Lines of the hub's. Without memory they are lost. */
static void hear(struct room *room, const char *text, size_t length)
{
    if (!make_room(room, length))
        return;
    append(room, text, length);
    end_span(room, NOBODY);
}

/* Before that the hub, and others, hear what was said. False: it cannot arrive. */
static bool send_question(const struct room_member *member, enum chat_frame frame,
                          const char *name, size_t length)
{
    struct chat_question question = { .member = member->number };

    memcpy(question.name, name, length);
    send_up(member->room);
    return channel_send(member->room->bus, frame, &question, sizeof(question), -1);
}

static void ask(struct room_member *member, enum chat_frame frame, const char *name, size_t length)
{
    member->awaits = true;
    if (!send_question(member, frame, name, length))
        doom(member, CLOSE_ERROR);
}

static struct room_member *find(const struct room *room, uint32_t number)
{
    struct room_member *member;

    TAILQ_FOREACH(member, &room->newcomers, link)
        if (member->number == number)
            return member;
    TAILQ_FOREACH(member, &room->members, link)
        if (member->number == number)
            return member;
    return NULL;
}

static void set_name(struct room_member *member, const char *name)
{
    struct room *room = member->room;
    bool is_new = is_newcomer(member);

    memcpy(member->name, name, sizeof(member->name));
    if (!is_new)
        return;
    pass_on(room); /* what was said before it came is not for it */
    TAILQ_REMOVE(&room->newcomers, member, link);
    TAILQ_INSERT_TAIL(&room->members, member, link);
}

static void on_answer(struct room *room, const struct chat_answer *answer, const char *text,
                      size_t length)
{
    struct room_member *member = find(room, answer->member);

    if (member == NULL) /* it has left meanwhile */
        return;
    if (answer->name[0] != '\0')
        set_name(member, answer->name);
    send_text(member, text, length);
    if (!answer->is_last)
        return;
    if (is_newcomer(member)) /* the hub had no memory for it */
        doom(member, CLOSE_ERROR);
    member->awaits = false;
    stop(member);
    wake(room);
}

static void on_frame(void *context, uint32_t type, const void *payload, size_t length, int fd)
{
    struct room *room = context;
    struct chat_answer answer;

    if (fd >= 0)
        close(fd);
    room->heard_at = clock_ms();
    schedule(room);
    if (type == CHAT_HEAR && length > 0)
        hear(room, payload, length);
    if (type != CHAT_ANSWER || length < sizeof(answer))
        return;
    memcpy(&answer, payload, sizeof(answer));
    on_answer(room, &answer, (const char *) payload + sizeof(answer), length - sizeof(answer));
}

/* The supervisor is gone: the worker will hear of that. */
static void on_ended(void *context)
{
    (void) context;
}

static void on_drained(void *context)
{
    adjust(context);
}

static const struct channel_handler handler = { on_frame, on_ended, on_drained };

struct room *room_new(struct event_base *base, int bus, bool is_alone, room_go_on *go_on)
{
    struct room *room = calloc(1, sizeof(*room));

    if (room == NULL) {
        close(bus);
        return NULL;
    }
    TAILQ_INIT(&room->members);
    TAILQ_INIT(&room->newcomers);
    TAILQ_INIT(&room->stopped);
    TAILQ_INIT(&room->watched);
    TAILQ_INIT(&room->doomed);
    room->is_alone = is_alone;
    room->go_on = go_on;
    room->bus = channel_new(base, bus, &handler, room);
    if (room->bus == NULL)
        close(bus);
    room->out = evbuffer_new();
    room->flush = event_new(base, -1, 0, on_flush, room);
    room->tick = event_new(base, -1, 0, on_tick, room);
    if (room->bus != NULL && room->out != NULL && room->flush != NULL && room->tick != NULL)
        return room;
    room_free(room);
    return NULL;
}

void room_free(struct room *room)
{
    if (room == NULL)
        return;
    reactor_free_event(room->flush);
    reactor_free_event(room->tick);
    channel_free(room->bus);
    if (room->out != NULL)
        evbuffer_free(room->out);
    free(room->block);
    free(room->spans);
    free(room);
}

struct room_member *room_enter(struct room *room, struct conn *conn, void *context)
{
    struct room_member *member = calloc(1, sizeof(*member));

    if (member == NULL)
        return NULL;
    member->room = room;
    member->conn = conn;
    member->context = context;
    member->number = ++room->last_number;
    TAILQ_INSERT_TAIL(&room->newcomers, member, link);
    ask(member, CHAT_JOIN, "", 0);
    return member;
}

void room_leave(struct room_member *member)
{
    if (!is_newcomer(member))
        pass_on(member->room);
    room_drop(member);
}

void room_drop(struct room_member *member)
{
    struct room *room = member->room;

    (void) send_question(member, CHAT_LEAVE, "", 0);
    if (member->is_doomed)
        TAILQ_REMOVE(&room->doomed, member, doomed);
    if (member->is_stopped)
        TAILQ_REMOVE(&room->stopped, member, stopped);
    if (member->gauge.state != GAUGE_FREE)
        TAILQ_REMOVE(&room->watched, member, watched);
    room->holders -= (member->gauge.state == GAUGE_HOLDS);
    TAILQ_REMOVE(is_newcomer(member) ? &room->newcomers : &room->members, member, link);
    free(member);
    schedule(room); /* it may have held others back */
}

bool room_may_speak(struct room_member *member)
{
    struct room *room = member->room;

    if (member->is_doomed)
        return false;
    member->is_full = conn_pending(member->conn) > CHAT_MUCH; /* who asks has to listen, too */
    if (!member->awaits && !member->is_full && !is_held(room))
        return true;
    if (!member->awaits && !member->is_full)
        stop(member);
    return false;
}

/* To the hub, once there is a frame of it. */
static void add_up(struct room *room, const char *text, size_t length)
{
    if (room->is_alone)
        return;
    if (room->up_length + length > sizeof(room->up))
        send_up(room);
    memcpy(&room->up[room->up_length], text, length);
    room->up_length += length;
}

bool room_say(struct room_member *member, const char *text, size_t length)
{
    struct room *room = member->room;
    size_t name = strlen(member->name), before;

    if (is_newcomer(member) || !make_room(room, name + 2 + length + 1))
        return false;
    before = room->block->length;
    append(room, member->name, name);
    append(room, ": ", 2);
    append(room, text, length);
    append(room, "\n", 1);
    end_span(room, member->number);
    member->has_spoken = true;
    add_up(room, &room->block->text[before], room->block->length - before);
    return true;
}

void room_tell(struct room_member *member, const char *text)
{
    send_text(member, text, strlen(text));
}

void room_ask_name(struct room_member *member, const char *name, size_t length)
{
    ask(member, CHAT_NICK, name, length);
}

void room_ask_who(struct room_member *member)
{
    ask(member, CHAT_WHO, "", 0);
}

bool room_is_done(const struct room *room)
{
    return room->block == NULL && room->up_length == 0 && !channel_is_busy(room->bus);
}

void room_drained(struct room_member *member)
{
    look(member);
    if (member->is_full && !member->awaits)
        stop(member);
    adjust(member->room);
}
