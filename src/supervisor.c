#include "supervisor.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "crew.h"
#include "defaults.h"
#include "log.h"
#include "metrics.h"
#include "notify.h"
#include "pauses.h"
#include "reactor.h"
#include "sandbox.h"

enum { SIGNALS = 5 };

struct supervisor {
    const struct supervisor_parts *parts;
    struct worker_setup setup;
    struct event_base *base;
    struct crew *crew;
    struct metrics *metrics;
    struct event *signals[SIGNALS];
    struct pauses *pauses;
    struct event *rotation; /* of the keys for session tickets */
    struct notify *notify;  /* NULL: nobody wants to know */
    bool is_ready;          /* all workers have served */
    struct event *delay;    /* of the drain: everybody is served still, but /readyz says no */
    struct event *deadline; /* of the drain, and a little more */
    bool is_reloading;      /* workers have not all said yet that they use what was read */
    int64_t drain_began;    /* with its delay; 0: not draining */
    struct stats_sum before_drain;
    int status;
};

static void stop(struct supervisor *supervisor, int status)
{
    supervisor->status = status;
    event_base_loopbreak(supervisor->base);
}

/* The service manager hears it once all is as it was told to be. */
static void tell_ready(struct supervisor *supervisor)
{
    if (supervisor->is_ready && !supervisor->is_reloading)
        notify_ready(supervisor->notify);
}

static void on_ready(void *context)
{
    struct supervisor *supervisor = context;
    const struct options *options = supervisor->setup.options;
    struct log_line line;

    if (!pidfile_publish(supervisor->parts->pidfile)) {
        log_failure(LOG_ERR, "pid-file-failed", options->pid_file, errno);
        stop(supervisor, 1);
        return;
    }
    log_begin(&line, LOG_NOTICE, "ready");
    log_number(&line, "workers", options->workers);
    log_text(&line, "model", spawn_model_name(options->model));
    log_text(&line, "backend", event_base_get_method(supervisor->base));
    log_number(&line, "pid", (uint64_t) getpid());
    log_end(&line);
    supervisor->is_ready = true;
    metrics_set_state(supervisor->metrics, METRICS_SERVING);
    tell_ready(supervisor);
}

static void on_failed(void *context)
{
    stop(context, 1);
}

static void on_paused(void *context, enum pause_reason reason)
{
    struct supervisor *supervisor = context;

    pauses_saw(supervisor->pauses, reason);
}

/* Connections that ended since the drain began; *FORCED: those cut, also by a worker's death. */
static uint64_t drained_since(struct supervisor *supervisor, uint64_t *forced)
{
    struct stats_sum now = stats_sum_all(supervisor->setup.stats);
    const struct stats_sum *before = &supervisor->before_drain;
    uint64_t closed = 0;

    for (int i = 0; i < CLOSE_REASONS; i++)
        closed += now.closed[i] - before->closed[i];
    *forced = now.closed[CLOSE_FORCED] - before->closed[CLOSE_FORCED] +
              now.closed[CLOSE_CRASH] - before->closed[CLOSE_CRASH];
    return closed - *forced;
}

static void on_ended(void *context)
{
    struct supervisor *supervisor = context;
    struct log_line line;
    uint64_t forced, drained = drained_since(supervisor, &forced);

    log_begin(&line, LOG_NOTICE, "drained");
    log_number(&line, "drained", drained);
    log_number(&line, "forced", forced);
    log_duration(&line, "duration", clock_ms() - supervisor->drain_began);
    log_end(&line);
    stop(supervisor, 0);
}

/* Workers cut what hangs by themselves; one that does not hangs itself. */
static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    struct supervisor *supervisor = context;

    (void) fd;
    (void) what;
    crew_kill(supervisor->crew, CLOSE_FORCED);
    on_ended(supervisor);
}

static int64_t drain_timeout(const struct supervisor *supervisor)
{
    return (int64_t) supervisor->setup.options->drain_timeout + KILL_GRACE_MS;
}

static void drain(struct supervisor *supervisor)
{
    supervisor->before_drain = stats_sum_all(supervisor->setup.stats);
    reactor_start_timer(supervisor->deadline, drain_timeout(supervisor));
    crew_drain(supervisor->crew);
    sockets_close(supervisor->parts->sockets);
}

