#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "src/descriptors.h"
#include "tests/harness.h"

START_TEST(what_is_closed_is_filled)
{
    int saved = dup(STDIN_FILENO), before;

    close(STDIN_FILENO);
    before = open_descriptors();
    descriptors_fill_standard();
    ck_assert(is_open(STDIN_FILENO));
    ck_assert_int_eq(open_descriptors(), before + 1);
    descriptors_fill_standard();
    ck_assert_int_eq(open_descriptors(), before + 1);
    dup2(saved, STDIN_FILENO);
    close(saved);
}
END_TEST

START_TEST(the_limit_is_as_high_as_may_be)
{
    struct rlimit limit, now;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_gt(limit.rlim_max, 300);
    limit.rlim_cur = 200;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    descriptors_raise_limit(300);
    getrlimit(RLIMIT_NOFILE, &now);
    ck_assert_uint_eq(now.rlim_cur, 300);
    descriptors_raise_limit(0);
    getrlimit(RLIMIT_NOFILE, &now);
    ck_assert_uint_eq(now.rlim_cur, limit.rlim_max);
    ck_assert_uint_eq(now.rlim_max, limit.rlim_max);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { what_is_closed_is_filled, the_limit_is_as_high_as_may_be };

    return HARNESS_RUN("descriptors", tests);
}
