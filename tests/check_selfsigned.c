#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "src/selfsigned.h"
#include "tests/harness.h"

static X509 *certificate_of(const struct credentials *credentials)
{
    BIO *bio = BIO_new_mem_buf(credentials->chain.data, (int) credentials->chain.length);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    ck_assert_ptr_nonnull(certificate);
    BIO_free(bio);
    return certificate;
}

static EVP_PKEY *key_of(const struct credentials *credentials)
{
    BIO *bio = BIO_new_mem_buf(credentials->key.data, (int) credentials->key.length);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

    ck_assert_ptr_nonnull(key);
    BIO_free(bio);
    return key;
}

START_TEST(is_good_for_this_host_and_for_now)
{
    struct credentials credentials = { 0 };
    char fingerprint[FINGERPRINT_MAX], host[256] = "";
    X509 *certificate;
    EVP_PKEY *key;

    ck_assert(selfsigned_make(&credentials, fingerprint));
    certificate = certificate_of(&credentials);
    key = key_of(&credentials);
    ck_assert_int_eq(X509_verify(certificate, key), 1);
    ck_assert_int_eq(X509_check_private_key(certificate, key), 1);
    ck_assert_int_eq(X509_check_host(certificate, "localhost", 0, 0, NULL), 1);
    ck_assert_int_eq(X509_check_ip_asc(certificate, "127.0.0.1", 0), 1);
    ck_assert_int_eq(X509_check_ip_asc(certificate, "::1", 0), 1);
    ck_assert_int_eq(X509_check_host(certificate, "example.org", 0, 0, NULL), 0);
    gethostname(host, sizeof(host) - 1);
    if (strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") == strlen(host))
        ck_assert_int_eq(X509_check_host(certificate, host, 0, 0, NULL), 1);
    ck_assert_int_eq(X509_cmp_current_time(X509_get0_notBefore(certificate)), -1);
    ck_assert_int_eq(X509_cmp_current_time(X509_get0_notAfter(certificate)), 1);
    ck_assert_int_eq(X509_check_ca(certificate), 0);
    EVP_PKEY_free(key);
    X509_free(certificate);
    credentials_clear(&credentials);
}
END_TEST

START_TEST(the_fingerprint_is_its_own)
{
    struct credentials one = { 0 }, other = { 0 };
    char first[FINGERPRINT_MAX], second[FINGERPRINT_MAX], digits[3];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length;
    X509 *certificate;

    ck_assert(selfsigned_make(&one, first) && selfsigned_make(&other, second));
    ck_assert_str_ne(first, second);
    ck_assert_uint_eq(strlen(first), 32 * 3 - 1);
    certificate = certificate_of(&one);
    ck_assert_int_eq(X509_digest(certificate, EVP_sha256(), digest, &length), 1);
    for (unsigned i = 0; i < length; i++) {
        snprintf(digits, sizeof(digits), "%02X", digest[i]);
        ck_assert_int_eq(strncmp(first + 3 * i, digits, 2), 0);
        ck_assert(first[3 * i + 2] == (i == 31 ? '\0' : ':'));
    }
    X509_free(certificate);
    credentials_clear(&one);
    credentials_clear(&other);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        is_good_for_this_host_and_for_now,
        the_fingerprint_is_its_own,
    };

    return HARNESS_RUN("selfsigned", tests);
}