static void on_delay_over(evutil_socket_t fd, short what, void *context)
{
    (void) fd;
    (void) what;
    drain(context);
}

/*
 * Whoever looks at /readyz is told, and has --drain-delay to send nobody here any more. Before all
 * workers serve nobody was sent.
 */
static void begin_drain(struct supervisor *supervisor, const char *signal_name)
{
    int64_t delay =
        supervisor->is_ready ? (int64_t) supervisor->setup.options->drain_delay : 0;
    struct log_line line;

    supervisor->drain_began = clock_ms();
    log_begin(&line, LOG_NOTICE, "draining");
    log_text(&line, "signal", signal_name);
    log_number(&line, "connections", stats_sum_all(supervisor->setup.stats).active);
    if (delay > 0)
        log_duration(&line, "delay", delay);
    log_end(&line);
    metrics_set_state(supervisor->metrics, METRICS_DRAINING);
    notify_stopping(supervisor->notify, delay + drain_timeout(supervisor));
    if (delay > 0)
        reactor_start_timer(supervisor->delay, delay);
    else
        drain(supervisor);
}

static void on_terminate(evutil_socket_t number, short what, void *context)
{
    struct supervisor *supervisor = context;

    (void) what;
    if (supervisor->drain_began == 0) {
        begin_drain(supervisor, number == SIGTERM ? "SIGTERM" : "SIGINT");
    } else {
        crew_kill(supervisor->crew, CLOSE_FORCED);
        stop(supervisor, 1);
    }
}

static void on_child(evutil_socket_t number, short what, void *context)
{
    struct supervisor *supervisor = context;

    (void) number;
    (void) what;
    crew_reap(supervisor->crew);
}

static void on_usr1(evutil_socket_t number, short what, void *context)
{
    struct supervisor *supervisor = context;

    (void) number;
    (void) what;
    stats_log(supervisor->setup.stats);
}

/* Who connects once this is in the log gets what is in the files now. */
static void on_shared(void *context)
{
    struct supervisor *supervisor = context;
    struct log_line line;

    if (!supervisor->is_reloading || supervisor->drain_began != 0)
        return;
    supervisor->is_reloading = false;
    log_begin(&line, LOG_NOTICE, "reloaded");
    log_end(&line);
    tell_ready(supervisor);
}

/* A file that is wrong changes nothing; one that is only for a user who we were is left alone. */
static void begin_reload_failed(struct log_line *line, bool is_forbidden, const char *what,
                                const char *file)
{
    log_begin(line, is_forbidden ? LOG_WARNING : LOG_ERR, "reload-failed");
    log_text(line, "error", what);
    log_text(line, "file", file);
}

/* Whether there are new credentials. */
static bool reload_tls(struct supervisor *supervisor)
{
    struct tls_config_error error;
    struct log_line line;

    if (supervisor->parts->tls == NULL)
        return false;
    if (tls_config_reload(supervisor->parts->tls, &error))
        return true;
    begin_reload_failed(&line, error.is_forbidden, error.what, error.file);
    log_end(&line);
    return false;
}

/* The same of access rules. */
static bool reload_access(struct supervisor *supervisor)
{
    struct access_config_error error;
    struct log_line line;

    if (supervisor->parts->access == NULL)
        return false;
    if (access_config_reload(supervisor->parts->access, &error))
        return true;
    begin_reload_failed(&line, error.is_forbidden, error.what, error.file);
    if (error.line > 0) {
        log_number(&line, "line", error.line);
        log_text(&line, "text", error.text);
    }
    log_end(&line);
    return false;
}

/* What is wrong with certificates does not keep access lists from being loaded, or vice versa. */
static void reload(struct supervisor *supervisor)
{
    unsigned changed = (unsigned) reload_tls(supervisor) << FRAME_TLS |
                       (unsigned) reload_access(supervisor) << FRAME_ACCESS;

    if (changed == 0)
        return;
    supervisor->is_reloading = true;
    crew_share(supervisor->crew, changed);
}

