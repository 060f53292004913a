/*
 * datagram: each message is a datagram with a number. It may come back in any order, twice, late,
 * or not at all: then it is lost after the timeout, and the others go on.
 */
#ifndef ECHOD_PROBE_DATAGRAM_H
#define ECHOD_PROBE_DATAGRAM_H

#include "client.h"

extern const struct client_transport datagram_transport;

#endif
