/* plot: a distribution of latencies, drawn with characters. */
#ifndef ECHOD_PROBE_PLOT_H
#define ECHOD_PROBE_PLOT_H

#include <stdbool.h>

#include "histogram.h"

struct plot_style {
    unsigned width;  /* in columns; less than 40 are taken for 40 */
    bool has_blocks; /* bars of block characters, finely; or else of `#` */
    bool has_colour; /* a bar's colour says whether it is beyond p90, or p99 */
};

/*
 * Draws HISTOGRAM, of ns, on stdout, in lines that fit into the width: a bar for each of some
 * ranges on a logarithmic scale, with where the range begins and how many messages it stands for,
 * and marks where the percentiles are. In less than 60 columns, of more than two marks side by
 * side only the first and the last are there: p50-max. Of an empty HISTOGRAM nothing is drawn.
 */
void plot_draw(const struct histogram *histogram, const struct plot_style *style);

#endif
