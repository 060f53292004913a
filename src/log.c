#include "log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Where lines go, by how it is kept from making anybody wait. */
enum sink {
    SINK_PLAIN,  /* does not block: a file, or a description of our own with O_NONBLOCK */
    SINK_SHARED, /* may block, and others write through the same description: poll first */
    SINK_SOCKET, /* asked not to block for each line */
    SINK_SYSLOG, /* datagrams to the system log */
};

static struct {
    enum sink sink;
    int fd;
    int threshold;
    bool is_open;
    bool journal;
    struct log_lost *lost;
} sink = { .sink = SINK_PLAIN, .fd = STDERR_FILENO, .threshold = LOG_NOTICE };

static const struct sockaddr_un system_log = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
static struct log_lost lost_here;
static const char *program = "echod";

static const char *level_name(int priority)
{
    switch (priority) {
    case LOG_ERR: return "error";
    case LOG_WARNING: return "warning";
    case LOG_NOTICE: return "notice";
    case LOG_INFO: return "info";
    default: return "debug";
    }
}

/* Is stderr the journal's stream? The service manager says which one by device and inode. */
static bool is_journal(const struct stat *status)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;

    return stream != NULL && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) == 2 &&
           device == status->st_dev && inode == status->st_ino;
}

/*
 * O_NONBLOCK belongs to the open file description, which stderr shares with our parent's shell:
 * so open the same pipe or terminal anew, and set it on that one.
 */
static void open_stderr(void)
{
    struct stat status;
    int own;

    sink.sink = SINK_PLAIN;
    sink.fd = STDERR_FILENO;
    if (fstat(STDERR_FILENO, &status) != 0)
        return;
    sink.journal = is_journal(&status);
    if (S_ISSOCK(status.st_mode)) {
        sink.sink = SINK_SOCKET;
    } else if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
        own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        sink.sink = own < 0 ? SINK_SHARED : SINK_PLAIN;
        sink.fd = own < 0 ? STDERR_FILENO : own;
    }
}

/* libevent says that it fails for good at the level of errors, and then ends the program. */
static void from_libevent(int severity, const char *message)
{
    static const int priorities[] = { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR };
    struct log_line line;

    if (!sink.is_open) {
        if (severity == EVENT_LOG_ERR)
            log_startup_error("cannot start", message);
        return;
    }
    log_begin(&line, priorities[severity & 3], "libevent");
    log_text(&line, "message", message);
    log_end(&line);
}

void log_start(const char *name)
{
    program = name;
    event_set_log_callback(from_libevent);
}

void log_open(int threshold, bool to_syslog)
{
    sink.threshold = threshold;
    if (to_syslog) {
        sink.sink = SINK_SYSLOG;
        sink.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void) connect(sink.fd, (const struct sockaddr *) &system_log, sizeof(system_log));
        tzset(); /* its time is local, and the zone's file may be out of reach later */
    } else {
        open_stderr();
    }
    sink.is_open = true;
}

void log_count_lost_in(struct log_lost *lost)
{
    sink.lost = lost;
}

int log_descriptor(void)
{
    return sink.fd;
}

bool log_wants(int priority)
{
    return priority <= sink.threshold;
}

static void append(struct log_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* One byte stays free for the newline. */
static void append(struct log_line *line, const char *format, ...)
{
    size_t room = sizeof(line->text) - 1 - line->length;
    va_list arguments;
    int written;

    va_start(arguments, format);
    written = vsnprintf(line->text + line->length, room, format, arguments);
    va_end(arguments);
    if (written > 0)
        line->length += (size_t) written < room ? (size_t) written : room - 1;
}

static void append_time(struct log_line *line, const char *format, bool utc)
{
    struct timespec now;
    struct tm parts;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    strftime(text, sizeof(text), format,
             utc ? gmtime_r(&now.tv_sec, &parts) : localtime_r(&now.tv_sec, &parts));
    append(line, "%s", text);
    if (utc)
        append(line, ".%03ldZ", now.tv_nsec / 1000000);
}

void log_begin(struct log_line *line, int priority, const char *event)
{
    line->wanted = log_wants(priority);
    if (!line->wanted)
        return;
    line->priority = priority;
    line->length = 0;
    if (sink.sink == SINK_SYSLOG) { /* RFC 3164's header, as the C library writes it */
        append(line, "<%d>", LOG_DAEMON | priority);
        append_time(line, "%b %e %T", false);
        append(line, " %s[%d]:", program, (int) getpid());
    } else if (sink.journal) {
        append(line, "<%d>", priority);
    } else {
        append_time(line, "%Y-%m-%dT%H:%M:%S", true);
        append(line, " ");
    }
    append(line, "%s%s %s", sink.sink == SINK_SYSLOG ? " " : "", level_name(priority), event);
}

static bool is_plain(unsigned char byte)
{
    return byte > ' ' && byte < 0x7f && byte != '"' && byte != '=' && byte != '\\';
}

static bool needs_quotes(const unsigned char *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_plain(data[i]))
            return true;
    return length == 0;
}

