#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/defaults.h"
#include "src/tls_config.h"
#include "tests/harness.h"
#include "tests/inject.h"
#include "tests/inject_openssl.h"

/* Two good pairs, as files: made once, for a key takes time. */
static char directory[] = "/tmp/check_tls_config.XXXXXX";
static struct credentials first, second;

static const char *path(const char *name)
{
    static char paths[8][64];
    static unsigned next;
    char *out = paths[next++ % 8];

    snprintf(out, sizeof(paths[0]), "%s/%s", directory, name);
    return out;
}

static void write_file(const char *name, const struct blob *one, const struct blob *other)
{
    int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, one->data, one->length) != (ssize_t) one->length ||
        (other != NULL && write(fd, other->data, other->length) != (ssize_t) other->length))
        abort();
    close(fd);
}

static const struct blob empty = { 0 };

static void make_files(void)
{
    char fingerprint[FINGERPRINT_MAX];

    if (mkdtemp(directory) == NULL || !selfsigned_make(&first, fingerprint) ||
        !selfsigned_make(&second, fingerprint))
        abort();
    write_file("cert", &first.chain, NULL);
    write_file("key", &first.key, NULL);
    write_file("both", &first.key, &first.chain);
    write_file("other", &second.chain, NULL);
    write_file("empty", &empty, NULL);
}

static void remove_files(void)
{
    static const char *const names[] = { "cert", "key", "both", "other", "empty", "large", "now" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path(names[i]));
    rmdir(directory);
}

static struct credentials opened(const struct tls_config *config)
{
    struct credentials credentials;

    ck_assert(credentials_unseal(&credentials, config->fd));
    return credentials;
}

static bool is_same(const struct blob *a, const struct blob *b)
{
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

static void expect_refused(const struct tls_settings *settings, const char *what, const char *file)
{
    int descriptors = open_descriptors();
    struct tls_config_error error;
    struct tls_config config;

    ck_assert(!tls_config_open(&config, settings, &error));
    ck_assert_msg(strstr(error.what, what) != NULL, "%s: %s", error.what, error.file);
    ck_assert_str_eq(error.file, file);
    ck_assert_int_eq(config.fd, -1);
    ck_assert_int_eq(open_descriptors(), descriptors);
}

START_TEST(files_become_credentials)
{
    const struct tls_settings settings[] = {
        { .cert = path("cert"), .key = path("key") },
        { .cert = path("both"), .is_13_least = true },
        { .cert = path("both"), .client_ca = path("other") },
    };

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        struct tls_config_error error;
        struct tls_config config;
        struct credentials credentials;

        ck_assert(tls_config_open(&config, &settings[i], &error));
        ck_assert_str_eq(config.fingerprint, "");
        credentials = opened(&config);
        ck_assert_int_eq(credentials.is_13_least, settings[i].is_13_least);
        ck_assert_int_eq(credentials.client_ca.length > 0, settings[i].client_ca != NULL);
        ck_assert_mem_ne(&credentials.current, &credentials.previous, sizeof(struct ticket_key));
        credentials_clear(&credentials);
        tls_config_close(&config);
        ck_assert_int_eq(config.fd, -1);
    }
}
END_TEST

START_TEST(what_is_wrong_is_told_with_its_file)
{
    const struct blob large = { .data = calloc(1, CREDENTIALS_FILE_MOST + 1),
                                .length = CREDENTIALS_FILE_MOST + 1 };
    struct tls_settings settings = { .cert = path("cert"), .key = path("other") };

    expect_refused(&settings, "no private key", settings.key);
    settings.key = path("missing");
    expect_refused(&settings, "No such file", settings.key);
    settings.key = NULL;
    expect_refused(&settings, "no private key", settings.cert);
    settings.cert = directory;
    expect_refused(&settings, "not a regular file", directory);
    settings.cert = path("other");
    settings.key = path("key");
    expect_refused(&settings, "does not match", settings.key);
    settings.cert = path("empty");
    expect_refused(&settings, "no certificate", settings.cert);
    settings.cert = path("cert");
    settings.client_ca = path("empty");
    expect_refused(&settings, "no certificate", settings.client_ca);
    write_file("large", &large, NULL);
    settings.cert = path("large");
    expect_refused(&settings, "too large", settings.cert);
    free(large.data);
}
END_TEST

