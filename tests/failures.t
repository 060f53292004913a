#!/usr/bin/env python3
"""Every failure in a connection's life: the n-th call of a function fails, for each n until a life
passes in which none did. After each the same worker serves on, everybody who was there has noticed
nothing, and nothing has leaked: descriptors, counts, memory. The client that it befell got all its
bytes, or was cut off; never a wrong byte, nor an end that looks like one after a part. And the log
says it, once.

The daemon is tests/failing (failing.c), which is told by a file that it shares with us.
"""
import contextlib
import errno
import mmap
import os
import signal
import socket
import ssl
import struct
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import harness
from harness import (ECHOD, MODELS, Echod, Skip, main, memory_kib, needs_tls, receive_exactly, scenario,
                     wait_until)

harness.ECHOD = os.path.join(os.path.dirname(ECHOD), os.pardir, "tests", "failing")
SANITIZED = bool(os.environ.get("ECHOD_SANITIZED"))
EACH_WORKER = -1
NOISE = os.urandom(50000)
REPEATS = 48
TOGETHER = 12  # daemons
PATIENCE = 20 if SANITIZED else 8  # seconds; who has heard nothing by then never will

# What each call is known to fail with.
ERRORS = {
    "accept4": "EMFILE ENFILE ENOMEM ENOBUFS ECONNABORTED EINTR EAGAIN",
    "recv": "ECONNRESET ETIMEDOUT ENOMEM EINTR EAGAIN",
    "send": "EPIPE ECONNRESET ENOBUFS ENOMEM EINTR EAGAIN",
    "writev": "EPIPE ECONNRESET ENOBUFS ENOMEM EINTR EAGAIN",
    "sendmsg": "ENOBUFS ENOMEM EAGAIN",
    "recvmsg": "EINTR EAGAIN",
    "recvmmsg": "ECONNREFUSED ENOMEM EINTR EAGAIN",
    "sendmmsg": "ECONNREFUSED EPERM ENOBUFS ENOMEM EAGAIN",
    "setsockopt": "EINVAL ENOBUFS",
    "getsockopt": "EINVAL",
    "getsockname": "ENOBUFS",
    "getpeername": "ENOTCONN",
    "shutdown": "ENOTCONN",
    "close": "EINTR EIO",
    "epoll_ctl": "ENOMEM ENOSPC",
    "epoll_wait": "EINTR",
    "ioctl": "EINVAL",
    "fcntl": "EMFILE",
    "mmap": "ENOMEM",
    "memory": "ENOMEM",
}
STREAM = ("accept4", "recv", "send", "writev", "setsockopt", "getsockopt", "getsockname",
          "getpeername", "shutdown", "close", "epoll_ctl", "epoll_wait", "ioctl", "memory")
# What fails so may fail again at once.
LASTING = "accept4", "epoll_ctl", "memory", "sendmsg"
# A socket that fails so is dead, but this one is not: a client may see a clean end.
DEAD = "EPIPE", "ECONNRESET", "ETIMEDOUT"
WHOLE, BROKEN = "whole", "broken"
QUIET_EVENTS = ("accepted", "received", "stats", "resumed", "reloaded", "handshake-failed",
                "libevent")


class Plan:
    """What fails, in a file that the daemon maps too: as struct plan in failing.c."""
    SIZE, COUNT, FAILED, MOST, CALL, WATCHED, BLOCKS = 56, 4, 8, 24, 32, 48, 52

    def __init__(self, directory):
        self.endpoints = {}  # of the daemon, as far as somebody asked
        self.path = os.path.join(directory, "plan")
        with open(self.path, "wb+") as file:
            file.truncate(self.SIZE)
            self.shared = mmap.mmap(file.fileno(), self.SIZE)

    def _get(self, at):
        return struct.unpack_from("=I", self.shared, at)[0]

    def arm(self, thread, call, nth, error, times=1):
        self.disarm()
        struct.pack_into("=IIIIi", self.shared, self.COUNT, 0, 0, nth, nth + times - 1, error)
        struct.pack_into("=16s", self.shared, self.CALL, call.encode())
        struct.pack_into("=i", self.shared, 0, thread)

    def disarm(self):
        """Returns how many have failed since."""
        struct.pack_into("=i", self.shared, 0, 0)
        return self._get(self.FAILED)

    def watch(self, thread):
        """Counts blocks of memory that THREAD takes from now on."""
        struct.pack_into("=ii", self.shared, self.WATCHED, thread, 0)

    def blocks(self):
        return struct.unpack_from("=i", self.shared, self.BLOCKS)[0]

    def shorten(self, most):
        """Streams are given at most so many bytes at a time; 0: as many as fit."""
        struct.pack_into("=I", self.shared, self.MOST, most)


