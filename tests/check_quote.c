#include <event2/buffer.h>
#include <string.h>

#include "src/quote.h"
#include "tests/harness.h"

static void assert_quoted(const char *text, const char *expected)
{
    struct evbuffer *out = evbuffer_new();

    ck_assert(quote_add(out, text));
    evbuffer_add(out, "", 1);
    ck_assert_str_eq((const char *) evbuffer_pullup(out, -1), expected);
    evbuffer_free(out);
}

START_TEST(what_is_plain_stays_so)
{
    assert_quoted("", "\"\"");
    assert_quoted("chat+tls://[::1]:7443", "\"chat+tls://[::1]:7443\"");
    assert_quoted("' {}=,<>&~", "\"' {}=,<>&~\"");
}
END_TEST

START_TEST(what_would_end_the_text_is_escaped)
{
    assert_quoted("a\"b\\c\nd", "\"a\\\"b\\\\c\\nd\"");
}
END_TEST

START_TEST(other_bytes_are_told_as_the_log_does)
{
    assert_quoted("\t\x7f\xc3\xa9\xff", "\"\\\\x09\\\\x7f\\\\xc3\\\\xa9\\\\xff\"");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_plain_stays_so,
        what_would_end_the_text_is_escaped,
        other_bytes_are_told_as_the_log_does,
    };

    return HARNESS_RUN("quote", tests);
}
