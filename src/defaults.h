/* defaults: every number that was chosen, with the reason why. Times are in milliseconds. */
#ifndef ECHOD_DEFAULTS_H
#define ECHOD_DEFAULTS_H

#define DEFAULT_ENDPOINT "tcp://localhost:7777"

/* At shutdown: long enough for a busy client's last replies, short enough for a service manager. */
#define DEFAULT_DRAIN_TIMEOUT_MS 10000

/* A handshake takes a few round trips; whoever drips it byte by byte is no client (interface). */
#define DEFAULT_HANDSHAKE_TIMEOUT_MS 10000

/* A worker that had no memory or descriptor for new credentials, or access lists, gets them again
 * after so long. */
#define SHARE_AGAIN_MS 1000
/* How often free memory is given back while there are handshakes: each takes 40 KiB, of which the
 * connection keeps 15. It takes some 10 us for each of those that were under way at a time. */
#define TRIM_MS 1000

/* Session tickets are made with a key so long, and taken for so long again: a day, as most do. */
#define TICKET_KEY_MS 43200000
/* The largest file of certificates that is read: a system's whole store of CAs is a quarter MiB. */
#define CREDENTIALS_FILE_MOST (4 << 20)
/* The largest file of --allow or --deny that is read: half a million prefixes. */
#define ACCESS_FILE_MOST (16 << 20)
/* A certificate that we make is good from a while ago, for clocks that are late... */
#define SELF_SIGNED_BEFORE_S 3600
/* ... and for as long as clients take one at all: 398 days is the most that browsers do. */
#define SELF_SIGNED_FOR_S (397L * 24 * 3600)

/* Keepalive: a vanished peer is noticed after two minutes, also behind a NAT of common make. */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_PROBES 4

/* Where it matters how much waits for a peer, the kernel gets so much ahead of what it sends. */
#define UNSENT_MOST 65536

/* A connection on which nothing moved for so long has no request under way (interface). */
#define QUIET_MS 250
/* ... unless its round trip is longer: then so many of them. */
#define QUIET_ROUND_TRIPS 4
/* After our FIN, how long a peer may stay silent before the connection is closed under it. */
#define LINGER_MS 2000

/* Of the chat: the longest line, in bytes, and the longest name (both interface). */
#define CHAT_LINE_MOST 4096
#define CHAT_NAME_MOST 32
/* With more waiting than that a member, or a worker's bus, holds back who speaks... */
#define CHAT_MUCH (64 << 10)
/* ... unless it took nothing for so long; a worker has members of its own to wait for. */
#define CHAT_MEMBER_PATIENCE_MS 250
#define CHAT_WORKER_PATIENCE_MS 2000
/* While a room waits for a member it reads from its bus as often as this, at least. */
#define CHAT_SIGN_MS 500
/* With more than that such a member is closed, and for such a worker lines are dropped. */
#define CHAT_MOST (256 << 10)
/* How often who is slow is looked at: ten times within the patience with a member. */
#define CHAT_TICK_MS 25
/* How often servers on a bus say that they are alive, and how long one may be silent. */
#define CHAT_ALIVE_MS 5000
#define CHAT_SERVER_SILENT_MS 16000
/* What is said at once mostly fits into so many bytes, by so many authors. */
#define CHAT_BLOCK 4096
#define CHAT_SPANS 16

/* How often a draining worker looks again. */
#define DRAIN_TICK_MS 20
/* At shutdown, what handshakes under way get: a round trip across an ocean... */
#define HANDSHAKE_MS 250
/* ... or on loopback, where they take microseconds, next to nothing. Meanwhile we look as often. */
#define LOOPBACK_HANDSHAKE_MS 2
/* How soon a connection that waits for its peer's last acknowledgement is looked at... */
#define LINGER_TICK_MS 25
/* ... and how often one that waits for long: often enough for LINGER_MS. */
#define LINGER_TICK_MOST_MS 200
/* A worker that still lives so long after the drain's deadline is killed. */
#define KILL_GRACE_MS 1000

/* Connections that are accepted in a row before those who are served have their turn: else a queue
 * that is filled as fast as it is emptied would hold them up, and all who come and go meanwhile
 * would take memory at once. */
#define ACCEPT_BATCH 64

/* A paused listener tries again: for descriptors that someone else gave back... */
#define RETRY_DESCRIPTORS_MS 1000
/* ... and for a connection slot, should the word that one is free have been lost. */
#define RETRY_SLOT_MS 100
/* One that did not try for so long hangs: others in the queue for slots pass it. */
#define LIMITS_STALE_MS 1000

/* A worker that lived so long is replaced at once; a shorter life backs off, doubling. */
#define WORKER_SETTLED_MS 1000
#define RESPAWN_FIRST_MS 100
#define RESPAWN_MOST_MS 5000

