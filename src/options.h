/* options: what the user of echod asked for on its command line. */
#ifndef ECHOD_OPTIONS_H
#define ECHOD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "access.h"
#include "activation.h"
#include "cmdline.h"
#include "endpoint.h"
#include "redisbus.h"
#include "spawn.h"

enum sandbox_choice {
    SANDBOX_OFF,
    SANDBOX_DEFAULT, /* on, where there is one */
    SANDBOX_ON,
};

/* Const once it is parsed. Times are in milliseconds. */
struct options {
    uint64_t workers;
    enum spawn_model model;
    const char *backend;      /* NULL: the best */
    uint64_t max_connections; /* 0: no limit */
    uint64_t max_per_source;  /* connections; 0: no limit */
    uint64_t accept_rate;     /* new connections a second per source; 0: no limit */
    uint64_t udp_rate;        /* datagrams a second per source; 0: no limit */
    uint64_t idle_timeout;    /* 0: never */
    uint64_t handshake_timeout;
    uint64_t drain_timeout, drain_delay;
    struct access_source *access; /* of --allow and --deny, in order */
    size_t access_count;
    struct access_list proxies; /* of --proxy-protocol */
    const char *tls_cert, *tls_key, *tls_client_ca; /* files; NULL: not given */
    bool tls_self_signed;
    bool tls_min_given;
    bool tls_13_least; /* --tls-min-version=1.3 */
    /* At an endpoint, or at a socket that was passed. */
    bool serves_tcp, serves_tls, serves_udp, serves_chat;
    struct redisbus_address chat_bus;         /* channel NULL: none */
    struct address *bus_servers;              /* where that is, once somebody has resolved it */
    size_t bus_server_count;
    const char *user, *chroot; /* NULL: they stay */
    enum sandbox_choice sandbox;
    struct endpoint metrics; /* text NULL: none */
    const char *pid_file;    /* NULL: none */
    uint64_t verbose;
    bool quiet;
    bool to_syslog;
    struct endpoint *endpoints;
    struct access_list *endpoint_proxies; /* of each one's proxy=, if it has that */
    size_t endpoint_count;
};

/*
 * Parses the command line into *OPTIONS, which keeps pointers into ARGV. options_free releases it,
 * whatever the result. Where sockets were PASSED, which may need options too, there is no default
 * endpoint; if there is anything wrong with them endpoints are not looked at.
 */
enum cmdline_result options_parse(struct options *options, int argc, char **argv,
                                  const struct activation *passed);
void options_free(struct options *options);

/* Whose PROXY headers are believed at ENDPOINT; NULL: none is expected there. */
const struct access_list *options_proxies(const struct options *options,
                                          const struct endpoint *endpoint);

/* The least urgent priority to be logged. */
int options_log_threshold(const struct options *options);

#endif
