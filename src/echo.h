/* echo: the service that sends back what it receives (RFC 862). */
#ifndef ECHOD_ECHO_H
#define ECHOD_ECHO_H

#include "service.h"

extern const struct service echo_service;

#endif
