#include "src/source.h"
#include "tests/harness.h"

static uint64_t hash_of(const struct source_key *key, struct address address)
{
    return source_hash(key, &address);
}

START_TEST(a_source_is_an_address_or_a_network)
{
    struct source_key key;

    ck_assert(source_key_draw(&key));
    ck_assert(hash_of(&key, ip4(0x7f000001, 1)) == hash_of(&key, ip4(0x7f000001, 2)));
    ck_assert(hash_of(&key, ip4(0x7f000001, 1)) == hash_of(&key, ip6("::ffff:127.0.0.1")));
    ck_assert(hash_of(&key, ip4(0x7f000001, 1)) != hash_of(&key, ip4(0x7f000002, 1)));
    ck_assert(hash_of(&key, ip4(0x7f000001, 1)) != hash_of(&key, ip6("::ffff:127.0.0.3")));
    ck_assert(hash_of(&key, ip6("2001:db8:0:1::1")) ==
              hash_of(&key, ip6("2001:db8:0:1:ffff::2")));
    ck_assert(hash_of(&key, ip6("2001:db8:0:1::1")) != hash_of(&key, ip6("2001:db8:0:2::1")));
    ck_assert(hash_of(&key, ip6("::1")) != hash_of(&key, ip4(0, 1))); /* of ::/64, and of 0.0.0.0 */
}
END_TEST

START_TEST(another_key_has_other_places)
{
    enum { PLACES = 1024 };
    struct source_key keys[2];
    unsigned same = 0;

    ck_assert(source_key_draw(&keys[0]) && source_key_draw(&keys[1]));
    for (uint32_t i = 0; i < PLACES; i++)
        same += hash_of(&keys[0], ip4(i, 1)) % PLACES == hash_of(&keys[1], ip4(i, 1)) % PLACES;
    ck_assert_uint_lt(same, 20); /* of 1 that is to be expected */
}
END_TEST

START_TEST(neighbours_are_spread_evenly)
{
    enum { PLACES = 64, EACH = 1000 };
    unsigned count[PLACES] = { 0 };
    struct source_key key;

    ck_assert(source_key_draw(&key));
    for (uint32_t i = 0; i < PLACES * EACH; i++)
        count[hash_of(&key, ip4(0x0a000000 + i, 1)) % PLACES]++;
    for (int i = 0; i < PLACES; i++)
        ck_assert_msg(count[i] > EACH * 3 / 4 && count[i] < EACH * 5 / 4, "%u at %d", count[i], i);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_source_is_an_address_or_a_network,
        another_key_has_other_places,
        neighbours_are_spread_evenly,
    };

    return HARNESS_RUN("source", tests);
}
