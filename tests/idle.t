#!/usr/bin/env python3
"""--idle-timeout: who moves no byte for so long is closed; everybody else stays."""
import os
import random
import socket
import threading
import time

from harness import (DEADLINE, Echod, connect_slow_reader, echo, main, probe_report, receive_all,
                     receive_until_reset, scenario, stuff, stuff_until_it_is_held)
SLACK = 10 if os.environ.get("ECHOD_SANITIZED") else 5  # seconds: what a loaded machine adds
TIMEOUT = 1.5
OPTION = "--idle-timeout=%gs" % TIMEOUT


def seconds_until_end(client, since):
    assert receive_all(client) == b""
    return time.monotonic() - since


@scenario
def an_idle_client_is_closed_in_time(model):
    """After 1.5 s, not before, with a FIN; the log says reason=idle."""
    with Echod(OPTION, "-vv", "--model=" + model) as echod:
        began = time.monotonic()
        with echod.connect() as silent:
            took = seconds_until_end(silent, began)
        assert TIMEOUT - 0.01 < took < TIMEOUT + SLACK, "a silent one ended after %g s" % took
        with echod.connect() as client:
            time.sleep(0.5)
            began = time.monotonic()
            echo(client, b"hello")
            took = seconds_until_end(client, began)
        assert TIMEOUT - 0.01 < took < TIMEOUT + SLACK, "it ended after %g s" % took
        assert echod.wait_line("closed", reason="idle", in_=0).level == "debug"
        line = echod.wait_line("closed", reason="idle", in_=5, out=5)
        assert TIMEOUT + 0.49 < float(line["duration"]) < TIMEOUT + 0.5 + SLACK, line
        assert echod.stats()["closed_idle"] == 2


@scenario
def a_byte_now_and_then_keeps_it_open(model):
    """A byte each 0.1 s for 4 s: never idle, whoever else is."""
    with Echod(OPTION, "-v", "--workers=2", "--model=" + model) as echod:
        idle = [echod.connect() for _ in range(20)]
        report = probe_report("-c", 5, "-s", 1, "-i", "0.1", "-n", 5 * 41, echod.endpoint())
        assert report["messages"] == 5 * 41 and report["seconds"] > 3.9, report
        for client in idle:
            assert receive_all(client) == b""
        for number in range(5):
            assert echod.wait_line("closed", number + 1)["reason"] == "eof"


@scenario
def each_has_a_time_of_its_own(model):
    """60 clients last moved a byte at times of their own: each is closed 1.5 s after its own."""
    with Echod(OPTION, "--workers=2", "--model=" + model) as echod:
        clients = [echod.connect() for _ in range(60)]
        took = [None] * len(clients)

        def use(number):
            dice = random.Random(number)
            for _ in range(dice.randrange(1, 8)):
                last = time.monotonic()
                echo(clients[number], b"x")
                time.sleep(dice.uniform(0, 0.5))
            took[number] = seconds_until_end(clients[number], last)

        threads = [threading.Thread(target=use, args=(n,)) for n in range(len(clients))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert None not in took, "%d were not closed" % took.count(None)
        assert TIMEOUT - 0.01 < min(took) and max(took) < TIMEOUT + SLACK, (min(took), max(took))


@scenario
def a_slow_reader_is_not_idle(model):
    """It sends nothing and takes a little of what it is owed every 0.1 s: bytes move, so it gets
    all of them, however much the kernels between us hold. (The peer's kernel may let half of its
    buffer be read before it asks for more: that is a fraction of the timeout.)"""
    with Echod("--idle-timeout=2s", "-v", "--model=" + model) as echod, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(DEADLINE)
        client.connect(echod.address())
        sent = stuff(client)
        got, until = 0, time.monotonic() + 5
        while got < sent:
            slow = time.monotonic() < until  # and then the rest, as fast as it goes
            try:
                piece = client.recv(65536 if slow else 1 << 20)
            except ConnectionResetError:
                piece = b""
            assert piece, "cut after %d of %d bytes: %s" % (got, sent, echod.lines("closed"))
            got += len(piece)
            time.sleep(0.1 if slow else 0)


@scenario
def who_stops_reading_is_idle(model):
    """Bytes are owed to it, and none moves any more: closed, and what it held is free."""
    with Echod(OPTION, "-v", "--model=" + model) as echod, echod.connect() as client:
        stuff(client)
        began = time.monotonic()
        line = echod.wait_line("closed", reason="idle")
        assert time.monotonic() - began < TIMEOUT + SLACK, line
        assert int(line["in"]) > int(line["out"]) > 0, line
        assert echod.stats()["active"] == 0


@scenario
def who_never_reads_has_one_timeout(model):
    """All that is owed fits into the kernel, and the reader takes none of it: one idle timeout."""
    with Echod("--idle-timeout=1s", "-v", "--model=" + model) as echod, echod.connect() as client:
        client.sendall(b"x" * 300000)
        line = echod.wait_line("closed", reason="idle")
        assert 0.99 < float(line["duration"]) < 1 + SLACK, line


@scenario
def who_is_owed_bytes_has_one_timeout_and_no_clean_end(model):
    """The daemon itself holds bytes for a client that does not read: it is closed after one idle
    timeout, not two, with a reset: a FIN after a part would look like the end of the whole."""
    with Echod("--idle-timeout=1s", "-v", "--model=" + model) as echod, \
            connect_slow_reader(echod) as client:
        sent, last = stuff_until_it_is_held(echod, client)
        line = echod.wait_line("closed", reason="idle")
        took = time.monotonic() - last
        assert 0.99 < took < 1 + SLACK, "closed after %g s" % took
        assert int(line["in"]) == sent > int(line["out"]) > 0, line
        got = receive_until_reset(client)
        assert got < sent, (got, sent)


@scenario
def who_half_closed_and_stops_reading_is_idle(model):
    """The same after a FIN: what is owed waits for the reader, but not for longer than that."""
    with Echod(OPTION, "-v", "--model=" + model) as echod, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(echod.address())
        client.sendall(b"x" * 200000)
        client.shutdown(socket.SHUT_WR)
        echod.wait_line("closed", reason="idle", in_=200000)
        assert echod.stats()["active"] == 0


main()
