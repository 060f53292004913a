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
#include "defaults.h"
#include "live.h"
#include "modes.h"

enum { TOLD_MOST = 16 };

struct run {
    struct common common;
    struct event *interrupt, *terminate, *ended, *second; /* in the first share's reactor */
    struct share **shares;
    pthread_t *threads; /* the first stays unused: its share is ours */
    uint64_t thread_count, running;
    pthread_mutex_t lock; /* for what follows, and stderr */
    char *told[TOLD_MOST];
    struct live live;
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

static void on_failed(struct common *common, const char *why, size_t index)
{
    struct run *run = (struct run *) common; /* its first member */
    char where[ENDPOINT_TEXT_MAX];

    pthread_mutex_lock(&run->lock);
    if (is_new(run, why)) {
        target_format(common->target, index, where);
        live_clear(&run->live);
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
    signal(SIGINT, SIG_DFL); /* also if a shell had us ignore it, in the background */
    signal(SIGTERM, SIG_DFL);
    eventfd_write(run->common.stop_fd, 1);
}

static void on_second(evutil_socket_t fd, short what, void *context)
{
    struct run *run = context;
    uint64_t sums[TALLY_COUNTERS] = { 0 };

    (void) fd;
    (void) what;
    for (uint64_t i = 0; i < run->thread_count; i++)
        for (int j = 0; j < TALLY_COUNTERS; j++)
            sums[j] += tally_get(&run->shares[i]->tally, (enum tally_counter) j);
    pthread_mutex_lock(&run->lock);
    live_show(&run->live, sums);
    pthread_mutex_unlock(&run->lock);
}

static void on_ended(evutil_socket_t fd, short what, void *context)
{
    struct run *run = context;
    eventfd_t threads = 0;

    (void) what;
    eventfd_read(fd, &threads);
    run->running -= threads;
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

static bool make_descriptors(struct common *common)
{
    common->go_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    common->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    common->ended_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return common->go_fd >= 0 && common->stop_fd >= 0 && common->ended_fd >= 0;
}

static bool make_events(struct run *run)
{
    struct event_base *base = run->shares[0]->base;

    run->interrupt = evsignal_new(base, SIGINT, on_signal, run);
    run->terminate = evsignal_new(base, SIGTERM, on_signal, run);
    run->ended = event_new(base, run->common.ended_fd, EV_READ | EV_PERSIST, on_ended, run);
    run->second = event_new(base, -1, EV_PERSIST, on_second, run);
    return run->interrupt != NULL && run->terminate != NULL && run->ended != NULL &&
           run->second != NULL && event_add(run->interrupt, NULL) == 0 &&
           event_add(run->terminate, NULL) == 0 && event_add(run->ended, NULL) == 0;
}

static void start_threads(struct run *run)
{
    for (uint64_t i = 1; i < run->thread_count; i++) {
        int error = pthread_create(&run->threads[i], NULL, share_run, run->shares[i]);

        if (error == 0)
            continue;
        log_startup_error(strerror(error), "client thread");
        exit(1); /* those that run wait for each other */
    }
}

/* One thread is this one: with no other, the kernel need not lock its descriptors. */
static void run_threads(struct run *run)
{
    struct share *own = run->shares[0];

    run->running = run->thread_count;
    if (run->common.options->mode != PROBE_PING) {
        live_begin(&run->live);
        reactor_start_timer(run->second, LIVE_MS);
    }
    start_threads(run);
    share_run(own);
    while (run->running > 0)
        event_base_loop(own->base, EVLOOP_ONCE);
    for (uint64_t i = 1; i < run->thread_count; i++)
        pthread_join(run->threads[i], NULL);
    live_clear(&run->live);
}

static void close_descriptor(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void clean_up(struct run *run)
{
    reactor_free_event(run->interrupt);
    reactor_free_event(run->terminate);
    reactor_free_event(run->ended);
    reactor_free_event(run->second);
    for (uint64_t i = 0; run->shares != NULL && i < run->thread_count; i++)
        share_free(run->shares[i]);
    free(run->shares);
    free(run->threads);
    for (size_t i = 0; i < TOLD_MOST; i++)
        free(run->told[i]);
    close_descriptor(run->common.go_fd);
    close_descriptor(run->common.stop_fd);
    close_descriptor(run->common.ended_fd);
}

bool run_all(const struct probe_options *options, const struct target *target,
             const struct security *security, struct tally *tally)
{
    struct run run = {
        .common = { .options = options, .mode = modes[options->mode], .target = target,
                    .security = security, .connecting = options->threads, .go_fd = -1,
                    .stop_fd = -1, .ended_fd = -1, .failed = on_failed },
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    bool is_ready = make_descriptors(&run.common) && make_shares(&run) && make_events(&run);

    if (is_ready) {
        run_threads(&run);
        for (uint64_t i = 0; i < run.thread_count; i++)
            tally_merge(tally, &run.shares[i]->tally);
    } else {
        log_startup_error(strerror(errno), "start");
    }
    clean_up(&run);
    return is_ready;
}
