#!/usr/bin/env python3
"""echoprobe against the real daemon, and against servers that misbehave in one way each."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from harness import (DEADLINE, ECHOPROBE, Echod, Probe, Server, check_report, counts, main, probe,
                     probe_report, receive_all, sanitized, scenario, wait_until)

PERCENTILES = ["p50", "p90", "p99", "p99.9"]
SUMMARY = re.compile(
    r"--- \S+: [a-z-]+, \d+ x \d+ bytes\n"
    r"\d+ messages, \d+ bytes in (?P<seconds>[0-9.]+) s: [0-9.]+ messages/s, [0-9.]+ MB/s\n"
    r"(latency in ms: p50 [0-9.]+ p90 [0-9.]+ p99 [0-9.]+ p99.9 [0-9.]+ max [0-9.]+\n)?"
    r"(?P<lost>\d+) lost, (?P<corrupt>\d+) corrupt, (?P<errors>\d+) errors\n")


def echo_with(change):
    """A server that gives CHANGE(bytes, position) back, until EOF."""
    def serve(connection):
        position = 0
        while True:
            data = connection.recv(65536)
            if not data:
                return
            connection.sendall(change(data, position))
            position += len(data)
    return Server(serve)


def at(position, change):
    """Applies CHANGE to the piece that has POSITION in it, split there."""
    def change_piece(data, start):
        if start <= position < start + len(data):
            return data[:position - start] + change(data[position - start:])
        return data
    return change_piece


def receive_exactly_or_end(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data


def told(what, server):
    """The line on stderr that says WHAT went wrong."""
    return "echoprobe: %s: tcp://%s\n" % (what, server.endpoint)


@scenario
def json_has_its_keys_in_order():
    """In each mode; and what it says is so."""
    with Echod() as echod:
        endpoint = echod.endpoint()
        for mode, in_flight, arguments in (("ping", 1, ["-i", "0.01"]),
                                           ("closed", 3, ["--load", "-p", "3"]),
                                           ("open", 0, ["--rate=1000"]),
                                           ("half-close", 1, ["--half-close"])):
            began = time.monotonic()
            report = probe_report("-n", "20", "-s", "100", "-c", "4", *arguments, endpoint)
            took = time.monotonic() - began
            assert list(report) == ["endpoint", "mode", "connections", "size", "in_flight",
                                    "seconds", "messages", "bytes", "rate", "lost", "corrupt",
                                    "errors", "latency_us"], report
            assert list(report["latency_us"]) == ["min", *PERCENTILES, "max", "mean"], report
            assert report["endpoint"] == endpoint and report["mode"] == mode, report
            assert (report["connections"], report["size"]) == (4, 100), report
            assert report["in_flight"] == in_flight, report
            assert (report["messages"], report["bytes"]) == (20, 2000), report
            assert counts(report) == (0, 0, 0), report
            assert 0 < report["seconds"] < took, (report, took)
            assert abs(report["rate"] * report["seconds"] / 20 - 1) < 0.01, report
            latency = report["latency_us"]
            steps = [latency[key] for key in ("min", *PERCENTILES, "max")]
            assert steps == sorted(steps) and 0 < steps[0], report
            assert steps[0] <= latency["mean"] <= steps[-1] < took * 1e6, report


@scenario
def ping_prints_a_line_each():
    """By the interval, on each connection with its own numbers; then the summary."""
    with Echod() as echod:
        endpoint = "%s:%d" % echod.address()
        began = time.monotonic()
        run = probe("-n", "6", "-c", "2", "-i", "0.1", endpoint)
        assert time.monotonic() - began > 0.19
        lines = run.stdout.splitlines(True)
        pings = [re.fullmatch(r"64 bytes from %s: seq=(\d+) time=\d+\.\d{3} ms conn=([12])\n" %
                              endpoint, line)
                 for line in lines[:6]]
        assert all(pings) and sorted(p.groups() for p in pings) == [
            (seq, conn) for seq in "123" for conn in "12"], lines
        assert SUMMARY.fullmatch("".join(lines[6:])), lines
        assert (run.returncode, run.stderr) == (0, ""), run


@scenario
def exact_for_sizes_and_ways():
    """From one byte to more than buffers hold, one and several in flight, connections, threads."""
    with Echod("--workers=2") as echod:
        endpoint = "%s:%d" % echod.address()
        for size in (1, 63, 65536, 65537, 200003, 3 << 20):
            for arguments in (["--load"], ["--load", "-p", "7", "-c", "5", "-t", "2"],
                              ["--rate=200", "-c", "3"], ["--half-close", "-c", "3", "-t", "3"]):
                report = probe_report("-n", "25", "-s", size, *arguments, endpoint)
                assert (report["messages"], report["bytes"]) == (25, 25 * size), report
                assert counts(report) == (0, 0, 0), report


@scenario
def fewer_messages_than_connections():
    """Those that have nothing to send hold nobody up."""
    with Echod() as echod:
        for arguments in (["-i", "0.01"], ["--load"], ["--rate=1000"], ["--half-close"]):
            began = time.monotonic()
            report = probe_report("-n", "2", "-c", "5", *arguments, echod.endpoint())
            assert report["messages"] == 2 and counts(report) == (0, 0, 0), report
            assert time.monotonic() - began < 5


@scenario
def a_time_is_kept():
    """--duration ends a load; in the open loop it makes for so many messages."""
    with Echod() as echod:
        endpoint = "%s:%d" % echod.address()
        report = probe_report("--load", "-d", "0.5", endpoint)
        assert 0.45 < report["seconds"] < DEADLINE and report["messages"] > 10, report
        assert probe_report("--rate=500", "-d", "0.5", endpoint)["messages"] == 250
        assert probe_report("-i", "0.01", "-d", "0.2", endpoint)["messages"] <= 22


@scenario
def a_changed_byte_is_one_corrupt_message():
    """Wherever it is in the stream; the others are exact, and it goes on."""
    flip = lambda data: bytes([data[0] ^ 1]) + data[1:]
    for position in (0, 63, 64, 1000, 6399):
        for arguments in (["--load", "-p", "4"], ["--rate=2000"], ["--half-close"],
                          ["-i", "1ms"]):
            with echo_with(at(position, flip)) as server:
                report = probe_report("-n", "100", *arguments, server.endpoint, status=1)
                assert counts(report) == (0, 1, 0) and report["messages"] == 100, report
    with echo_with(at(100000, flip)) as server:
        report = probe_report("--half-close", "-s", "300000", server.endpoint, status=1)
        assert counts(report) == (0, 1, 0) and report["messages"] == 1, report


@scenario
def ping_says_which_message_was_corrupt():
    with echo_with(at(64, lambda data: b"?" + data[1:])) as server:
        run = probe("-n", "3", "-i", "0.01", server.endpoint)
        marks = [" (corrupt)" in line for line in run.stdout.splitlines()[:3]]
        assert marks == [False, True, False] and run.returncode == 1, run


@scenario
def dropped_bytes_are_seen():
    """What follows is not what it should be, and the end does not come."""
    with echo_with(at(300, lambda data: data[5:])) as server:
        report = probe_report("--half-close", "-n", "100", server.endpoint, status=1,
                              errors=told("Connection closed early", server))
        assert counts(report) == (1, 96, 1) and report["messages"] == 99, report
        report = probe_report("--load", "-n", "100", "-W", "0.3", server.endpoint, status=1,
                              errors=told("Connection timed out", server))
        assert report["lost"] == report["errors"] == 1 and report["messages"] == 4, report


@scenario
def data_of_another_connection_is_seen():
    """Two connections get each other's bytes: each message is corrupt, none is lost."""
    both, turn, done = [], threading.Barrier(2), threading.Barrier(2)

    def swap(connection):
        both.append(connection)
        data = receive_all(connection)
        turn.wait(DEADLINE)
        other = both[both.index(connection) - 1]
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        done.wait(DEADLINE)

    for size in (64, 5000):
        both.clear()
        with Server(swap) as server:
            report = probe_report("--half-close", "-n", "20", "-c", "2", "-s", size,
                                  server.endpoint, status=1)
            assert counts(report) == (0, 20, 0) and report["messages"] == 20, report


