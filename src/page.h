/*
 * page: the status page, one document that needs nothing but /status.json.
 *
 * It is page.html, which the build makes into a table of bytes. A browser is told to run no other
 * script and use no other style than those of the page, by a number that is used once.
 */
#ifndef ECHOD_PAGE_H
#define ECHOD_PAGE_H

#include <stdbool.h>

struct evbuffer;

/* Holds any policy, with its NUL. */
#define PAGE_POLICY_MAX 320

/*
 * Appends the page to OUT, by reference where it can; POLICY becomes the value of the
 * Content-Security-Policy that belongs to it. False with errno set: no memory or no random number;
 * a part may be there.
 */
bool page_write(struct evbuffer *out, char policy[PAGE_POLICY_MAX]);

#endif