def soon(condition, what):
    """As wait_until, for what is waited for thousands of times."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "no end of waiting for " + what
        time.sleep(0.0005)


def needs_failing():
    if "process" not in MODELS:
        raise Skip("a worker is a process here, so that its descriptors are its own")
    if not os.path.exists(harness.ECHOD):
        raise Skip("built without libevent's archive")


@contextlib.contextmanager
def failing(*arguments, **more):
    """The daemon, and its .plan."""
    needs_failing()
    with tempfile.TemporaryDirectory() as directory:
        plan = Plan(directory)
        arguments = [argument.replace("DIR", directory) for argument in arguments]
        with Echod(*arguments, environment={"ECHOD_FAILURE": plan.path}, **more) as server:
            server.plan = plan
            yield server


def is_clean_end(error):
    """May a client see a clean end after a part?"""
    return errno.errorcode[error] in DEAD


def judge(got, expected, error, broke):
    """What came of a stream: exactly EXPECTED, or a part and a break."""
    assert expected.startswith(got), "wrong bytes: %d of %d" % (len(got), len(expected))
    if len(got) == len(expected):
        return WHOLE
    assert broke or is_clean_end(error), "a clean end after %d of %d bytes" % (
        len(got), len(expected))
    return BROKEN


def converse(client, sent, error, expected=None, clean=False):
    """Sends all, says so, and reads to the end. CLEAN: every end of this kind is."""
    got, broke = bytearray(), clean
    expected = sent if expected is None else expected
    try:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(1 << 16):
            got += piece
    except OSError as failure:
        if failure.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            raise
        broke = True
    return judge(bytes(got), expected, error, broke)


def connect(server, index):
    endpoint = server.plan.endpoints.get(index)
    if not endpoint:
        endpoint = server.plan.endpoints[index] = server.endpoint(index)
    if endpoint.startswith("unix://"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(endpoint[len("unix://"):])
        return client
    host, port = endpoint.split("://")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


class Life:
    """A daemon with one worker, and those who are to notice nothing: a client with an open
    connection, if there is room for it."""
    endpoints = ["tcp://127.0.0.1:0"]
    options = []
    calls = STREAM
    index = 0
    stands = True

    def live(self, error):
        """A client's life, from the connect to the end; WHOLE or BROKEN."""
        with connect(self.server, 0) as client:
            return converse(client, NOISE, error)

    def begin(self):
        """Whatever else there has to be before."""

    def check(self):
        """Whatever else has to hold after."""

    def target(self):
        return self.server.workers()[0]

    def numbers(self, call):
        """Which calls are to fail, in turn."""
        return range(1, 400)

    # What follows is the same for all.

    def _greet(self):
        self.standing = None
        if self.stands:
            self.standing = self._connect_other()

    def _connect_other(self):
        client = connect(self.server, self.index)
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        return client

    def _stats(self):
        """As Echod.stats(), but for thousands of times."""
        raw, begin = self.server.raw, len(self.server.raw)
        self.server.signal(signal.SIGUSR1)
        end = time.monotonic() + PATIENCE
        while True:
            for line in raw[begin:]:
                if " stats " in line:
                    return {key: float(value) for key, _, value in
                            (pair.partition("=") for pair in line.split()[3:])}
            assert time.monotonic() < end, "no stats"
            time.sleep(0.0003)

    def _descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.worker))

    def _stand(self):
        """Puts back who has to be there all the time."""

    def _settle(self):
        """Waits until all is as it was, but for who stands there; the statistics."""
        end = time.monotonic() + PATIENCE
        while True:
            stats = self._stats()
            if stats["active"] == self.active and self._descriptors() == self.descriptors:
                return stats
            self._stand()
            assert time.monotonic() < end, "%d active, not %d; %d descriptors, not %d" % (
                stats["active"], self.active, self._descriptors(), self.descriptors)

    def _check_counts(self, stats):
        closed = sum(value for key, value in stats.items() if key.startswith("closed_"))
        assert stats["accepted"] == closed + stats["active"], stats
        if self.standing:
            assert stats["active"] >= 1, "who was there is gone"

    def _check_others(self):
        """Who was there, and who comes now."""
        if self.standing:
            self.standing.sendall(b"still there?")
            assert receive_exactly(self.standing, 12) == b"still there?"
        self._connect_other().close()
        self._settle()

    def _check_log(self, begin, outcome):
        lines = [harness.Line(text) for text in self.server.raw[begin:]]
        said = [line for line in lines if line.event not in QUIET_EVENTS and not (
            line.event == "closed" and line["reason"] == "eof") and not (
                line.event == "paused" and line["reason"] == "max-connections")]
        closed = [line for line in said if line.event == "closed"]
        rest = [line for line in said if line.event != "closed"]
        causes = [line for line in lines if line.event == "libevent"]
        assert max(len(closed), len(causes), len(rest)) <= self.times, lines
        assert not [line for line in lines if line.event == "worker-died"], lines
        assert outcome == WHOLE or said or causes, "nothing was said of a break"

    def _live(self, error):
        """The same; a client that is cut off at once may not even get to connect."""
        try:
            return self.live(error)
        except ConnectionResetError:
            return BROKEN

    def step(self, call, nth, error, times):
        """One life with one failure (TIMES in a row); true if there was any."""
        begin, self.times = len(self.server.raw), times
        self.plan.arm(self.target(), call, nth, error, times)
        try:
            outcome = self._live(error)
            stats = self._settle()
        finally:
            has_failed = self.plan.disarm()
        assert has_failed or outcome == WHOLE, "cut off, and nothing had failed"
        self._check_counts(stats)
        self._check_log(begin, outcome)
        self._check_others()
        self.check()
        assert self.server.workers() == [self.worker], "another worker"
        return has_failed > 0

    def walk(self, call, error, times):
        """Each NTH in turn, until none fails; returns how many did."""
        count = 0
        for nth in self.numbers(call):
            try:
                if not self.step(call, nth, getattr(errno, error), times):
                    return count
                count += 1
            except (AssertionError, OSError) as failure:
                raise AssertionError("%s: call %d of %s, %d times %s: %s: %s\n%s" % (
                    type(self).__name__, nth, call, times, error, type(failure).__name__, failure,
                    "\n".join([line for line in self.server.raw if " stats " not in line][-8:])
                    )) from failure
        raise AssertionError("no end of %s" % call)

    def start(self, stack):
        self.server = stack.enter_context(failing("-vv", *self.options, *self.endpoints))
        self.plan = self.server.plan
        self.worker = self.server.workers()[0]
        self._greet()
        self.begin()
        self.active = self._stats()["active"]
        self.descriptors = self._descriptors()
        for _ in range(3):  # what is kept for ever is had by then
            assert self.live(0) == WHOLE
            self._settle()
        self.plan.disarm()


