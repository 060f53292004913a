#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/page.h"
#include "tests/harness.h"

/* The page, and its policy; the caller frees it. */
static char *write_page(char policy[PAGE_POLICY_MAX])
{
    struct evbuffer *out = evbuffer_new();
    char *text;

    ck_assert(page_write(out, policy));
    evbuffer_add(out, "", 1);
    text = strdup((const char *) evbuffer_pullup(out, -1));
    evbuffer_free(out);
    return text;
}

static size_t count_text(const char *text, const char *part)
{
    size_t count = 0;

    for (; (text = strstr(text, part)) != NULL; text++)
        count++;
    return count;
}

START_TEST(it_is_whole)
{
    char policy[PAGE_POLICY_MAX], *text = write_page(policy);

    ck_assert_int_eq(strncmp(text, "<!DOCTYPE html>\n", 16), 0);
    ck_assert_str_eq(text + strlen(text) - 8, "</html>\n");
    ck_assert_ptr_nonnull(strstr(text, "fetch(\"status.json\""));
    free(text);
}
END_TEST

START_TEST(script_and_style_have_what_the_policy_wants)
{
    char policy[PAGE_POLICY_MAX], *text = write_page(policy);
    char nonce[33], expected[80];

    ck_assert_ptr_nonnull(strstr(policy, "default-src 'none'; "));
    ck_assert_ptr_nonnull(strstr(policy, "; frame-ancestors 'none'")); /* it is not cut */
    ck_assert_int_eq(sscanf(strstr(policy, "script-src"), "script-src 'nonce-%32[0-9a-f]'", nonce),
                     1);
    ck_assert_uint_eq(strlen(nonce), 32);
    snprintf(expected, sizeof(expected), "style-src 'nonce-%s';", nonce);
    ck_assert_ptr_nonnull(strstr(policy, expected));
    snprintf(expected, sizeof(expected), "<style nonce=\"%s\">", nonce);
    ck_assert_uint_eq(count_text(text, expected), 1);
    snprintf(expected, sizeof(expected), "<script nonce=\"%s\">", nonce);
    ck_assert_uint_eq(count_text(text, expected), 1);
    ck_assert_uint_eq(count_text(text, "NONCE"), 0);
    ck_assert_uint_eq(count_text(text, "<script"), 1);
    ck_assert_uint_eq(count_text(text, "<style"), 1);
    ck_assert_uint_eq(count_text(text, " style="), 0); /* which it forbids */
    free(text);
}
END_TEST

START_TEST(no_number_is_used_twice)
{
    char one[PAGE_POLICY_MAX], other[PAGE_POLICY_MAX];

    free(write_page(one));
    free(write_page(other));
    ck_assert_str_ne(one, other);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_is_whole,
        script_and_style_have_what_the_policy_wants,
        no_number_is_used_twice,
    };

    return HARNESS_RUN("page", tests);
}
