#include "tls_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "defaults.h"
#include "files.h"

static bool fail(struct tls_config_error *error, const char *what, const char *why,
                 const char *file)
{
    if (why != NULL)
        snprintf(error->what, sizeof(error->what), "%s (%s)", what, why);
    else
        snprintf(error->what, sizeof(error->what), "%s", what);
    error->file = file;
    error->is_forbidden = false;
    return false;
}

static bool read_file(struct blob *blob, const char *what, const struct keptfile *file,
                      struct tls_config_error *error)
{
    bool is_forbidden;
    const char *wrong = files_read(blob, file, CREDENTIALS_FILE_MOST, &is_forbidden);

    if (wrong == NULL)
        return true;
    fail(error, what, wrong, file->path);
    error->is_forbidden = is_forbidden;
    return false;
}

static bool read_files(struct credentials *credentials, const struct tls_config *config,
                       struct tls_config_error *error)
{
    if (config->settings.cert != NULL &&
        (!read_file(&credentials->chain, "cannot read certificate", &config->cert, error) ||
         !read_file(&credentials->key, "cannot read private key", &config->key, error)))
        return false;
    return config->settings.client_ca == NULL ||
           read_file(&credentials->client_ca, "cannot read client CA", &config->client_ca, error);
}

/* A file that is there but empty demands certificates that nobody has: better not start. */
static bool is_client_ca_there(const struct credentials *credentials,
                               const struct tls_settings *settings, struct tls_config_error *error)
{
    return settings->client_ca == NULL || credentials->client_ca.length > 0 ||
           fail(error, "no certificate in file", NULL, settings->client_ca);
}

static const char *file_of(const struct tls_settings *settings, enum tls_part part)
{
    switch (part) {
    case TLS_CHAIN:
        return settings->cert;
    case TLS_KEY:
        return settings->key != NULL ? settings->key : settings->cert;
    case TLS_CLIENT_CA:
        return settings->client_ca;
    case TLS_MEMORY:
        break;
    }
    return NULL;
}

/* Would a worker take them? */
static bool is_good(const struct credentials *credentials, const struct tls_settings *settings,
                    struct tls_config_error *error)
{
    struct tls_problem problem;
    struct tls_context *context = tls_context_new(credentials, &problem);
    const char *file;

    if (context != NULL) {
        tls_context_free(context);
        return true;
    }
    file = file_of(settings, problem.part);
    if (file == NULL)
        return fail(error, "cannot set up TLS", NULL, strerror(ENOMEM));
    return fail(error, problem.what, NULL, file);
}

/* CREDENTIALS are what is served with from now on, unless false is returned. */
static bool adopt(struct tls_config *config, const struct credentials *credentials)
{
    int fd = credentials_seal(credentials);

    if (fd < 0)
        return false;
    if (config->fd >= 0)
        close(config->fd);
    config->fd = fd;
    return true;
}

/* Reads the files over CREDENTIALS, which have all else already. */
static bool load(struct tls_config *config, struct credentials *credentials,
                 struct tls_config_error *error)
{
    const struct tls_settings *settings = &config->settings;

    credentials->is_13_least = settings->is_13_least;
    if (!read_files(credentials, config, error) ||
        !is_client_ca_there(credentials, settings, error) ||
        !is_good(credentials, settings, error))
        return false;
    return adopt(config, credentials) || fail(error, "cannot set up TLS", NULL, strerror(errno));
}

static bool find(struct keptfile *file, const struct tls_settings *settings, enum tls_part part,
                 struct tls_config_error *error)
{
    const char *path = file_of(settings, part);

    return path == NULL || keptfile_find(file, path, settings->is_root_left) ||
           fail(error, "cannot open directory", strerror(errno), path);
}

static bool find_files(struct tls_config *config, struct tls_config_error *error)
{
    const struct tls_settings *settings = &config->settings;

    return find(&config->cert, settings, TLS_CHAIN, error) &&
           find(&config->key, settings, TLS_KEY, error) &&
           find(&config->client_ca, settings, TLS_CLIENT_CA, error);
}

static bool make_ticket_key(struct ticket_key *key)
{
    return getentropy(key, sizeof(*key)) == 0;
}

bool tls_config_open(struct tls_config *config, const struct tls_settings *settings,
                     struct tls_config_error *error)
{
    struct credentials credentials = { 0 };
    bool done;

    *config = (struct tls_config){ .settings = *settings, .fd = -1 };
    done = make_ticket_key(&credentials.current) && make_ticket_key(&credentials.previous) &&
           (settings->cert != NULL || selfsigned_make(&credentials, config->fingerprint));
    if (!done)
        fail(error, "cannot set up TLS", NULL, strerror(ENOMEM));
    else
        done = find_files(config, error) && load(config, &credentials, error);
    credentials_clear(&credentials);
    if (!done)
        tls_config_close(config);
    return done;
}

void tls_config_close(struct tls_config *config)
{
    keptfile_forget(&config->cert);
    keptfile_forget(&config->key);
    keptfile_forget(&config->client_ca);
    if (config->fd >= 0)
        close(config->fd);
    config->fd = -1;
}

bool tls_config_reload(struct tls_config *config, struct tls_config_error *error)
{
    struct credentials credentials;
    bool done;

    if (!credentials_unseal(&credentials, config->fd))
        return fail(error, "cannot set up TLS", NULL, strerror(ENOMEM));
    if (config->settings.cert != NULL) {
        blob_clear(&credentials.chain);
        blob_clear(&credentials.key);
    }
    blob_clear(&credentials.client_ca);
    done = load(config, &credentials, error);
    credentials_clear(&credentials);
    return done;
}

bool tls_config_rotate(struct tls_config *config)
{
    struct credentials credentials;
    bool done;
    int error;

    if (!credentials_unseal(&credentials, config->fd)) {
        errno = ENOMEM;
        return false;
    }
    credentials.previous = credentials.current;
    done = make_ticket_key(&credentials.current) && adopt(config, &credentials);
    error = errno;
    credentials_clear(&credentials);
    errno = error;
    return done;
}
