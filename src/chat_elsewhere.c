#include "chat_elsewhere.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "channel.h"
#include "chatline.h"
#include "clock.h"
#include "defaults.h"
#include "reactor.h"
#include "redisbus.h"

/*
 * A message is `echod1 SERVER KIND`, a newline, and a body:
 *   say      lines, as they are shown
 *   joined   NAME
 *   left     NAME
 *   renamed  NAME, newline, the new one
 *   hello    the SERVER that is to say its names; nothing: all are
 *   names    those of its members, one a line; and if there are many...
 *   more     ... the next of them
 *   alive    how many members it has, in decimal; behind names: those were all
 *   gone     nothing: it ends
 */
#define MAGIC "echod1"
#define ID_LENGTH 16
#define HEAD_MAX 64

/* Another server. */
struct server {
    LIST_ENTRY(server) link;
    char id[ID_LENGTH + 1];
    unsigned number; /* ours for it */
    int64_t heard_at;
    struct chat_members members;
    struct chat_members unsaid; /* while it says its names, those of them that it has not said */
    size_t count;               /* of both */
};

struct elsewhere {
    struct redisbus *bus;
    const struct chat_names *here;
    struct elsewhere_handler handler;
    char id[ID_LENGTH + 1];
    bool is_up;
    uint64_t published; /* bytes */
    LIST_HEAD(, server) servers;
    struct chat_names names;
    unsigned last_server;
    uint32_t last_member;
    struct event *tick;
    int64_t ticked_at;
    char clean[CHATLINE_GROWTH * CHANNEL_PAYLOAD_MAX]; /* for a moment */
};

/* A message that came, cut up. */
struct message {
    char id[ID_LENGTH + 1];
    char kind[16];
    const char *body;
    size_t length;
};

/* Some of our names, until they fill a message. */
struct names_message {
    struct elsewhere *elsewhere;
    const char *kind;
    char body[CHANNEL_PAYLOAD_MAX];
    size_t length;
};

static bool publish(struct elsewhere *elsewhere, const char *kind, const char *body, size_t length)
{
    char message[HEAD_MAX + CHANNEL_PAYLOAD_MAX];
    int head = snprintf(message, HEAD_MAX, MAGIC " %s %s\n", elsewhere->id, kind);

    memcpy(&message[head], body, length);
    if (!redisbus_publish(elsewhere->bus, message, (size_t) head + length))
        return false;
    elsewhere->published += (size_t) head + length;
    return true;
}

static void end_names(struct names_message *message)
{
    publish(message->elsewhere, message->kind, message->body, message->length);
    message->kind = "more";
    message->length = 0;
}

static void add_own_name(const char *name, void *context)
{
    struct names_message *message = context;
    size_t length = strlen(name);

    if (message->length + length + 1 > sizeof(message->body))
        end_names(message);
    memcpy(&message->body[message->length], name, length);
    message->body[message->length + length] = '\n';
    message->length += length + 1;
}

static void publish_alive(struct elsewhere *elsewhere)
{
    char count[24];
    int length = snprintf(count, sizeof(count), "%zu", elsewhere->here->count);

    publish(elsewhere, "alive", count, (size_t) length);
}

static void publish_names(struct elsewhere *elsewhere)
{
    struct names_message message = { .elsewhere = elsewhere, .kind = "names" };

    chat_names_each(elsewhere->here, add_own_name, &message);
    end_names(&message);
    publish_alive(elsewhere);
}

/* A line about one or two who are elsewhere. */
static void tell(struct elsewhere *elsewhere, const char *name, const char *what)
{
    char line[2 * CHAT_NAME_MOST + 32];
    int length = snprintf(line, sizeof(line), "* %s %s\n", name, what);

    elsewhere->handler.heard(elsewhere->handler.context, line, (size_t) length);
}

/* It may be that somebody else has the name, here or there: elsewhere the first one has it. */
static void add_member(struct elsewhere *elsewhere, struct server *server, const char *name)
{
    struct chat_member *member = chat_names_add(&elsewhere->names, &server->members,
                                                server->number, ++elsewhere->last_member);

    if (member == NULL)
        return;
    server->count++;
    if (chat_names_set(&elsewhere->names, member, name))
        tell(elsewhere, name, "joined");
}

