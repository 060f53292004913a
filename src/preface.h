/*
 * preface: takes the PROXY header off a socket, and not a byte beyond it.
 *
 * What follows the header is somebody else's: a TLS library, say, to which nothing could be given
 * back. So each time the socket has something it is looked at (MSG_PEEK), and what belongs to the
 * header is taken at once: bytes that stayed unread would keep the socket readable. It sets no
 * deadline.
 */
#ifndef ECHOD_PREFACE_H
#define ECHOD_PREFACE_H

struct event_base;
struct preface;
struct proxy_header;

enum preface_event {
    PREFACE_PART,      /* bytes of the header came, and it goes on */
    PREFACE_WHOLE,     /* the header is read */
    PREFACE_MALFORMED, /* as HEADER->wrong says; or it ended in the middle */
    PREFACE_EOF,       /* the peer was done before any byte */
    PREFACE_ERROR,     /* of the socket, or no memory: errno */
};

/*
 * What became of it. Unless that is PREFACE_PART, in which nothing is to be freed, the preface is
 * gone by then. HEADER is valid until this returns.
 */
typedef void preface_handler(void *context, enum preface_event event,
                             const struct proxy_header *header);

/*
 * Reads the header from FD, a non-blocking stream that stays the caller's, and tells HANDLER of it
 * from BASE's loop. NULL when memory is short.
 */
struct preface *preface_new(struct event_base *base, int fd, preface_handler *handler,
                            void *context);

/* Gives up; nothing more is told. */
void preface_free(struct preface *preface);

#endif
