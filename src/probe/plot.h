/* plot: a distribution of latencies, drawn with characters. */
#ifndef ECHOD_PROBE_PLOT_H
#define ECHOD_PROBE_PLOT_H

#include <stdbool.h>

#include "histogram.h"

/* How many columns stdout has; 80 if it does not say. */
unsigned plot_width(void);

/* Does the locale, which the caller has set, write UTF-8? */
bool plot_has_blocks(void);

/*
 * Draws HISTOGRAM, of ns, on stdout, in lines of at most WIDTH columns, but at least 50: a bar for
 * each of some ranges on a logarithmic scale, with how many messages it stands for, and marks
 * where the percentiles are. Bars are of block characters, finely, or of `#`.
 */
void plot_draw(const struct histogram *histogram, unsigned width, bool has_blocks);

#endif
