#include "spare.h"

#include <event2/buffer.h>
#include <stdlib.h>

#include "defaults.h"

/* One for what comes from the network, one for what TLS makes of it. */
enum { KEPT_MOST = 2 };

/* A reactor has a thread to itself. */
static _Thread_local struct {
    void *buffers[KEPT_MOST];
    unsigned count;
} kept;

void *spare_take(void)
{
    return kept.count > 0 ? kept.buffers[--kept.count] : malloc(BULK_READ);
}

void spare_give_back(void *buffer)
{
    if (kept.count < KEPT_MOST)
        kept.buffers[kept.count++] = buffer;
    else
        free(buffer);
}

static void on_gone(const void *buffer, size_t length, void *unused)
{
    (void) length;
    (void) unused;
    spare_give_back((void *) buffer);
}

bool spare_append(struct evbuffer *to, void *buffer, size_t length)
{
    if (evbuffer_add_reference(to, buffer, length, on_gone, NULL) == 0)
        return true;
    spare_give_back(buffer);
    return false;
}

void spare_release(void)
{
    while (kept.count > 0)
        free(kept.buffers[--kept.count]);
}
