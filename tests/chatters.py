"""Members of a chat: clients that talk, listen in a crowd, and read slowly."""
import os
import re
import select
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import DEADLINE, TooSlow

SANITIZED = bool(os.environ.get("ECHOD_SANITIZED"))
PROMPTLY = 10 if SANITIZED else 1.5  # seconds: nobody is held up for longer
HICCUP = 0.2  # seconds: if we are away for so long, others may take us for one who does not read
CHAT = "chat+tcp://127.0.0.1:0"
LONGEST = 4096
MIB = 1 << 20
PADDING, SHORT = b"x" * (LONGEST - 16), b"x"  # of a numbered line


class Member:
    """A client that has been greeted: .name, and .here, how many there were. What it does not
    expect is an error."""

    def __init__(self, client):
        self.socket, self.unread, self.ignored = client, b"", None
        greeting = self.line()
        match = re.fullmatch(r"\* you are (guest\d+), (\d+) here", greeting)
        assert match, "greeted with %r" % greeting
        self.name, self.here = match[1], int(match[2])

    def send(self, data):
        self.socket.sendall(data)

    def say(self, *lines):
        self.send("".join(line + "\n" for line in lines).encode())

    def line(self):
        """The next line, without its end."""
        while b"\n" not in self.unread:
            piece = self.socket.recv(65536)
            assert piece, "the end, after %r" % self.unread
            self.unread += piece
        line, self.unread = self.unread.split(b"\n", 1)
        if self.ignored and re.fullmatch(self.ignored, line.decode()):
            return self.line()
        return line.decode()

    def expect(self, *lines):
        """These lines come next, in this order."""
        for line in lines:
            got = self.line()
            assert got == line, "%s got %r, not %r" % (self.name, got[:200], line[:200])

    def expect_end(self):
        assert self.rest() == []

    def rest(self):
        """All lines up to the end."""
        while piece := self.socket.recv(65536):
            self.unread += piece
        *lines, half = self.unread.decode().split("\n")
        assert half == "", "the end in the middle of a line: %r" % half[:200]
        return lines

    def answers(self, *lines):
        """What it is told when it says LINES and nobody else says anything."""
        self.say(*lines, "/nick " + self.name)
        answers = []
        while (answer := self.line()) != "* you are " + self.name:
            answers.append(answer)
        return answers

    def who(self):
        """The names that /who gives, whatever else comes before."""
        self.say("/who")
        return self.names_of("here")

    def names_of(self, where):
        """The next list of names that comes."""
        while not (match := re.fullmatch(r"\* (\d+) %s(?:: (.*))?" % where, self.line())):
            pass
        names = match[2].rstrip(", ").split(", ") if match[2] else []
        while len(names) < int(match[1]):
            line = self.line()
            assert line.startswith("* "), line
            names += line[2:].rstrip(", ").split(", ")
        assert len(names) == int(match[1]) and names == sorted(names), (match[1], names)
        return names

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        reset(self.socket)


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def join(room, client):
    """CLIENT comes in, as everybody in ROOM is told."""
    member = Member(client)
    assert member.here == len(room) + 1, (member.here, len(room))
    expect_all(room, "* %s joined" % member.name)
    room.append(member)
    return member


def gather(echod, count):
    """A room of COUNT members, who have read all that there was to read."""
    room = []
    for _ in range(count):
        join(room, echod.connect())
    return room


def join_mute(room, client):
    """One that will not read; it has sent a byte, or else the log has nothing of its end."""
    mute = join(room, client)
    mute.say("")
    return mute


def expect_all(members, *lines):
    for member in members:
        member.expect(*lines)


def others(room, member):
    return [other for other in room if other is not member]


def rename(room, member, name):
    member.say("/nick " + name)
    expect_all(room, "* %s is now %s" % (member.name, name))
    member.name = name


def names(members):
    return sorted(member.name for member in members)


def end(echod, room):
    """All leave, and it ends as it should; with nothing lost, where a sanitizer looks."""
    for member in room:
        member.close()
    assert echod.stop() == 0


