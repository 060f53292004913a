#!/usr/bin/env python3
"""--max-connections: never more connections are served, by all workers together, never fewer while
somebody waits, and whoever came first is served first."""
import os
import select
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import (Echod, echo, main, receive_exactly, reset, scenario, sockets_of, wait_until)

DRAIN_MS = 12000 if os.environ.get("ECHOD_SANITIZED") else 6000


class Queue:
    """Clients that came one after another, each with a word to be echoed."""

    def __init__(self, server):
        self.server, self.clients = server, []

    def come(self, count):
        """COUNT more, far enough apart for the order to be beyond doubt."""
        for _ in range(count):
            client = self.server.connect()
            client.sendall(b"%05d" % len(self.clients))
            self.clients.append(client)
            time.sleep(0.01)

    def served(self):
        """The numbers of those that have been answered."""
        there = [c for c in self.clients if c.fileno() >= 0]
        ready = select.select(there, [], [], 0)[0]
        return [n for n, c in enumerate(self.clients) if c in ready]

    def wait_for(self, *numbers):
        """Waits until NUMBERS are those that are served, and without another."""
        wait_until(lambda: len(self.served()) >= len(numbers), "%s to be served, not %s" % (
            numbers, self.served()))
        assert self.served() == list(numbers), "%s served, not %s" % (self.served(), numbers)

    def leave(self, *numbers):
        for number in numbers:
            self.clients[number].close()


def first_come_first_served(model, workers):
    with Echod("--model=" + model, "--workers=%d" % workers, "--max-connections=4") as server:
        queue = Queue(server)
        queue.come(4)
        queue.wait_for(0, 1, 2, 3)
        assert not server.lines("paused"), "paused while nobody waits"
        queue.come(16)
        paused = server.wait_line("paused", reason="max-connections")
        assert paused.level == "warning", paused
        time.sleep(0.3)
        queue.wait_for(0, 1, 2, 3)
        assert server.stats()["active"] == 4
        for gone in range(6):  # one by one: not the next who waits, but the one who came next
            queue.leave(gone)
            queue.wait_for(*range(gone + 1, gone + 5))
        for first in (10, 14):  # and all at a time
            queue.leave(*queue.served())
            wait_until(lambda: len(queue.served()) == 4, "four to be served")
            time.sleep(0.3)
            # Workers that accept at the same instant may swap the two that they got.
            assert len(queue.served()) == 4, queue.served()
            assert max(queue.served()) < first + 3 + workers, queue.served()
        queue.leave(*queue.served())
        wait_until(lambda: len(queue.served()) == 2, "the last two to be served")
        for number in queue.served():
            assert receive_exactly(queue.clients[number], 5) == b"%05d" % number
            echo(queue.clients[number], b"goodbye")
        resumed = server.wait_line("resumed", reason="max-connections")
        assert resumed.level == "notice", resumed
        assert len(server.lines("paused")) == len(server.lines("resumed")) == 1


@scenario
def first_come_first_served_by_one_worker(model):
    """With room for four, twenty clients are served four at a time in the order in which they
    came, each as soon as somebody leaves; `paused` and `resumed` say so once."""
    first_come_first_served(model, 1)


@scenario
def first_come_first_served_by_three_workers(model):
    """The same with three workers, whichever of them accepts."""
    first_come_first_served(model, 3)


def go_away_while_waiting(model, workers):
    with Echod("--model=" + model, "--workers=%d" % workers, "--max-connections=2") as server:
        queue = Queue(server)
        queue.come(2)
        queue.wait_for(0, 1)
        for leave in (socket.socket.close, reset) * 10:
            client = server.connect()
            client.sendall(b"never mind")
            leave(client)
        queue.come(2)
        queue.wait_for(0, 1)
        queue.leave(0, 1)
        queue.wait_for(2, 3)


