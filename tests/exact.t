#!/usr/bin/env python3
"""Exact echo, whatever the peer does: every byte comes back in order, then EOF, and nobody else
notices how others behave."""
import contextlib
import ctypes
import errno
import os
import signal
import socket
import time

from harness import (Echod, Probe, Skip, check_report, echo, main, receive_all, reset, scenario,
                     suspend, wait_until)

MIB = 1 << 20
PIECE = 64 * 1024
NOISE = os.urandom(MIB) * 2


def stuff(connection, quiet=0.2):
    """Sends without reading until nothing has fitted any more for QUIET seconds; returns it."""
    sent, last = bytearray(), time.monotonic()
    connection.setblocking(False)
    while time.monotonic() - last < quiet:
        assert len(sent) < 64 * MIB, "it takes everything"
        try:
            offset = len(sent) % MIB
            sent += NOISE[offset:offset + connection.send(NOISE[offset:offset + PIECE])]
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    connection.settimeout(20)
    return bytes(sent)


def peer(connection):
    """As the log spells this connection's client."""
    return "%s:%d" % connection.getsockname()[:2]


@contextlib.contextmanager
def bystander(server):
    """A client that echoes all the while and wants to notice nothing."""
    with Probe("--json", "-s", 100, "-i", "2ms", server.endpoint()) as probe:
        wait_until(lambda: server.stats()["accepted"] > 0, "the bystander")
        yield
        probe.process.send_signal(signal.SIGINT)
        check_report(probe.wait())


@scenario
def eight_half_closed_streams_of_64_MiB(model):
    """Eight at once: send 64 MiB and FIN, with half a second in which nothing is read. All of it
    comes back, then EOF, and the log has the same count both ways."""
    size = str(64 * MIB)
    with Echod("-v", "--model=" + model) as server, bystander(server), Probe(
            "--json", "--half-close", "-c", 8, "-s", size, server.endpoint()) as probe:
        wait_until(lambda: server.stats()["received_bytes"] > 8 * MIB, "the streams")
        suspend(probe.process.pid)
        time.sleep(0.5)
        os.kill(probe.process.pid, signal.SIGCONT)
        assert check_report(probe.wait())["messages"] == 8
        for number in range(8):
            closed = server.wait_line("closed", number + 1, reason="eof", in_=size, out=size)
            assert closed.level == "info", closed


@scenario
def small_conversations(model):
    """One byte at a time; FIN without a byte; a word and its FIN in one segment: each gets what it
    sent, then EOF. The log has a line at level info, or debug if no byte came."""
    with Echod("-vv", "--model=" + model) as server, bystander(server):
        by_byte, mute, word = server.connect(), server.connect(), server.connect()
        peers = [peer(c) for c in (by_byte, mute, word)]
        for byte in range(256):
            echo(by_byte, bytes([byte]))
        word.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        word.send(b"word")
        for client in (by_byte, mute, word):
            client.shutdown(socket.SHUT_WR)
        assert [receive_all(c) for c in (by_byte, mute, word)] == [b"", b"", b"word"]
        for name, count, level in zip(peers, ("256", "0", "4"), ("info", "debug", "info")):
            closed = server.wait_line("closed", peer=name, reason="eof")
            assert closed["in"] == closed["out"] == count and closed.level == level, closed


@scenario
def an_urgent_byte_is_a_byte(model):
    """What is sent out of band comes back too, in its place in the stream."""
    with Echod("-v", "--model=" + model) as server, server.connect() as client:
        client.sendall(b"be")
        client.send(b"f", socket.MSG_OOB)
        client.sendall(b"ore")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"before"


@scenario
def slow_reader_that_half_closes(model):
    """A client sends until nothing more fits, says that this was all, reads nothing for half a
    second, and then gets every byte and EOF."""
    with Echod("-v", "--model=" + model) as server, bystander(server), server.connect() as client:
        sent = stuff(client)
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        assert not server.lines("closed"), "closed with bytes owed"
        assert receive_all(client) == sent
        closed = server.wait_line("closed", peer=peer(client), reason="eof")
        assert closed["in"] == closed["out"] == str(len(sent)), closed


@scenario
def reset_while_bytes_are_pending(model):
    """A client that takes nothing aborts: the log says reset, and how much it was sent of it."""
    with Echod("-v", "--model=" + model) as server, bystander(server):
        client = server.connect()
        name, sent = peer(client), stuff(client)
        reset(client)
        closed = server.wait_line("closed", peer=name, reason="reset")
        came, went = int(closed["in"]), int(closed["out"])
        assert 0 < went < came <= len(sent) and came - went < 160 * 1024, closed
        assert closed.level == "info", closed


