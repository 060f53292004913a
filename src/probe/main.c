/* main: options, addresses, the run, and what came of it. */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "../descriptors.h"
#include "../log.h"
#include "config.h"
#include "options.h"
#include "pattern.h"
#include "plot.h"
#include "report.h"
#include "run.h"
#include "target.h"
#include "terminal.h"
#include "tls.h"

static void plot(const struct histogram *latency)
{
    struct plot_style style = { .width = terminal_width(STDOUT_FILENO),
                                .has_blocks = terminal_has_blocks(),
                                .has_colour = terminal_has_colour(STDOUT_FILENO) };

    plot_draw(latency, &style);
}

static int report(const struct probe_options *options, const struct tally *tally)
{
    int status = tally_is_clean(tally) ? 0 : 1;

    if (options->json)
        report_json(options, tally);
    else if (tally->connected > 0)
        report_summary(options, tally);
    if (options->plot && tally->connected > 0)
        plot(&tally->latency);
    return cmdline_answered() == 0 ? status : 1;
}

static int run(const struct probe_options *options, const struct target *target,
               const struct security *security)
{
    static struct tally tally; /* large */

    descriptors_raise_limit(0);
    pattern_init();
    return run_all(options, target, security, &tally) ? report(options, &tally) : 1;
}

#ifdef HAVE_OPENSSL
static int run_tls(const struct probe_options *options, const struct target *target)
{
    struct tls_trust trust = { options->endpoint.host, options->tls_ca, options->insecure };
    const char *problem;
    struct security *security = tls_client_new(&trust, &problem);
    int status = 1;

    if (security == NULL)
        log_startup_error(problem, options->tls_ca != NULL ? options->tls_ca : "TLS");
    else
        status = run(options, target, security);
    tls_client_free(security);
    return status;
}
#endif

static int probe(const struct probe_options *options)
{
    struct target target;
    const char *wrong = target_find(&target, &options->endpoint);
    int status;

    if (wrong != NULL) {
        log_startup_error(wrong, options->endpoint.text);
        return 1;
    }
#ifdef HAVE_OPENSSL
    if (options->endpoint.transport == ENDPOINT_TLS)
        status = run_tls(options, &target);
    else
#endif
        status = run(options, &target, NULL);
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
