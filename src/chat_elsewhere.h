/*
 * chat_elsewhere: the chats of other servers, joined to ours by a bus (redisbus.h): what is said
 * there and who is there. All may be given NULL for a server that has no bus.
 *
 * A server says what its members say and who joins, leaves and gets another name; when it comes to
 * the bus it names its members, and asks the others for theirs. Every few seconds it says how many
 * it has: who is silent for long is gone, and whose number is not what we know is asked again.
 * Those who come into reach, or get out of it, joined or left, to those who are here. As the bus
 * has it, a message comes once or not at all; lines are not sent again.
 */
#ifndef ECHOD_CHAT_ELSEWHERE_H
#define ECHOD_CHAT_ELSEWHERE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chat_names.h"

struct address;
struct elsewhere;
struct event_base;

struct elsewhere_handler {
    /* Lines to tell all who are here, that others said or that are about them. */
    void (*heard)(void *context, const char *text, size_t length);
    /* Nothing waits for the bus any more. */
    void (*drained)(void *context);
    void *context;
};

/*
 * Joins the bus at one of the COUNT SERVERS, on CHANNEL, with the members that are in HERE; all
 * that outlives it. NULL: no memory.
 */
struct elsewhere *elsewhere_new(struct event_base *base, const struct address *servers,
                                size_t count, const char *channel, const struct chat_names *here,
                                const struct elsewhere_handler *handler);
void elsewhere_free(struct elsewhere *elsewhere);

/* Sends lines that members said, if there is a bus; false: it has no room for them. */
bool elsewhere_say(struct elsewhere *elsewhere, const char *text, size_t length);

void elsewhere_joined(struct elsewhere *elsewhere, const char *name);
void elsewhere_left(struct elsewhere *elsewhere, const char *name);
void elsewhere_renamed(struct elsewhere *elsewhere, const char *before, const char *name);

/* Has somebody there that name? */
bool elsewhere_has(const struct elsewhere *elsewhere, const char *name);

/* Who is there; NULL: the bus is away, or there is none. */
const struct chat_names *elsewhere_names(const struct elsewhere *elsewhere);

/* Bytes that wait for the bus, and a number that changes when it takes some. */
size_t elsewhere_pending(const struct elsewhere *elsewhere);
uint64_t elsewhere_taken(const struct elsewhere *elsewhere);

#endif
