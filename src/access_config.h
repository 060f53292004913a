/*
 * access_config: who is allowed and denied: read from the command line and from files, kept by the
 * supervisor. Workers get a descriptor of it, sealed, as they get credentials.
 */
#ifndef ECHOD_ACCESS_CONFIG_H
#define ECHOD_ACCESS_CONFIG_H

#include "access.h"
#include "keptfile.h"

/* What is wrong: WHAT, with TEXT in line LINE of FILE; LINE 0: with FILE as a whole. */
struct access_config_error {
    char what[192];
    const char *file;
    unsigned long line;
    char text[64];
    bool is_forbidden; /* we may not read FILE, or not any more */
};

/* Its fields are its own, but for the descriptor. */
struct access_config {
    const struct access_source *sources;
    size_t count;
    struct keptfile *files; /* of each source; all zero if it is none */
    int fd; /* of rules, as access_map_open takes them */
};

/*
 * Fills *CONFIG from COUNT SOURCES, which have to outlive it, and whose lists are well-formed. If
 * IS_ROOT_LEFT, another root directory is entered before files are read again.
 * Among what no list names are all that are not allowed, if one is for that, also if it is empty.
 * False: *ERROR says why, and *CONFIG holds nothing.
 */
bool access_config_open(struct access_config *config, const struct access_source *sources,
                        size_t count, bool is_root_left, struct access_config_error *error);
void access_config_close(struct access_config *config);

/* Reads the files again. On false nothing changes, and *ERROR says why. */
bool access_config_reload(struct access_config *config, struct access_config_error *error);

#endif