@scenario
def more_than_was_sent_is_corrupt():
    """A byte too many ends the connection, also after all else is back, or when none was sent."""
    for position, arguments in ((0, ["--half-close"]), (640 - 1, ["--load"]),
                                (640 - 1, ["--rate=1000"]), (640 - 1, ["--half-close"])):
        with echo_with(at(position, lambda data: data + b"!")) as server:
            run = probe("--json", "-n", "10", *arguments, server.endpoint)
            report = json.loads(run.stdout)
            assert report["corrupt"] >= 1 and run.returncode == 1, (arguments, run)


@scenario
def a_greeting_is_no_echo():
    """What comes unasked is more than was sent, or else in a message's place."""
    def greet(connection):
        connection.sendall(b"Welcome!\n")
        receive_all(connection)

    with Server(greet) as server:
        run = probe("--json", "--load", "-n", "10", "-W", "0.3", server.endpoint)
        report = json.loads(run.stdout)
        assert report["corrupt"] == 1 and report["errors"] == 1 and run.returncode == 1, run


@scenario
def a_byte_too_many_after_the_last_message_is_seen():
    """It comes when all is back, and the client has said that it is done."""
    def serve(connection):
        connection.sendall(receive_all(connection))
        connection.sendall(b"!")

    def serve_and_add(connection):
        for _ in range(5):
            connection.sendall(connection.recv(64))
        assert connection.recv(1) == b""
        connection.sendall(b"!")

    for server, arguments in ((serve, ["--half-close"]), (serve_and_add, ["--load"])):
        with Server(server) as server:
            report = probe_report("-n", "5", *arguments, server.endpoint, status=1,
                                  errors=told("More came back than was sent", server))
            assert counts(report) == (0, 1, 1) and report["messages"] == 5, report


