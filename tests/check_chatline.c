#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "src/chatline.h"
#include "src/defaults.h"
#include "tests/harness.h"
#include "tests/inject.h"

#define TEXT(literal) (literal), sizeof(literal) - 1
#define BAD "\xef\xbf\xbd" /* U+FFFD */
#define IAC "\xff"
#define WILL_ECHO IAC "\xfb\1"
#define WINDOW_SIZE IAC "\xfa\x1f\0\x50\0\x0a" IAC "\xf0" /* with a newline in it */

/* What was told, as text: a line in [], the rest by name. */
static struct {
    struct chatline line;
    struct evbuffer *input;
    char told[65536];
    size_t length;
} here;

static void begin(void)
{
    memset(&here, 0, sizeof(here));
    here.input = evbuffer_new();
    ck_assert_ptr_nonnull(here.input);
}

/* No assertion: libcheck too takes memory, which may be the one that has to fail. */
static void tell(const char *data, size_t length)
{
    if (length > sizeof(here.told) - here.length)
        length = sizeof(here.told) - here.length;
    if (length > 0) /* an empty text may be NULL */
        memcpy(here.told + here.length, data, length);
    here.length += length;
}

static void tell_result(enum chatline_result result)
{
    if (result == CHATLINE_WHOLE) {
        tell(TEXT("["));
        tell(here.line.text, here.line.length);
        tell(TEXT("]"));
    } else if (result == CHATLINE_TOO_LONG) {
        tell(TEXT("(too long)"));
    } else if (result == CHATLINE_NO_MEMORY) {
        tell(TEXT("(no memory)"));
    }
}

static void take_all(void)
{
    enum chatline_result result;

    while ((result = chatline_take(&here.line, here.input)) != CHATLINE_MORE)
        tell_result(result);
}

/* The allocations that taking all needs. */
static unsigned count_allocations(void)
{
    unsigned before = inject_count(INJECT_MEMORY);

    take_all();
    return inject_count(INJECT_MEMORY) - before;
}

static void come(const char *data, size_t length)
{
    evbuffer_add(here.input, data, length);
    take_all();
    ck_assert_uint_eq(evbuffer_get_length(here.input), 0);
}

static void end(void)
{
    tell_result(chatline_end(&here.line));
    ck_assert_int_eq(chatline_end(&here.line), CHATLINE_MORE);
    chatline_clear(&here.line);
    evbuffer_free(here.input);
}

static void expect_told(const char *told, size_t length)
{
    ck_assert_msg(here.length == length && memcmp(here.told, told, length) == 0,
                  "\"%.200s\" instead of \"%s\"", here.told, told);
}

/* Between lines LINE is as if nothing had come. */
static void expect_no_memory_kept(void)
{
    ck_assert_ptr_null(here.line.bytes);
    ck_assert_ptr_null(here.line.text);
    ck_assert_uint_eq(here.line.room, 0);
}

static void come_times(const char *data, size_t length, size_t times)
{
    for (size_t i = 0; i < times; i++)
        come(data, length);
}