static void remove_member(struct elsewhere *elsewhere, struct server *server,
                          struct chat_member *member)
{
    if (member->name != NULL)
        tell(elsewhere, member->name, "left");
    chat_names_remove(&elsewhere->names, member);
    server->count--;
}

static void remove_all(struct elsewhere *elsewhere, struct server *server,
                       struct chat_members *members)
{
    while (!LIST_EMPTY(members))
        remove_member(elsewhere, server, LIST_FIRST(members));
}

/* It is one of SERVER's; NULL: nobody there has that name. */
static struct chat_member *find_member(const struct elsewhere *elsewhere,
                                       const struct server *server, const char *name)
{
    struct chat_member *member = chat_names_find(&elsewhere->names, name);

    return member != NULL && member->worker == server->number ? member : NULL;
}

static void end_server(struct elsewhere *elsewhere, struct server *server)
{
    remove_all(elsewhere, server, &server->members);
    remove_all(elsewhere, server, &server->unsaid);
    free(server);
}

/* It ends, or has not said for long that it is alive. */
static void forget(struct elsewhere *elsewhere, struct server *server)
{
    LIST_REMOVE(server, link);
    end_server(elsewhere, server);
}

static void forget_all(struct elsewhere *elsewhere)
{
    struct server *server = LIST_FIRST(&elsewhere->servers), *next;

    LIST_INIT(&elsewhere->servers);
    for (; server != NULL; server = next) {
        next = LIST_NEXT(server, link);
        end_server(elsewhere, server);
    }
}

/* Finds it, or takes it in. NULL: no memory. */
static struct server *find_server(struct elsewhere *elsewhere, const char *id)
{
    struct server *server;

    LIST_FOREACH(server, &elsewhere->servers, link)
        if (strcmp(server->id, id) == 0)
            return server;
    server = calloc(1, sizeof(*server));
    if (server == NULL)
        return NULL;
    memcpy(server->id, id, sizeof(server->id));
    server->number = ++elsewhere->last_server;
    LIST_INIT(&server->members);
    LIST_INIT(&server->unsaid);
    LIST_INSERT_HEAD(&elsewhere->servers, server, link);
    return server;
}

/* The next line of *TEXT that has LEFT bytes; false: there is none. */
static bool next_line(const char **text, size_t *left, const char **line, size_t *length)
{
    const char *end;

    if (*left == 0)
        return false;
    end = memchr(*text, '\n', *left);
    *line = *text;
    *length = end != NULL ? (size_t) (end - *text) : *left;
    *text += *length + (end != NULL);
    *left -= *length + (end != NULL);
    return true;
}

/* The same for a line that is a name, into NAME. */
static bool next_name(const char **text, size_t *left, char name[CHAT_NAME_MOST + 1])
{
    const char *line;
    size_t length;

    if (!next_line(text, left, &line, &length) || !chatline_is_name(line, length))
        return false;
    memcpy(name, line, length);
    name[length] = '\0';
    return true;
}

/* What others send is made clean once more: it goes to people's terminals. */
static void on_say(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    char out[CHANNEL_PAYLOAD_MAX];
    const char *line;
    size_t length, used = 0;

    (void) server;
    while (next_line(&message->body, &message->length, &line, &length)) {
        if (length > CHANNEL_PAYLOAD_MAX)
            continue;
        length = chatline_clean(line, length, elsewhere->clean);
        if (length == 0 || length >= sizeof(out))
            continue;
        if (used + length + 1 > sizeof(out)) {
            elsewhere->handler.heard(elsewhere->handler.context, out, used);
            used = 0;
        }
        memcpy(&out[used], elsewhere->clean, length);
        out[used + length] = '\n';
        used += length + 1;
    }
    if (used > 0)
        elsewhere->handler.heard(elsewhere->handler.context, out, used);
}

static void on_joined(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    char name[CHAT_NAME_MOST + 1];

    if (next_name(&message->body, &message->length, name) &&
        find_member(elsewhere, server, name) == NULL)
        add_member(elsewhere, server, name);
}

static void on_left(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    struct chat_member *member;
    char name[CHAT_NAME_MOST + 1];

    if (!next_name(&message->body, &message->length, name))
        return;
    member = find_member(elsewhere, server, name);
    if (member != NULL)
        remove_member(elsewhere, server, member);
}

