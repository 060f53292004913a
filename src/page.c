#include "page.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* The number has so many random bits that nobody guesses it; it is written in hexadecimal. */
enum { NONCE_BYTES = 16, NONCE_TEXT_MAX = 2 * NONCE_BYTES + 1 };

/* Where it belongs in the page. */
static const char place[] = "NONCE";

static const unsigned char page[] = {
#include "src/page.inc"
};

static bool make_nonce(char text[NONCE_TEXT_MAX])
{
    unsigned char bytes[NONCE_BYTES];

    if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t) sizeof(bytes))
        return false;
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(&text[2 * i], 3, "%02x", (unsigned) bytes[i]);
    return true;
}

/* The page, with TEXT where the number belongs. */
static bool add_page(struct evbuffer *out, const char *text)
{
    const unsigned char *at = page, *end = page + sizeof(page), *next;
    bool complete = true;

    while (complete &&
           (next = memmem(at, (size_t) (end - at), place, strlen(place))) != NULL) {
        complete = evbuffer_add_reference(out, at, (size_t) (next - at), NULL, NULL) == 0 &&
                   evbuffer_add(out, text, strlen(text)) == 0;
        at = next + strlen(place);
    }
    return complete && evbuffer_add_reference(out, at, (size_t) (end - at), NULL, NULL) == 0;
}

bool page_write(struct evbuffer *out, char policy[PAGE_POLICY_MAX])
{
    char nonce[NONCE_TEXT_MAX];

    if (!make_nonce(nonce))
        return false;
    snprintf(policy, PAGE_POLICY_MAX,
             "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; img-src data:; "
             "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             nonce, nonce);
    if (add_page(out, nonce))
        return true;
    errno = ENOMEM;
    return false;
}
