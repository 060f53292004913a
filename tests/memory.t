#!/usr/bin/env python3
"""Bounded memory: clients that send for ever and never read cost little, hold nobody up, and get
back all that they sent once they do read."""
import fcntl
import os
import select
import socket
import struct
import termios
import time

from harness import Echod, Skip, echo, main, memory_kib, scenario

CLIENTS = 100
KIB_EACH = 160
NOISE = os.urandom(1 << 20) * 2


class Glutton:
    """Sends for ever, and reads when told to; its bytes are NOISE from a place of its own on."""

    def __init__(self, server, number, segment):
        self.at, self.sent, self.got = number * 7919, 0, 0
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Small buffers in the kernel: it is the daemon's memory that we want to see filled.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        self.socket.connect(server.address())
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def noise(self, position, size):
        start = (self.at + position) % (len(NOISE) // 2)
        return NOISE[start:start + size]

    def send(self, size):
        """SIZE bytes, or what fits of them; false when nothing does."""
        assert self.sent < 64 << 20, "64 MiB, and no end: who keeps all that?"
        try:
            self.sent += self.socket.send(self.noise(self.sent, size))
            return True
        except BlockingIOError:
            return False

    def receive(self):
        """Takes what there is and checks it; false at EOF."""
        data = self.socket.recv(65536)
        assert data == self.noise(self.got, len(data)), "differs after %d bytes" % self.got
        self.got += len(data)
        return bool(data)

    def in_kernel(self):
        """Bytes that are unacknowledged, or unread, at this end."""
        return sum(struct.unpack("i", fcntl.ioctl(self.socket, what, b"1234"))[0]
                   for what in (termios.TIOCOUTQ, termios.FIONREAD))


def ping(client):
    """How long a round trip takes."""
    began = time.monotonic()
    echo(client, b"are you still there?")
    return time.monotonic() - began


def stall(gluttons, other):
    """All send, by turns, until nothing has fitted for a quarter of a second; how long the round
    trips of OTHER took meanwhile."""
    trips, last = [], time.monotonic()
    while time.monotonic() - last < 0.25:
        if sum([glutton.send(65536) for glutton in gluttons]):
            last = time.monotonic()
        trips.append(ping(other))
    return trips


def queued(port):
    """Bytes in the kernel at the server's end of each connection, by its client's port."""
    with open("/proc/net/tcp") as sockets:
        rows = [line.split()[1:5] for line in list(sockets)[1:]]
    return {int(remote.split(":")[1], 16): sum(int(size, 16) for size in sizes.split(":"))
            for local, remote, _, sizes in rows if int(local.split(":")[1], 16) == port}


def stall_by_byte(gluttons, other):
    """All fill the kernel's queues, until the daemon itself has to keep something, and go on from
    there with one byte a message: a thousand, or what fits."""
    trips, filling = [], {glutton: 0 for glutton in gluttons}
    while filling:
        kernel = queued(other.getpeername()[1])
        for glutton, seen in list(filling.items()):
            if glutton.sent <= glutton.in_kernel() + kernel[glutton.port]:
                glutton.send(8192)
                filling[glutton] = 0
            elif seen < 3:  # or else bytes were on their way from one queue to another
                filling[glutton] += 1
            else:
                del filling[glutton]
        trips.append(ping(other))
    for _ in range(1000):
        for glutton in gluttons:
            glutton.send(1)
        trips.append(ping(other))
    return trips


def read_all(gluttons):
    """All say that they are done, read by turns what they are owed, and get EOF."""
    poll = select.poll()
    waiting = {glutton.socket.fileno(): glutton for glutton in gluttons}
    for number, glutton in waiting.items():
        glutton.socket.shutdown(socket.SHUT_WR)
        poll.register(number, select.POLLIN)
    while waiting:
        ready = poll.poll(20000)
        assert ready, "%d clients got nothing any more" % len(waiting)
        for number, _ in ready:
            if not waiting[number].receive():
                poll.unregister(number)
                glutton = waiting.pop(number)
                assert glutton.got == glutton.sent, (glutton.got, glutton.sent)


def overload(model, send, segment):
    if os.environ.get("ECHOD_SANITIZED"):
        raise Skip("sanitizers take memory of their own")
    with Echod("--model=" + model) as server, server.connect() as other:
        echo(other, b"hello")
        pids = server.workers() or [server.pid]
        before = memory_kib(pids)
        gluttons = [Glutton(server, number, segment) for number in range(CLIENTS)]
        trips = sorted(send(gluttons, other))
        each = (memory_kib(pids) - before) / CLIENTS
        print("# %.1f KiB each, after %d KiB each; round trips: median %.2f ms, worst %.2f ms" % (
            each, sum(g.sent for g in gluttons) / CLIENTS / 1024,
            trips[len(trips) // 2] * 1000, trips[-1] * 1000))
        assert each <= KIB_EACH, "%.0f KiB for each stalled client" % each
        assert trips[len(trips) // 2] < 0.1, "%s s" % trips[-5:]
        read_all(gluttons)
        assert min(ping(other) for _ in range(3)) < 0.1, "slow when all is over"


@scenario
def a_hundred_that_never_read(model):
    """They send as much as they can get rid of and read nothing: at most 160 KiB of memory each,
    others are echoed as ever, and nothing was lost when they do read."""
    overload(model, stall, 16384)


@scenario
def a_hundred_that_never_read_and_send_by_byte(model):
    """The same when what cannot be passed on comes one byte a message: no buffer for each."""
    overload(model, stall_by_byte, 536)  # the kernel buffers less with small segments


main()