static void on_renamed(struct elsewhere *elsewhere, struct server *server,
                       struct message *message)
{
    char before[CHAT_NAME_MOST + 1], name[CHAT_NAME_MOST + 1], what[CHAT_NAME_MOST + 16];
    struct chat_member *member;

    if (!next_name(&message->body, &message->length, before) ||
        !next_name(&message->body, &message->length, name))
        return;
    member = find_member(elsewhere, server, before);
    if (member == NULL || !chat_names_set(&elsewhere->names, member, name))
        return;
    snprintf(what, sizeof(what), "is now %s", name);
    tell(elsewhere, before, what);
}

static void on_hello(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    (void) server;
    if (message->length == 0 || (message->length == ID_LENGTH &&
                                 memcmp(message->body, elsewhere->id, ID_LENGTH) == 0))
        publish_names(elsewhere);
}

static void on_more(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    char name[CHAT_NAME_MOST + 1];

    while (next_name(&message->body, &message->length, name)) {
        struct chat_member *member = find_member(elsewhere, server, name);

        if (member == NULL) {
            add_member(elsewhere, server, name);
        } else {
            LIST_REMOVE(member, link);
            LIST_INSERT_HEAD(&server->members, member, link);
        }
    }
}

static void on_names(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    struct chat_member *member;

    while ((member = LIST_FIRST(&server->members)) != NULL) {
        LIST_REMOVE(member, link);
        LIST_INSERT_HEAD(&server->unsaid, member, link);
    }
    on_more(elsewhere, server, message);
}

static void on_alive(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    char count[24];

    remove_all(elsewhere, server, &server->unsaid);
    snprintf(count, sizeof(count), "%zu", server->count);
    if (strlen(count) != message->length || memcmp(count, message->body, message->length) != 0)
        publish(elsewhere, "hello", server->id, ID_LENGTH);
}

static void on_gone(struct elsewhere *elsewhere, struct server *server, struct message *message)
{
    (void) message;
    forget(elsewhere, server);
}

static const struct {
    const char *kind;
    void (*run)(struct elsewhere *elsewhere, struct server *server, struct message *message);
} kinds[] = {
    { "say", on_say },         { "joined", on_joined }, { "left", on_left },
    { "renamed", on_renamed }, { "hello", on_hello },   { "names", on_names },
    { "more", on_more },       { "alive", on_alive },   { "gone", on_gone },
};

/* False: it is none of ours. */
static bool parse(const char *data, size_t length, struct message *message)
{
    const char *end = memchr(data, '\n', length < HEAD_MAX ? length : HEAD_MAX);
    char head[HEAD_MAX + 1];
    int used = 0;

    if (end == NULL)
        return false;
    memcpy(head, data, (size_t) (end - data));
    head[end - data] = '\0';
    message->body = end + 1;
    message->length = length - (size_t) (end + 1 - data);
    return sscanf(head, MAGIC "%*1[ ]%16[0-9a-f]%*1[ ]%15[a-z]%n", message->id, message->kind,
                  &used) == 2 &&
           strlen(message->id) == ID_LENGTH && used == (int) (end - data);
}

/* Where KIND stands in the table; the number of kinds: nowhere. */
static size_t find_kind(const char *kind)
{
    size_t i = 0;

    while (i < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[i].kind, kind) != 0)
        i++;
    return i;
}

static void on_received(void *context, const void *data, size_t length)
{
    struct elsewhere *elsewhere = context;
    struct message message;
    struct server *server;
    size_t kind;

    if (!parse(data, length, &message) || strcmp(message.id, elsewhere->id) == 0)
        return;
    kind = find_kind(message.kind);
    if (kind == sizeof(kinds) / sizeof(kinds[0]))
        return;
    server = find_server(elsewhere, message.id);
    if (server == NULL)
        return;
    server->heard_at = clock_ms();
    kinds[kind].run(elsewhere, server, &message);
}

static void on_up(void *context)
{
    struct elsewhere *elsewhere = context;

    elsewhere->is_up = true;
    publish(elsewhere, "hello", "", 0);
    publish_names(elsewhere);
}

