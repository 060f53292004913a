#!/usr/bin/env python3
"""The log: the lines that scripts rely on, what peers cannot do to it, and what it never does."""
import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

from harness import (DEADLINE, ECHOD, LINE, Echod, Line, Skip, echo, main, receive_all, scenario,
                     wait_until)

PROMPTLY = 10 if os.environ.get("ECHOD_SANITIZED") else 1  # seconds

PEER, ENDPOINT = r"127\.0\.0\.1:\d+", r"tcp://127\.0\.0\.1:\d+"
FORMATS = {  # after the time; the values and their order
    "listening": r"notice listening endpoint=" + ENDPOINT,
    "worker-started": r"notice worker-started worker=\d+ pid=\d+",
    "worker-died": r'error worker-died worker=\d+ pid=\d+ cause="killed by SIGSEGV \(.+\)"',
    "ready": r"notice ready workers=2 model=process backend=\w+ pid=\d+",
    "accepted": r"debug accepted conn=\d+ peer=%s endpoint=%s" % (PEER, ENDPOINT),
    "received": r'debug received conn=\d+ bytes=5 data=hello',
    "closed": r"(info closed conn=\d+ peer=%s endpoint=%s in=5 out=5 duration=\d+\.\d{3} "
              r"reason=eof|debug closed conn=\d+ peer=%s endpoint=%s in=0 out=0 "
              r"duration=\d+\.\d{3} reason=drain)" % (PEER, ENDPOINT, PEER, ENDPOINT),
    "paused": r"warning paused reason=max-connections",
    "resumed": r"notice resumed reason=max-connections",
    "stats": r"notice stats( [a-z_-]+=\d+(\.\d{3})?)+",
    "draining": r"notice draining signal=SIGTERM connections=1",
    "drained": r"notice drained drained=1 forced=0 duration=\d+\.\d{3}",
}

BEGINNING = re.compile(r"2(?!.*T\d\d:\d\d:\d\d\.\d{3}Z .*T\d\d:\d\d:\d\d\.\d{3}Z ).*")


class Tap:
    """Stderr for a daemon: END is its descriptor, read() what came, in pieces as they came."""

    def __init__(self, ours, end, may_cut=False):
        self.ours, self.end, self.may_cut = ours, end, may_cut
        self.cut = []  # beginnings of lines
        os.set_blocking(ours, False)

    def read(self):
        try:
            return os.read(self.ours, 65536)
        except BlockingIOError:
            return b""

    def feed(self, echod):
        """From now on what comes is read, and is ECHOD's log."""
        def collect():
            rest = b""
            while echod.process.poll() is None or not echod.closed:
                ended = echod.process.poll() is not None
                piece = self.read()
                *lines, rest = (rest + piece).replace(b"\r", b"").split(b"\n")
                for line in map(bytes.decode, lines):
                    is_cut = self.may_cut and BEGINNING.fullmatch(line) and not LINE.fullmatch(line)
                    (self.cut if is_cut else echod.raw).append(line)
                echod.closed = ended and not piece
                if not piece:
                    time.sleep(0.005)
        threading.Thread(target=collect, daemon=True).start()


def of_pipe():
    ours, end = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    return Tap(ours, end)


def of_terminal():
    return Tap(*pty.openpty(), may_cut=True)  # it takes half a line


def of_stream_socket():
    ours, end = socket.socketpair()
    return Tap(ours.detach(), end.detach())


def of_datagram_socket():
    ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return Tap(ours.detach(), end.detach())


def log_data(echod, data):
    """How DATA, sent at once, is shown in the log."""
    before = len(echod.lines("received"))
    with echod.connect() as client:
        echo(client, data)
        echod.wait_line("received", before + 1)
    text = echod.lines("received")[before].text
    return text[text.index(" data=") + 6:]


@scenario
def each_line_has_its_format():
    """Every event of a life, with exactly the keys of the manual, in their order."""
    with Echod("-vv", "--workers=2", "--max-connections=1") as echod:
        with echod.connect() as first:
            echo(first, b"hello")
            with echod.connect() as second:
                echod.wait_line("paused")
                first.close()
                echod.wait_line("resumed")
                echod.wait_line("accepted", 2)
                for worker in echod.workers():
                    os.kill(worker, signal.SIGSEGV)
                second.close()
        echod.wait_line("worker-started", 4)
        third = echod.connect()
        echod.wait_line("accepted", 3)
        assert echod.stats()["accepted"] == 3
        echod.signal(signal.SIGTERM)
        receive_all(third)
        third.close()
        assert echod.wait() == 0
        for line in echod.lines():
            time_text, rest = line.text.split(" ", 1)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time_text), line
            assert re.fullmatch(FORMATS[line.event], rest), line
        assert {line.event for line in echod.lines()} == set(FORMATS), echod.raw


