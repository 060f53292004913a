#include "run.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../log.h"
#include "../reactor.h"
#include "modes.h"

enum { TOLD_MOST = 16 };

struct run {
    struct common common;
    struct event_base *base; /* of the main thread: signals, and who has ended */
    struct event *interrupt, *terminate, *ended;
    struct share **shares;
    pthread_t *threads;
    uint64_t thread_count, running;
    pthread_mutex_t lock; /* for what follows */
    char *told[TOLD_MOST];
};

static const struct mode *const modes[PROBE_MODES] = {
    [PROBE_PING] = &ping_mode,
    [PROBE_CLOSED] = &closed_mode,
    [PROBE_OPEN] = &open_mode,
    [PROBE_HALF_CLOSE] = &half_close_mode,
};

/* Was this reason not told yet? With a thousand connections there are few reasons. */
static bool is_new(struct run *run, const char *why)
{
    for (size_t i = 0; i < TOLD_MOST; i++) {
        if (run->told[i] == NULL)
            return (run->told[i] = strdup(why)) != NULL;
        if (strcmp(run->told[i], why) == 0)
            return false;
    }
    return false;
}

static void on_failed(struct common *common, const char *why, const struct address *address)
{
    struct run *run = (struct run *) common; /* its first member */
    char where[ENDPOINT_TEXT_MAX];

    pthread_mutex_lock(&run->lock);
    if (is_new(run, why)) {
        endpoint_format(ENDPOINT_ECHO, address, where);
        log_startup_error(why, where);
    }
    pthread_mutex_unlock(&run->lock);
}

/* The first signal; the next one is the system's to handle. */
static void on_signal(evutil_socket_t number, short what, void *context)
{
    struct run *run = context;

    (void) number;
    (void) what;
    event_del(run->interrupt);
    event_del(run->terminate);
    eventfd_write(run->common.stop_fd, 1);
}

static void on_ended(evutil_socket_t fd, short what, void *context)
{
    struct run *run = context;
    eventfd_t threads = 0;

    (void) what;
    eventfd_read(fd, &threads);
    run->running -= threads;
}

static bool make_events(struct run *run)
{
    run->base = reactor_new(NULL);
    run->common.stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    run->common.ended_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (run->base == NULL || run->common.stop_fd < 0 || run->common.ended_fd < 0)
        return false;
    run->interrupt = evsignal_new(run->base, SIGINT, on_signal, run);
    run->terminate = evsignal_new(run->base, SIGTERM, on_signal, run);
    run->ended =
        event_new(run->base, run->common.ended_fd, EV_READ | EV_PERSIST, on_ended, run);
    return run->interrupt != NULL && run->terminate != NULL && run->ended != NULL &&
           event_add(run->interrupt, NULL) == 0 && event_add(run->terminate, NULL) == 0 &&
           event_add(run->ended, NULL) == 0;
}

static bool make_shares(struct run *run)
{
    run->thread_count = run->common.options->threads;
    run->shares = calloc(run->thread_count, sizeof(struct share *));
    run->threads = calloc(run->thread_count, sizeof(*run->threads));
    if (run->shares == NULL || run->threads == NULL)
        return false;
    for (uint64_t i = 0; i < run->thread_count; i++) {
        run->shares[i] = share_new(&run->common, (unsigned) i);
        if (run->shares[i] == NULL)
            return false;
    }
    return true;
}

static void start_threads(struct run *run)
{
    for (uint64_t i = 0; i < run->thread_count; i++) {
        int error = pthread_create(&run->threads[i], NULL, share_run, run->shares[i]);

        if (error == 0)
            continue;
        log_startup_error(strerror(error), "client thread");
        exit(1); /* those that run wait for each other */
    }
}

static void clean_up(struct run *run)
{
    for (uint64_t i = 0; run->shares != NULL && i < run->thread_count; i++)
        share_free(run->shares[i]);
    free(run->shares);
    free(run->threads);
    for (size_t i = 0; i < TOLD_MOST; i++)
        free(run->told[i]);
    reactor_free_event(run->interrupt);
    reactor_free_event(run->terminate);
    reactor_free_event(run->ended);
    if (run->base != NULL)
        event_base_free(run->base);
    close(run->common.stop_fd);
    close(run->common.ended_fd);
}

bool run_all(const struct probe_options *options, struct address *addresses, size_t count,
             struct tally *tally)
{
    struct run run = {
        .common = { .options = options, .mode = modes[options->mode], .addresses = addresses,
                    .address_count = count, .stop_fd = -1, .ended_fd = -1, .failed = on_failed },
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    bool is_ready = make_events(&run) && make_shares(&run);

    if (is_ready) {
        pthread_barrier_init(&run.common.connected, NULL, (unsigned) run.thread_count);
        start_threads(&run);
        for (run.running = run.thread_count; run.running > 0;)
            event_base_loop(run.base, EVLOOP_ONCE);
        for (uint64_t i = 0; i < run.thread_count; i++) {
            pthread_join(run.threads[i], NULL);
            tally_merge(tally, &run.shares[i]->tally);
        }
        pthread_barrier_destroy(&run.common.connected);
    } else {
        log_startup_error(strerror(errno), "start");
    }
    clean_up(&run);
    return is_ready;
}