def sweep(life):
    """All failures of LIFE; memory does not grow by them."""
    with contextlib.ExitStack() as stack:
        life.start(stack)
        steps = 0
        for call in life.calls:
            counts = []
            for error in ERRORS[call].split():
                counts.append(life.walk(call, error, 1))
            if call in LASTING:
                counts.append(life.walk(call, ERRORS[call].split()[0], 2))
            steps += sum(counts)
        print("# %d failures" % steps)
        check_memory(life)


def check_memory(life):
    """Many failures more: what is taken is given back."""
    numbers = life.numbers("memory")
    life.live(0)
    life._settle()
    life.plan.watch(life.target())
    for i in range(REPEATS):
        life.plan.arm(life.target(), "memory", numbers[i % 12], errno.ENOMEM)
        life._live(errno.ENOMEM)
        life.plan.disarm()
    life.live(0)
    life._settle()
    soon(lambda: life.plan.blocks() <= 4, "memory of %d failures to be given back" % REPEATS)


class Tcp(Life):
    """Bytes, a half-close, the same bytes, the end."""


class SlowReader(Life):
    """The kernel takes a little at a time: output waits in the daemon."""

    def begin(self):
        self.plan.shorten(9000)


class Unix(Life):
    endpoints = ["unix://DIR/socket"]

    def live(self, error):
        with connect(self.server, 0) as client:
            return converse(client, NOISE, error, clean=True)


