#include "admission.h"

#include <stdbool.h>
#include <stddef.h>

#include "log.h"

static bool is_ip(const struct address *client)
{
    return client->any.sa_family == AF_INET || client->any.sa_family == AF_INET6;
}

unsigned admission_enter(const struct admission *admission, const struct address *client,
                         int64_t now)
{
    if (!is_ip(client))
        return ADMITTED;
    if (admission->access != NULL && !access_permits(admission->access, &client->any))
        return REFUSE_DENY;
    if (admission->rates != NULL && !rates_take(admission->rates, client, now))
        return REFUSE_ACCEPT_RATE;
    if (admission->quota != NULL && !quota_take(admission->quota, admission->worker, client))
        return REFUSE_MAX_PER_SOURCE;
    return ADMITTED;
}

void admission_leave(const struct admission *admission, const struct address *client)
{
    if (admission->quota != NULL && is_ip(client))
        quota_give(admission->quota, admission->worker, client);
}

static void log_address(struct log_line *line, const char *key, const struct address *address)
{
    char text[ADDRESS_TEXT_MAX];

    address_format(address, text);
    log_text(line, key, text);
}

void admission_refuse(struct stats_block *stats, const struct address *client,
                      const struct address *via, enum refuse_reason reason)
{
    struct log_line line;

    stats_add(&stats->refused[reason], 1);
    if (!log_wants(LOG_INFO))
        return;
    log_begin(&line, LOG_INFO, "refused");
    log_address(&line, "peer", client);
    log_text(&line, "reason", refuse_reason_name(reason));
    if (via != NULL) /* last: what is asked for is found as `peer=... reason=...` in every line */
        log_address(&line, "via", via);
    log_end(&line);
}
