#include "plot.h"

#include <stdio.h>
#include <string.h>

#include "defaults.h"

/* With the summary and the next prompt, so many rows are not more than a terminal's 24 lines. */
enum { ROWS_MOST = 18 };
/* Of the coarsest scale, which has two to a decade, 64 bits hold no more. */
enum { TABLE_ROWS = 40 };
/* The percentiles and the maximum; the longest name is p99.9. */
enum { MARKS_MOST = 5, MARK_SIZE = 16 };
enum { WIDTH_LEAST = 40, WIDTH_OF_ALL_MARKS = 60, EIGHTHS = 8 };

/* What stands above the columns; the times are as wide as that. */
#define TIME_TITLE "    from"
#define COUNT_TITLE "messages"

#define COLOUR_PLAIN "\033[m"
#define COLOUR_MARKS "\033[1m" /* bold */

/*
 * Ways to cut a decade, in percent of where it begins: the preferred numbers E12, E6 and E3, and
 * half a decade, since steps of unlike ratios would show as teeth. The last has room in ROWS_MOST
 * for nine decades.
 */
enum { SCALES = 4, STEPS_MOST = 12 };
static const unsigned scales[SCALES][STEPS_MOST] = {
    { 100, 120, 150, 180, 220, 270, 330, 390, 470, 560, 680, 820 },
    { 100, 150, 220, 330, 470, 680 },
    { 100, 220, 470 },
    { 100, 320 },
};

struct rows {
    const unsigned *scale;
    unsigned steps; /* of a decade */
    unsigned first, last;
};

/* Of a row: how many messages, and how many are quicker; and its marks. */
struct row {
    uint64_t count, before;
    char marks[MARKS_MOST * MARK_SIZE];
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

/* The names of the percentiles that lie in ROW, of ALL messages, and of the maximum; how many. */
static int find_marks(const struct row *row, uint64_t all, char names[MARKS_MOST][MARK_SIZE])
{
    static const double percents[] = PERCENTILES;
    int count = 0;

    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        double rank = (double) all * percents[i] / 100;

        if (rank > (double) row->before && rank <= (double) (row->before + row->count))
            snprintf(names[count++], MARK_SIZE, "p%g", percents[i]);
    }
    if (row->before < all && row->before + row->count == all)
        snprintf(names[count++], MARK_SIZE, "max");
    return count;
}

static void mark(struct row *row, uint64_t all, bool is_narrow)
{
    char names[MARKS_MOST][MARK_SIZE];
    int count = find_marks(row, all, names);
    size_t length = 0;

    row->marks[0] = '\0';
    if (is_narrow && count > 2)
        snprintf(row->marks, sizeof(row->marks), " %s-%s", names[0], names[count - 1]);
    else
        for (int i = 0; i < count; i++, length = strlen(row->marks))
            snprintf(row->marks + length, sizeof(row->marks) - length, " %s", names[i]);
}

/* The rows of HISTOGRAM, into TABLE. */
static void fill(struct row *table, const struct rows *rows, const struct histogram *histogram,
                 bool is_narrow)
{
    uint64_t before = 0;

    for (unsigned i = 0; i <= rows->last - rows->first; i++) {
        table[i].before = before;
        table[i].count = count_of(rows, histogram, rows->first + i);
        mark(&table[i], histogram->count, is_narrow);
        before += table[i].count;
    }
}

/* How many columns a message takes, so that each of COUNT rows fits into WIDTH with its marks. */
static double scale_to(const struct row *table, unsigned count, int width)
{
    double columns = width; /* of a single message */

    for (unsigned i = 0; i < count; i++) {
        int room = width - (int) strlen(table[i].marks);

        if (table[i].count > 0 && room / (double) table[i].count < columns)
            columns = room / (double) table[i].count;
    }
    return columns;
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

/* The colour of a bar whose first message has so many of ALL before it: of the common, slow, or
 * slowest. */
static const char *colour_of(uint64_t before, uint64_t all)
{
    double part = (double) before / (double) all;

    return part < 0.9 ? "\033[36m" : part < 0.99 ? "\033[33m" : "\033[31m"; /* cyan, yellow, red */
}

/* What stands right of the border: a bar of so many COLUMNS, be it a very short one, and marks. */
static void print_row(const struct row *row, double columns, uint64_t all,
                      const struct plot_style *style)
{
    /* without the addend, a bar that fills its room might lack an eighth, by rounding */
    uint64_t length = (uint64_t) (columns * EIGHTHS + 0.001);

    if (style->has_colour && row->count > 0)
        fputs(colour_of(row->before, all), stdout);
    print_bar(row->count > 0 && length < 1 ? 1 : length, style->has_blocks);
    if (style->has_colour && row->count > 0)
        fputs(COLOUR_PLAIN, stdout);
    if (style->has_colour && row->marks[0] != '\0')
        printf(COLOUR_MARKS "%s" COLOUR_PLAIN, row->marks);
    else
        fputs(row->marks, stdout);
    putchar('\n');
}

/* How many columns the largest count of a row takes, and its title. */
static int count_width(const struct row *table, unsigned count)
{
    size_t width = strlen(COUNT_TITLE);

    for (unsigned i = 0; i < count; i++) {
        size_t digits = (size_t) snprintf(NULL, 0, "%llu", (unsigned long long) table[i].count);

        width = digits > width ? digits : width;
    }
    return (int) width;
}

void plot_draw(const struct histogram *histogram, const struct plot_style *style)
{
    unsigned width = style->width > WIDTH_LEAST ? style->width : WIDTH_LEAST;
    struct row table[TABLE_ROWS];
    struct rows rows;
    unsigned count;
    int digits;
    double columns;

    if (histogram->count == 0)
        return;
    rows = rows_for(histogram);
    count = rows.last - rows.first + 1;
    fill(table, &rows, histogram, width < WIDTH_OF_ALL_MARKS);
    digits = count_width(table, count);
    columns = scale_to(table, count, (int) width - (int) strlen(TIME_TITLE) - 1 - digits - 2);
    printf(TIME_TITLE " %*s\n", digits, COUNT_TITLE);
    for (unsigned i = 0; i < count; i++) {
        print_time(bound_of(&rows, rows.first + i));
        printf(" %*llu %s", digits, (unsigned long long) table[i].count,
               style->has_blocks ? "│" : "|");
        print_row(&table[i], columns * (double) table[i].count, histogram->count, style);
    }
}
