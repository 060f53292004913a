#!/usr/bin/env python3
"""Out of descriptors: the daemon says so once, waits without spinning, goes on serving whom it
has, and serves everybody else as descriptors come free."""
import os
import select

import time

from harness import Echod, Skip, cpu_seconds, echo, main, scenario, wait_until

CLIENTS = 150
NOFILE = 64


class Crowd:
    """Many clients, each of which has said hello and wants to hear it."""

    def __init__(self, server, count):
        self.waiting, self.served = {}, []  # by descriptor; in the order in which they were
        for number in range(count):
            client = server.connect()
            client.sendall(b"hello from %03d" % number)
            self.waiting[client.fileno()] = client

    def look(self, seconds=0):
        """Notes who has been answered; all that are."""
        while True:
            ready = select.select(list(self.waiting), [], [], seconds)[0]
            if not ready:
                return self.served
            for number in ready:
                client = self.waiting.pop(number)
                answer = client.recv(100)
                assert answer[:11] == b"hello from " and len(answer) == 14, answer
                self.served.append(client)


def check_pause_lines(server):
    """paused and resumed by turns, and not more than one of them a second."""
    lines = [line for line in server.lines() if line.event in ("paused", "resumed")]
    assert lines and all(line["reason"] == "descriptors" for line in lines), lines
    times = [float(line.text[17:23]) for line in lines]  # of the minute
    for number, line in enumerate(lines):
        assert (line.event, line.level) == (("resumed", "notice") if number % 2 else
                                            ("paused", "warning")), lines
        assert not number or (times[number] - times[number - 1]) % 60 > 0.95, lines
    return len(lines)


def exhaust(model, workers):
    with Echod("--model=" + model, "--workers=%d" % workers, nofile=NOFILE) as server:
        crowd = Crowd(server, CLIENTS)
        server.wait_line("paused", reason="descriptors")
        # Until those are served that can be: half a second without one more.
        least = (NOFILE - 24) * (workers if model == "process" else 1)
        wait_until(lambda: len(crowd.look(0.5)) >= least, "%d to be served" % least)
        served = len(crowd.served)
        assert served < CLIENTS, "all fitted"

        before, began = cpu_seconds(server.processes()), time.monotonic()
        time.sleep(2)
        used = (cpu_seconds(server.processes()) - before) / (time.monotonic() - began)
        assert used < 0.2 or os.environ.get("ECHOD_SANITIZED"), "%.0f%% CPU" % (used * 100)
        assert len(crowd.look()) == served, "somebody was served without a descriptor"
        assert check_pause_lines(server) == 1, server.lines()
        for client in crowd.served:
            echo(client, os.urandom(1000))

        while crowd.waiting:
            crowd.served.pop(0).close()
            wait_until(lambda: len(crowd.look()) or not crowd.waiting, "the next one")
        wait_until(lambda: server.stats()["accepted"] == CLIENTS, "all to be counted")
        for client in crowd.served:
            echo(client, b"and still there")
            client.close()
        server.wait_line("resumed", reason="descriptors")
        check_pause_lines(server)
        with server.connect() as client:
            echo(client, b"as if nothing had been")
        stats = server.stats()
        assert stats["closed_reset"] == stats["closed_error"] == 0, stats
        assert stats["paused_descriptors"] > 0, stats


@scenario
def more_clients_than_descriptors(model):
    """150 clients and 64 descriptors: `paused` once, hardly any CPU time, open connections echo;
    as some close, others are served, all 150 in the end; `resumed`, when it is over."""
    exhaust(model, 1)


@scenario
def more_clients_than_descriptors_for_two_workers(model):
    """The same with two workers."""
    exhaust(model, 2)


@scenario
def nobody_waits_for_long(model):
    """Whoever waits is served at once when a descriptor comes free, not at the next look round."""
    with Echod("--model=" + model, nofile=NOFILE) as server:
        crowd = Crowd(server, NOFILE + 6)
        server.wait_line("paused", reason="descriptors")
        wait_until(lambda: len(crowd.look(0.5)) >= NOFILE - 24, "those that fit")
        trips = []
        while crowd.waiting:
            began, served = time.monotonic(), len(crowd.served)
            crowd.served.pop(0).close()
            wait_until(lambda: len(crowd.look()) == served, "the next one")
            trips.append(time.monotonic() - began)
        assert sorted(trips)[len(trips) // 2] < 0.7, trips  # a look round comes each second


@scenario
def the_hard_limit_is_what_counts(model):
    """Started with a small soft limit of descriptors, it serves as many as the hard one allows."""
    with Echod("--model=" + model, nofile=(NOFILE, 400)) as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        for client in clients:
            echo(client, b"all at once")
        assert server.stats()["active"] == CLIENTS
        assert not server.lines("paused")
        for client in clients:
            client.close()


@scenario
def too_few_to_begin_with():
    """With fewer than it takes to start: one line that says so, and 1."""
    if os.environ.get("ECHOD_SANITIZED"):
        raise Skip("sanitizers want descriptors of their own")
    for nofile in range(4, 12):
        with Echod(nofile=nofile, ready=False) as server:
            wait_until(lambda: server.closed or server.lines("ready"), "one or the other")
            if not server.closed:
                return
            assert server.wait() == 1, nofile
            if not any(" listening " in line for line in server.raw):
                assert len(server.raw) == 1 and server.raw[0].startswith("echod: "), server.raw
    raise AssertionError("it never started")


main()
