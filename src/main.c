/* main: options, log, sockets, supervisor. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>

#include "access_config.h"
#include "activation.h"
#include "chat.h"
#include "descriptors.h"
#include "echo.h"
#include "log.h"
#include "options.h"
#include "pidfile.h"
#include "privileges.h"
#include "reactor.h"
#include "sockets.h"
#include "supervisor.h"
#include "tls_config.h"

static const struct service *const services[ENDPOINT_SERVICES] = {
    [ENDPOINT_ECHO] = &echo_service,
    [ENDPOINT_CHAT] = &chat_service,
};

/* What is served with TLS is read, or made, before anything begins. Returns the exit status. */
static int run(struct supervisor_parts parts)
{
    const struct options *options = parts.options;
    const struct tls_settings settings = { options->tls_cert, options->tls_key,
                                           options->tls_client_ca, options->tls_13_least,
                                           options->chroot != NULL };
    struct tls_config_error error;
    struct tls_config tls;
    int status;

    if (!options->serves_tls)
        return supervisor_run(&parts);
    if (!tls_config_open(&tls, &settings, &error)) {
        log_startup_error(error.what, error.file);
        return 1;
    }
    parts.tls = &tls;
    status = supervisor_run(&parts);
    tls_config_close(&tls);
    return status;
}

/* What the command line asks for, and what was passed. */
static bool open_sockets(struct sockets *sockets, const struct options *options,
                         const struct activation *passed, struct sockets_error *error)
{
    if (!sockets_open(sockets, options->endpoints, options->endpoint_count,
                      (size_t) options->workers, options->max_connections > 0, error))
        return false;
    for (size_t i = 0; i < passed->count; i++)
        if (!sockets_adopt(sockets, &passed->list[i].endpoint, passed->list[i].fd, error)) {
            sockets_free(sockets);
            return false;
        }
    return true;
}

/* A name may not be found any more once we serve. */
static bool find_bus(struct options *options)
{
    const struct endpoint *server = &options->chat_bus.server;
    const char *wrong = NULL;

    if (options->chat_bus.channel != NULL)
        wrong = endpoint_resolve(server, &options->bus_servers, &options->bus_server_count);
    if (wrong != NULL)
        log_startup_error(wrong, server->text);
    return wrong == NULL;
}

static int open_metrics_and_run(struct supervisor_parts parts)
{
    const struct endpoint *endpoint = &parts.options->metrics;
    struct sockets_error error;
    struct sockets metrics;
    int status;

    if (!sockets_open(&metrics, endpoint, endpoint->text != NULL, 1, false, &error)) {
        log_startup_error(error.what, error.text);
        return error.status;
    }
    parts.metrics = &metrics;
    status = run(parts);
    sockets_free(&metrics);
    return status;
}

/* Opens what clients and administrators see, and serves. */
static int open_and_run(struct supervisor_parts parts, const struct activation *passed)
{
    const char *path = parts.options->pid_file;
    struct sockets_error error;
    struct pidfile pidfile;
    struct sockets sockets;
    const char *wrong = pidfile_open(&pidfile, path);
    int status;

    if (wrong != NULL) {
        log_startup_error(wrong, path);
        return 1;
    }
    if (open_sockets(&sockets, parts.options, passed, &error)) {
        parts.pidfile = &pidfile;
        parts.sockets = &sockets;
        status = open_metrics_and_run(parts);
        sockets_free(&sockets);
    } else {
        log_startup_error(error.what, error.text);
        status = error.status;
    }
    pidfile_close(&pidfile);
    return status;
}

/* A line that is wrong is a usage error, as in a list of the command line. Returns the status. */
static int tell_access_error(const struct access_config_error *error)
{
    char text[PATH_MAX + sizeof(error->text) + 32];

    if (error->line == 0) {
        log_startup_error(error->what, error->file);
        return 1;
    }
    snprintf(text, sizeof(text), "%s:%lu: %s", error->file, error->line, error->text);
    log_startup_error(error->what, text);
    return 2;
}

/* Who is let in is known before anybody can come. */
static int find_access_and_run(struct supervisor_parts parts, const struct activation *passed)
{
    const struct options *options = parts.options;
    struct access_config_error error;
    struct access_config access;
    int status;

    if (options->access_count == 0)
        return open_and_run(parts, passed);
    if (!access_config_open(&access, options->access, options->access_count,
                            options->chroot != NULL, &error))
        return tell_access_error(&error);
    parts.access = &access;
    status = open_and_run(parts, passed);
    access_config_close(&access);
    return status;
}

static int serve(struct options *options, const struct activation *passed)
{
    struct supervisor_parts parts = { .options = options, .services = services };
    struct privileges_error error;
    struct privileges privileges;
    int status;

    descriptors_fill_standard();
    descriptors_raise_limit(reactor_descriptor_limit(options->backend));
    if (!find_bus(options))
        return 1;
    if (!privileges_find(&privileges, options->user, options->chroot, &error)) {
        log_startup_error(error.what, error.text);
        return 1;
    }
    parts.privileges = &privileges;
    status = find_access_and_run(parts, passed);
    privileges_free(&privileges);
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
