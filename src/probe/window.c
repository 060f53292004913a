#include "window.h"

#include <stdlib.h>

#include "defaults.h"

/* In place of a nanosecond's last bit. */
#define OPEN UINT64_C(1)

static uint64_t *entry(const struct window *window, uint64_t number)
{
    return &window->ring[number & (window->size - 1)];
}

void window_free(struct window *window)
{
    free(window->ring);
    *window = (struct window){ 0 };
}

static bool grow(struct window *window)
{
    struct window larger = *window;

    larger.size = window->size == 0 ? WINDOW_LEAST : window->size * 2;
    larger.ring = malloc(larger.size * sizeof(*larger.ring));
    if (larger.ring == NULL)
        return false;
    for (uint64_t i = window->oldest; i < window->next; i++)
        *entry(&larger, i) = *entry(window, i);
    free(window->ring);
    *window = larger;
    return true;
}

uint64_t window_room(struct window *window, uint64_t wanted)
{
    uint64_t taken = window->next - window->oldest;

    while (window->size - taken < wanted && window->size < WINDOW_MOST && grow(window))
        continue;
    return window->size - taken < wanted ? window->size - taken : wanted;
}

void window_give(struct window *window, uint64_t count, uint64_t now)
{
    for (uint64_t end = window->next + count; window->next < end; window->next++)
        *entry(window, window->next) = now | OPEN;
}

bool window_is_open(const struct window *window, uint64_t number)
{
    return number >= window->oldest && number < window->next && (*entry(window, number) & OPEN);
}

void window_settle(struct window *window, uint64_t number)
{
    *entry(window, number) &= ~OPEN;
    while (window->oldest < window->next && !(*entry(window, window->oldest) & OPEN))
        window->oldest++;
}

uint64_t window_given_at(const struct window *window, uint64_t number)
{
    return *entry(window, number) & ~OPEN;
}

void window_rewind(struct window *window)
{
    window->next = window->oldest;
}
