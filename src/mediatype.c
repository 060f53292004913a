#include "mediatype.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* A part of the header. */
struct span {
    const char *at, *end;
};

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

static struct span trim(struct span span)
{
    while (span.at < span.end && is_blank(*span.at))
        span.at++;
    while (span.at < span.end && is_blank(span.end[-1]))
        span.end--;
    return span;
}

/* Takes what is before the next SEPARATOR that is not between quotes, and that, off REST. */
static struct span take(struct span *rest, char separator)
{
    struct span span = { rest->at, rest->at };
    bool is_quoted = false;

    for (; span.end < rest->end && (is_quoted || *span.end != separator); span.end++) {
        if (*span.end == '"')
            is_quoted = !is_quoted;
        else if (*span.end == '\\' && is_quoted && span.end + 1 < rest->end)
            span.end++;
    }
    rest->at = span.end < rest->end ? span.end + 1 : span.end;
    return trim(span);
}

static bool is_text(struct span span, const char *text, size_t length)
{
    return (size_t) (span.end - span.at) == length && strncasecmp(span.at, text, length) == 0;
}

static enum mediatype_fit fit_of(struct span range, const char *type)
{
    size_t class = (size_t) (strchr(type, '/') + 1 - type); /* with its slash */

    if (is_text(range, "*/*", 3))
        return MEDIATYPE_ANYTHING;
    if (is_text(range, type, strlen(type)))
        return MEDIATYPE_NAMED;
    if (range.end - range.at < 2 || range.end[-1] != '*')
        return MEDIATYPE_NO_FIT;
    range.end--;
    return is_text(range, type, class) ? MEDIATYPE_CLASS : MEDIATYPE_NO_FIT;
}

/* A weight: 0 to 1, with three decimals at most, in thousandths. False: it is malformed. */
static bool parse_quality(struct span value, unsigned *quality)
{
    unsigned unit = 1000;

    if (value.at == value.end || value.end - value.at > 5 || (*value.at != '0' && *value.at != '1'))
        return false;
    *quality = (unsigned) (*value.at++ - '0') * unit;
    if (value.at < value.end && *value.at++ != '.')
        return false;
    for (; value.at < value.end; value.at++) {
        if (*value.at < '0' || *value.at > '9')
            return false;
        unit /= 10;
        *quality += (unsigned) (*value.at - '0') * unit;
    }
    return *quality <= 1000;
}

static struct span unquote(struct span value)
{
    if (value.end - value.at >= 2 && *value.at == '"' && value.end[-1] == '"') {
        value.at++;
        value.end--;
    }
    return value;
}

/* How an ELEMENT of the header fits, and what it is worth then. */
static enum mediatype_fit judge(struct span element, const struct mediatype *offered,
                                unsigned *quality)
{
    enum mediatype_fit fit = fit_of(take(&element, ';'), offered->type);

    *quality = 1000;
    while (fit != MEDIATYPE_NO_FIT && element.at < element.end) {
        struct span value = take(&element, ';'), name = take(&value, '=');

        value = unquote(trim(value));
        if ((is_text(name, "q", 1) && !parse_quality(value, quality)) ||
            (is_text(name, "version", 7) &&
             !is_text(value, offered->version, strlen(offered->version))))
            fit = MEDIATYPE_NO_FIT;
    }
    return fit;
}

unsigned mediatype_quality(const char *accept, const struct mediatype *offered,
                           enum mediatype_fit *fit)
{
    struct span rest = { accept, accept + strlen(accept) };
    unsigned best = 0;

    *fit = MEDIATYPE_NO_FIT;
    while (rest.at < rest.end) {
        unsigned quality;
        enum mediatype_fit this_fit = judge(take(&rest, ','), offered, &quality);

        if (this_fit == MEDIATYPE_NO_FIT || this_fit < *fit)
            continue;
        if (this_fit > *fit || quality > best)
            best = quality;
        *fit = this_fit;
    }
    return best;
}
