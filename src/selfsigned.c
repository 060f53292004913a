#include "selfsigned.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "defaults.h"

#define NAMES "DNS:localhost,IP:127.0.0.1,IP:::1"
#define LABELS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."

/* Writes the names of this host, as OpenSSL wants them; one that is no DNS name is left out. */
static void write_names(char *out, size_t size)
{
    char host[HOST_NAME_MAX + 1] = "";

    (void) gethostname(host, sizeof(host) - 1);
    if (host[0] == '\0' || host[strspn(host, LABELS)] != '\0' || strcmp(host, "localhost") == 0)
        snprintf(out, size, NAMES);
    else
        snprintf(out, size, NAMES ",DNS:%s", host);
}

static bool add_extension(X509 *certificate, int kind, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX context;
    bool added;

    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool add_extensions(X509 *certificate)
{
    char names[sizeof(NAMES) + sizeof(",DNS:") + HOST_NAME_MAX];

    write_names(names, sizeof(names));
    return add_extension(certificate, NID_subject_alt_name, names) &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           add_extension(certificate, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, NID_authority_key_identifier, "keyid");
}

/* Random, so that a browser that remembers an earlier one does not take offence. */
static bool set_serial(X509 *certificate)
{
    uint64_t number;

    if (RAND_bytes((unsigned char *) &number, sizeof(number)) != 1)
        return false;
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), number >> 1 | 1) == 1;
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = certificate != NULL ? X509_get_subject_name(certificate) : NULL;

    if (certificate != NULL && X509_set_version(certificate, X509_VERSION_3) == 1 &&
        set_serial(certificate) &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) "localhost",
                                   -1, -1, 0) == 1 &&
        X509_set_issuer_name(certificate, name) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(certificate), -SELF_SIGNED_BEFORE_S) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), SELF_SIGNED_FOR_S) != NULL &&
        X509_set_pubkey(certificate, key) == 1 && add_extensions(certificate) &&
        X509_sign(certificate, key, EVP_sha256()) > 0)
        return certificate;
    X509_free(certificate);
    return NULL;
}

/* What was written to BIO, to BLOB. */
static bool take(BIO *bio, struct blob *blob)
{
    char *data;
    long length = BIO_get_mem_data(bio, &data);

    return length > 0 && blob_set(blob, data, (size_t) length);
}

static bool write_pem(struct credentials *credentials, X509 *certificate, EVP_PKEY *key)
{
    BIO *chain = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_secmem());
    bool written = chain != NULL && secret != NULL &&
                   PEM_write_bio_X509(chain, certificate) == 1 &&
                   PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) == 1 &&
                   take(chain, &credentials->chain) && take(secret, &credentials->key);

    BIO_free(chain);
    BIO_free(secret);
    return written;
}

static bool write_fingerprint(const X509 *certificate, char *out)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length;

    if (X509_digest(certificate, EVP_sha256(), digest, &length) != 1)
        return false;
    for (unsigned i = 0; i < length; i++)
        out += sprintf(out, "%s%02X", i > 0 ? ":" : "", digest[i]);
    return true;
}

bool selfsigned_make(struct credentials *credentials, char *fingerprint)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key != NULL ? make_certificate(key) : NULL;
    bool made = certificate != NULL && write_pem(credentials, certificate, key) &&
                write_fingerprint(certificate, fingerprint);

    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return made;
}
