/*
 * chat_room: the members of the chat in one worker, and what goes to them.
 *
 * A line goes to the members here directly, and by the bus to the hub (chat_hub.h), which passes it
 * to the rooms of the other workers. What is said while the reactor handles one round of events is
 * one block of text, shared by all whom it goes to: nothing is copied per member, and each gets it
 * by one call to the kernel.
 *
 * Nobody is read from while a member that makes progress has much waiting, or the bus has: neither
 * authors nor the bus. Who makes none holds nobody back, and is closed in the end.
 */
#ifndef ECHOD_CHAT_ROOM_H
#define ECHOD_CHAT_ROOM_H

#include <stdbool.h>
#include <stddef.h>

struct conn;
struct event_base;
struct room;
struct room_member;

/* A member may speak again that could not when room_may_speak was asked; it may leave now. */
typedef void room_go_on(void *context);

/*
 * BUS is the end of the bus to the hub, which the room owns. If it IS_ALONE there is no other room.
 * NULL: no memory, and BUS is closed.
 */
struct room *room_new(struct event_base *base, int bus, bool is_alone, room_go_on *go_on);
void room_free(struct room *room);

/* CONN's peer enters; it may speak once the hub has named it. NULL: no memory. */
struct room_member *room_enter(struct room *room, struct conn *conn, void *context);

/* Frees MEMBER. Who leaves still gets what was said until now; who is closed (drop) does not. */
void room_leave(struct room_member *member);
void room_drop(struct room_member *member);

/* Is it to be heard now? If not go_on is called for it later. */
bool room_may_speak(struct room_member *member);

/* MEMBER says a line to all others; false: it has no name yet, or there is no memory. */
bool room_say(struct room_member *member, const char *text, size_t length);

/* Tells MEMBER alone; TEXT ends a line. */
void room_tell(struct room_member *member, const char *text);

/* It wants to be called NAME, which is one; it wants to know who is here. The hub answers. */
void room_ask_name(struct room_member *member, const char *name, size_t length);
void room_ask_who(struct room_member *member);

/* Does nothing wait that the hub is to have? */
bool room_is_done(const struct room *room);

/* The kernel has all that was sent to MEMBER. */
void room_drained(struct room_member *member);

#endif
