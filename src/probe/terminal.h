/* terminal: what can be shown where the output goes. */
#ifndef ECHOD_PROBE_TERMINAL_H
#define ECHOD_PROBE_TERMINAL_H

#include <stdbool.h>

/* How many columns FD has: what COLUMNS says, or else the terminal; 80 if neither does. */
unsigned terminal_width(int fd);

/* Is FD a terminal that knows escape sequences? (TERM: neither dumb nor missing.) */
bool terminal_has_escapes(int fd);

/* The same, and does nobody mind colour? (NO_COLOR is not set, or empty.) */
bool terminal_has_colour(int fd);

/* Does the locale, which the caller has set, write UTF-8? */
bool terminal_has_blocks(void);

#endif
