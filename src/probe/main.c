/* main: options, addresses, the run, and what came of it. */
#include <locale.h>
#include <signal.h>

#include "../descriptors.h"
#include "../log.h"
#include "options.h"
#include "pattern.h"
#include "plot.h"
#include "report.h"
#include "run.h"
#include "target.h"

static int report(const struct probe_options *options, const struct tally *tally)
{
    int status = tally_is_clean(tally) ? 0 : 1;

    if (options->json)
        report_json(options, tally);
    else if (tally->connected > 0)
        report_summary(options, tally);
    if (options->plot && tally->connected > 0)
        plot_draw(&tally->latency, plot_width(), plot_has_blocks());
    return cmdline_answered() == 0 ? status : 1;
}

static int probe(const struct probe_options *options)
{
    static struct tally tally; /* large */
    struct target target;
    const char *wrong = target_find(&target, &options->endpoint);
    int status = 1;

    if (wrong != NULL) {
        log_startup_error(wrong, options->endpoint.text);
        return 1;
    }
    descriptors_raise_limit(0);
    pattern_init();
    if (run_all(options, &target, &tally))
        status = report(options, &tally);
    target_free(&target);
    return status;
}

int main(int argc, char **argv)
{
    struct probe_options options;
    sigset_t none;

    log_start("echoprobe");
    setlocale(LC_CTYPE, ""); /* what --plot may draw with; numbers keep their point */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* whatever our parent did not want to hear of */
    signal(SIGPIPE, SIG_DFL);              /* when nobody reads any more, as in a pipe to head */
    descriptors_fill_standard();
    switch (probe_options_parse(&options, argc, argv)) {
    case CMDLINE_RUN:
        return probe(&options);
    case CMDLINE_DONE:
        return cmdline_answered();
    case CMDLINE_WRONG:
        break;
    }
    return 2;
}
