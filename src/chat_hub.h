/*
 * chat_hub: the centre of the chat, in the supervisor: who is in it by which name, and the star by
 * which the workers' rooms hear of each other.
 *
 * What one room says goes to all others. Nobody is read from while another worker that makes
 * progress has much waiting; for one that makes none (it hangs, or is stopped) what waits is
 * bounded, and lines beyond are dropped and counted.
 */
#ifndef ECHOD_CHAT_HUB_H
#define ECHOD_CHAT_HUB_H

#include "service.h"

extern const struct service_hub chat_hub;

#endif
