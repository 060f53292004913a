#include "access_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "access_map.h"
#include "defaults.h"
#include "files.h"

/* WHAT is wrong with FILE as a whole. */
static bool fail(struct access_config_error *error, const char *what, const char *why,
                 const char *file)
{
    *error = (struct access_config_error){ .file = file };
    snprintf(error->what, sizeof(error->what), "%s (%s)", what, why);
    return false;
}

/* WHAT is wrong with ITEM of FILE. */
static void fail_at(struct access_config_error *error, const char *what,
                    const struct access_item *item, const char *file)
{
    *error = (struct access_config_error){ .file = file, .line = item->line };
    snprintf(error->what, sizeof(error->what), "%s", what);
    snprintf(error->text, sizeof(error->text), "%.*s", (int) item->length, item->text);
}

static bool add_file(struct access_list *list, const struct keptfile *file,
                     struct access_config_error *error)
{
    struct access_item item = { 0 };
    struct blob blob = { 0 };
    bool is_forbidden;
    const char *wrong = files_read(&blob, file, ACCESS_FILE_MOST, &is_forbidden);

    if (wrong == NULL)
        wrong = access_parse_lines(list, (const char *) blob.data, blob.length, &item);
    if (wrong != NULL && item.line == 0)
        fail(error, "cannot read access list", wrong, file->path);
    else if (wrong != NULL)
        fail_at(error, wrong, &item, file->path);
    error->is_forbidden = is_forbidden;
    blob_clear(&blob);
    return wrong == NULL;
}

static bool is_file(const struct access_source *source)
{
    return source->text[0] == '@';
}

/* Reads all SOURCES into RULES, which are empty; on false they hold a part. */
static bool read_sources(struct access_rules *rules, const struct access_config *config,
                         struct access_config_error *error)
{
    for (size_t i = 0; i < config->count; i++) {
        const struct access_source *source = &config->sources[i];
        struct access_list *list = source->denies ? &rules->deny : &rules->allow;
        struct access_item item;
        const char *wrong;

        rules->is_closed |= !source->denies;
        if (is_file(source)) {
            if (!add_file(list, &config->files[i], error))
                return false;
            continue;
        }
        wrong = access_parse(list, source->text, strlen(source->text), &item);
        if (wrong != NULL)
            return fail(error, "cannot set up access lists", wrong, source->text);
    }
    access_compile(&rules->allow);
    access_compile(&rules->deny);
    return true;
}

/* Workers get what is at descriptor FD from now on. */
static void set_rules(struct access_config *config, int fd)
{
    if (config->fd >= 0)
        close(config->fd);
    config->fd = fd;
}

bool access_config_reload(struct access_config *config, struct access_config_error *error)
{
    struct access_rules rules = { 0 };
    bool is_read = read_sources(&rules, config, error);
    int fd = is_read ? access_map_seal(&rules) : -1;

    if (is_read && fd < 0)
        fail(error, "cannot set up access lists", strerror(errno), config->sources[0].text);
    access_release(&rules.allow);
    access_release(&rules.deny);
    if (fd >= 0)
        set_rules(config, fd);
    return fd >= 0;
}

static bool find_files(struct access_config *config, bool is_root_left,
                       struct access_config_error *error)
{
    config->files = calloc(config->count, sizeof(*config->files));
    if (config->files == NULL)
        return fail(error, "cannot set up access lists", strerror(ENOMEM),
                    config->sources[0].text);
    for (size_t i = 0; i < config->count; i++) {
        const char *path = config->sources[i].text + 1;

        if (is_file(&config->sources[i]) && !keptfile_find(&config->files[i], path, is_root_left))
            return fail(error, "cannot open directory", strerror(errno), path);
    }
    return true;
}

bool access_config_open(struct access_config *config, const struct access_source *sources,
                        size_t count, bool is_root_left, struct access_config_error *error)
{
    *config = (struct access_config){ .sources = sources, .count = count, .fd = -1 };
    if (find_files(config, is_root_left, error) && access_config_reload(config, error))
        return true;
    access_config_close(config);
    return false;
}

void access_config_close(struct access_config *config)
{
    for (size_t i = 0; config->files != NULL && i < config->count; i++)
        keptfile_forget(&config->files[i]);
    free(config->files);
    config->files = NULL;
    set_rules(config, -1);
}
