/*
 * datagram: UDP echo: a datagram is answered by one with the same bytes (RFC 862).
 *
 * All UDP sockets of one worker, and memory that they share for a batch of datagrams. The answer
 * comes from the address that was dialled. Nothing waits: what the kernel does not take is
 * dropped. Dropped and counted is also what may be a trick to have us answer another server, or
 * somebody who never asked (CERT CA-1996-01, CVE-2024-2169): what comes from port 0, a port below
 * 1024, 2049, or one at which we serve ourselves; what was sent to, or from, a broadcast or
 * multicast address; what comes faster than a source may; and what comes from where access lists
 * let nobody in.
 */
#ifndef ECHOD_DATAGRAM_H
#define ECHOD_DATAGRAM_H

#include <stdbool.h>

#include "access.h"
#include "conn.h"
#include "rates.h"
#include "sockets.h"

struct datagrams;

/*
 * No socket yet. ACCESS: who may send, and RATES: how much; NULL: everybody, as much as they like.
 * SOCKETS: all that we serve, for the ports not to answer. NULL: no memory.
 */
struct datagrams *datagrams_new(struct event_base *base, const struct access_rules *access,
                                struct rates *rates, const struct sockets *sockets);

/* Closes all of them; there may be none. */
void datagrams_close(struct datagrams *datagrams);
void datagrams_free(struct datagrams *datagrams);

/*
 * Answers at the UDP socket FD, which may be blocking, for ORIGIN, and owns it. GROUP is a name of
 * the caller's for datagrams_remove. On failure returns false with errno set, and FD is closed.
 */
bool datagrams_add(struct datagrams *datagrams, int fd, const struct conn_origin *origin,
                   unsigned group);

/* Stops answering at the sockets that were added as GROUP, and closes them. */
void datagrams_remove(struct datagrams *datagrams, unsigned group);

/*
 * Answers what is queued, and closes; more than that only if more comes at once, and then for
 * DATAGRAM_DRAIN_MS. A socket that was passed is only closed: what is queued there is for the next
 * instance. To be called again and again until it returns true: all are closed.
 */
bool datagrams_drain(struct datagrams *datagrams);

#endif
