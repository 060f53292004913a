/* The load of a chat: members that read everything, and authors among them, closed loop. A line is
 * settled when every other member has it, exact and in its author's order; then the author says the
 * next. What is compared with is kept, so that this client takes less time than any server.
 *
 * When all have joined, one line of JSON is printed, and then one for each run that standard input
 * asks for, by a line "AUTHORS IN_FLIGHT SIZE SECONDS". Members stay until it ends.
 * Usage: chatters MEMBERS HOST PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AUTHORS 100  /* at most: two digits tell them apart */
#define SHORTEST 16  /* has room for author and number */
#define LONGEST 4096
#define AROUND 64    /* NAME and a colon, at most */
#define IN_FLIGHT 65536 /* bytes of an author that are under way at most: a send takes them all */
#define INPUT 65536
#define BATCH 256
#define QUIET_MS 200 /* if so long nobody hears anything, all are here and know it */
#define OPENING_S 60
#define PATIENCE_S 5 /* for what is in flight at the end */

struct member {
    int fd;
    bool greeted;
    size_t rest_length;
    char rest[LONGEST + AROUND];  /* of a line that is not all here yet */
    uint32_t heard[AUTHORS];      /* lines of each author */
};

struct author {
    uint32_t said, settled;
    uint32_t *missing; /* by line in flight: members that do not have it yet */
    char *lines;       /* those in flight, a ring */
};

static struct {
    uint32_t authors, in_flight;
    size_t size;
    double seconds;
} run;

static struct member *members;
static struct author authors[AUTHORS];
static uint32_t member_count, greeted_count;
static uint64_t delivered, corrupt;
static int queue;
static char input[LONGEST + AROUND + INPUT];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void refuse(const char *why)
{
    fprintf(stderr, "chatters: %s\n", why);
    exit(1);
}