@scenario
def a_server_that_closes_early():
    """What was on its way is lost, and it is told once, whatever the number of connections."""
    def serve(connection):
        connection.sendall(connection.recv(64))
        connection.shutdown(socket.SHUT_WR)
        receive_all(connection)

    with Server(serve) as server:
        report = probe_report("--load", "-n", "300", "-c", "3", server.endpoint, status=1,
                              errors=told("Connection closed early", server))
        assert counts(report) == (3, 0, 3) and report["messages"] == 3, report
        report = probe_report("--half-close", "-n", "10", server.endpoint, status=1,
                              errors=told("Connection closed early", server))
        assert counts(report) == (9, 0, 1) and report["messages"] == 1, report
        report = probe_report("-n", "10", "-i", "0.01", server.endpoint, status=1,
                              errors=told("Connection closed early", server))
        assert report["errors"] == 1 and report["lost"] <= 1, report


@scenario
def a_server_that_resets():
    def serve(connection):
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Server(serve) as server:
        report = probe_report("--load", "-n", "10", server.endpoint, status=1,
                              errors=told("Connection reset by peer", server))
        assert counts(report) == (1, 0, 1) and report["messages"] == 0, report


@scenario
def a_server_that_never_answers():
    """A load ends with its connections; ping tells of each message, and sends the next."""
    with Server(receive_all) as server:
        report = probe_report("--load", "-n", "50", "-c", "2", "-p", "5", "-W", "0.2",
                              server.endpoint, status=1,
                              errors=told("Connection timed out", server))
        assert counts(report) == (10, 0, 2) and report["messages"] == 0, report
        assert set(report["latency_us"].values()) == {None} and report["rate"] == 0, report
        run = probe("-n", "2", "-i", "0.05", "-W", "0.1", server.endpoint)
        assert run.stdout.startswith("no answer from %s: seq=1\nno answer from %s: seq=2\n" %
                                     (server.endpoint, server.endpoint)), run
        summary = SUMMARY.search(run.stdout)
        assert summary and summary["lost"] == "2" and run.returncode == 1, run


