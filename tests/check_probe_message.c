#include <string.h>

#include "src/probe/message.h"
#include "src/probe/pattern.h"
#include "tests/harness.h"

enum { SIZE_MOST = 100 };

/* Message NUMBER of CONNECTION, of SIZE, as it is sent. */
static const unsigned char *message(uint64_t connection, uint64_t number, size_t size)
{
    static unsigned char data[SIZE_MOST];
    size_t length = message_number_length(size);

    message_write_number(number, length, data);
    memcpy(data + length, message_rest(connection, number, size), size - length);
    return data;
}

START_TEST(half_of_it_is_a_number_and_no_more_than_64_bits)
{
    const size_t lengths[] = { 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 8 };

    for (size_t size = 0; size < sizeof(lengths) / sizeof(lengths[0]); size++)
        ck_assert_uint_eq(message_number_length(size), lengths[size]);
    ck_assert_uint_eq(message_number_length(65507), 8);
}
END_TEST

START_TEST(numbers_are_read_again)
{
    const uint64_t numbers[] = { 0, 1, 255, 256, 65535, 1 << 20, UINT64_C(123456789012345) };

    for (size_t size = 1; size < 20; size++)
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            size_t length = message_number_length(size);
            const unsigned char *data = message(3, numbers[i], size);

            ck_assert_uint_eq(message_read_number(data, length, numbers[i] + 1), numbers[i]);
            ck_assert_uint_eq(message_read_number(data, length, numbers[i] + 200), numbers[i]);
        }
}
END_TEST

START_TEST(of_those_that_look_the_same_it_is_the_newest)
{
    const unsigned char one[] = { 0x12 }, two[] = { 0x12, 0x34 };

    ck_assert_uint_eq(message_read_number(one, 1, 0x12 + 1), 0x12);
    ck_assert_uint_eq(message_read_number(one, 1, 0x112), 0x12);
    ck_assert_uint_eq(message_read_number(one, 1, 0x113), 0x112);
    ck_assert_uint_eq(message_read_number(two, 2, 0x73413), 0x73412);
    ck_assert_uint_eq(message_read_number(two, 2, 0x73412), 0x63412);
    ck_assert_uint_ge(message_read_number(one, 1, 0x12), 0x12); /* none */
}
END_TEST

START_TEST(it_is_what_was_sent)
{
    pattern_init();
    for (size_t size = 0; size <= SIZE_MOST; size++)
        ck_assert(message_is(message(5, 1234, size), 5, 1234, size));
}
END_TEST

START_TEST(no_changed_bit_is_overlooked)
{
    const uint64_t next = 1 << 20;
    unsigned char data[64];

    pattern_init();
    memcpy(data, message(5, 1234, 64), 64);
    for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
        uint64_t number;

        data[bit / 8] ^= (unsigned char) (1 << bit % 8);
        ck_assert(!message_is(data, 5, 1234, 64));
        number = message_read_number(data, 8, next);
        ck_assert(number >= next || !message_is(data, 5, number, 64));
        data[bit / 8] ^= (unsigned char) (1 << bit % 8);
    }
    ck_assert(message_is(data, 5, 1234, 64));
}
END_TEST

START_TEST(it_is_no_other_message_and_of_no_other_connection)
{
    pattern_init();
    for (size_t size = 2; size <= SIZE_MOST; size *= 7) {
        ck_assert(!message_is(message(5, 1234, size), 5, 1235, size));
        ck_assert(!message_is(message(5, 1234, size), 6, 1234, size));
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        half_of_it_is_a_number_and_no_more_than_64_bits,
        numbers_are_read_again,
        of_those_that_look_the_same_it_is_the_newest,
        it_is_what_was_sent,
        no_changed_bit_is_overlooked,
        it_is_no_other_message_and_of_no_other_connection,
    };

    return HARNESS_RUN("probe/message", tests);
}
