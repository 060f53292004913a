#include "report.h"

#include <stdio.h>

#include "defaults.h"

static const double percents[] = PERCENTILES;
enum { PERCENTS = sizeof(percents) / sizeof(percents[0]) };

static unsigned long long count(const struct tally *tally, enum tally_counter counter)
{
    return (unsigned long long) tally_get(tally, counter);
}

static double rate_of(const struct tally *tally, enum tally_counter counter)
{
    double seconds = tally_seconds(tally);

    return seconds > 0 ? (double) tally_get(tally, counter) / seconds : 0;
}

static double percentile_us(const struct tally *tally, double percent)
{
    return (double) histogram_percentile(&tally->latency, percent) / 1e3;
}

static void print_latencies(const struct tally *tally)
{
    printf("latency in ms:");
    for (int i = 0; i < PERCENTS; i++)
        printf(" p%g %.3f", percents[i], percentile_us(tally, percents[i]) / 1e3);
    printf(" max %.3f\n", (double) tally->latency.max / 1e6);
}

void report_summary(const struct probe_options *options, const struct tally *tally)
{
    printf("--- %s: %s, %llu x %llu bytes\n", options->endpoint.text,
           probe_mode_name(options->mode), (unsigned long long) options->connections,
           (unsigned long long) options->size);
    printf("%llu messages, %llu bytes in %.3f s: %.1f messages/s, %.2f MB/s\n",
           count(tally, TALLY_MESSAGES), count(tally, TALLY_BYTES), tally_seconds(tally),
           rate_of(tally, TALLY_MESSAGES), rate_of(tally, TALLY_BYTES) / 1e6);
    if (tally->latency.count > 0)
        print_latencies(tally);
    printf("%llu lost, %llu corrupt, %llu errors\n", count(tally, TALLY_LOST),
           count(tally, TALLY_CORRUPT), count(tally, TALLY_ERRORS));
}

static void print_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++)
        if (*text == '"' || *text == '\\' || (unsigned char) *text < ' ')
            printf("\\u%04x", (unsigned char) *text);
        else
            putchar(*text);
    putchar('"');
}

/* Of nothing there is none. */
static void print_json_us(const struct tally *tally, const char *name, double us)
{
    if (tally->latency.count > 0)
        printf("\"%s\":%.3f", name, us);
    else
        printf("\"%s\":null", name);
}

static void print_json_latencies(const struct tally *tally)
{
    print_json_us(tally, "min", (double) tally->latency.min / 1e3);
    for (int i = 0; i < PERCENTS; i++) {
        char name[16];

        snprintf(name, sizeof(name), "p%g", percents[i]);
        putchar(',');
        print_json_us(tally, name, percentile_us(tally, percents[i]));
    }
    putchar(',');
    print_json_us(tally, "max", (double) tally->latency.max / 1e3);
    putchar(',');
    print_json_us(tally, "mean", histogram_mean(&tally->latency) / 1e3);
}

void report_json(const struct probe_options *options, const struct tally *tally)
{
    printf("{\"endpoint\":");
    print_string(options->endpoint.text);
    printf(",\"mode\":\"%s\",\"connections\":%llu,\"size\":%llu,\"in_flight\":%llu,"
           "\"seconds\":%.6f,\"messages\":%llu,\"bytes\":%llu,\"rate\":%.3f,"
           "\"lost\":%llu,\"corrupt\":%llu,\"errors\":%llu,\"latency_us\":{",
           probe_mode_name(options->mode), (unsigned long long) options->connections,
           (unsigned long long) options->size, (unsigned long long) options->in_flight,
           tally_seconds(tally), count(tally, TALLY_MESSAGES), count(tally, TALLY_BYTES),
           rate_of(tally, TALLY_MESSAGES), count(tally, TALLY_LOST),
           count(tally, TALLY_CORRUPT), count(tally, TALLY_ERRORS));
    print_json_latencies(tally);
    puts("}}");
}
