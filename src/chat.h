/* chat: a service in which each line goes to everybody else who is connected (interface: Chat). */
#ifndef ECHOD_CHAT_H
#define ECHOD_CHAT_H

#include "service.h"

extern const struct service chat_service;

#endif
