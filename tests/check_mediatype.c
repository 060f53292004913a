#include "src/mediatype.h"
#include "tests/harness.h"

static const struct mediatype offered = { "text/plain", "0.0.4" };

struct example {
    const char *accept;
    unsigned quality;
    enum mediatype_fit fit;
};

static void try_all(const struct example *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum mediatype_fit fit;
        unsigned quality = mediatype_quality(table[i].accept, &offered, &fit);

        ck_assert_msg(quality == table[i].quality && fit == table[i].fit, "%s: %u, %d",
                      table[i].accept, quality, fit);
    }
}
#define TRY_ALL(table) try_all(table, sizeof(table) / sizeof((table)[0]))

START_TEST(the_one_that_names_most_decides)
{
    static const struct example table[] = {
        { "text/plain", 1000, MEDIATYPE_NAMED },
        { "TEXT/Plain", 1000, MEDIATYPE_NAMED },
        { "text/*", 1000, MEDIATYPE_CLASS },
        { "*/*", 1000, MEDIATYPE_ANYTHING },
        { "text/*;q=0.3, */*;q=0.8", 300, MEDIATYPE_CLASS },
        { "text/plain;q=0.2,text/*", 200, MEDIATYPE_NAMED },
        { "text/plain;q=0.2,text/plain;q=0.4", 400, MEDIATYPE_NAMED },
        { "text/plain;q=0,*/*", 0, MEDIATYPE_NAMED },
        { "text/html", 0, MEDIATYPE_NO_FIT },
        { "text/plainer, ext/plain, image/*, *, *t/*, /, text/", 0, MEDIATYPE_NO_FIT },
    };

    TRY_ALL(table);
}
END_TEST

START_TEST(parameters_are_looked_at)
{
    static const struct example table[] = {
        { "text/plain;version=0.0.4;q=0.5", 500, MEDIATYPE_NAMED },
        { " text/plain ; Version=\"0.0.4\" ; Q=0.25 ", 250, MEDIATYPE_NAMED },
        { "text/plain;charset=utf-8;escaping=underscores", 1000, MEDIATYPE_NAMED },
        { "text/plain;version=1.0.0,*/*;q=0.1", 100, MEDIATYPE_ANYTHING },
        { "text/plain;a=\"x,y;q=0.1\\\",\";q=0.7", 700, MEDIATYPE_NAMED },
    };

    TRY_ALL(table);
}
END_TEST

START_TEST(weights_are_read_strictly)
{
    static const struct example table[] = {
        { "*/*;q=1", 1000, MEDIATYPE_ANYTHING },   { "*/*;q=1.000", 1000, MEDIATYPE_ANYTHING },
        { "*/*;q=0.001", 1, MEDIATYPE_ANYTHING },  { "*/*;q=0.", 0, MEDIATYPE_ANYTHING },
        { "*/*;q=0.05", 50, MEDIATYPE_ANYTHING },  { "*/*;q=1.001", 0, MEDIATYPE_NO_FIT },
        { "*/*;q=2", 0, MEDIATYPE_NO_FIT },        { "*/*;q=-1", 0, MEDIATYPE_NO_FIT },
        { "*/*;q=0.1234", 0, MEDIATYPE_NO_FIT },   { "*/*;q=0,5", 0, MEDIATYPE_ANYTHING },
        { "*/*;q=01", 0, MEDIATYPE_NO_FIT },       { "*/*;q=", 0, MEDIATYPE_NO_FIT },
        { "*/*;q", 0, MEDIATYPE_NO_FIT },          { "*/*;q=0.1a", 0, MEDIATYPE_NO_FIT },
    };

    TRY_ALL(table);
}
END_TEST

START_TEST(rubbish_fits_nothing)
{
    static const struct example table[] = {
        { "", 0, MEDIATYPE_NO_FIT },    { ",", 0, MEDIATYPE_NO_FIT },
        { ";", 0, MEDIATYPE_NO_FIT },   { " , ;,;;=\"", 0, MEDIATYPE_NO_FIT },
        { "\"", 0, MEDIATYPE_NO_FIT },  { "\"\\", 0, MEDIATYPE_NO_FIT },
        { "text", 0, MEDIATYPE_NO_FIT }, { "text/plain\"", 0, MEDIATYPE_NO_FIT },
        { ",,text/plain;;,", 1000, MEDIATYPE_NAMED },
    };

    TRY_ALL(table);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_one_that_names_most_decides,
        parameters_are_looked_at,
        weights_are_read_strictly,
        rubbish_fits_nothing,
    };

    return HARNESS_RUN("mediatype", tests);
}