@scenario
def levels_are_as_the_options_say(model):
    """-q: errors; nothing: notices; -v: a line for each connection that sent something; -vv:
    all."""
    expected = {"--workers=1": {"notice"}, "-v": {"notice", "info"},
                "-vv": {"notice", "info", "debug"}}
    for option, levels in expected.items():
        with Echod(option, "--model=" + model) as echod:
            for message in b"", b"hello":
                with echod.connect() as client:
                    client.sendall(message)
                    client.shutdown(socket.SHUT_WR)
                    assert receive_all(client) == message
            assert echod.stop() == 0
            assert {line.level for line in echod.lines()} == levels, echod.raw
            count = {"-v": 1, "-vv": 2}.get(option, 0)
            assert len(echod.lines("closed")) == count, echod.raw
    with Echod("-q", "--model=" + model, ready=False) as echod:
        assert echod.stop() in (0, -signal.SIGTERM) and echod.raw == []


@scenario
def a_line_is_one_write(model):
    """Each datagram that stderr gets is one whole line."""
    tap = of_datagram_socket()
    with Echod("-vv", "--workers=2", "--model=" + model, stderr=tap.end) as echod:
        pieces = []
        original = tap.read
        tap.read = lambda: (pieces.append(original()), pieces[-1])[1]
        tap.feed(echod)
        echod.wait_line("ready")
        for message in b"hello", bytes(range(256)) * 20:
            with echod.connect() as client:
                echo(client, message)
        assert echod.stop() == 0
        wait_until(lambda: echod.closed, "the rest")
        pieces = [piece.decode() for piece in pieces if piece]
        assert len(pieces) > 10 and all(p.endswith("\n") and Line(p[:-1]) for p in pieces), pieces


@scenario
def what_peers_send_is_escaped(model):
    """No line can be forged, no cursor moved, and no more than 256 bytes are shown."""
    with Echod("-vv", "--model=" + model) as echod:
        assert log_data(echod, b"plain") == "plain"
        assert log_data(echod, b"two words") == '"two words"'
        assert log_data(echod, b'say "a=b"\\') == r'"say \"a=b\"\\"'
        assert log_data(echod, b"\a\b\t\n\v\f\r") == r'"\a\b\t\n\v\f\r"'
        assert log_data(echod, b"\x1b[2J\0\x7f\xff\xc3\xa9") == r'"\x1b[2J\x00\x7f\xff\xc3\xa9"'
        assert log_data(echod, b"x\n2026-11-23T09:15:02.113Z error forged pid=1\n") == (
            r'"x\n2026-11-23T09:15:02.113Z error forged pid=1\n"')
        everything = bytes(range(256)) + b"and no more"
        assert log_data(echod, everything).count("\\") == 33 + 2 + 129  # C0, quote, rest
        assert echod.lines("received")[-1]["data"].encode("latin-1") == everything[:256]
        assert echod.lines("received")[-1]["bytes"] == str(len(everything))
        assert log_data(echod, b"\xff" * 4096) == '"%s"' % (r"\xff" * 256)
        assert not echod.lines("forged")
        assert all(" " <= c <= "~" for line in echod.raw for c in line), echod.raw


@scenario
def the_journal_gets_priorities(model):
    """Where JOURNAL_STREAM names stderr: `<N>` in front, no time. Where it names another: not."""
    for tap, is_it in (of_stream_socket(), True), (of_pipe(), True), (of_pipe(), False):
        status = os.fstat(tap.end)
        stream = "%d:%d" % (status.st_dev, status.st_ino if is_it else status.st_ino + 1)
        with Echod("-vv", "--model=" + model, stderr=tap.end,
                   environment={"JOURNAL_STREAM": stream}) as echod:
            tap.feed(echod)
            wait_until(lambda: len(echod.raw) > 2, "lines")
            assert echod.stop() == 0
            wait_until(lambda: echod.closed, "the rest")
            if is_it:
                assert echod.raw[0].startswith("<5>notice listening endpoint=tcp://"), echod.raw
                assert all(re.fullmatch(r"<\d>[a-z]+ [a-z-]+( \S+)*", r) for r in echod.raw)
            else:
                assert echod.lines("ready")


