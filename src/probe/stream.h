/*
 * stream: messages on a connection that keeps bytes in order (tcp, unix), one after the other: one
 * send and one receive an event.
 */
#ifndef ECHOD_PROBE_STREAM_H
#define ECHOD_PROBE_STREAM_H

#include "client.h"

extern const struct client_transport stream_transport;

#endif
