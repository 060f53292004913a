/*
 * tcp: what the kernel knows of a TCP socket, and how it is told what we want of it. Unix sockets
 * may be asked too: what they do not know is 0 or false.
 */
#ifndef ECHOD_TCP_H
#define ECHOD_TCP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Asks for prompt sending (TCP_NODELAY), keepalive, and urgent data in line on FD. On a listening
 * socket: accepted ones inherit all that, which saves the system calls per connection.
 */
void tcp_set_defaults(int fd);

/*
 * Has the kernel take no more from us for FD than it can send soon. What else waits is then seen by
 * us, and seen to move as the peer takes it, not in lumps of a third of a large buffer.
 */
void tcp_limit_unsent(int fd);

/* Bytes that have arrived at FD and were not read. */
int tcp_unread(int fd);

/* Bytes given to FD that its peer has not acknowledged; a FIN of ours counts as one. */
int tcp_unacknowledged(int fd);

/* The measured round trip of FD, in microseconds; 0: unknown. */
uint32_t tcp_round_trip_us(int fd);

/* How long ago FD last sent data, in milliseconds: a slow reader that moves lets it send. */
int64_t tcp_since_sent_ms(int fd);

/* Is the connection of FD over, for both sides? Then *ERROR is why, or 0: errno's numbers. */
bool tcp_is_closed(int fd, int *error);

/*
 * close(FD) is to send RST, and to throw away what is unsent. At a unix socket it does nothing:
 * the peer reads what it was sent, and then an end like any other.
 */
void tcp_reset_on_close(int fd);

/* Is FD bound to a loopback address, or a unix socket, so that handshakes take no time? */
bool tcp_is_loopback(int fd);

/*
 * Lets no new connection into the queue of the listening socket FD, while handshakes that are
 * under way may end: what is queued can then be accepted to the last, and closing FD resets
 * nobody. A client that comes now retries after a second, and is refused by then.
 */
void tcp_stop_queueing(int fd);

#endif
