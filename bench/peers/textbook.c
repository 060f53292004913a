/* libevent as textbooks write it: a bufferevent, and its input moved to its output. What a client
 * does not read piles up in that output, as in the books. Usage: textbook PORT */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void on_read(struct bufferevent *bev, void *data)
{
    (void) data;
    evbuffer_add_buffer(bufferevent_get_output(bev), bufferevent_get_input(bev));
}

static void on_drained(struct bufferevent *bev, void *data)
{
    (void) data;
    bufferevent_free(bev);
}

/* The peer's end, or an error: what is owed goes out first. */
static void on_event(struct bufferevent *bev, short what, void *data)
{
    (void) data;
    if ((what & BEV_EVENT_EOF) != 0 && evbuffer_get_length(bufferevent_get_output(bev)) > 0)
        bufferevent_setcb(bev, NULL, on_drained, on_event, NULL);
    else
        bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *data)
{
    struct event_base *base = evconnlistener_get_base(listener);
    struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    int on = 1;

    (void) address;
    (void) length;
    (void) data;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

int main(int argc, char **argv)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t) (argc > 1 ? atoi(argv[1]) : 7777)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct event_base *base = event_base_new();

    signal(SIGPIPE, SIG_IGN);
    if (base == NULL ||
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
                                SOMAXCONN, (const struct sockaddr *) &address,
                                sizeof(address)) == NULL) {
        perror("textbook");
        return 1;
    }
    event_base_dispatch(base);
    return 0;
}