@scenario
def go_away_while_waiting_for_one_worker(model):
    """Twenty clients give up before their turn; that costs those behind them next to no time."""
    go_away_while_waiting(model, 1)


@scenario
def go_away_while_waiting_for_three_workers(model):
    """The same with three workers."""
    go_away_while_waiting(model, 3)


def killed(workers, number):
    """NUMBER ends a worker that holds slots, while others wait for one."""
    with Echod("--workers=%d" % workers, "--max-connections=6") as server:
        queue = Queue(server)
        time.sleep(1)  # a worker that has lived a second is replaced at once
        queue.come(6)
        queue.wait_for(*range(6))
        queue.come(12)
        os.kill(server.workers()[0], number)
        server.wait_line("worker-started", workers + 1)

        def settled():
            """Who is served; those that were cut off leave."""
            poll = select.poll()
            for client in (queue.clients[n] for n in queue.served()):
                poll.register(client, select.POLLRDHUP)
            cut = [number for number, _ in poll.poll(0)]
            queue.leave(*(n for n in queue.served() if queue.clients[n].fileno() in cut))
            return [queue.clients[n] for n in queue.served()]

        wait_until(lambda: len(settled()) == 6, "six to be served again")
        time.sleep(0.3)
        assert len(settled()) == 6, "%d are served" % len(settled())
        assert server.stats()["active"] == 6
        while any(c.fileno() >= 0 for c in queue.clients):
            wait_until(settled, "the next ones")
            for client in settled():
                receive_exactly(client, 5)
                echo(client, b"survived")
                client.close()
        assert server.stats()["closed_crash"] <= 6
        # All slots are there again, and not one more.
        queue = Queue(server)
        queue.come(9)
        queue.wait_for(*range(6))
        time.sleep(0.3)
        queue.wait_for(*range(6))


@scenario
def slots_of_a_killed_worker_come_back():
    """A worker is killed: what it served is lost, and as many of those who wait are served."""
    killed(1, signal.SIGKILL)
    killed(3, signal.SIGKILL)


@scenario
def slots_of_a_crashed_worker_come_back():
    """The same after a crash."""
    killed(2, signal.SIGSEGV)


def two_here_one_there(server):
    """With room for two: clients of which two are served by one worker, and the last one waits at
    the other. Returns (the worker that serves, clients): the kernel chooses, so we try."""
    idle = {pid: sockets_of(pid) for pid in server.workers()}

    def held():
        return {pid: sockets_of(pid) - idle[pid] for pid in idle}

    def attempt():
        clients = []
        for count in 1, 2, 3:
            clients.append(server.connect())
            clients[-1].sendall(b"hello")
            if count < 3:
                assert receive_exactly(clients[-1], 5) == b"hello"
            wait_until(lambda: sum(held().values()) == count, "it to be accepted")
            if count == 2 and max(held().values()) < 2:
                break
        for worker, sockets in held().items():
            if sockets == 2 and len(clients) == 3:
                return worker, clients
        for client in clients:
            client.close()
        wait_until(lambda: not any(held().values()), "them to be closed")
        return None

    return wait_until(attempt, "two clients at one worker and one at the other")


@scenario
def slots_are_passed_on_while_it_drains():
    """Two connections fill one worker, a third waits at another. TERM; one of the two ends: the
    one that waits is served at once, however long the other one goes on. Only that one is cut."""
    with Echod("--workers=2", "--max-connections=2", "--drain-timeout=%dms" % DRAIN_MS) as server:
        worker, (stream, brief, waiting) = two_here_one_there(server)
        before, began = sockets_of(worker), time.monotonic()
        server.signal(signal.SIGTERM)

        def has_closed_its_socket():
            echo(stream, b"and on")
            echo(brief, b"and on")
            return sockets_of(worker) < before

        def is_served():
            echo(stream, b"and on")
            return select.select([waiting], [], [], 0)[0]

        wait_until(has_closed_its_socket, "the worker to close what it listens at")
        assert not is_served(), "there were three at a time"
        brief.close()
        wait_until(is_served, "the one that waits to be served", DRAIN_MS / 4000)
        assert receive_exactly(waiting, 5) == b"hello"
        waiting.close()
        assert time.monotonic() - began < DRAIN_MS / 2000
        try:
            while True:
                echo(stream, b"and on")
                time.sleep(0.01)
        except (AssertionError, ConnectionError):
            pass
        stream.close()
        assert server.wait() == 0
        assert server.lines("drained", drained=2, forced=1), server.raw


