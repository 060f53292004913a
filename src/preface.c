#include "preface.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "defaults.h"
#include "proxy.h"

struct preface {
    struct event *readable;
    preface_handler *handler;
    void *context;
    uint8_t *data; /* what was taken, and room for more */
    size_t length, room;
    size_t wanted; /* the header has at least so many bytes */
};

static void end(struct preface *preface, enum preface_event how,
                const struct proxy_header *header)
{
    preface_handler *handler = preface->handler;
    void *context = preface->context;
    int error = errno;

    preface_free(preface);
    errno = error;
    handler(context, how, header);
}

/* Room for at least one byte more; as much as the header needs, but not on its mere word. */
static bool make_room(struct preface *preface)
{
    size_t room = preface->room * 2;
    uint8_t *grown;

    if (preface->length < preface->room)
        return true;
    if (room > preface->wanted)
        room = preface->wanted;
    if (room < PREFACE_ROOM)
        room = PREFACE_ROOM;
    grown = realloc(preface->data, room);
    if (grown == NULL)
        return false;
    preface->data = grown;
    preface->room = room;
    return true;
}

/* Receives MOST bytes behind what is there. False: none, and if that was the end, it is told. */
static bool receive(struct preface *preface, size_t most, int flags, size_t *bytes)
{
    struct proxy_header header = { .wrong = "the header ends early" };
    ssize_t got = recv(event_get_fd(preface->readable), preface->data + preface->length, most,
                       flags);

    if (got < 0 && errno != EAGAIN && errno != EINTR)
        end(preface, PREFACE_ERROR, &header);
    else if (got == 0)
        end(preface, preface->length == 0 ? PREFACE_EOF : PREFACE_MALFORMED, &header);
    *bytes = got > 0 ? (size_t) got : 0;
    return got > 0;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct preface *preface = context;
    struct proxy_header header = { 0 };
    enum proxy_state state;
    size_t bytes;

    (void) fd;
    (void) what;
    if (!make_room(preface)) {
        end(preface, PREFACE_ERROR, &header);
        return;
    }
    if (!receive(preface, preface->room - preface->length, MSG_PEEK, &bytes))
        return;
    state = proxy_parse(preface->data, preface->length + bytes, &header);
    if (state == PROXY_MALFORMED) {
        end(preface, PREFACE_MALFORMED, &header);
        return;
    }
    preface->wanted = header.length;
    if (state == PROXY_WHOLE)
        bytes = header.length - preface->length;
    /* The same bytes again. Should it be fewer, the rest is looked at anew. */
    if (!receive(preface, bytes, 0, &bytes))
        return;
    preface->length += bytes;
    if (state == PROXY_WHOLE && preface->length == header.length)
        end(preface, PREFACE_WHOLE, &header);
    else
        preface->handler(preface->context, PREFACE_PART, &header);
}

struct preface *preface_new(struct event_base *base, int fd, preface_handler *handler,
                            void *context)
{
    struct preface *preface = calloc(1, sizeof(*preface));

    if (preface == NULL)
        return NULL;
    preface->handler = handler;
    preface->context = context;
    preface->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, preface);
    if (preface->readable != NULL && event_add(preface->readable, NULL) == 0)
        return preface;
    preface_free(preface);
    return NULL;
}

void preface_free(struct preface *preface)
{
    if (preface == NULL)
        return;
    if (preface->readable != NULL)
        event_free(preface->readable);
    free(preface->data);
    free(preface);
}