@scenario
def an_answer_that_comes_too_late_is_lost_but_verified():
    """The next one is not mistaken for it."""
    def serve(connection):
        first = connection.recv(64)
        second = connection.recv(64)
        connection.sendall(first[:-1] + b"?" + second)
        receive_all(connection)

    with Server(serve) as server:
        run = probe("-n", "2", "-i", "0.05", "-W", "0.3", server.endpoint)
        lines = run.stdout.splitlines()
        assert lines[0] == "no answer from %s: seq=1" % server.endpoint, run
        assert lines[1].startswith("64 bytes from %s: seq=2 " % server.endpoint), run
        assert "\n1 messages, 128 bytes in " in run.stdout, run
        assert "1 lost, 1 corrupt, 0 errors" in run.stdout and run.returncode == 1, run


@scenario
def half_close_needs_the_end():
    """A server that sends all back, but no EOF, fails; one that closes without it loses."""
    def never_ends(connection):
        while connection.send(connection.recv(65536)):
            pass
        threading.Event().wait(DEADLINE)

    with Server(never_ends) as server:
        report = probe_report("--half-close", "-W", "0.3", server.endpoint, status=1,
                              errors=told("Connection timed out", server))
        assert counts(report) == (0, 0, 1) and report["messages"] == 1, report

    def forgets(connection):
        data = receive_all(connection)
        connection.sendall(data[:len(data) // 2])

    with Server(forgets) as server:
        report = probe_report("--half-close", "-s", "1000", "-n", "8", "-c", "4", server.endpoint,
                              status=1, errors=told("Connection closed early", server))
        assert counts(report) == (4, 0, 4) and report["messages"] == 4, report


@scenario
def a_server_need_not_close():
    """When all is back, no other mode waits for long."""
    def serve(connection):
        while True:
            data = connection.recv(65536)
            if not data:
                threading.Event().wait(DEADLINE)
            connection.sendall(data)

    with Server(serve) as server:
        began = time.monotonic()
        for arguments in (["-i", "1ms"], ["--load"], ["--rate=1000"]):
            assert counts(probe_report("-n", "5", *arguments, server.endpoint)) == (0, 0, 0)
        assert time.monotonic() - began < 5


UNUSED = socket.socket()  # bound, so that nobody else gets the port, and not listening: it refuses


def refusing_port():
    if UNUSED.getsockname()[1] == 0:
        UNUSED.bind(("127.0.0.1", 0))
    return UNUSED.getsockname()[1]


@scenario
def refused_and_unknown_are_a_line_and_status_1():
    refusing = refusing_port()
    for arguments in ([], ["--load", "-c", "100", "-t", "4"], ["--rate=10"], ["--half-close"]):
        run = probe(*arguments, "127.0.0.1:%d" % refusing)
        assert run.returncode == 1 and run.stdout == "", run
        assert run.stderr == "echoprobe: Connection refused: tcp://127.0.0.1:%d\n" % refusing, run
    report = probe_report("--load", "-c", "100", "127.0.0.1:%d" % refusing, status=1,
                          errors="echoprobe: Connection refused: tcp://127.0.0.1:%d\n" % refusing)
    assert counts(report) == (0, 0, 100) and report["seconds"] == 0, report
    run = probe("no-such-host.invalid:7")
    assert run.returncode == 1 and run.stdout == "" and run.stderr.count("\n") == 1, run
    assert run.stderr.endswith(": no-such-host.invalid:7\n"), run


@scenario
def addresses_are_tried_in_turn():
    """localhost may stand for ::1 as well, where nobody serves."""
    with Echod() as echod:
        port = echod.address()[1]
        assert probe_report("--load", "-n", "9", "-c", "3", port)["messages"] == 9


@scenario
def usage_errors_are_a_line_and_status_2():
    for arguments in ([], ["1", "2"], ["*:7"], [":7"], ["localhost:0"], ["udp+x://localhost:1"],
                      ["-n", "0", "7"], ["-s", "0", "7"], ["-s", "1073741825", "7"],
                      ["-c", "0", "7"], ["-W", "0", "7"], ["--rate=0", "7"], ["--rate", "x", "7"],
                      ["--load", "--rate=1", "7"], ["--load", "--half-close", "7"],
                      ["--half-close", "--rate=1", "7"], ["--json", "--plot", "7"],
                      ["-p", "2", "7"], ["--load", "-i", "1", "7"], ["--frobnicate", "7"]):
        run = probe(*arguments)
        assert run.returncode == 2 and run.stdout == "", run
        assert re.fullmatch(r"echoprobe: [^:\n]+: [^\n]+\n", run.stderr), run


@scenario
def help_fits_in_80_columns():
    run = probe("--help")
    assert run.returncode == 0 and run.stderr == "", run
    assert max(map(len, run.stdout.splitlines())) <= 80, run.stdout
    assert probe("--version").stdout.startswith("echoprobe "), run


@scenario
def an_open_loop_does_not_forget_a_stall():
    """The server stalls for 300 ms: of messages that are due every 10 ms, those that had to wait
    count from when they were due, also on a connection that may have one in flight only."""
    def serve(connection):
        for number in range(100):
            data = receive_exactly_or_end(connection, 64)
            if not data:
                return
            if number == 20:
                threading.Event().wait(0.3)
            connection.sendall(data)
        receive_all(connection)

    for arguments in ([], ["-p", "1"]):
        with Server(serve) as server:
            report = probe_report("--rate=100", "-n", "100", *arguments, server.endpoint)
            latency = report["latency_us"]
            assert latency["p99"] > 250000 and latency["max"] >= 299000, report
            assert 100000 < latency["p90"] < latency["p99"], report  # the queue behind it
            assert latency["p50"] < 50000 and report["messages"] == 100, report


@scenario
def messages_in_flight_are_as_many_as_asked_for():
    """Never more: what comes while the server is slow; and never fewer: it waits for all."""
    most = []

    def is_slow(connection):
        while True:
            threading.Event().wait(0.1)
            data = connection.recv(65536)
            if not data:
                return
            most.append(len(data) // 64)
            connection.sendall(data)

    def wants_all(connection):
        while True:
            data = receive_exactly_or_end(connection, 8 * 64)
            if not data:
                return
            connection.sendall(data)

    for arguments in (["--load"], ["--rate=200"]):
        most.clear()
        with Server(is_slow) as server:
            report = probe_report("-n", "20", "-p", "2", *arguments, server.endpoint)
            assert report["in_flight"] == max(most) == 2, (report, most)
            assert report["messages"] == 20, report
    with Server(wants_all) as server:
        assert probe_report("--load", "-n", "80", "-p", "8", server.endpoint)["messages"] == 80


@scenario
def the_end_does_not_wait_for_ever():
    """A message that comes back by a byte a time has until the timeout, counted from the end of
    sending."""
    def dribble(connection):
        connection.recv(65536)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"?")
                threading.Event().wait(0.05)

    for arguments in (["--load", "-d", "0.2"], ["--rate=100", "-n", "1"]):
        with Server(dribble) as server:
            began = time.monotonic()
            report = probe_report("-s", "10000", "-W", "0.4", *arguments, server.endpoint, status=1,
                                  errors=told("Connection timed out", server))
            assert counts(report) == (1, 1, 1), report
            assert time.monotonic() - began < DEADLINE


@scenario
def after_a_signal_nothing_more_is_due():
    """Of an open loop against a server that stalls for a second just then."""
    got = threading.Event()

    def serve(connection):
        data = connection.recv(64)
        got.set()
        threading.Event().wait(1)
        while data:
            connection.sendall(data)
            data = connection.recv(65536)

    with Server(serve) as server, Probe("--json", "--rate=100", "-d", "1h", server.endpoint) as run:
        assert got.wait(DEADLINE)
        run.process.send_signal(signal.SIGINT)
        report = check_report(run.wait())
        assert 1 <= report["messages"] < 90 and counts(report) == (0, 0, 0), report


@scenario
def an_open_loop_goes_at_its_pace():
    """Neither faster, nor slower, on several connections and threads."""
    with Echod() as echod:
        report = probe_report("--rate=2000", "-n", "1000", "-c", "7", "-t", "2",
                              "%s:%d" % echod.address())
        assert report["messages"] == 1000 and report["seconds"] > 0.49, report


@scenario
def a_signal_ends_it_with_a_summary():
    """SIGINT or SIGTERM, in any mode: what is on its way comes back, and then the counts."""
    with Echod() as echod:
        endpoint = "%s:%d" % echod.address()
        for number in (signal.SIGINT, signal.SIGTERM):
            for arguments in (["-i", "0.01"], ["--load", "-d", "1h", "-c", "9", "-t", "2"],
                              ["--rate=1000", "-d", "1h"]):
                before, began = echod.stats()["sent_bytes"], time.monotonic()
                with Probe(*arguments, endpoint) as run:
                    wait_until(lambda: echod.stats()["sent_bytes"] > before, "messages")
                    run.process.send_signal(number)
                    ended = run.wait()
                assert ended.returncode == 0 and ended.stderr == "", ended
                summary = SUMMARY.search(ended.stdout)
                assert summary and summary["lost"] == "0", ended
                assert float(summary["seconds"]) <= time.monotonic() - began, ended
                wait_until(lambda: echod.stats()["active"] == 0, "the end of connections")


@scenario
def a_signal_before_it_begins_is_no_success():
    """While it still connects, to a server whose queue is full."""
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        where = server.getsockname()
        queue.enter_context(socket.create_connection(where))
        with Probe("--json", "--load", "%s:%d" % where) as run:
            syn_sent = "0100007F:%04X 02 " % where[1]

            def is_connecting():
                with open("/proc/net/tcp") as sockets:
                    return syn_sent in sockets.read()

            wait_until(is_connecting, "an attempt to connect")
            run.process.send_signal(signal.SIGINT)
            report = check_report(run.wait(), status=1,
                                  errors="echoprobe: Interrupted: tcp://%s:%d\n" % where)
    assert counts(report) == (0, 0, 1), report
    assert report["messages"] == report["seconds"] == 0, report


@scenario
def it_ends_when_nobody_reads_any_more():
    """As in a pipe to head: by SIGPIPE, at the next line."""
    with Echod() as echod, Probe("-i", "10ms", echod.endpoint()) as run:
        assert "bytes from" in run.process.stdout.readline()
        run.process.stdout.close()
        assert run.process.wait(DEADLINE) == -signal.SIGPIPE


@scenario
def a_second_signal_ends_it_at_once():
    """The first one waits for an answer that never comes."""
    got = threading.Event()

    def serve(connection):
        connection.recv(64)
        got.set()
        receive_all(connection)

    with Server(serve) as server, Probe("--load", server.endpoint) as run:
        assert got.wait(DEADLINE)
        run.process.send_signal(signal.SIGINT)
        while run.process.poll() is None:
            run.process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert run.process.returncode == -signal.SIGINT, run.process.returncode


@contextlib.contextmanager
def terminal(columns):
    """A pseudoterminal; what is written to it, as far as it was read."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield leader, follower
    finally:
        os.close(leader)
        os.close(follower)


def drain(descriptor):
    text = b""
    while select.select([descriptor], [], [], 0)[0]:
        text += os.read(descriptor, 65536)
    return text.decode()


def on_terminal(columns, *arguments, **environment):
    """What echoprobe shows on a terminal, of a kind that has colours unless told otherwise."""
    inherited = {key: value for key, value in sanitized().items()
                 if key not in ("COLUMNS", "NO_COLOR")}
    with terminal(columns) as (leader, follower):
        run = subprocess.run([ECHOPROBE, *arguments], timeout=DEADLINE, stdout=follower,
                             stderr=follower,
                             env={**inherited, "TERM": "xterm", "LC_ALL": "C", **environment})
        text = drain(leader).replace("\r\n", "\n")
    assert run.returncode == 0, (run, text)
    return text


@scenario
def a_live_line_on_a_terminal_only():
    """It is renewed in place, and gone at the end, and never wraps; a pipe sees nothing of it, nor
    does a terminal that cannot renew a line."""
    with Echod() as echod:
        arguments = ["--load", "-d", "1.5", "%s:%d" % echod.address()]
        text = on_terminal(80, *arguments)
        assert re.match(r"(\r\x1b\[K\d+ s  \d+ messages/s  [0-9.]+ MB/s  0 lost  0 corrupt"
                        r"  0 errors)+\r\x1b\[K---", text), text
        lines = re.findall(r"\r\x1b\[K([^\r]*)", on_terminal(30, *arguments))
        assert len(lines[0]) == 29 and lines[-1].startswith("---"), lines
        assert "\x1b" not in on_terminal(80, *arguments, TERM="dumb")
        assert probe(*arguments).stderr == ""


def plot_on_terminal(columns, *arguments, **environment):
    text = on_terminal(columns, *arguments, **environment)
    return text[text.index("    from messages"):]


@scenario
def a_plot_fits_the_terminal():
    """80 columns in a pipe, blocks where the locale has them; else as wide as the terminal, or as
    the user wants it."""
    row = re.compile(r" *[0-9.]+ [num]?s +(\d+) [|\u2502]([#\u2580-\u258f]*)"
                     r"((?: p[0-9.]+)*(?: max)?)")
    with Echod() as echod:
        arguments = ["--load", "-n", "2000", "--plot", "%s:%d" % echod.address()]
        for locale, block in (("C", "#"), ("C.UTF-8", "\u2588")):
            run = probe(*arguments, environment={"LC_ALL": locale, "COLUMNS": ""})
            title, *lines = run.stdout.splitlines()[4:]
            rows = [row.fullmatch(line) for line in lines]
            assert title == "    from messages", run.stdout
            assert run.returncode == 0 and rows and all(rows), run.stdout
            assert sum(int(r[1]) for r in rows) == 2000, run.stdout
            marks = "".join(r[3] for r in rows).split()
            assert marks == PERCENTILES + ["max"], run.stdout
            assert max(map(len, lines)) == 80, run.stdout
            assert max(r[2].count(block) for r in rows) > 30, run.stdout
        for columns, environment in ((120, {}), (40, {}), (80, {"COLUMNS": "132"})):
            plot = plot_on_terminal(columns, *arguments, NO_COLOR="1", **environment)
            wanted = int(environment.get("COLUMNS", columns))
            assert max(map(len, plot.splitlines())) == wanted, plot


@scenario
def a_plot_has_colours_on_a_terminal_only():
    """And only on one that knows them, for a user that wants them; they change nothing else."""
    with Echod() as echod:
        arguments = ["--load", "-n", "2000", "--plot", "%s:%d" % echod.address()]
        text = plot_on_terminal(80, *arguments)
        assert re.search(r"\|\x1b\[36m#+\x1b\[m\x1b\[1m p50", text), text
        plain = re.sub(r"\x1b\[[0-9]*m", "", text)
        assert "\x1b" not in plain and max(map(len, plain.splitlines())) == 80, text
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}):
            assert "\x1b" not in plot_on_terminal(80, *arguments, **environment), environment
        assert "\x1b" in plot_on_terminal(80, *arguments, NO_COLOR="")
        assert "\x1b" not in probe(*arguments, environment={"TERM": "xterm"}).stdout


main()
