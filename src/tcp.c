#include "tcp.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "defaults.h"

static void set_option(int fd, int level, int name, int value)
{
    (void) setsockopt(fd, level, name, &value, sizeof(value));
}

void tcp_set_defaults(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1); /* an urgent byte is a byte */
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

void tcp_limit_unsent(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_MOST);
}

int tcp_unread(int fd)
{
    int bytes = 0;

    return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : 0;
}

int tcp_unacknowledged(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

static struct tcp_info info_of(int fd)
{
    struct tcp_info info = { 0 }; /* and it stays so for a unix socket */
    socklen_t length = sizeof(info);

    (void) getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
    return info;
}

uint32_t tcp_round_trip_us(int fd)
{
    return info_of(fd).tcpi_rtt;
}

int64_t tcp_since_sent_ms(int fd)
{
    return info_of(fd).tcpi_last_data_sent;
}

bool tcp_is_closed(int fd, int *error)
{
    socklen_t length = sizeof(*error);

    *error = 0;
    if (info_of(fd).tcpi_state != TCP_CLOSE)
        return false;
    (void) getsockopt(fd, SOL_SOCKET, SO_ERROR, error, &length);
    return true;
}

void tcp_reset_on_close(int fd)
{
    const struct linger none = { .l_onoff = 1, .l_linger = 0 };

    (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

bool tcp_is_loopback(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
    } own = { .any.sa_family = AF_UNSPEC };
    socklen_t length = sizeof(own);

    (void) getsockname(fd, &own.any, &length);
    if (own.any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&own.ip6.sin6_addr);
    if (own.any.sa_family == AF_INET)
        return ntohl(own.ip4.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
    return own.any.sa_family == AF_UNIX;
}

void tcp_stop_queueing(int fd)
{
    /* A socket filter sees the TCP header first: drop SYN without ACK, take all else. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

    (void) setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}
