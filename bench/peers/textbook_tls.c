/* libevent as textbooks write it, with TLS: textbook.c over a bufferevent of libevent_openssl.
 * Usage: textbook_tls PORT PEM, a file with a certificate and its key. */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void on_read(struct bufferevent *bev, void *data)
{
    (void) data;
    evbuffer_add_buffer(bufferevent_get_output(bev), bufferevent_get_input(bev));
}

static void on_event(struct bufferevent *bev, short what, void *data)
{
    (void) data;
    if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) != 0)
        bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *context)
{
    struct event_base *base = evconnlistener_get_base(listener);
    struct bufferevent *bev = bufferevent_openssl_socket_new(
        base, fd, SSL_new(context), BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    int on = 1;

    (void) address;
    (void) length;
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
    const char *pem = argc > 2 ? argv[2] : "tls.pem";
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    struct event_base *base = event_base_new();

    signal(SIGPIPE, SIG_IGN);
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, pem) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, pem, SSL_FILETYPE_PEM) != 1 || base == NULL ||
        evconnlistener_new_bind(base, on_accept, context,
                                LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, SOMAXCONN,
                                (const struct sockaddr *) &address, sizeof(address)) == NULL) {
        perror("textbook_tls");
        return 1;
    }
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    event_base_dispatch(base);
    return 0;
}