/* Writes one byte as a C string would have it; OUT holds 5. */
static void escape(char *out, unsigned char byte)
{
    static const char letters[] = "abtnvfr"; /* of \a, which is 7, to \r */

    if (byte == '"' || byte == '\\')
        snprintf(out, 5, "\\%c", byte);
    else if (byte >= '\a' && byte <= '\r')
        snprintf(out, 5, "\\%c", letters[byte - '\a']);
    else if (byte < ' ' || byte >= 0x7f)
        snprintf(out, 5, "\\x%02x", byte);
    else
        snprintf(out, 5, "%c", byte);
}

void log_bytes(struct log_line *line, const char *key, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    char out[5];

    if (!line->wanted)
        return;
    if (!needs_quotes(bytes, length)) {
        append(line, " %s=%.*s", key, (int) length, (const char *) data);
        return;
    }
    append(line, " %s=\"", key);
    /* Stop while a whole escape and the closing quote still fit. */
    for (size_t i = 0; i < length && line->length + 8 < sizeof(line->text); i++) {
        escape(out, bytes[i]);
        append(line, "%s", out);
    }
    append(line, "\"");
}

void log_text(struct log_line *line, const char *key, const char *value)
{
    log_bytes(line, key, value, strlen(value));
}

void log_number(struct log_line *line, const char *key, uint64_t value)
{
    if (line->wanted)
        append(line, " %s=%" PRIu64, key, value);
}

void log_duration(struct log_line *line, const char *key, int64_t ms)
{
    if (line->wanted)
        append(line, " %s=%" PRId64 ".%03d", key, ms / 1000, (int) (ms % 1000));
}

static struct log_lost *lost_lines(void)
{
    return sink.lost != NULL ? sink.lost : &lost_here;
}

/* A terminal may take a part of a line: the next one then starts on a new line. */
static bool write_line(const struct log_line *line)
{
    bool was_cut = atomic_exchange(&lost_lines()->is_cut, false);
    struct iovec parts[] = { { "\n", 1 }, { (void *) line->text, line->length } };
    ssize_t whole = (ssize_t) line->length + was_cut;
    ssize_t sent = was_cut ? writev(sink.fd, parts, 2) : write(sink.fd, line->text, line->length);

    if (sent > 0 ? sent < whole : was_cut)
        atomic_store(&lost_lines()->is_cut, true);
    return sent == whole;
}

/*
 * By the connection that was made at the start, which needs no path: a chroot has another /dev. If
 * the one who listened there has ended, whoever is at the path by now.
 */
static bool put_datagram(const char *text, size_t length)
{
    ssize_t sent = send(sink.fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0 && (errno == ECONNREFUSED || errno == ENOTCONN || errno == EDESTADDRREQ))
        sent = sendto(sink.fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *) &system_log, sizeof(system_log));
    return sent == (ssize_t) length;
}

/* One attempt, without waiting; true if the sink took the whole line. */
static bool put(const struct log_line *line)
{
    struct pollfd ready = { .fd = sink.fd, .events = POLLOUT };
    ssize_t sent = -1;

    switch (sink.sink) {
    case SINK_SHARED:
        if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT))
            return false;
        /* fall through */
    case SINK_PLAIN:
        return write_line(line);
    case SINK_SOCKET:
        sent = send(sink.fd, line->text, line->length, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case SINK_SYSLOG:
        return put_datagram(line->text, line->length - 1); /* with no newline */
    }
    return sent == (ssize_t) line->length;
}

/* Whoever writes next tells of all lines that anybody lost; the exchange lets only one tell. */
static void tell_lost(struct log_lost *lost)
{
    uint64_t told = atomic_load(&lost->told);
    uint64_t lines = atomic_load(&lost->lines);
    struct log_line line;

    if (lines == told || !atomic_compare_exchange_strong(&lost->told, &told, lines))
        return;
    log_begin(&line, LOG_WARNING, "lost");
    log_number(&line, "lines", lines - told);
    if (!line.wanted)
        return;
    line.text[line.length++] = '\n';
    if (!put(&line))
        atomic_fetch_sub(&lost->told, lines - told);
}

void log_end(struct log_line *line)
{
    struct log_lost *lost = lost_lines();
    int kept = errno;

    if (!line->wanted)
        return;
    line->text[line->length++] = '\n';
    tell_lost(lost);
    if (!put(line))
        atomic_fetch_add(&lost->lines, 1);
    errno = kept;
}

void log_failure(int priority, const char *event, const char *what, int error)
{
    struct log_line line;

    log_begin(&line, priority, event);
    log_text(&line, "what", what);
    log_text(&line, "error", strerror(error));
    log_end(&line);
}

void log_startup_error(const char *what, const char *text)
{
    char out[5];

    fprintf(stderr, "%s: %s: ", program, what);
    for (; *text != '\0'; text++) {
        if (is_plain((unsigned char) *text) || strchr(" =\"\\", *text) != NULL)
            fputc(*text, stderr);
        else {
            escape(out, (unsigned char) *text);
            fputs(out, stderr);
        }
    }
    fputc('\n', stderr);
}