@scenario
def reset_while_idle(model):
    """A client aborts after its echo, or before it has said anything: reset, and exact counts."""
    with Echod("-vv", "--model=" + model) as server, bystander(server):
        for words, level in ((b"words", "info"), (b"", "debug")):
            client = server.connect()
            name = peer(client)
            server.wait_line("accepted", peer=name)
            echo(client, words)
            reset(client)
            closed = server.wait_line("closed", peer=name)
            assert closed["in"] == closed["out"] == str(len(words)), closed
            assert closed["reason"] == "reset" and closed.level == level, closed


@scenario
def reset_before_it_is_accepted(model):
    """Clients that are gone before the server gets round to them (stopped here, as if by load)
    leave `reset` in the log and harm nobody."""
    with Echod("-vv", "--model=" + model) as server:
        pid = (server.workers() or [server.pid])[0]
        with server.connect() as other:
            echo(other, b"before")
            suspend(pid)
            silent, talker = server.connect(), server.connect()
            peers = [peer(silent), peer(talker)]
            talker.send(b"into the void")
            reset(silent)
            reset(talker)
            os.kill(pid, signal.SIGCONT)
            echo(other, b"after")
        for name in peers:
            closed = server.wait_line("closed", peer=name, reason="reset")
            assert closed["out"] == "0", closed


@scenario
def no_descriptor_is_leaked(model):
    """After a few hundred connections that end in every way, the worker holds no more descriptors
    than before, and no connection is counted as active."""
    with Echod("-v", "--model=" + model) as server, bystander(server):
        pid = (server.workers() or [server.pid])[0]
        wait_until(lambda: server.stats()["active"] == 1, "the bystander")
        before = len(os.listdir("/proc/%d/fd" % pid))
        ends = [socket.socket.close, reset, lambda c: (echo(c, b"x"), c.close()),
                lambda c: (c.send(b"x"), reset(c)), lambda c: (c.send(b"x" * PIECE), c.close()),
                lambda c: (c.send(b"x"), c.shutdown(socket.SHUT_WR), receive_all(c), c.close()),
                lambda c: (stuff(c, 0.01), reset(c)), lambda c: (stuff(c, 0.01), c.close())]
        for number in range(400):
            ends[number % len(ends)](server.connect())
        wait_until(lambda: server.stats()["active"] == 1, "the end of all others")
        after = len(os.listdir("/proc/%d/fd" % pid))
        assert after == before, "%d descriptors before, %d after" % (before, after)


@scenario
def every_address_family():
    """[::1]:0, localhost:0 and *:0 echo at each address that they stand for; the latter two at one
    port for all their addresses."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        for endpoint, least in (("[::1]:0", 1), ("localhost:0", 1), ("*:0", 2)):
            with Echod("tcp://" + endpoint) as server:
                places = [server.address(i) for i in range(len(server.lines("listening")))]
                assert len(places) >= least and len({port for _, port in places}) == 1, places
                for host, port in places:
                    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
                    with socket.create_connection((host, port), timeout=20) as client:
                        echo(client, b"hello " + host.encode())
        return
    raise Skip("no IPv6 here")


def socket_of(server, peer_address):
    """A copy of the server's own socket for this client, to look at its options."""
    pid = server.workers()[0]
    process = os.pidfd_open(pid)
    for number in map(int, os.listdir("/proc/%d/fd" % pid)):
        copy = ctypes.CDLL(None, use_errno=True).syscall(438, process, number, 0)  # pidfd_getfd
        if copy < 0 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
            raise Skip("no look into the server's process here")
        with contextlib.suppress(OSError):
            found = socket.socket(fileno=copy)
            if found.family == socket.AF_INET and found.getpeername() == peer_address:
                return found
    raise AssertionError("no socket for %s" % (peer_address,))


@scenario
def no_delay_and_keepalive():
    """Small messages are not held back for an acknowledgement, and a silent peer is probed after a
    minute, four times, 15 s apart."""
    with Echod() as server, server.connect() as client:
        echo(client, b"hello")
        own = socket_of(server, client.getsockname())
        wanted = {"TCP_NODELAY": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
        options = {name: own.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                   for name in wanted}
        assert options == wanted, options
        ends = ["0100007F:%04X" % s[1] for s in (client.getpeername(), client.getsockname())]

        def timer():
            """The server's: None while it is for an acknowledgement that is under way."""
            with open("/proc/net/tcp") as sockets:
                rows = [line.split() for line in sockets]
            kind, ticks = [row[5] for row in rows if row[1:3] == ends][0].split(":")
            return int(ticks, 16) / os.sysconf("SC_CLK_TCK") if kind == "02" else None

        assert 50 < wait_until(timer, "the keepalive timer") <= 61


main()
