/*
 * credentials: what a TLS server shows and knows, as bytes: certificates, keys, ticket keys.
 *
 * The supervisor reads or makes them, and seals them into memory that has a descriptor. Workers
 * get that, and open no file. What is secret is overwritten before its memory is given back.
 */
#ifndef ECHOD_CREDENTIALS_H
#define ECHOD_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes on the heap, none if DATA is NULL. */
struct blob {
    unsigned char *data;
    size_t length;
};

/* What session tickets are encrypted with. All workers have the same, so each takes all tickets. */
struct ticket_key {
    unsigned char name[16]; /* stands in the ticket, in the clear */
    unsigned char cipher[32];
    unsigned char mac[32];
};

struct credentials {
    struct blob chain;     /* PEM: the certificate, then those that lead to its root */
    struct blob key;       /* PEM */
    struct blob client_ca; /* PEM: who signs clients' certificates; empty: none are asked for */
    bool is_13_least;      /* TLS 1.3 is the minimum, not 1.2 */
    struct ticket_key current, previous; /* tickets are made with the one, and taken with both */
};

/* Sets *BLOB, which has to be empty, to a copy of LENGTH bytes; false: no memory. */
bool blob_set(struct blob *blob, const void *data, size_t length);
/* Overwrites and frees. */
void blob_clear(struct blob *blob);

/*
 * A copy in memory that nobody can change. Returns a descriptor, close-on-exec, or -1 with errno
 * set.
 */
int credentials_seal(const struct credentials *credentials);

/*
 * Fills *CREDENTIALS from the descriptor FD of sealed ones, which stays open. False: no memory, or
 * it holds none; *CREDENTIALS is empty then.
 */
bool credentials_unseal(struct credentials *credentials, int fd);

/* Overwrites and frees all that *CREDENTIALS has, which is empty then. */
void credentials_clear(struct credentials *credentials);

#endif
