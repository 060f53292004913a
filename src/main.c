/* main: the command line, the parts, the supervisor. */
#include <signal.h>

#include "activation.h"
#include "chat.h"
#include "descriptors.h"
#include "echo.h"
#include "log.h"
#include "options.h"
#include "parts.h"
#include "reactor.h"
#include "supervisor.h"

static const struct service *const services[ENDPOINT_SERVICES] = {
    [ENDPOINT_ECHO] = &echo_service,
    [ENDPOINT_CHAT] = &chat_service,
};

static int serve(struct options *options, const struct activation *passed)
{
    struct parts parts;
    int status;

    descriptors_fill_standard();
    descriptors_raise_limit(reactor_descriptor_limit(options->backend));
    status = parts_open(&parts, options, passed, services);
    if (status != 0)
        return status;
    status = supervisor_run(&parts.given);
    parts_close(&parts);
    return status;
}

int main(int argc, char **argv)
{
    struct activation passed;
    struct options options;
    int status = 1;
    sigset_t none;

    log_start("echod");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* whatever our parent did not want to hear of */
    signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of write() */
    signal(SIGHUP, SIG_IGN);  /* until the supervisor listens */
    activation_take(&passed);
    switch (options_parse(&options, argc, argv, &passed)) {
    case CMDLINE_RUN:
        if (passed.wrong == NULL)
            status = serve(&options, &passed);
        else
            log_startup_error(passed.wrong, passed.text);
        break;
    case CMDLINE_DONE:
        status = cmdline_answered();
        break;
    case CMDLINE_WRONG:
        status = 2;
        break;
    }
    options_free(&options);
    activation_free(&passed);
    return status;
}
