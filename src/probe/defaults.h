/* defaults: every number of echoprobe that was chosen, with the reason why. Times are in ms. */
#ifndef ECHOD_PROBE_DEFAULTS_H
#define ECHOD_PROBE_DEFAULTS_H

/* A message is as long as ping's. */
#define DEFAULT_SIZE 64
/* ping's pace. */
#define DEFAULT_INTERVAL_MS 1000
/* Loads that nothing else ends: long enough for p99.9 to settle. */
#define DEFAULT_DURATION_MS 10000
/* Longer than the retransmissions (1 + 2 + 4 s) by which a handshake gets through a full queue. */
#define DEFAULT_TIMEOUT_MS 10000

/* What is sent or received at a time. Measured: less costs calls, more the cache that verifies. */
#define PIECE_MAX ((size_t) 64 * 1024)

/* UDP: nothing is sent again, so what takes as long as a first retransmission would is lost. */
#define DEFAULT_UDP_TIMEOUT_MS 1000
/* The longest datagram over IPv4: 65535 less the headers of IP and UDP. */
#define UDP_SIZE_MOST 65507
/* Datagrams sent or received in one call: measured, more did not pay... */
#define BATCH_DATAGRAMS 64
/* ... and of large ones, so many bytes of them: what fits a cache. */
#define BATCH_BYTES ((size_t) 1024 * 1024)
/* Asked of the kernel, which gives less by default: what may come back at the same time. */
#define RECEIVE_BUFFER (4 * 1024 * 1024)
/* Datagrams on their way on one socket: what so many others have overtaken is lost. */
#define WINDOW_MOST ((uint64_t) 1 << 20)
/* What a window has room for to begin with. */
#define WINDOW_LEAST 16

/* In the open loop, messages that are counted as due at a time: some ms of work. */
#define BATCH_MOST 65536

/* Of the latencies, what is reported: the percentiles that the interface names. */
#define PERCENTILES { 50, 90, 99, 99.9 }

/* How often a thread looks for connections that have waited too long. */
#define TICK_MS 50

/* How often the line on the terminal is renewed. */
#define LIVE_MS 1000

/* When all is back: how long a server may take to close, or to send what nobody asked for. */
#define LINGER_MS 250

#endif
