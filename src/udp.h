/* udp: how the kernel is told what we want of a UDP socket; where its datagrams were sent to. */
#ifndef ECHOD_UDP_H
#define ECHOD_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Room for what the kernel says of a datagram; aligned as struct cmsghdr. */
#define UDP_CONTROL_SIZE 256

/*
 * Has the kernel say of each datagram at FD where it was sent to, of any family that FD serves,
 * and queue a burst. Errors that ICMP brings are not told, nor can FD send to broadcast addresses.
 * To be called before bind, if FD is ours: of what comes earlier less is known. False with errno
 * set: FD is no such socket.
 */
bool udp_set_defaults(int fd);

/*
 * Makes MESSAGE, as recvmsg filled it in at a socket with these defaults, one that goes back from
 * the address that it was sent to (RFC 1122, 3.3.4.2); its control data, UDP_CONTROL_SIZE bytes,
 * are replaced. False: that was a broadcast or multicast address, from which nobody answers.
 */
bool udp_turn_round(struct msghdr *message);

#endif
