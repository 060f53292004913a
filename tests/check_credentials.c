#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/credentials.h"
#include "tests/harness.h"
#include "tests/inject.h"

/* With a chain, a key and CAs of so many bytes. */
static struct credentials make(size_t chain, size_t key, size_t client_ca)
{
    static char bytes[100000];
    struct credentials credentials = { .is_13_least = chain % 2 == 1 };

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char) (i * 7 + i / 251);
    memset(&credentials.current, 'c', sizeof(credentials.current));
    memset(&credentials.previous, 'p', sizeof(credentials.previous));
    ck_assert(blob_set(&credentials.chain, bytes, chain));
    ck_assert(blob_set(&credentials.key, bytes + 1, key));
    ck_assert(blob_set(&credentials.client_ca, bytes + 2, client_ca));
    return credentials;
}

static void expect_equal(const struct blob *a, const struct blob *b)
{
    ck_assert_uint_eq(a->length, b->length);
    ck_assert_int_eq(a->data == NULL, a->length == 0);
    if (a->length > 0)
        ck_assert_mem_eq(a->data, b->data, a->length);
}

static void expect_empty(const struct credentials *credentials)
{
    static const struct credentials empty;

    ck_assert_mem_eq(credentials, &empty, sizeof(empty));
}

START_TEST(what_is_sealed_comes_back)
{
    static const size_t lengths[][3] = { { 1, 1, 1 }, { 3001, 240, 0 }, { 90000, 1, 90001 },
                                         { 0, 0, 0 } };

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct credentials sealed = make(lengths[i][0], lengths[i][1], lengths[i][2]), opened;
        int fd = credentials_seal(&sealed);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        for (int times = 0; times < 2; times++) { /* who else has the descriptor reads it as well */
            ck_assert(credentials_unseal(&opened, fd));
            expect_equal(&opened.chain, &sealed.chain);
            expect_equal(&opened.key, &sealed.key);
            expect_equal(&opened.client_ca, &sealed.client_ca);
            ck_assert_int_eq(opened.is_13_least, sealed.is_13_least);
            ck_assert_mem_eq(&opened.current, &sealed.current, sizeof(opened.current));
            ck_assert_mem_eq(&opened.previous, &sealed.previous, sizeof(opened.previous));
            credentials_clear(&opened);
            expect_empty(&opened);
        }
        credentials_clear(&sealed);
        close(fd);
    }
}
END_TEST

START_TEST(nobody_can_change_it)
{
    struct credentials credentials = make(100, 100, 100);
    int fd = credentials_seal(&credentials);

    ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
    ck_assert_int_eq(ftruncate(fd, 1), -1);
    ck_assert_int_eq(ftruncate(fd, 100000), -1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    credentials_clear(&credentials);
    close(fd);
}
END_TEST

START_TEST(anything_else_is_refused)
{
    struct credentials credentials = make(1000, 200, 300), opened;
    int sealed = credentials_seal(&credentials), fd = memfd_create("cut", MFD_CLOEXEC);
    static char bytes[4000];
    ssize_t length = pread(sealed, bytes, sizeof(bytes), 0);

    ck_assert_int_gt(length, 1500);
    for (ssize_t cut = 0; cut < length; cut += cut < 250 ? 1 : 100) {
        ck_assert_int_eq(ftruncate(fd, 0), 0);
        ck_assert_int_eq(pwrite(fd, bytes, (size_t) cut, 0), cut);
        ck_assert(!credentials_unseal(&opened, fd));
        expect_empty(&opened);
    }
    ck_assert_int_eq(pwrite(fd, bytes, (size_t) length + 1, 0), length + 1); /* one too many */
    ck_assert(!credentials_unseal(&opened, fd));
    memset(bytes, 0xff, sizeof(size_t)); /* more than there can be */
    ck_assert_int_eq(pwrite(fd, bytes, (size_t) length, 0), length);
    ck_assert(!credentials_unseal(&opened, fd));
    ck_assert(!credentials_unseal(&opened, -1));
    credentials_clear(&credentials);
    close(fd);
    close(sealed);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* whose own functions copy */
static void unseal(void *fd)
{
    struct credentials credentials;

    if (credentials_unseal(&credentials, *(int *) fd))
        credentials_clear(&credentials);
}

/* Of ticket keys as well as of what did not come out whole. */
START_TEST(nothing_stays_on_the_stack)
{
    struct credentials credentials = make(1000, 200, 300);
    int sealed = credentials_seal(&credentials), fd = memfd_create("cut", MFD_CLOEXEC);
    static char bytes[4000];
    ssize_t length = pread(sealed, bytes, sizeof(bytes), 0);

    ck_assert_int_eq(pwrite(fd, bytes, (size_t) length, 0), length);
    for (ssize_t cut = length; cut > 200; cut -= 100) {
        ck_assert_int_eq(ftruncate(fd, cut), 0);
        ck_assert(!leaves_on_stack(unseal, &fd, "cccccccccccccccc", 16));
        ck_assert(!leaves_on_stack(unseal, &fd, "pppppppppppppppp", 16));
    }
    credentials_clear(&credentials);
    close(fd);
    close(sealed);
}
END_TEST
#endif

START_TEST(without_memory_nothing_is_left)
{
    struct credentials credentials = make(1000, 200, 300), opened;
    int fd = credentials_seal(&credentials), descriptors = open_descriptors();
    struct blob blob = { 0 };

    for (unsigned nth = 1; nth <= 3; nth++) {
        inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
        ck_assert(!credentials_unseal(&opened, fd));
        inject_reset();
        expect_empty(&opened);
    }
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    ck_assert(!blob_set(&blob, "x", 1));
    inject_reset();
    ck_assert_ptr_null(blob.data);
    ck_assert_int_eq(open_descriptors(), descriptors);
    credentials_clear(&credentials);
    close(fd);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_sealed_comes_back,
        nobody_can_change_it,
        anything_else_is_refused,
#ifndef __SANITIZE_THREAD__
        nothing_stays_on_the_stack,
#endif
        without_memory_nothing_is_left,
    };

    return HARNESS_RUN("credentials", tests);
}