/* How often workers are asked whether they are alive: a small frame each, which costs nothing. */
#define HEARTBEAT_MS 1000
/* Who answered none of so many questions in a row is silent: one under load answers in ROUND_MS. */
#define HEARTBEATS_SILENT 2
/* ... and of so many hangs, for good: a machine that swaps may hold one up for seconds. Less than
 * what a service manager usually waits for us (30 s): one worker is replaced before all are. */
#define HEARTBEATS_HUNG 10
/* One that starts has to serve after so many: a thousand at a time take half of it on two
 * processors, each with a filter to make. */
#define HEARTBEATS_STARTING 60
/* Events that are ready are called for so long before the demultiplexer is asked again: what the
 * supervisor says is not to wait for thousands of TLS handshakes. Costs less than 1 % then. */
#define ROUND_MS 50

/* The channel of --chat-bus. */
#define DEFAULT_BUS_CHANNEL "echod"
/* A bus that is away is tried again, soon because a restart takes no longer, then doubling. */
#define BUS_RETRY_FIRST_MS 100
#define BUS_RETRY_MOST_MS 5000
/* How often it is asked for a sign of life... */
#define BUS_PING_MS 1000
/* ... and how often in vain: a fork or a slow command may hold Redis up for a second or two. */
#define BUS_SILENT_MOST 3
/* Bytes that may be on their way to it: seconds of the most that people can write. */
#define REDISBUS_PENDING_MOST (1 << 20)
/* The longest that it may say at a time: what others may have on their way, and what it puts
 * around that. */
#define BUS_REPLY_MOST (REDISBUS_PENDING_MOST + 65536)

/* "At most one line a second" about pauses. */
#define PAUSE_LOG_MS 1000

/* Of HTTP (--metrics): connections at a time. A few scrapers and browsers need a dozen; those who
 * mean ill hold up to a MiB each, see below. */
#define HTTP_CONNECTIONS 64
/* ... and one in so many of the descriptors at most: what is left starts workers anew. */
#define HTTP_DESCRIPTOR_SHARE 4
/* How soon a request has to be there, and its answer taken: who is slower is none of ours. */
#define HTTP_REQUEST_MS 10000
#define HTTP_ANSWER_MS 10000
/* ... and when all places or descriptors are taken. Whoever asks does so at once; an answer has
 * left for the kernel at once, unless the reader is slow. */
#define HTTP_CROWDED_REQUEST_MS 100
#define HTTP_CROWDED_ANSWER_MS 1000
/* How long a connection may wait for its next request: scrapes come every 15 to 60 seconds. */
#define HTTP_IDLE_MS 90000
/* A request line and headers, bytes: a browser's, with the cookies of all that localhost serves. A
 * header of one byte takes libevent a hundred. */
#define HTTP_HEADERS_MOST 8192
/* A body, which nobody needs: so that it is the method that is refused. */
#define HTTP_BODY_MOST 8192
/* Memory that has to be there before libevent takes what a request needs, a few KiB. */
#define HTTP_MEMORY 65536
/* What is received ahead of that: more than any request may have at a time. */
#define HTTP_INPUT_MOST 32768

/* How often the service manager is told of the connections: it tells others in turn. */
#define NOTIFY_STATUS_MS 1000
/* While we are not well, how often that is looked at: once we are it hears so without delay, as it
 * may have waited for nearly all of its time. */
#define NOTIFY_WELL_MS 100

/* What is received in one piece: as much as a raw loop would. More did not pay. */
#define BULK_READ 65536

/* Room for a PROXY header to begin with: any line, and the binary one with a few TLVs. It grows as
 * the bytes come, up to 64 KiB. */
#define PREFACE_ROOM 128

/* Room for the data of any datagram, whose length has 16 bits. */
#define DATAGRAM_ROOM 65536
/* Datagrams that are received, and answered, in one system call each: with 16 an answer takes 3 %
 * more CPU time, with 8 5 %, with 64 no less. In memory 2 MiB, of which small ones use a page
 * each... */
#define DATAGRAM_BATCH 32
/* ... so often in a row at most, before others have their turn. */
#define DATAGRAM_ROUNDS 4
/* At shutdown, how long a queue that never ends may keep a worker. */
#define DATAGRAM_DRAIN_MS 250
/* What may wait in a UDP socket, in bytes, as far as the system permits: a dozen of the largest. */
#define UDP_BUFFER (1 << 20)
/* Datagrams a second from one source: more than any probe sends, and no use to reflect. */
#define DEFAULT_UDP_RATE 1000
/* The sources whose rates are known at a time: 65536, in 1 MiB, used as they come. A row of hashes
 * is one cache line. */
#define RATES_ROWS 8192
#define RATES_WAYS 8

/* The counters of connections per source, 4 bytes each, for all together and for each worker;
 * memory is used as they are. One in so many other sources shares a newcomer's places. */
#define QUOTA_COUNTERS (1 << 20)

/* What -vv shows of received data, in bytes. */
#define LOG_DATA_MAX 256

/* Attempts to find a port that is free in every family of one endpoint with port 0. */
#define SHARED_PORT_TRIES 32

#endif