def connect_narrow(echod, size=16384, index=0):
    """A client for which the kernel keeps little more than SIZE bytes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.settimeout(DEADLINE)
    client.connect(echod.address(index))
    return client


def numbered(number, padding=PADDING):
    """A line that a Listener can check."""
    return b"%d %s\n" % (number, padding)


class Listener:
    """A member's reading side in a crowd: what comes is read as it comes, or RATE bytes a second.
    Numbered lines are only counted, by author, and must come in order; other lines are kept. One
    that is late came while authors spoke, and hears them from any number on."""

    def __init__(self, member, rate=None, is_late=False):
        self.member, self.rate, self.is_late = member, rate, is_late
        self.began = time.monotonic()
        self.next, self.missed, self.other = {}, 0, []
        self.bytes, self.ended, self.silence, self.last = 0, False, 0, None

    def fileno(self):
        return self.member.socket.fileno()

    def due(self):
        """How many bytes it may read now."""
        if self.rate is None:
            return 65536
        return min(int(self.rate * (time.monotonic() - self.began)) - self.bytes, 65536)

    def take(self):
        """Reads what there is, or some of it."""
        piece = self.receive()
        now = time.monotonic()
        self.silence, self.last = max(self.silence, now - (self.last or now)), now
        self.bytes += len(piece)
        self.ended = not piece
        *lines, self.member.unread = (self.member.unread + piece).split(b"\n")
        for line in lines:
            self.hear(line)

    def receive(self):
        """Once; but what TLS has deciphered does not show any more."""
        client = self.member.socket
        try:
            piece = client.recv(self.due())
            while isinstance(client, ssl.SSLSocket) and client.pending():
                piece += client.recv(client.pending())
            return piece
        except ConnectionResetError:
            return b""

    def hear(self, line):
        author, _, text = line.partition(b": ")
        number, _, padding = text.partition(b" ")
        if padding not in (PADDING, SHORT):
            self.other.append(line.decode())
            return
        expected = self.next.get(author.decode(), int(number) if self.is_late else 0)
        assert int(number) >= expected, "%s again, after %d" % (line[:20], expected - 1)
        self.missed += int(number) - expected
        self.next[author.decode()] = int(number) + 1

    def count(self, author):
        """How far AUTHOR has got."""
        return self.next.get(author.name, 0)


def listen(listeners, is_over, seconds=3 * DEADLINE):
    """All read until IS_OVER(); returns the longest time, in seconds, that they were kept from
    it."""
    last, longest = time.monotonic(), 0
    end = last + seconds
    while not is_over():
        assert last < end, "still not over: %s" % [(one.next, one.ended) for one in listeners]
        poll, waiting = select.poll(), {}
        for one in listeners:
            if not one.ended and one.due() > 0:
                poll.register(one, select.POLLIN)
                waiting[one.fileno()] = one
        for number, _ in poll.poll(10):
            waiting[number].take()
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


def meanwhile(listeners, function):
    """What FUNCTION gives; LISTENERS read on while it takes."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(function)
        listen(listeners, result.done)
        return result.result()


class Flood:
    """A member sends numbered lines as fast as it can, COUNT or until stop(); .count so far."""

    def __init__(self, author, count=1 << 30, padding=PADDING):
        self.author, self.limit, self.padding = author, count, padding
        self.count, self.error = 0, None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def _send(self):
        try:
            while self.count < self.limit and not self.stopped.is_set():
                self.author.send(numbered(self.count, self.padding))
                self.count += 1
        except OSError as error:
            self.error = error

    def is_over(self):
        return not self.thread.is_alive()

    def stop(self):
        self.stopped.set()

    def check_pace(self, listeners, most):
        """The slowest of them is not more than MOST bytes behind; returns how many it is. From
        now on they read as fast as they can."""
        behind = self.count - min(one.count(self.author) for one in listeners)
        assert behind * len(numbered(0)) < most, "the author is %d lines ahead" % behind
        for one in listeners:
            one.rate = None
        return behind * len(numbered(0))

    def reaches(self, listeners):
        """Is all of it sent, and have all who are there got it?"""
        return self.is_over() and all(one.count(self.author) == self.count for one in listeners
                                      if one.member is not self.author and not one.ended)


def were_told(listeners, *notices):
    """Has everybody who is there got these?"""
    return all(one.ended or one.other.count(notice) for one in listeners for notice in notices)


def check_all_heard(listeners, floods, longest):
    """Nobody was cut or missed a line; if somebody was, it is not because we were away."""
    wrong = [one.member.name for one in listeners if one.ended or one.missed]
    if wrong and longest > HICCUP:
        raise TooSlow("readers were kept from reading for %g s" % longest)
    assert not wrong, "%s were cut or missed lines" % wrong
    for flood in floods:
        assert flood.error is None, flood.error
        assert flood.reaches(listeners)
