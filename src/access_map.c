#include "access_map.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sealed.h"

/* What the memory begins with; the ranges follow, those of `allow` first. */
struct header {
    uint64_t allow, allow_ip4; /* ranges, and how many of them are of IPv4 */
    uint64_t deny, deny_ip4;
    uint64_t is_closed;
};

int access_map_seal(const struct access_rules *rules)
{
    const struct access_list *allow = &rules->allow, *deny = &rules->deny;
    struct header header = { allow->count, allow->ip4_count, deny->count, deny->ip4_count,
                             rules->is_closed };
    const struct iovec parts[] = {
        { &header, sizeof(header) },
        { allow->ranges, allow->count * sizeof(*allow->ranges) },
        { deny->ranges, deny->count * sizeof(*deny->ranges) },
    };

    return sealed_new("access", parts, sizeof(parts) / sizeof(parts[0]));
}

/* Do the counts in HEADER and LENGTH, in bytes, agree? */
static bool is_whole(const struct header *header, size_t length)
{
    size_t ranges = (length - sizeof(*header)) / sizeof(struct access_range);

    return header->allow <= ranges && header->deny == ranges - header->allow &&
           length == sizeof(*header) + ranges * sizeof(struct access_range) &&
           header->allow_ip4 <= header->allow && header->deny_ip4 <= header->deny;
}

/* What MEMORY holds: the lists point into it. */
static struct access_rules read_rules(void *memory)
{
    const struct header *header = memory;
    struct access_range *ranges = (struct access_range *) (header + 1);

    return (struct access_rules){
        .allow = { ranges, header->allow, header->allow_ip4 },
        .deny = { ranges + header->allow, header->deny, header->deny_ip4 },
        .is_closed = header->is_closed != 0,
    };
}

bool access_map_open(struct access_map *map, int fd)
{
    struct stat status;
    void *memory;
    size_t length;

    if (fstat(fd, &status) != 0)
        return false;
    length = (size_t) status.st_size;
    errno = EINVAL;
    if (length < sizeof(struct header))
        return false;
    /* Populated: who is decided about first shall not wait for pages. */
    memory = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (memory == MAP_FAILED)
        return false;
    if (!is_whole(memory, length)) {
        munmap(memory, length);
        errno = EINVAL;
        return false;
    }
    access_map_close(map);
    *map = (struct access_map){ read_rules(memory), memory, length };
    return true;
}

void access_map_close(struct access_map *map)
{
    if (map->memory != NULL)
        munmap(map->memory, map->length);
    *map = (struct access_map){ 0 };
}
