/* reactor: how this program makes an event_base, the pattern's reactor. */
#ifndef ECHOD_REACTOR_H
#define ECHOD_REACTOR_H

#include <stdbool.h>
#include <stdint.h>

struct event;
struct event_base;

/* The priority of events that are called before all others; of itself an event has a lower one. */
enum { REACTOR_FIRST, REACTOR_PRIORITIES = 2 };

/*
 * A new reactor on the event demultiplexer BACKEND (NULL: the best). It takes no lock and may not
 * be shared between threads; it reads nothing from the environment. NULL on failure.
 */
struct event_base *reactor_new(const char *backend);

/*
 * The demultiplexers that this build of libevent has, best first, ended by NULL. The first call,
 * also by way of reactor_new, has to come before there are threads.
 */
const char **reactor_backends(void);
bool reactor_has_backend(const char *name);

/* Descriptors that BACKEND can watch; 0: as many as the system gives. */
unsigned reactor_descriptor_limit(const char *backend);

/*
 * TIMER, made by event_new without a descriptor, fires in so many milliseconds: once, or each time
 * that they are over if it was made with EV_PERSIST.
 */
void reactor_start_timer(struct event *timer, int64_t ms);

/* event_free, for NULL too. */
void reactor_free_event(struct event *event);

#endif