static void on_hangup(evutil_socket_t number, short what, void *context)
{
    struct supervisor *supervisor = context;

    (void) number;
    (void) what;
    if (supervisor->drain_began != 0)
        return;
    if (supervisor->is_ready)
        notify_reloading(supervisor->notify);
    reload(supervisor);
    tell_ready(supervisor);
}

static void on_rotation(evutil_socket_t fd, short what, void *context)
{
    struct supervisor *supervisor = context;

    (void) fd;
    (void) what;
    if (tls_config_rotate(supervisor->parts->tls))
        crew_share(supervisor->crew, 1u << FRAME_TLS);
    else
        log_failure(LOG_ERR, "tls-failed", "ticket key", errno);
}

static void announce_certificate(const struct tls_config *tls)
{
    struct log_line line;

    if (tls == NULL || tls->fingerprint[0] == '\0')
        return;
    log_begin(&line, LOG_NOTICE, "self-signed");
    log_text(&line, "fingerprint", tls->fingerprint);
    log_end(&line);
}

static bool watch_signals(struct supervisor *supervisor)
{
    static const struct {
        int number;
        event_callback_fn callback;
    } watched[SIGNALS] = {
        { SIGTERM, on_terminate }, { SIGINT, on_terminate },
        { SIGCHLD, on_child },     { SIGUSR1, on_usr1 },     { SIGHUP, on_hangup },
    };

    for (int i = 0; i < SIGNALS; i++) {
        supervisor->signals[i] = evsignal_new(supervisor->base, watched[i].number,
                                              watched[i].callback, supervisor);
        if (supervisor->signals[i] == NULL || event_add(supervisor->signals[i], NULL) != 0)
            return false;
    }
    return true;
}

/* What workers share. */
static bool make_memory(struct worker_setup *setup, unsigned addresses)
{
    const struct options *options = setup->options;
    unsigned workers = (unsigned) options->workers;

    setup->stats = stats_new(workers, addresses);
    setup->limits = limits_new(workers, options->max_connections);
    if (options->max_per_source > 0)
        setup->quota = quota_new(workers, options->max_per_source);
    if (options->accept_rate > 0)
        setup->accept_rates = rates_new(options->accept_rate, options->accept_rate);
    if (options->udp_rate > 0)
        setup->datagram_rates = rates_new(options->udp_rate, options->udp_rate);
    return setup->stats != NULL && setup->limits != NULL &&
           (setup->quota != NULL || options->max_per_source == 0) &&
           (setup->accept_rates != NULL || options->accept_rate == 0) &&
           (setup->datagram_rates != NULL || options->udp_rate == 0);
}

static uint64_t count_connections(void *context)
{
    const struct supervisor *supervisor = context;

    return stats_sum_all(supervisor->setup.stats).active;
}

/* NULL: no memory. */
static struct metrics *open_metrics(struct supervisor *supervisor)
{
    const struct supervisor_parts *parts = supervisor->parts;
    const struct metrics_facts facts = { supervisor->setup.stats, parts->sockets,
                                         supervisor->crew };

    return metrics_new(supervisor->base, parts->metrics, &facts);
}

static bool is_well(void *context)
{
    const struct supervisor *supervisor = context;

    return crew_is_answering(supervisor->crew);
}

/* On false release() gets the half-made one. */
static bool init(struct supervisor *supervisor)
{
    const struct crew_events events = { on_ready, on_failed, on_ended, on_paused, on_shared,
                                        supervisor };

    supervisor->base = reactor_new(supervisor->setup.options->backend);
    if (supervisor->base == NULL ||
        !make_memory(&supervisor->setup, (unsigned) supervisor->parts->sockets->count))
        return false;
    log_count_lost_in(&supervisor->setup.stats->lost);
    supervisor->crew = crew_new(supervisor->base, &supervisor->setup, &events);
    supervisor->pauses = pauses_new(supervisor->base, supervisor->setup.limits);
    supervisor->rotation =
        event_new(supervisor->base, -1, EV_PERSIST, on_rotation, supervisor);
    supervisor->delay = event_new(supervisor->base, -1, 0, on_delay_over, supervisor);
    supervisor->deadline = event_new(supervisor->base, -1, 0, on_deadline, supervisor);
    supervisor->metrics = open_metrics(supervisor);
    return supervisor->crew != NULL && supervisor->metrics != NULL &&
           supervisor->pauses != NULL && supervisor->rotation != NULL &&
           supervisor->delay != NULL && supervisor->deadline != NULL && watch_signals(supervisor);
}