static double clock_seconds(clockid_t id)
{
    struct timespec time;

    clock_gettime(id, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static double now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

static char *line_of(const struct author *author, uint32_t number)
{
    return author->lines + number % run.in_flight * run.size;
}

static void compose(struct author *author, char *line)
{
    int head = snprintf(line, run.size, "%02d %010u ", (int) (author - authors), author->said);

    memset(line + head, 'x', run.size - (size_t) head - 1);
    line[run.size - 1] = '\n';
}

/* Says as many lines as may be in flight, in one piece. */
static void speak(struct author *author)
{
    char out[IN_FLIGHT];
    size_t length = 0;

    for (; author->said - author->settled < run.in_flight; author->said++) {
        char *line = line_of(author, author->said);

        compose(author, line);
        memcpy(out + length, line, run.size);
        length += run.size;
        author->missing[author->said % run.in_flight] = member_count - 1;
    }
    if (length > 0 &&
        send(members[author - authors].fd, out, length, MSG_NOSIGNAL) != (ssize_t) length)
        die("send");
}

/* Is this line, all of it, the next that MEMBER has to hear of this author? */
static bool is_next(const struct member *member, const struct author *author, const char *text)
{
    uint32_t number = member->heard[author - authors];

    return &members[author - authors] != member && number != author->said && text[-1] == ' ' &&
           memcmp(text, line_of(author, number), run.size) == 0;
}

static void hear(struct member *member, const char *line, size_t length)
{
    const char *text = line + length - run.size;
    uint32_t i, *heard;

    if (length < run.size + 1) {
        corrupt++;
        return;
    }
    i = (uint32_t) (text[0] - '0') * 10 + (uint32_t) (text[1] - '0');
    if (i >= run.authors || !is_next(member, &authors[i], text)) {
        corrupt++;
        return;
    }
    delivered++;
    heard = &member->heard[i];
    if (--authors[i].missing[*heard % run.in_flight] == 0)
        authors[i].settled++;
    (*heard)++;
}

/* The first line is a greeting, whatever it says; notices are read past. */
static void take_line(struct member *member, const char *line, size_t length)
{
    if (!member->greeted) {
        member->greeted = true;
        greeted_count++;
    } else if (line[0] != '*') {
        hear(member, line, length);
    }
}

static void receive(struct member *member)
{
    char *line = input, *end, *newline;
    ssize_t got;

    memcpy(input, member->rest, member->rest_length);
    got = recv(member->fd, input + member->rest_length, INPUT, MSG_DONTWAIT);
    if (got <= 0)
        refuse("a member was closed");
    end = input + member->rest_length + got;
    while ((newline = memchr(line, '\n', (size_t) (end - line))) != NULL) {
        take_line(member, line, (size_t) (newline + 1 - line));
        line = newline + 1;
    }
    member->rest_length = (size_t) (end - line);
    if (member->rest_length > sizeof(member->rest))
        refuse("a line does not end");
    memcpy(member->rest, line, member->rest_length);
}

/* Returns whether anything came within so long. */
static bool receive_all(int milliseconds)
{
    struct epoll_event events[BATCH];
    int count = epoll_wait(queue, events, BATCH, milliseconds);

    for (int i = 0; i < count; i++)
        receive(events[i].data.ptr);
    return count > 0;
}

static void join(struct member *member, const struct sockaddr_in *address)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = member };
    const int on = 1;

    member->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (member->fd < 0 ||
        setsockopt(member->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        connect(member->fd, (const struct sockaddr *) address, sizeof(*address)) < 0 ||
        epoll_ctl(queue, EPOLL_CTL_ADD, member->fd, &event) < 0)
        die("a member cannot join");
}

static void join_all(const struct sockaddr_in *address)
{
    double began = now();

    for (uint32_t i = 0; i < member_count; i++) {
        join(&members[i], address);
        receive_all(0);
    }
    while (receive_all(QUIET_MS) || greeted_count < member_count)
        if (now() - began > OPENING_S)
            refuse("not all were greeted, or it never gets quiet");
    printf("{\"members\":%u,\"seconds\":%.3f}\n", member_count, now() - began);
    fflush(stdout);
}

static void prepare(void)
{
    for (uint32_t i = 0; i < member_count; i++)
        memset(members[i].heard, 0, sizeof(members[i].heard));
    for (uint32_t i = 0; i < run.authors; i++) {
        free(authors[i].missing);
        free(authors[i].lines);
        authors[i] = (struct author){
            .missing = calloc(run.in_flight, sizeof(*authors[i].missing)),
            .lines = calloc(run.in_flight, run.size),
        };
        if (authors[i].missing == NULL || authors[i].lines == NULL)
            die("calloc");
    }
    delivered = corrupt = 0;
}

static void speak_all(void)
{
    for (uint32_t i = 0; i < run.authors; i++)
        speak(&authors[i]);
}

/* How many lines were said, and how many of them not everybody has. */
static uint64_t count_said(uint64_t *unsettled)
{
    uint64_t said = 0;

    *unsettled = 0;
    for (uint32_t i = 0; i < run.authors; i++) {
        said += authors[i].said;
        *unsettled += authors[i].said - authors[i].settled;
    }
    return said;
}

/* It lasts until the last line has been delivered. */
static void measure(void)
{
    double began = now(), busy = clock_seconds(CLOCK_PROCESS_CPUTIME_ID), seconds;
    uint64_t said, unsettled;

    do {
        speak_all();
        receive_all(QUIET_MS);
    } while (now() - began < run.seconds);
    while (count_said(&unsettled), unsettled > 0 && now() - began < run.seconds + PATIENCE_S)
        receive_all(QUIET_MS);
    seconds = now() - began;
    busy = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
    said = count_said(&unsettled);
    printf("{\"messages\":%llu,\"lines\":%llu,\"seconds\":%.6f,\"rate\":%.1f,\"unsettled\":%llu,"
           "\"corrupt\":%llu,\"client\":%.3f}\n",
           (unsigned long long) said, (unsigned long long) delivered, seconds,
           (double) delivered / seconds, (unsigned long long) unsettled,
           (unsigned long long) corrupt, busy / seconds);
    fflush(stdout);
}

static bool read_run(void)
{
    int count = scanf("%u %u %zu %lf", &run.authors, &run.in_flight, &run.size, &run.seconds);

    if (count == EOF)
        return false;
    if (count != 4 || run.authors < 1 || run.authors > AUTHORS || run.authors > member_count ||
        run.in_flight < 1 || run.size < SHORTEST || run.size > LONGEST ||
        run.in_flight > IN_FLIGHT / run.size)
        refuse("a run is AUTHORS IN_FLIGHT SIZE SECONDS");
    return true;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET };

    if (argc != 4 || atoi(argv[1]) < 2 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
        fputs("usage: chatters MEMBERS HOST PORT\n", stderr);
        return 2;
    }
    member_count = (uint32_t) atoi(argv[1]);
    address.sin_port = htons((uint16_t) atoi(argv[3]));
    members = calloc(member_count, sizeof(*members));
    queue = epoll_create1(0);
    if (members == NULL || queue < 0)
        die("chatters");
    join_all(&address);
    while (read_run()) {
        prepare();
        measure();
    }
    return 0;
}