def fill(echod, clients):
    """Far more traffic than an unread log takes; every echo is prompt."""
    slowest = 0
    for _ in range(100):
        for client in clients:
            began = time.monotonic()
            echo(client, b"noise " * 40)
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < PROMPTLY, "an echo took %g s" % slowest
    assert echod.process.poll() is None


def unread(tap, model):
    with Echod("-vv", "--workers=2", "--model=" + model, stderr=tap.end) as echod:
        head = ""
        while " ready " not in head:
            head += tap.read().decode().replace("\r", "")
        echod.raw += head.splitlines()
        clients = [echod.connect() for _ in range(20)]
        fill(echod, clients)
        assert not fcntl.fcntl(tap.end, fcntl.F_GETFL) & os.O_NONBLOCK, "O_NONBLOCK is set"
        tap.feed(echod)

        sent = len(clients) * 101

        def is_told():
            nonlocal sent
            sent += 1
            echo(clients[0], b"x")
            return echod.lines("lost")

        wait_until(is_told, "the count of lost lines")
        stats, told = echod.stats(), echod.lines("lost")
        assert {line.level for line in told} == {"warning"} and stats["log_lines_lost"] > 0, told
        if not tap.may_cut:  # or one may be both lost and there, but for its newline
            assert sum(int(line["lines"]) for line in told) == stats["log_lines_lost"], (
                told, stats)
            whole = len(echod.lines("received")) + len(echod.lines("accepted"))
            assert whole + stats["log_lines_lost"] == sent, (whole, stats, sent)
        for client in clients:
            client.close()
        assert echod.stop() == 0


@scenario
def a_log_that_nobody_reads_stops_no_worker(model):
    """Stderr is a full pipe: echo goes on in all workers, lines are dropped and counted, and the
    count is told when there is somebody to read it. The description, which others share, stays
    blocking."""
    unread(of_pipe(), model)


@scenario
def nor_does_a_stopped_terminal(model):
    """The same for a terminal whose user has pressed ^S; a line of which it took a part counts as
    lost, and the next one does not run into it."""
    unread(of_terminal(), model)


@scenario
def nor_does_a_socket(model):
    """The same for a journal that is busy."""
    unread(of_stream_socket(), model)
    unread(of_datagram_socket(), model)


@scenario
def syslog_gets_the_lines():
    """--syslog: datagrams to /dev/log with facility daemon, the priority and our pid; nobody waits
    when nobody is there to take them, and whoever is there next gets them."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "log")
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(path)
        server.settimeout(DEADLINE)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                   'mount --bind "$1" /dev && exec "$2" --syslog tcp://127.0.0.1:0', "sh",
                   directory, ECHOD]
        echod = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            server.settimeout(DEADLINE if os.geteuid() == 0 else 2)
            text = server.recv(4096).decode()
            match = re.fullmatch(r"<29>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d echod\[%d\]: notice "
                                 r"listening endpoint=tcp://127\.0\.0\.1:(\d+)" % echod.pid, text)
            assert match, text
            server.close()
            os.unlink(path)
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", int(match[1])), DEADLINE) as client:
                    echo(client, b"still there")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
                server.bind(path)
                server.settimeout(DEADLINE)
                echod.send_signal(signal.SIGUSR1)
                text = server.recv(4096).decode()
                assert re.search(r": notice stats |: warning lost ", text), text
            os.unlink(path)
            echod.terminate()
            assert echod.wait(DEADLINE) == 0 and echod.stderr.read() == b""
        except socket.timeout:
            why = echod.stderr.read().decode() if echod.poll() is not None else ""
            if why.startswith(("unshare:", "mount:")):
                raise Skip("no mount namespace: " + why.strip())
            raise AssertionError("no line: " + why)
        finally:
            if echod.poll() is None:
                echod.kill()


@scenario
def who_reads_the_log_may_leave(model):
    """The reader of stderr goes away, as in `echod 2>&1 | head`: lines are lost, and no more."""
    reader, writer = os.pipe()
    with Echod("-vv", "--model=" + model, stderr=writer) as echod, os.fdopen(reader) as log:
        os.close(writer)
        port = int(Line(log.readline().rstrip("\n"))["endpoint"].rsplit(":", 1)[1])
        while Line(log.readline().rstrip("\n")).event != "ready":
            pass
        log.close()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
                echo(client, b"still there")
        assert echod.stop() == 0


main()
