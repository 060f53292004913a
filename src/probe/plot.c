#include "plot.h"

#include <langinfo.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "defaults.h"

enum { ROWS_MOST = 24, WIDTH_LEAST = 50, WIDTH_DEFAULT = 80, EIGHTHS = 8 };

/* Of a line, what is not bar: the label, a border, the count, all marks. */
#define MARGIN 44

/*
 * Ways to cut a decade, in percent of where it begins: the preferred numbers E12, E6 and E3, since
 * steps of unlike ratios would show as teeth.
 */
enum { SCALES = 3, STEPS_MOST = 12 };
static const unsigned scales[SCALES][STEPS_MOST] = {
    { 100, 120, 150, 180, 220, 270, 330, 390, 470, 560, 680, 820 },
    { 100, 150, 220, 330, 470, 680 },
    { 100, 220, 470 },
};

struct rows {
    const unsigned *scale;
    unsigned steps; /* of a decade */
    unsigned first, last;
};

static unsigned steps_of(const unsigned *scale)
{
    unsigned steps = 0;

    while (steps < STEPS_MOST && scale[steps] != 0)
        steps++;
    return steps;
}

/* Where row number ROW begins, in ns. */
static uint64_t bound_of(const struct rows *rows, unsigned row)
{
    uint64_t decade = 1;

    for (unsigned i = row / rows->steps; i > 0; i--)
        decade *= 10;
    return decade * rows->scale[row % rows->steps] / 100;
}

/* From the first row that is not empty to the last, of a HISTOGRAM that is not. */
static struct rows rows_by(const unsigned *scale, const struct histogram *histogram)
{
    struct rows rows = { .scale = scale, .steps = steps_of(scale) };

    while (histogram_between(histogram, 0, bound_of(&rows, rows.first + 1)) == 0)
        rows.first++;
    rows.last = rows.first;
    while (histogram_between(histogram, bound_of(&rows, rows.last + 1), UINT64_MAX) > 0)
        rows.last++;
    return rows;
}

/* The finest scale that gives few rows, or else the coarsest. */
static struct rows rows_for(const struct histogram *histogram)
{
    struct rows rows = rows_by(scales[0], histogram);

    for (size_t i = 1; i < SCALES && rows.last - rows.first >= ROWS_MOST; i++)
        rows = rows_by(scales[i], histogram);
    return rows;
}

static uint64_t count_of(const struct rows *rows, const struct histogram *histogram, unsigned row)
{
    return histogram_between(histogram, bound_of(rows, row), bound_of(rows, row + 1));
}

static void print_time(uint64_t ns)
{
    static const char *const units[] = { "ns", "us", "ms", "s " };
    double value = (double) ns;
    size_t unit = 0;

    for (; value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
        value /= 1000;
    printf("%5g %s", value, units[unit]);
}

/* A bar, LENGTH eighths of a column long. */
static void print_bar(uint64_t length, bool has_blocks)
{
    static const char *const parts[EIGHTHS] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };

    if (!has_blocks)
        length = (length + EIGHTHS - 1) / EIGHTHS * EIGHTHS;
    for (uint64_t i = 0; i < length / EIGHTHS; i++)
        fputs(has_blocks ? "█" : "#", stdout);
    fputs(parts[length % EIGHTHS], stdout);
}

/* The percentiles that lie between the messages so far, BEFORE and AFTER a row. */
static void print_marks(uint64_t before, uint64_t after, uint64_t all)
{
    static const double percents[] = PERCENTILES;

    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        double rank = (double) all * percents[i] / 100;

        if (rank > (double) before && rank <= (double) after)
            printf(" p%g", percents[i]);
    }
    if (before < all && after == all)
        fputs(" max", stdout);
}

/* The largest count of a row. */
static uint64_t most_of(const struct rows *rows, const struct histogram *histogram)
{
    uint64_t most = 0;

    for (unsigned row = rows->first; row <= rows->last; row++)
        if (count_of(rows, histogram, row) > most)
            most = count_of(rows, histogram, row);
    return most;
}

void plot_draw(const struct histogram *histogram, unsigned width, bool has_blocks)
{
    uint64_t columns = (width > WIDTH_LEAST ? width : WIDTH_LEAST) - MARGIN;
    uint64_t most, before = 0;
    struct rows rows;

    if (histogram->count == 0)
        return;
    rows = rows_for(histogram);
    most = most_of(&rows, histogram);
    for (unsigned row = rows.first; row <= rows.last; row++) {
        uint64_t count = count_of(&rows, histogram, row);
        double length = (double) count / (double) most * (double) (EIGHTHS * columns);

        print_time(bound_of(&rows, row));
        printf(" %11llu |", (unsigned long long) count);
        print_bar(count > 0 && length < 1 ? 1 : (uint64_t) length, has_blocks);
        print_marks(before, before + count, histogram->count);
        putchar('\n');
        before += count;
    }
}

unsigned plot_width(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return WIDTH_DEFAULT;
}

bool plot_has_blocks(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}
