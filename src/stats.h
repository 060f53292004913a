/*
 * stats: what happened, counted in memory that supervisor and workers share.
 *
 * Each counter is listed once, below, and expands to its place in memory, its sum and its name in
 * the `stats` line. A worker is the only writer of its own block, so counting takes no lock;
 * counts survive the worker. How many connections are active is derived: accepted - closed.
 */
#ifndef ECHOD_STATS_H
#define ECHOD_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "log.h"

/* Counters per worker and endpoint: (name); reads: pieces in which a stream's bytes came */
#define STATS_COUNTERS(X)                                                                        \
    X(accepted) X(received_bytes) X(sent_bytes) X(reads) X(datagrams_received)                  \
    X(datagrams_sent) X(chat_messages)

/* Why a connection was closed: (identifier, its name in log and metrics) */
#define STATS_CLOSE_REASONS(X)                                                                   \
    X(EOF, "eof")         /* the peer was done, and got all that it was owed */                  \
    X(RESET, "reset")     /* the peer aborted */                                                 \
    X(IDLE, "idle")       /* no byte moved for --idle-timeout */                                 \
    X(HANDSHAKE, "handshake") /* TLS or PROXY header not there by --handshake-timeout */         \
    X(TLS, "tls")         /* what came is not TLS, or not as it has to be */                     \
    X(PROXY, "proxy")     /* a PROXY header that is malformed, or of a client that is refused */ \
    X(SLOW, "slow")       /* of a chat: it took nothing, and much waited for it */               \
    X(TIMEOUT, "timeout") /* the peer is gone: nothing is acknowledged any more */               \
    X(DRAIN, "drain")     /* we shut down; nothing was owed */                                   \
    X(FORCED, "forced")   /* cut at the drain's deadline, bytes owed or still sending */         \
    X(CRASH, "crash")     /* its worker died; counted, not logged */                             \
    X(ERROR, "error")     /* any other failure of the socket */

/* Why a connection was refused: (identifier, name) */
#define STATS_REFUSE_REASONS(X)                                                                  \
    X(DENY, "deny")                       /* --allow or --deny keep it out */                    \
    X(MAX_PER_SOURCE, "max-per-source")   /* its source has --max-per-source already */          \
    X(ACCEPT_RATE, "accept-rate")         /* its source connects more often than --accept-rate */ \
    X(UNTRUSTED_PROXY, "untrusted-proxy") /* none of those whose PROXY header is believed */

/* Why a datagram was not answered: (identifier, name) */
#define STATS_DROP_REASONS(X)                                                                    \
    X(PORT, "port")           /* from a port where answers could start a loop */                 \
    X(RATE, "rate")           /* its source sends more than --udp-rate */                        \
    X(DENY, "deny")           /* --allow or --deny keep its source out */                        \
    X(MULTICAST, "multicast") /* sent to more than us, or not from one source */                 \
    X(FULL, "full")           /* the kernel did not take the answer */

/* Why listeners paused: (identifier, name) */
#define STATS_PAUSE_REASONS(X) X(DESCRIPTORS, "descriptors") X(MAX_CONNECTIONS, "max-connections")

#define STATS_ENUM_COUNTER(name) STATS_##name,
#define STATS_ENUM_CLOSE(identifier, name) CLOSE_##identifier,
#define STATS_ENUM_REFUSE(identifier, name) REFUSE_##identifier,
#define STATS_ENUM_DROP(identifier, name) DROP_##identifier,
#define STATS_ENUM_PAUSE(identifier, name) PAUSE_##identifier,

enum stats_counter { STATS_COUNTERS(STATS_ENUM_COUNTER) STATS_COUNTER_COUNT };
enum close_reason { STATS_CLOSE_REASONS(STATS_ENUM_CLOSE) CLOSE_REASONS };
enum refuse_reason { STATS_REFUSE_REASONS(STATS_ENUM_REFUSE) REFUSE_REASONS };
enum drop_reason { STATS_DROP_REASONS(STATS_ENUM_DROP) DROP_REASONS };
enum pause_reason { STATS_PAUSE_REASONS(STATS_ENUM_PAUSE) PAUSE_REASONS };

/* The counters of one worker at one endpoint. */
struct stats_block {
    _Alignas(64) _Atomic uint64_t counter[STATS_COUNTER_COUNT];
    _Atomic uint64_t closed[CLOSE_REASONS];
    _Atomic uint64_t refused[REFUSE_REASONS];
    _Atomic uint64_t dropped[DROP_REASONS];
};

/* The same, summed. */
struct stats_sum {
    uint64_t counter[STATS_COUNTER_COUNT];
    uint64_t closed[CLOSE_REASONS];
    uint64_t refused[REFUSE_REASONS];
    uint64_t dropped[DROP_REASONS];
    uint64_t active;
};

/* The shared memory. Blocks follow: endpoints of worker 0, of worker 1, ... */
struct stats {
    unsigned workers, endpoints;
    int64_t started_ms;                     /* on clock_ms */
    int64_t started_unix_ms;                /* the same moment, since 1970 */
    struct log_lost lost;                   /* log lines, of all processes */
    _Atomic uint64_t connections;           /* numbers given so far: unique across workers */
    _Atomic uint64_t worker_restarts;       /* written by the supervisor, as are the next two */
    _Atomic uint64_t chat_members;          /* now */
    _Atomic uint64_t chat_dropped;          /* lines that a worker or the bus had no room for */
    _Atomic uint64_t paused[PAUSE_REASONS]; /* pauses, of all workers */
    struct stats_block blocks[];
};

/* Shared memory for so many workers and endpoints, all zero; NULL when there is none. */
struct stats *stats_new(unsigned workers, unsigned endpoints);
void stats_free(struct stats *stats);

/* The block that only WORKER writes. */
struct stats_block *stats_block(struct stats *stats, unsigned worker, unsigned endpoint);

/* Adds to a counter that the caller alone writes: a load and a store, no bus lock. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_release);
}

/* Of all workers and endpoints; of all workers at ENDPOINT; of WORKER at all endpoints. */
struct stats_sum stats_sum_all(struct stats *stats);
struct stats_sum stats_sum_endpoint(struct stats *stats, unsigned endpoint);
struct stats_sum stats_sum_worker(struct stats *stats, unsigned worker);

/* Adds MORE to *SUM. */
void stats_sum_add(struct stats_sum *sum, const struct stats_sum *more);

/* WORKER is dead: what it held open is counted as closed for REASON. */
void stats_worker_died(struct stats *stats, unsigned worker, enum close_reason reason);

const char *close_reason_name(enum close_reason reason);
const char *refuse_reason_name(enum refuse_reason reason);
const char *drop_reason_name(enum drop_reason reason);
const char *pause_reason_name(enum pause_reason reason);

/* Logs the `stats` line: every counter. */
void stats_log(struct stats *stats);

#endif
