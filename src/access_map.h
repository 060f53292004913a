/*
 * access_map: access rules in sealed memory, which the supervisor makes and each worker maps: all
 * decide with the same ones, and no worker reads a file.
 */
#ifndef ECHOD_ACCESS_MAP_H
#define ECHOD_ACCESS_MAP_H

#include "access.h"

/* Rules that are mapped; all zero: none are. */
struct access_map {
    struct access_rules rules; /* their ranges lie in MEMORY */
    void *memory;
    size_t length;
};

/* A copy of RULES in memory that nobody can change: a descriptor, or -1 with errno set. */
int access_map_seal(const struct access_rules *rules);

/*
 * Has MAP hold the rules that FD, which stays open, is the descriptor of, in place of what it
 * holds. False, with errno set: no memory, or FD has none; MAP stays as it is then.
 */
bool access_map_open(struct access_map *map, int fd);
void access_map_close(struct access_map *map);

#endif
