/* modes: the ways to send messages; a file for each. */
#ifndef ECHOD_PROBE_MODES_H
#define ECHOD_PROBE_MODES_H

#include "share.h"

extern const struct mode ping_mode, closed_mode, open_mode, half_close_mode;

#endif