class Udp(Life):
    """Three datagrams: each comes back as it was, or is counted as dropped."""
    endpoints = ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
    options = ["--udp-rate=0"]
    index = 1
    calls = "recvmmsg", "sendmmsg", "memory", "epoll_wait"

    def live(self, error):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(self.server.address(0))
            client.settimeout(PATIENCE)
            sent, got = [os.urandom(size) for size in (1, 1000, 9000)], []
            before = self._stats()["datagrams_received"]
            for datagram in sent:
                client.send(datagram)
            soon(lambda: self._stats()["datagrams_received"] == before + 3, "all to come")
            soon(self._is_settled, "all to be answered, or counted")
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(client.recv(65536))
            assert all(datagram in sent for datagram in got), "a wrong datagram"
            return WHOLE if len(got) == 3 else BROKEN

    def _is_settled(self):
        stats = self._stats()
        return stats["datagrams_received"] == stats["datagrams_sent"] + stats["dropped_full"]

    def _check_log(self, begin, outcome):
        super()._check_log(begin, WHOLE)  # of a datagram that is dropped there is a count


class Proxied(Life):
    """A PROXY header, and then the same."""
    endpoints = ["tcp://127.0.0.1:0?proxy=127.0.0.1", "tcp://127.0.0.1:0"]
    index = 1

    def live(self, error):
        with connect(self.server, 0) as client:
            return converse(client, b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 80\r\n" + NOISE[:3000],
                            error, NOISE[:3000])


class Tls(Life):
    """A handshake, bytes both ways, and close_notify both ways."""
    endpoints = ["tls://127.0.0.1:0", "tcp://127.0.0.1:0"]
    options = ["--tls-self-signed"]
    index = 1
    stride = 40

    def begin(self):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def live(self, error):
        got, broke = b"", False
        try:
            with connect(self.server, 0) as plain, self.context.wrap_socket(
                    plain, suppress_ragged_eofs=False) as client:
                client.sendall(NOISE)
                while len(got) < len(NOISE) and (piece := client.recv(1 << 16)):
                    got += piece
                client.unwrap()
        except socket.timeout:
            raise
        except OSError:
            broke = True
        return judge(got, NOISE, error, broke)

    def numbers(self, call):
        """Of OpenSSL's many allocations not all, but others each time."""
        if call != "memory":
            return super().numbers(call)
        return [*range(1, 13), *range(13 + time.time_ns() % self.stride, 9999, self.stride)]


class SlowTls(Tls):
    """The same when the kernel takes a little at a time."""

    def begin(self):
        super().begin()
        self.plan.shorten(8000)

    calls = "recv", "send", "writev", "epoll_ctl", "memory"


