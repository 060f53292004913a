/*
 * tls_config: what TLS is served with: read from files or made at start, kept by the supervisor.
 *
 * Workers get a descriptor of it, sealed; one that replaces another gets the same as the rest.
 */
#ifndef ECHOD_TLS_CONFIG_H
#define ECHOD_TLS_CONFIG_H

#include <stdbool.h>

#include "keptfile.h"
#include "selfsigned.h"
#include "tls.h"

/* What the user asked for; the texts have to outlive the struct tls_config. */
struct tls_settings {
    const char *cert;      /* a file; NULL: self-signed */
    const char *key;       /* a file; NULL: it is in that of the certificate */
    const char *client_ca; /* a file; NULL: no client certificates */
    bool is_13_least;
    bool is_root_left; /* the root directory will be another one when the files are read again */
};

/* Why it cannot be: "WHAT: FILE". */
struct tls_config_error {
    char what[192];
    const char *file;
    bool is_forbidden; /* we may not read FILE, or not any more */
};

/* Its fields are its own, but for the fingerprint. */
struct tls_config {
    struct tls_settings settings;
    struct keptfile cert, key, client_ca;
    int fd;                            /* of sealed credentials */
    char fingerprint[FINGERPRINT_MAX]; /* of a self-signed certificate; else empty */
};

/* Fills *CONFIG. False: *ERROR says why, and *CONFIG holds nothing. */
bool tls_config_open(struct tls_config *config, const struct tls_settings *settings,
                     struct tls_config_error *error);
void tls_config_close(struct tls_config *config);

/*
 * Reads the files again. A certificate that was made stays, and so do the ticket keys. On false
 * nothing changes, and *ERROR says why.
 */
bool tls_config_reload(struct tls_config *config, struct tls_config_error *error);

/*
 * Makes a new key for session tickets; the current one becomes the previous one. False, with errno
 * set: memory or descriptors are short, and nothing changes.
 */
bool tls_config_rotate(struct tls_config *config);

#endif
