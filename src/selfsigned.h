/* selfsigned: a key and a certificate for this host, made at start and kept nowhere. */
#ifndef ECHOD_SELFSIGNED_H
#define ECHOD_SELFSIGNED_H

#include <stdbool.h>

#include "config.h"
#include "credentials.h"

/* Holds a fingerprint: 32 bytes as AA:BB:... */
#define FINGERPRINT_MAX 96

#ifdef HAVE_OPENSSL

/*
 * Makes a key (P-256) and its certificate, for localhost, its addresses and this host's name, and
 * puts both as PEM into CREDENTIALS, whose key and chain have to be empty. FINGERPRINT, which
 * holds FINGERPRINT_MAX: the certificate's SHA-256, as `openssl x509 -fingerprint` has it. False:
 * no memory.
 */
bool selfsigned_make(struct credentials *credentials, char *fingerprint);

#else

static inline bool selfsigned_make(struct credentials *credentials, char *fingerprint)
{
    (void) credentials;
    (void) fingerprint;
    return false;
}

#endif
#endif