class Chat(Life):
    """One who comes, says a line and leaves; another hears all of that."""
    endpoints = ["chat+tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]
    index = 1
    calls = ("accept4", "recv", "send", "recvmsg", "sendmsg", "setsockopt", "shutdown", "close",
             "epoll_ctl", "epoll_wait", "ioctl", "memory")

    def begin(self):
        self._join()

    def _join(self):
        """One stands there and listens; who was, and is gone, is replaced."""
        greeting = b""
        while not greeting.startswith(b"* you are "):
            with contextlib.suppress(ConnectionError):
                self.listener = connect(self.server, 0)
                self.heard = self.listener.makefile("rb")
                greeting = self.heard.readline()
        assert greeting.endswith(b", 1 here\n"), greeting

    def _hear(self):
        """All until now, by the answer to a question."""
        lines = []
        with contextlib.suppress(ConnectionError):
            self.listener.sendall(b"/help\n")
            while line := self.heard.readline():
                assert line.endswith(b"\n"), line
                if line.startswith(b"* /help"):
                    return lines
                if not line.startswith((b"* what you write", b"* /")):
                    lines.append(line)
        return None

    def live(self, error):
        lines, broke = [], False
        try:
            with connect(self.server, 0) as client, client.makefile("rb") as stream:
                client.sendall(b"good day\n")
                lines.append(stream.readline())
                client.sendall(b"/quit\n")
                while lines[-1]:
                    lines.append(stream.readline())
        except ConnectionError:
            broke = True
        self._stand()
        greeted = bool(lines) and lines[0].startswith(b"* you are ")
        assert broke or greeted or is_clean_end(error), lines
        return WHOLE if greeted and not broke else BROKEN

    def _stand(self):
        """The listener has heard lines as they were, and nobody is left but itself."""
        soon(lambda: self._stats()["chat_members"] <= 1, "the others to leave")
        while (lines := self._hear()) is None:
            self._join()
        for line in lines:
            assert line.endswith((b" joined\n", b": good day\n", b" left\n")), line


class HeldChat(Chat):
    """The same, of the supervisor's calls: who is in the chat is known there."""
    calls = "recvmsg", "sendmsg", "memory"

    def target(self):
        return self.server.pid


class Queueing(Life):
    """Two clients, and a slot for one: the other is served when it comes free."""
    options = ["--max-connections=1"]
    stands = False

    def live(self, error):
        with connect(self.server, 0) as first, connect(self.server, 0) as second:
            second.sendall(b"and I?")
            outcome = converse(first, NOISE[:1000], error)
            first.close()
            return max(outcome, converse(second, b" and I?", error, b"and I? and I?"), key=len)


class Reload(Tls):
    """New certificates: all use them, or it is said that they do not; nobody is without."""
    calls = "recvmsg", "sendmsg", "close", "memory"
    stride = 700

    def live(self, error):
        begin = len(self.server.raw)
        self.server.signal(signal.SIGHUP)
        soon(lambda: any(" reloaded" in line or " reload-failed " in line
                         for line in self.server.raw[begin:]), "a word")
        return BROKEN if "reload-failed" in "".join(self.server.raw[begin:]) else WHOLE

    def check(self):
        assert super().live(0) == WHOLE


class ReloadAbove(Reload):
    """The same, of the supervisor's calls: it reads the files."""
    calls = "sendmsg", "fcntl", "close", "memory"

    def target(self):
        return self.server.pid


class FirstClients:
    """Those that come first, for whom everything has to be made that later ones find."""
    calls = "memory", "epoll_ctl"
    options = ["--tls-self-signed", "tls://127.0.0.1:0", "tcp://127.0.0.1:0"]

    def __init__(self, call, nth):
        with failing("-vv", "--handshake-timeout=0.2", *self.options) as server:
            server.plan.arm(server.workers()[0], call, nth, errno.ENOMEM)
            with server.connect(0) as mute:  # is cut off in time, or at once
                mute.settimeout(PATIENCE)
                with contextlib.suppress(ConnectionError):
                    assert mute.recv(1) == b""
            with contextlib.suppress(ConnectionError), connect(server, 1) as client:
                converse(client, NOISE[:100], errno.ENOMEM)
            self.has_failed = server.plan.disarm() > 0
            with connect(server, 1) as client:
                assert converse(client, NOISE, 0) == WHOLE
            assert server.stop() == 0
            assert server.lines("drained", forced=0), server.raw
            assert not server.lines("worker-died"), server.raw


class Drain:
    """The end, with two clients that are served: both have all, and so it says."""
    calls = ("setsockopt", "getsockname", "ioctl", "accept4", "shutdown", "close", "recvmsg",
             "recvmmsg", "memory")

    def __init__(self, call, nth):
        endpoints = "tcp://127.0.0.1:0", "unix://DIR/socket", "udp://127.0.0.1:0"
        with failing("-vv", *endpoints) as server:
            with connect(server, 0) as quiet, connect(server, 1) as other:
                for client in quiet, other:
                    client.sendall(b"hello")
                    assert receive_exactly(client, 5) == b"hello"
                error = getattr(errno, ERRORS[call].split()[0])
                server.plan.arm(server.workers()[0], call, nth, error)
                server.signal(signal.SIGTERM)
                for client in quiet, other:
                    client.settimeout(PATIENCE)
                    assert client.recv(1) == b""
            assert server.wait(PATIENCE) == 0
            self.has_failed = server.plan.disarm() > 0
            assert len(server.lines("drained", drained=2, forced=0)) == 1, server.raw
            assert not server.lines("worker-died"), server.raw


class Start:
    """The start of a worker: it serves, or the daemon says why it does not, and ends with 1."""
    calls = "memory", "epoll_ctl", "recvmsg", "sendmsg", "setsockopt", "getsockopt", "fcntl"

    def __init__(self, call, nth):
        needs_failing()
        with tempfile.TemporaryDirectory() as directory:
            plan = Plan(directory)
            error = getattr(errno, ERRORS[call].split()[0])
            plan.arm(EACH_WORKER, call, nth, error)
            with Echod("tcp://127.0.0.1:0", "udp://127.0.0.1:0", "chat+tcp://127.0.0.1:0",
                       environment={"ECHOD_FAILURE": plan.path}, ready=False) as server:
                wait_until(lambda: server.closed or server.lines("ready"), "one or the other")
                self.has_failed = plan.disarm() > 0
                if not server.closed:
                    server.plan = plan
                    with connect(server, 0) as client:
                        assert converse(client, NOISE, 0) == WHOLE
                    assert server.stop() == 0
                else:
                    assert server.wait() == 1
                    assert self.has_failed, server.raw
                    for event in "worker-failed", "worker-died":
                        assert len(server.lines(event)) <= 1, server.raw
                    assert server.lines("worker-failed"), server.raw


def try_all(kind):
    """All failures of a daemon that is started for each."""
    def attempt(call, nth):
        try:
            return kind(call, nth).has_failed
        except (AssertionError, OSError) as failure:
            raise AssertionError("%s: call %d of %s" % (kind.__name__, nth, call)) from failure

    needs_failing()
    calls, nth = list(kind.calls), 1
    with ThreadPoolExecutor(TOGETHER) as pool:
        while calls:  # each until one daemon meets no failure
            tries = [(call, n) for call in calls for n in range(nth, nth + 4)]
            spared = {call for (call, _), has_failed in zip(
                tries, pool.map(lambda one: attempt(*one), tries)) if not has_failed}
            calls, nth = [call for call in calls if call not in spared], nth + 4


def scenario_of(kind):
    def of_a_life():
        if issubclass(kind, (Tls, FirstClients)):
            needs_tls()
        if issubclass(kind, Life):
            sweep(kind())
        else:
            try_all(kind)
    of_a_life.__name__ = kind.__name__.lower()
    of_a_life.__doc__ = kind.__doc__
    scenario(of_a_life)


for each in (Tcp, SlowReader, Unix, Udp, Proxied, Tls, SlowTls, Chat, HeldChat, Queueing, Reload,
             ReloadAbove, FirstClients, Drain, Start):
    scenario_of(each)


if __name__ == "__main__":
    main()