static const struct {
    const char *data;
    size_t length;
    const char *clean;
    size_t clean_length;
} dirty[] = {
    { TEXT(""), TEXT("") },
    { TEXT("plain ~text!"), TEXT("plain ~text!") },
    { TEXT("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
      TEXT("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80") },
    /* The Unicode Standard, tables 3-8 to 3-11: short forms, surrogates, others, cut short. */
    { TEXT("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"), TEXT(BAD BAD BAD BAD BAD BAD BAD BAD "A") },
    { TEXT("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"), TEXT(BAD BAD BAD BAD BAD BAD BAD BAD "A") },
    { TEXT("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"), TEXT(BAD BAD BAD BAD BAD "A" BAD BAD "B") },
    { TEXT("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), TEXT(BAD BAD BAD BAD "A") },
    { TEXT("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64"),
      TEXT("a" BAD BAD BAD "b" BAD "c" BAD BAD "d") },
    /* The first and the last of each length, and their neighbours. */
    { TEXT("\xc2\xa0\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
      TEXT("\xc2\xa0\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf") },
    { TEXT("\xc1\xbf"), TEXT(BAD BAD) },
    { TEXT("\xe0\x9f\xbf"), TEXT(BAD BAD BAD) },
    { TEXT("\xf0\x8f\xbf\xbf"), TEXT(BAD BAD BAD BAD) },
    { TEXT("\xf4\x90\x80\x80"), TEXT(BAD BAD BAD BAD) },
    { TEXT("\xf5\x80\x80\x80\xfe"), TEXT(BAD BAD BAD BAD BAD) },
    { TEXT("\xed\x9f\xbf\xee\x80\x80"), TEXT("\xed\x9f\xbf\xee\x80\x80") }, /* beside surrogates */
    { TEXT("\xc3"), TEXT(BAD) },
    { TEXT("\xe2\x82"), TEXT(BAD) },
    { TEXT("\xf0\x9f\x98"), TEXT(BAD) },
    { TEXT("\xc3\n\xa4"), TEXT(BAD BAD) }, /* what is not passed on does not join its neighbours */
    /* Control characters. */
    { TEXT("\x1b[31mred\a\b\0\x7f\r\n"), TEXT("[31mred") },
    { TEXT("\tone\t\ttwo"), TEXT(" one  two") },
    { TEXT("a\xc2\x80\xc2\x9b\xc2\x9f" "b\x9b" "c"), TEXT("ab" BAD "c") },
};

START_TEST(text_is_made_clean)
{
    for (size_t i = 0; i < sizeof(dirty) / sizeof(dirty[0]); i++) {
        char *data = malloc(dirty[i].length), clean[128]; /* exactly: a sanitizer sees more */
        size_t length;

        memcpy(data, dirty[i].data, dirty[i].length);
        length = chatline_clean(data, dirty[i].length, clean);
        ck_assert_uint_eq(length, dirty[i].clean_length);
        ck_assert_mem_eq(clean, dirty[i].clean, length);
        free(data);
    }
}
END_TEST

/* CODE as UTF-8, by its bits alone; returns its length. */
static size_t encode(unsigned code, char *out)
{
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char marks[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (char) (0x80 | (code & 0x3f));
    out[0] = (char) (marks[length] | code);
    return length;
}

START_TEST(every_character_but_controls_passes_as_it_is)
{
    for (unsigned code = 0; code <= 0x10ffff; code++) {
        char data[4], clean[4 * CHATLINE_GROWTH];
        size_t length = encode(code, data), is = chatline_clean(data, length, clean);

        if (code < ' ' || (code >= 0x7f && code <= 0x9f))
            ck_assert(code == '\t' ? is == 1 && clean[0] == ' ' : is == 0);
        else if (code >= 0xd800 && code <= 0xdfff)
            ck_assert(is == strlen(BAD BAD BAD) && memcmp(clean, BAD BAD BAD, is) == 0);
        else
            ck_assert(is == length && memcmp(clean, data, is) == 0);
    }
}
END_TEST

/* What comes, and what is told of it. */
static const struct {
    const char *data;
    size_t length;
    const char *told;
    size_t told_length;
} streams[] = {
    { TEXT(""), TEXT("") },
    { TEXT("hello\nworld\n"), TEXT("[hello][world]") },
    { TEXT("hello\r\n\r\n\nrest"), TEXT("[hello][][][rest]") },
    { TEXT("a\rb\r\r\nc\r"), TEXT("[ab][c]") },
    { TEXT("\r"), TEXT("[]") },
    { TEXT("a\x7f" "b\n\0\n"), TEXT("[ab][]") },
    { TEXT("caf\xc3\xa9\t\x1b[1m\n\xe2\x82\nend\xf0\x9f"),
      TEXT("[caf\xc3\xa9 [1m][" BAD "][end" BAD "]") },
    { TEXT(WILL_ECHO "a" IAC "\xfc\n" "b" IAC "\xfd\xff" "c" IAC "\xfe\xf0" "d\n"),
      TEXT("[abcd]") }, /* options 10, 255, and 240 */
    { TEXT("a" WINDOW_SIZE "b\r" WINDOW_SIZE "\nc" WILL_ECHO), TEXT("[ab][c]") },
    { TEXT("\xc3" WINDOW_SIZE "\xa9\n"), TEXT("[\xc3\xa9]") },
    { TEXT(IAC "\xf1" IAC "\xf9" IAC "\xec" IAC "\xf0x\n"), TEXT("[x]") }, /* NOP, GA, EOF, SE */
    { TEXT("a" IAC IAC "b" IAC IAC "\n"), TEXT("[a" BAD "b" BAD "]") },
    { TEXT("a" IAC "b" IAC "\xeb" IAC "\n" IAC "\r\n"),
      TEXT("[a" BAD "b" BAD BAD BAD "][" BAD "]") },
    { TEXT("a" IAC "\xfa" IAC IAC "\xf0" IAC "\xfa\n" IAC "\xf0z\n"), TEXT("[az]") },
    { TEXT("a\nb" IAC), TEXT("[a][b]") },
    { TEXT("a\nb" IAC "\xfb"), TEXT("[a][b]") },
    { TEXT("a\nb" IAC "\xfa\n\n\n"), TEXT("[a][b]") },
};

START_TEST(a_stream_is_the_same_lines_at_whatever_bytes_it_is_split)
{
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
        for (size_t first = 0; first <= streams[i].length; first++)
            for (size_t second = first; second <= streams[i].length; second++) {
                begin();
                come(streams[i].data, first);
                come(streams[i].data + first, second - first);
                come(streams[i].data + second, streams[i].length - second);
                end();
                expect_told(streams[i].told, streams[i].told_length);
            }
}
END_TEST

START_TEST(a_stream_is_the_same_lines_byte_by_byte)
{
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        begin();
        for (size_t j = 0; j < streams[i].length; j++)
            come(&streams[i].data[j], 1);
        end();
        expect_told(streams[i].told, streams[i].told_length);
    }
}
END_TEST

START_TEST(pieces_of_a_buffer_are_taken_one_after_the_other)
{
    begin();
    for (size_t i = 0; i < sizeof(WINDOW_SIZE) - 1; i++)
        evbuffer_add_reference(here.input, &WINDOW_SIZE[i], 1, NULL, NULL);
    evbuffer_add_reference(here.input, "he", 2, NULL, NULL);
    evbuffer_add_reference(here.input, "llo\nx", 5, NULL, NULL);
    come(TEXT("y\n"));
    end();
    expect_told(TEXT("[hello][xy]"));
}
END_TEST

/* A line of LENGTH bytes, of which PART come first; behind it END, and another line. */
static void come_long(size_t length, size_t part, const char *behind, size_t behind_length)
{
    char data[8192];

    ck_assert_uint_le(length + behind_length, sizeof(data));
    memset(data, 'x', length);
    memcpy(data + length, behind, behind_length);
    begin();
    come(data, part);
    come(data + part, length + behind_length - part);
    come(TEXT("next"));
    end();
}

START_TEST(the_longest_line_passes)
{
    static const size_t parts[] = { 0, 1, CHAT_LINE_MOST - 1, CHAT_LINE_MOST };

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        static const struct {
            const char *data;
            size_t length;
        } ends[] = { { TEXT("\n") }, { TEXT("\r\n") }, { TEXT(WINDOW_SIZE "\r" WILL_ECHO "\n") } };

        for (size_t j = 0; j < sizeof(ends) / sizeof(ends[0]); j++) {
            come_long(CHAT_LINE_MOST, parts[i], ends[j].data, ends[j].length);
            ck_assert_uint_eq(here.length, strlen("[][next]") + CHAT_LINE_MOST);
            ck_assert_mem_eq(here.told, "[xxx", 4);
        }
    }
}
END_TEST

START_TEST(a_longer_line_is_told_once_and_skipped)
{
    static const size_t parts[] = { 0, 1, CHAT_LINE_MOST, CHAT_LINE_MOST + 1 };
    static const struct {
        const char *data;
        size_t length;
    } ends[] = {
        { TEXT("\n") },
        { TEXT("\r\n") },
        { TEXT("yy" WINDOW_SIZE IAC IAC IAC "y\r\xc3\n") },
    };

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        for (size_t j = 0; j < sizeof(ends) / sizeof(ends[0]); j++) {
            come_long(CHAT_LINE_MOST + 1, parts[i], ends[j].data, ends[j].length);
            expect_told(TEXT("(too long)[next]"));
        }
}
END_TEST

START_TEST(a_line_that_is_too_long_is_told_before_it_ends)
{
    begin();
    come_times(TEXT("x"), CHAT_LINE_MOST);
    expect_told(TEXT(""));
    come(TEXT("x"));
    expect_told(TEXT("(too long)"));
    expect_no_memory_kept();
    come_times(TEXT("x" WINDOW_SIZE), 3 * CHAT_LINE_MOST);
    expect_no_memory_kept();
    come(TEXT("x\nnext\nx"));
    expect_told(TEXT("(too long)[next]"));
    come_times(TEXT("x"), CHAT_LINE_MOST);
    end();
    expect_told(TEXT("(too long)[next](too long)"));
}
END_TEST

START_TEST(what_counts_is_what_came_before_it_was_made_clean)
{
    static const char *const bytes[] = { "\0", "\r", "\t", "\xc3", IAC IAC };

    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        size_t length = i < 4 ? 1 : strlen(bytes[i]);

        begin();
        come_times(bytes[i], length, CHAT_LINE_MOST - 1);
        come(TEXT("x\n"));
        ck_assert_int_eq(here.told[0], '[');
        here.length = 0;
        come_times(bytes[i], length, CHAT_LINE_MOST);
        come(TEXT("x\n"));
        expect_told(TEXT("(too long)"));
        end();
    }
}
END_TEST

START_TEST(the_longest_text_is_three_times_the_longest_line)
{
    begin();
    come_times(TEXT("\x80"), CHAT_LINE_MOST);
    come(TEXT("\n"));
    end();
    ck_assert_uint_eq(here.length, strlen("[]") + CHAT_LINE_MOST * strlen(BAD));
}
END_TEST

START_TEST(between_lines_no_memory_is_kept)
{
    begin();
    come(TEXT("hello\n\xc3\xa9\n" WILL_ECHO));
    expect_no_memory_kept();
    come(TEXT("x"));
    ck_assert_uint_gt(here.line.room, 0);
    come(TEXT("\r\n"));
    expect_no_memory_kept();
    come(TEXT("x"));
    chatline_clear(&here.line);
    expect_no_memory_kept();
    come(TEXT("y" IAC "\xfa"));
    chatline_clear(&here.line);
    come(TEXT("z\n"));
    end();
    expect_told(TEXT("[hello][\xc3\xa9][x][z]"));
}
END_TEST

START_TEST(lines_of_plain_text_are_not_copied_again)
{
    begin();
    evbuffer_add(here.input, TEXT(" one ~\n~ two \r\n"));
    ck_assert_uint_eq(count_allocations(), 1);
    end();
    expect_told(TEXT("[ one ~][~ two ]"));
}
END_TEST

START_TEST(a_command_takes_no_memory_however_long_it_is)
{
    begin();
    come(TEXT(IAC "\xfa"));
    for (int i = 0; i < 10000; i++) {
        evbuffer_add(here.input, TEXT("text\n" IAC IAC "text" IAC "\xfb"));
        ck_assert_uint_eq(count_allocations(), 0);
    }
    come(TEXT(IAC "\xf0!\n"));
    end();
    expect_told(TEXT("[!]"));
}
END_TEST

START_TEST(a_line_that_comes_byte_by_byte_is_seldom_copied)
{
    unsigned sum = 0;

    begin();
    for (int i = 0; i < CHAT_LINE_MOST; i++) {
        evbuffer_add(here.input, "x", 1);
        sum += count_allocations();
    }
    ck_assert_uint_le(sum, 12);
    ck_assert_uint_le(here.line.room, 2 * (CHAT_LINE_MOST + 1));
    end();
}
END_TEST

/* What is told of lines that come in pieces when the NTH allocation fails. */
static void fail_at(unsigned nth)
{
    static const char *const pieces[] = { "on", "e\ntw", "o, but longer\n", "thr\xc3\xa9\xc3",
                                          "\xa9 3\nfour\n" };

    begin();
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
        evbuffer_add_reference(here.input, pieces[i], strlen(pieces[i]), NULL, NULL);
    inject_reset();
    inject_fail(INJECT_MEMORY, nth, 1, ENOMEM);
    take_all();
    inject_reset();
    end();
}

START_TEST(without_memory_a_line_is_lost_and_no_other)
{
    fail_at(1); /* for the first bytes */
    expect_told(TEXT("(no memory)[two, but longer][thr\xc3\xa9\xc3\xa9 3][four]"));
    fail_at(2); /* for more of them */
    expect_told(TEXT("[one](no memory)[thr\xc3\xa9\xc3\xa9 3][four]"));
    fail_at(3); /* for the text */
    expect_told(TEXT("[one][two, but longer](no memory)[four]"));
    fail_at(4);
    expect_told(TEXT("[one][two, but longer][thr\xc3\xa9\xc3\xa9 3][four]"));
}
END_TEST

START_TEST(without_memory_the_end_is_told_so)
{
    begin();
    come(TEXT("\xc3"));
    inject_reset();
    inject_fail(INJECT_MEMORY, 1, 1, ENOMEM);
    tell_result(chatline_end(&here.line));
    inject_reset();
    end();
    expect_told(TEXT("(no memory)"));
}
END_TEST

START_TEST(after_the_end_a_line_begins_anew)
{
    static const char *const rests[] = { "", IAC, IAC "\xfb", IAC "\xfa", IAC "\xfa" IAC };

    for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
        begin();
        come_times(TEXT("x"), CHAT_LINE_MOST + 1);
        come(rests[i], strlen(rests[i]));
        ck_assert_int_eq(chatline_end(&here.line), CHATLINE_MORE);
        come(TEXT("hello\n"));
        end();
        expect_told(TEXT("(too long)[hello]"));
    }
}
END_TEST

START_TEST(names_are_told_from_what_is_none)
{
    static const char longest[] = "abcdefghijklmnopqrstuvwxyz-_0189";
    char byte;

    ck_assert_uint_eq(strlen(longest), CHAT_NAME_MOST);
    ck_assert(chatline_is_name(TEXT("guest7")));
    ck_assert(chatline_is_name(TEXT("AZ-az_09")));
    ck_assert(chatline_is_name(TEXT("-")));
    ck_assert(chatline_is_name(longest, CHAT_NAME_MOST));
    ck_assert(!chatline_is_name(TEXT("abcdefghijklmnopqrstuvwxyz-_01890")));
    ck_assert(!chatline_is_name(TEXT("")));
    ck_assert(!chatline_is_name(TEXT("caf\xc3\xa9")));
    for (int i = -128; i < 128; i++) {
        byte = (char) i;
        ck_assert_int_eq(chatline_is_name(&byte, 1),
                         (i >= 'a' && i <= 'z') || (i >= 'A' && i <= 'Z') ||
                             (i >= '0' && i <= '9') || i == '-' || i == '_');
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        text_is_made_clean,
        every_character_but_controls_passes_as_it_is,
        a_stream_is_the_same_lines_at_whatever_bytes_it_is_split,
        a_stream_is_the_same_lines_byte_by_byte,
        pieces_of_a_buffer_are_taken_one_after_the_other,
        the_longest_line_passes,
        a_longer_line_is_told_once_and_skipped,
        a_line_that_is_too_long_is_told_before_it_ends,
        what_counts_is_what_came_before_it_was_made_clean,
        the_longest_text_is_three_times_the_longest_line,
        between_lines_no_memory_is_kept,
        lines_of_plain_text_are_not_copied_again,
        a_command_takes_no_memory_however_long_it_is,
        a_line_that_comes_byte_by_byte_is_seldom_copied,
        without_memory_a_line_is_lost_and_no_other,
        without_memory_the_end_is_told_so,
        after_the_end_a_line_begins_anew,
        names_are_told_from_what_is_none,
    };

    return HARNESS_RUN("chatline", tests);
}