START_TEST(a_reload_takes_what_is_there_now)
{
    const struct tls_settings settings = { .cert = path("now") };
    struct credentials before, after;
    struct tls_config_error error;
    struct tls_config config;

    write_file("now", &first.chain, &first.key);
    ck_assert(tls_config_open(&config, &settings, &error));
    before = opened(&config);
    write_file("now", &second.chain, &second.key);
    ck_assert(tls_config_reload(&config, &error));
    after = opened(&config);
    ck_assert(!is_same(&after.chain, &before.chain));
    ck_assert(memmem(after.chain.data, after.chain.length, second.chain.data,
                     second.chain.length) != NULL);
    ck_assert_mem_eq(&after.current, &before.current, sizeof(after.current));
    ck_assert_mem_eq(&after.previous, &before.previous, sizeof(after.previous));
    credentials_clear(&before);
    credentials_clear(&after);
    tls_config_close(&config);
}
END_TEST

START_TEST(a_reload_that_fails_changes_nothing)
{
    const struct tls_settings settings = { .cert = path("now") };
    struct credentials before, after;
    struct tls_config_error error;
    struct tls_config config;
    int fd;

    write_file("now", &first.chain, &first.key);
    ck_assert(tls_config_open(&config, &settings, &error));
    before = opened(&config);
    fd = config.fd;
    write_file("now", &second.chain, &first.key);
    ck_assert(!tls_config_reload(&config, &error));
    ck_assert_str_eq(error.file, settings.cert);
    unlink(settings.cert);
    ck_assert(!tls_config_reload(&config, &error));
    ck_assert_int_eq(config.fd, fd);
    after = opened(&config);
    ck_assert(is_same(&after.chain, &before.chain) && is_same(&after.key, &before.key));
    credentials_clear(&before);
    credentials_clear(&after);
    tls_config_close(&config);
}
END_TEST

START_TEST(a_certificate_that_was_made_stays)
{
    const struct tls_settings settings = { .client_ca = path("now") };
    struct credentials before, after;
    struct tls_config_error error;
    struct tls_config config;

    write_file("now", &first.chain, NULL);
    ck_assert(tls_config_open(&config, &settings, &error));
    ck_assert_uint_eq(strlen(config.fingerprint), 95);
    before = opened(&config);
    write_file("now", &second.chain, NULL);
    ck_assert(tls_config_reload(&config, &error));
    after = opened(&config);
    ck_assert(is_same(&after.chain, &before.chain) && is_same(&after.key, &before.key));
    ck_assert(!is_same(&after.client_ca, &before.client_ca));
    credentials_clear(&before);
    credentials_clear(&after);
    tls_config_close(&config);
}
END_TEST

START_TEST(ticket_keys_move_on)
{
    const struct tls_settings settings = { .cert = path("both") };
    struct credentials before, after;
    struct tls_config_error error;
    struct tls_config config;

    ck_assert(tls_config_open(&config, &settings, &error));
    before = opened(&config);
    ck_assert(tls_config_rotate(&config));
    after = opened(&config);
    ck_assert_mem_eq(&after.previous, &before.current, sizeof(after.previous));
    ck_assert_mem_ne(&after.current, &before.current, sizeof(after.current));
    ck_assert(is_same(&after.chain, &before.chain) && is_same(&after.key, &before.key));
    credentials_clear(&before);
    credentials_clear(&after);
    tls_config_close(&config);
}
END_TEST

/* Each allocation fails once, in one attempt after the other, until an attempt has none left. */
START_TEST(without_memory_nothing_is_left)
{
    const struct tls_settings settings = { .cert = path("cert"), .key = path("key"),
                                           .client_ca = path("other") };
    int descriptors = open_descriptors();
    struct tls_config_error error;
    struct tls_config config;
    bool has_failed = true;

    for (unsigned nth = 1; has_failed; nth += 1 + nth / 16) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        if (!tls_config_open(&config, &settings, &error)) {
            ck_assert_ptr_nonnull(error.file);
            ck_assert_int_eq(open_descriptors(), descriptors);
        }
        has_failed = inject_failures(INJECT_MEMORY) > 0;
        inject_reset();
        tls_config_close(&config);
    }
    ck_assert(tls_config_open(&config, &settings, &error));
    for (unsigned nth = 1; nth <= 3; nth++) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        ck_assert(!tls_config_rotate(&config));
        inject_reset();
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        ck_assert(!tls_config_reload(&config, &error));
        inject_reset();
    }
    ck_assert(tls_config_rotate(&config));
    tls_config_close(&config);
    ck_assert_int_eq(open_descriptors(), descriptors);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        files_become_credentials,
        what_is_wrong_is_told_with_its_file,
        a_reload_takes_what_is_there_now,
        a_reload_that_fails_changes_nothing,
        a_certificate_that_was_made_stays,
        ticket_keys_move_on,
        without_memory_nothing_is_left,
    };
    int status;

    /* OpenSSL's allocations are to fail as well. */
    if (!inject_openssl())
        return 1;
    make_files();
    status = HARNESS_RUN("tls_config", tests);
    remove_files();
    credentials_clear(&first);
    credentials_clear(&second);
    return status;
}