static void release(struct supervisor *supervisor)
{
    reactor_free_event(supervisor->rotation);
    reactor_free_event(supervisor->delay);
    reactor_free_event(supervisor->deadline);
    for (int i = 0; i < SIGNALS; i++)
        reactor_free_event(supervisor->signals[i]);
    metrics_free(supervisor->metrics);
    notify_free(supervisor->notify);
    crew_free(supervisor->crew);
    pauses_free(supervisor->pauses);
    log_count_lost_in(NULL);
    limits_free(supervisor->setup.limits);
    quota_free(supervisor->setup.quota);
    rates_free(supervisor->setup.accept_rates);
    rates_free(supervisor->setup.datagram_rates);
    stats_free(supervisor->setup.stats);
    if (supervisor->base != NULL)
        event_base_free(supervisor->base);
}

/* What we made is the new user's from then on. Tells what is wrong. */
static bool give_up_privileges(const struct supervisor_parts *parts)
{
    const struct privileges *privileges = parts->privileges;
    struct privileges_error error;

    if (privileges->user != NULL) {
        sockets_give(parts->sockets, privileges->uid, privileges->gid);
        if (!pidfile_give(parts->pidfile, privileges->uid, privileges->gid)) {
            log_startup_error(strerror(errno), parts->options->pid_file);
            return false;
        }
    }
    if (privileges_give_up(privileges, &error))
        return true;
    log_startup_error(error.what, error.text);
    return false;
}

/* A kernel that has no filters is told of, and lived with, unless they were asked for. */
static bool enter_sandbox(struct supervisor *supervisor)
{
    enum sandbox_choice choice = supervisor->setup.options->sandbox;

    if (choice == SANDBOX_OFF || sandbox_missing() != NULL)
        return true;
    supervisor->setup.is_sandboxed = sandbox_enter_supervisor();
    if (supervisor->setup.is_sandboxed)
        return true;
    if (choice == SANDBOX_ON)
        log_startup_error(strerror(errno), "--sandbox=on");
    else
        log_failure(LOG_WARNING, "sandbox-failed", "system-call filter", errno);
    return choice != SANDBOX_ON;
}

/* From here on nothing is found by its path that was not held on to. */
static bool confine(struct supervisor *supervisor)
{
    const struct notify_facts facts = { count_connections, is_well, supervisor };

    log_open(options_log_threshold(supervisor->setup.options),
             supervisor->setup.options->to_syslog);
    supervisor->notify = notify_new(supervisor->base, &facts);
    if (supervisor->parts->tls != NULL)
        privileges_forbid_core();
    return give_up_privileges(supervisor->parts) && enter_sandbox(supervisor);
}

static void start(struct supervisor *supervisor)
{
    sockets_announce(supervisor->parts->sockets); /* signals are heard by now */
    sockets_announce(supervisor->parts->metrics);
    announce_certificate(supervisor->parts->tls);
    if (supervisor->parts->tls != NULL)
        reactor_start_timer(supervisor->rotation, TICKET_KEY_MS);
    if (crew_start(supervisor->crew))
        event_base_dispatch(supervisor->base);
}

int supervisor_run(const struct supervisor_parts *parts)
{
    struct supervisor supervisor = {
        .parts = parts,
        .setup = { .options = parts->options, .sockets = parts->sockets,
                   .services = parts->services, .tls = parts->tls, .access = parts->access },
        .status = 1,
    };

    if (init(&supervisor)) {
        if (confine(&supervisor))
            start(&supervisor);
        if (!crew_kill(supervisor.crew, CLOSE_FORCED)) {
            pidfile_close(parts->pidfile);
            sockets_close(parts->sockets);
            _exit(supervisor.status);
        }
    } else {
        log_startup_error("cannot start", strerror(errno));
    }
    release(&supervisor);
    return supervisor.status;
}
