/*
 * tls: TLS 1.2 and 1.3 as a client (RFC 8446, 5246; of names RFC 6125, 6066), by OpenSSL, which
 * nothing else here knows.
 */
#ifndef ECHOD_PROBE_TLS_H
#define ECHOD_PROBE_TLS_H

#include "security.h"

/* Whom to trust. */
struct tls_trust {
    const char *host;    /* whose certificate it has to be: a name, or a numeric address */
    const char *ca_file; /* PEM; NULL: the system's */
    bool is_blind;       /* any certificate is good */
};

/*
 * Makes the TLS of all connections to TRUST's host; TRUST is not needed any more. NULL: *PROBLEM is
 * why, valid until the next call; it is the file's, if there is one.
 */
struct security *tls_client_new(const struct tls_trust *trust, const char **problem);
void tls_client_free(struct security *security);

#endif