static void on_down(void *context)
{
    struct elsewhere *elsewhere = context;

    elsewhere->is_up = false;
    forget_all(elsewhere);
}

static void on_drained(void *context)
{
    const struct elsewhere *elsewhere = context;

    elsewhere->handler.drained(elsewhere->handler.context);
}

/* Should we have been stopped meanwhile, it is not they who were silent. */
static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct elsewhere *elsewhere = context;
    struct server *server = LIST_FIRST(&elsewhere->servers), *next;
    int64_t now = clock_ms(), late = now - elsewhere->ticked_at - CHAT_ALIVE_MS;

    (void) fd;
    (void) what;
    elsewhere->ticked_at = now;
    for (; server != NULL; server = next) {
        next = LIST_NEXT(server, link);
        server->heard_at += late;
        if (now - server->heard_at > CHAT_SERVER_SILENT_MS)
            forget(elsewhere, server);
    }
    if (elsewhere->is_up)
        publish_alive(elsewhere);
}

struct elsewhere *elsewhere_new(struct event_base *base, const struct address *servers,
                                size_t count, const char *channel, const struct chat_names *here,
                                const struct elsewhere_handler *handler)
{
    struct elsewhere *elsewhere = calloc(1, sizeof(*elsewhere));
    const struct redisbus_handler of_bus = { on_up, on_down, on_received, on_drained, elsewhere };
    uint64_t id;

    if (elsewhere == NULL)
        return NULL;
    LIST_INIT(&elsewhere->servers);
    elsewhere->here = here;
    elsewhere->handler = *handler;
    elsewhere->ticked_at = clock_ms();
    if (getrandom(&id, sizeof(id), 0) == (ssize_t) sizeof(id)) {
        snprintf(elsewhere->id, sizeof(elsewhere->id), "%016llx", (unsigned long long) id);
        elsewhere->bus = redisbus_new(base, servers, count, channel, &of_bus);
    }
    elsewhere->tick = event_new(base, -1, EV_PERSIST, on_tick, elsewhere);
    if (elsewhere->bus != NULL && elsewhere->tick != NULL) {
        reactor_start_timer(elsewhere->tick, CHAT_ALIVE_MS);
        return elsewhere;
    }
    elsewhere_free(elsewhere);
    return NULL;
}

void elsewhere_free(struct elsewhere *elsewhere)
{
    if (elsewhere == NULL)
        return;
    if (elsewhere->is_up)
        publish(elsewhere, "gone", "", 0);
    forget_all(elsewhere);
    reactor_free_event(elsewhere->tick);
    redisbus_free(elsewhere->bus);
    free(elsewhere);
}

bool elsewhere_say(struct elsewhere *elsewhere, const char *text, size_t length)
{
    return elsewhere == NULL || !elsewhere->is_up || publish(elsewhere, "say", text, length);
}

void elsewhere_joined(struct elsewhere *elsewhere, const char *name)
{
    if (elsewhere != NULL)
        publish(elsewhere, "joined", name, strlen(name));
}

void elsewhere_left(struct elsewhere *elsewhere, const char *name)
{
    if (elsewhere != NULL)
        publish(elsewhere, "left", name, strlen(name));
}

void elsewhere_renamed(struct elsewhere *elsewhere, const char *before, const char *name)
{
    char body[2 * CHAT_NAME_MOST + 2];
    int length = snprintf(body, sizeof(body), "%s\n%s", before, name);

    if (elsewhere != NULL)
        publish(elsewhere, "renamed", body, (size_t) length);
}

bool elsewhere_has(const struct elsewhere *elsewhere, const char *name)
{
    return elsewhere != NULL && chat_names_find(&elsewhere->names, name) != NULL;
}

const struct chat_names *elsewhere_names(const struct elsewhere *elsewhere)
{
    return elsewhere != NULL && elsewhere->is_up ? &elsewhere->names : NULL;
}

size_t elsewhere_pending(const struct elsewhere *elsewhere)
{
    return elsewhere != NULL ? redisbus_pending(elsewhere->bus) : 0;
}

uint64_t elsewhere_taken(const struct elsewhere *elsewhere)
{
    return elsewhere != NULL ? elsewhere->published - redisbus_pending(elsewhere->bus) : 0;
}
