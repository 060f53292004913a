/* mediatype: how welcome a kind of answer is, by a request's Accept header: pure. */
#ifndef ECHOD_MEDIATYPE_H
#define ECHOD_MEDIATYPE_H

/* What can be had: its type and subtype, and the parameter `version`. */
struct mediatype {
    const char *type, *version;
};

/* How well a header's element fits what can be had. */
enum mediatype_fit {
    MEDIATYPE_NO_FIT,
    MEDIATYPE_ANYTHING, /* as one of everything */
    MEDIATYPE_CLASS,    /* as one of its type, whatever the subtype */
    MEDIATYPE_NAMED,    /* by its name */
};

/*
 * The quality that ACCEPT, a header's value, gives OFFERED: 0 (not acceptable) to 1000. Of the
 * elements that fit, the best of those that do so by most of its name decides; *FIT says how. An
 * element that is malformed, or of another version, fits nothing.
 */
unsigned mediatype_quality(const char *accept, const struct mediatype *offered,
                           enum mediatype_fit *fit);

#endif