@scenario
def pauses_that_come_and_go():
    """Many short pauses make at most one line a second, and the last one says that it is over."""
    with Echod("--max-connections=2") as server:
        for _ in range(10):
            queue = Queue(server)
            queue.come(3)
            queue.leave(0, 1)
            queue.wait_for(2)
            queue.leave(2)
            time.sleep(0.1)
        assert server.stats()["paused_max-connections"] == 10
        count = len(server.lines("paused"))
        server.wait_line("resumed", count, reason="max-connections")
        lines = [line for line in server.lines() if line.event in ("paused", "resumed")]
        times = [float(line.text[17:23]) for line in lines]
        gaps = [(later - sooner) % 60 for sooner, later in zip(times, times[1:])]
        assert lines[-1].event == "resumed" and min(gaps) > 0.95, lines


def stampede(model, workers):
    inside, most, total, lock, failures = 0, 0, 0, threading.Lock(), []

    def visit(server, until):
        nonlocal inside, most, total
        while time.monotonic() < until:
            client = server.connect()
            echo(client, os.urandom(64))
            with lock:  # it is served now, for sure, until it begins to close
                inside, total = inside + 1, total + 1
                most = max(most, inside)
            for _ in range(3):
                echo(client, os.urandom(64))
            with lock:
                inside -= 1
            (reset if total % 3 == 0 else socket.socket.close)(client)

    def run(*arguments):
        try:
            visit(*arguments)
        except Exception as why:
            failures.append(why)

    with Echod("--model=" + model, "--workers=%d" % workers, "--max-connections=4") as server:
        until = time.monotonic() + 1
        threads = [threading.Thread(target=run, args=(server, until)) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert most == 4, "%d served at once" % most
        assert total > 20, "%d served in all" % total
        wait_until(lambda: server.stats()["active"] == 0, "all to be closed")
        stats = server.stats()
        assert stats["accepted"] == total and stats["paused_max-connections"] > 0, (total, stats)
        server.wait_line("resumed")
        assert len(server.lines("paused")) <= 2 + time.monotonic() - until, server.lines("paused")


@scenario
def stampede_on_one_worker(model):
    """Twenty-four clients come and go as fast as they can: all are served, four at a time."""
    stampede(model, 1)


@scenario
def stampede_on_three_workers(model):
    """The same with three workers: still four in all."""
    stampede(model, 3)


@scenario
def no_address_is_passed_over(model):
    """With two addresses and a queue at one of them that never ends, who comes to the other one has
    his turn all the same, whichever of the two it is."""
    with Echod("--model=" + model, "--max-connections=2", "127.0.0.1:0", "127.0.0.2:0") as server:
        for busy in 0, 1:
            done, served = threading.Event(), []

            def come_again():
                while not done.is_set():
                    with server.connect(busy) as client:
                        echo(client, b"me again")
                    served.append(1)

            with ThreadPoolExecutor(8) as pool:
                crowd = [pool.submit(come_again) for _ in range(8)]
                try:
                    wait_until(lambda: len(served) > 100, "a queue")
                    before = len(served)
                    with server.connect(1 - busy) as client:
                        echo(client, b"what about me?")
                    passed = len(served) - before
                finally:
                    done.set()
                for one in crowd:
                    one.result()
            assert passed < 100, "%d others were served first" % passed


main()
