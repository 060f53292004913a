#include "parts.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"

/* Tells what is wrong; the status is STATUS. */
static int fail(int status, const char *what, const char *text)
{
    log_startup_error(what, text);
    return status;
}

/* A name may not be found any more once we serve. */
static int find_bus(struct parts *parts)
{
    struct options *options = parts->options;
    const struct endpoint *server = &options->chat_bus.server;
    const char *wrong = NULL;

    if (options->chat_bus.channel != NULL)
        wrong = endpoint_resolve(server, &options->bus_servers, &options->bus_server_count);
    return wrong == NULL ? 0 : fail(1, wrong, server->text);
}

static int find_privileges(struct parts *parts)
{
    const struct options *options = parts->options;
    struct privileges_error error;

    if (!privileges_find(&parts->privileges, options->user, options->chroot, &error))
        return fail(1, error.what, error.text);
    parts->given.privileges = &parts->privileges;
    return 0;
}

static void free_privileges(struct parts *parts)
{
    privileges_free(&parts->privileges);
}

/* A line that is wrong is a usage error, as in a list of the command line. */
static int tell_access_error(const struct access_config_error *error)
{
    char text[PATH_MAX + sizeof(error->text) + 32];

    if (error->line == 0)
        return fail(1, error->what, error->file);
    snprintf(text, sizeof(text), "%s:%lu: %s", error->file, error->line, error->text);
    return fail(2, error->what, text);
}

/* Who is let in is known before anybody can come. */
static int open_access(struct parts *parts)
{
    const struct options *options = parts->options;
    struct access_config_error error;

    if (options->access_count == 0)
        return 0;
    if (!access_config_open(&parts->access, options->access, options->access_count,
                            options->chroot != NULL, &error))
        return tell_access_error(&error);
    parts->given.access = &parts->access;
    return 0;
}

static void close_access(struct parts *parts)
{
    if (parts->given.access != NULL)
        access_config_close(&parts->access);
}

static int open_pidfile(struct parts *parts)
{
    const char *wrong = pidfile_open(&parts->pidfile, parts->options->pid_file);

    if (wrong != NULL)
        return fail(1, wrong, parts->options->pid_file);
    parts->given.pidfile = &parts->pidfile;
    return 0;
}

static void close_pidfile(struct parts *parts)
{
    pidfile_close(&parts->pidfile);
}

/* Of the sockets that were passed, those that are for metrics, or the others. */
static bool adopt(struct sockets *sockets, const struct activation *passed, bool is_metrics,
                  struct sockets_error *error)
{
    for (size_t i = 0; i < passed->count; i++)
        if ((passed->list[i].endpoint.transport == ENDPOINT_HTTP) == is_metrics &&
            !sockets_adopt(sockets, &passed->list[i].endpoint, passed->list[i].fd, error)) {
            sockets_free(sockets);
            return false;
        }
    return true;
}

static int open_sockets(struct parts *parts)
{
    const struct options *options = parts->options;
    struct sockets_error error;

    if (!sockets_open(&parts->sockets, options->endpoints, options->endpoint_count,
                      (size_t) options->workers, options->max_connections > 0, &error) ||
        !adopt(&parts->sockets, parts->passed, false, &error))
        return fail(error.status, error.what, error.text);
    parts->given.sockets = &parts->sockets;
    return 0;
}

static void close_sockets(struct parts *parts)
{
    sockets_free(&parts->sockets);
}

/* Else bind(2) would tell that the address is taken, as if by somebody else. */
static bool is_endpoints(const struct sockets *sockets, const struct endpoint *metrics)
{
    struct address *addresses = NULL;
    size_t count = 0;
    bool found = false;

    if (endpoint_resolve(metrics, &addresses, &count) != NULL)
        return false; /* told when it is opened */
    for (size_t i = 0; i < count && !found; i++)
        found = sockets_have_stream_at(sockets, &addresses[i]);
    free(addresses);
    return found;
}

static int open_metrics(struct parts *parts)
{
    const struct endpoint *endpoint = &parts->options->metrics;
    struct sockets_error error;

    if (endpoint->text != NULL && is_endpoints(&parts->sockets, endpoint))
        return fail(2, "--metrics at the address of an endpoint", endpoint->text);
    if (!sockets_open(&parts->metrics, endpoint, endpoint->text != NULL, 1, false, &error) ||
        !adopt(&parts->metrics, parts->passed, true, &error))
        return fail(error.status, error.what, error.text);
    parts->given.metrics = &parts->metrics;
    return 0;
}

static void close_metrics(struct parts *parts)
{
    sockets_free(&parts->metrics);
}

/* What is served with TLS is read, or made. */
static int open_tls(struct parts *parts)
{
    const struct options *options = parts->options;
    const struct tls_settings settings = { options->tls_cert, options->tls_key,
                                           options->tls_client_ca, options->tls_13_least,
                                           options->chroot != NULL };
    struct tls_config_error error;

    if (!options->serves_tls)
        return 0;
    if (!tls_config_open(&parts->tls, &settings, &error))
        return fail(1, error.what, error.file);
    parts->given.tls = &parts->tls;
    return 0;
}

static void close_tls(struct parts *parts)
{
    if (parts->given.tls != NULL)
        tls_config_close(&parts->tls);
}

/* In this order; closed in the other. */
static const struct step {
    int (*open)(struct parts *parts); /* returns the exit status; 0: all is well */
    void (*close)(struct parts *parts);
} steps[] = {
    { find_bus, NULL },
    { find_privileges, free_privileges },
    { open_access, close_access },
    { open_pidfile, close_pidfile },
    { open_sockets, close_sockets },
    { open_metrics, close_metrics },
    { open_tls, close_tls },
};

enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

int parts_open(struct parts *parts, struct options *options, const struct activation *passed,
               const struct service *const *services)
{
    int status = 0;

    *parts = (struct parts){ .given = { .options = options, .services = services },
                             .options = options, .passed = passed };
    while (status == 0 && parts->opened < STEPS) {
        status = steps[parts->opened].open(parts);
        if (status == 0)
            parts->opened++;
    }
    if (status != 0)
        parts_close(parts);
    return status;
}

void parts_close(struct parts *parts)
{
    while (parts->opened > 0) {
        const struct step *last = &steps[--parts->opened];

        if (last->close != NULL)
            last->close(parts);
    }
}
