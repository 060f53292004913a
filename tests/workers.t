#!/usr/bin/env python3
"""Several workers behind one port: crashes, replacements, and a supervisor that is gone."""
import datetime
import functools
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import (DEADLINE, Echod, Skip, echo, is_alive, main, receive_all, scenario,
                     sockets_of, suspend, wait_until)

PROMPTLY = 10 if os.environ.get("ECHOD_SANITIZED") else 1  # seconds: no client waits longer


class Load:
    """Client threads that connect, echo and close in a loop; with-statement.

    A connection that was made may be reset: its worker may have died. One that cannot be made, and
    an answer that takes long, is a failure.
    """

    def __init__(self, address, threads=4):
        self.address = address
        self.served, self.resets, self.slowest, self.failures = 0, 0, 0, []
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self):
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection(self.address, timeout=DEADLINE) as client:
                    served = self._is_served(client)
            except OSError as error:
                self.failures.append(repr(error))
                return
            with self.lock:
                self.served += served
                self.resets += not served
                self.slowest = max(self.slowest, time.monotonic() - began)

    @staticmethod
    def _is_served(client):
        try:
            client.sendall(b"load")
            return receive_all_of(client, 4) == b"load"
        except (ConnectionResetError, BrokenPipeError):
            return False

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(2 * DEADLINE)

    def check(self, resets):
        """All were served but for RESETS at most."""
        assert not self.failures, self.failures
        assert self.served > 0 and self.resets <= resets, (self.served, self.resets)
        assert self.slowest < PROMPTLY, "a client waited %g s" % self.slowest


def receive_all_of(client, count):
    """Up to COUNT bytes: fewer if the connection ends."""
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def seconds(line):
    return datetime.datetime.strptime(line.text.split()[0], "%Y-%m-%dT%H:%M:%S.%fZ").timestamp()


@scenario
def a_crash_under_load_has_no_client_refused():
    """The youngest of three workers is hit by SEGV every 1.5 s: three again each time, the log
    says why it died and who came, and no client is refused or waits."""
    with Echod("--workers=3") as echod:
        with Load(echod.address()) as load:
            for crash in range(1, 5):
                time.sleep(1.5)
                victim = echod.workers()[-1]
                os.kill(victim, signal.SIGSEGV)
                died = echod.wait_line("worker-died", crash)
                assert int(died["pid"]) == victim and "SIGSEGV" in died["cause"], died
                came = echod.wait_line("worker-started", 3 + crash)
                assert came["worker"] == died["worker"], (died, came)
                assert len(echod.workers()) == 3 and int(came["pid"]) in echod.workers()
        load.check(resets=4 * len(load.threads))
        assert echod.stats()["worker_restarts"] == 4
        assert echod.stop() == 0


@scenario
def a_worker_that_keeps_dying_waits_longer_each_time():
    """Replacements that are killed at once come after 0.1 s, 0.2 s, 0.4 s ...; meanwhile another
    worker serves those who queue at the dead one's socket, promptly."""
    with Echod("--workers=3") as echod:
        with Load(echod.address()) as load:
            for crash in range(1, 6):
                os.kill(int(echod.lines("worker-started")[-1]["pid"]), signal.SIGKILL)
                echod.wait_line("worker-started", 3 + crash)
        died = echod.lines("worker-died")
        came = echod.lines("worker-started")[3:]
        assert len({line["worker"] for line in died + came}) == 1, (died, came)
        for crash, wait in enumerate((0.1, 0.2, 0.4, 0.8, 1.6)):
            gap = seconds(came[crash]) - seconds(died[crash])
            assert wait - 0.01 <= gap < wait + PROMPTLY / 2, "gap %d is %g s" % (crash, gap)
        load.check(resets=5 * len(load.threads))
        assert echod.stop() == 0


@scenario
def a_queue_finds_another_worker_also_when_all_have_died():
    """One worker waits for its replacement when the other, who stood in for it, dies as well:
    whoever comes first to life serves both queues."""
    with Echod("--workers=2") as echod:
        first = echod.lines("worker-started")[0]
        for crash in range(1, 6):  # the next replacement is 1.6 s away
            os.kill(int(echod.lines("worker-started", worker=first["worker"])[-1]["pid"]),
                    signal.SIGKILL)
            echod.wait_line("worker-died", crash)
            if crash < 5:
                echod.wait_line("worker-started", 1 + crash, worker=first["worker"])
        os.kill(echod.workers()[0], signal.SIGKILL)
        echod.wait_line("worker-started", 7)
        with Load(echod.address()) as load:
            wait_until(lambda: load.served > 100 or load.failures, "clients that are served")
        load.check(resets=0)


@scenario
def connections_of_a_dead_worker_are_counted_and_gone():
    """They end with their worker; `active` forgets them, closed_crash has them."""
    with Echod("--workers=2") as echod:
        clients = [echod.connect() for _ in range(40)]
        for client in clients:
            echo(client, b"here")
        assert echod.stats()["active"] == 40
        os.kill(echod.workers()[0], signal.SIGABRT)
        assert "SIGABRT" in echod.wait_line("worker-died")["cause"]
        lost = 0
        for client in clients:
            try:
                echo(client, b"still here")
            except (AssertionError, ConnectionError):
                lost += 1
        stats = echod.stats()
        assert 0 < lost < 40 and stats["closed_crash"] == lost, (lost, stats)
        assert stats["active"] == 40 - lost, (lost, stats)
        for client in clients:
            client.close()
        wait_until(lambda: echod.stats()["active"] == 0, "all to be closed")


@scenario
def a_killed_supervisor_leaves_no_orphan():
    """Workers finish what is under way and go, idle or busy; then the port refuses."""
    with Echod("--workers=3") as echod:
        workers, address = echod.workers(), echod.address()
        idle, busy = echod.connect(), echod.connect()
        echo(idle, b"idle")
        echo(busy, b"busy")
        os.kill(echod.pid, signal.SIGKILL)
        echod.process.wait()
        try:
            for _ in range(10):
                echo(busy, b"x" * 100000)
                time.sleep(0.1)
            assert receive_all(idle) == b""
            busy.shutdown(socket.SHUT_WR)
            assert receive_all(busy) == b""
            idle.close()
            wait_until(lambda: not any(map(is_alive, workers)), "the workers to go")
        finally:
            for pid in filter(is_alive, workers):
                os.kill(pid, signal.SIGKILL)
        try:
            socket.create_connection(address, timeout=DEADLINE).close()
            raise AssertionError("somebody still listens")
        except ConnectionRefusedError:
            pass


@scenario
def a_deputy_may_leave_before_its_replacement_has_come():
    """One worker drains and is gone while the replacement of the other, for whom it stood in, is
    still starting: the shutdown goes on, exit 0."""
    for _ in range(20):
        # Each endpoint is one more descriptor that the replacement has to wait for.
        with Echod("--workers=2", *["tcp://127.0.0.1:0"] * 200) as echod:
            victim, deputy = echod.workers()
            os.kill(victim, signal.SIGKILL)
            end = time.monotonic() + DEADLINE
            while not set(echod.workers()) - {victim, deputy}:
                assert time.monotonic() < end, "no replacement"
            replacement, = set(echod.workers()) - {victim, deputy}
            suspend(replacement)
            for _ in range(2):
                echod.stats()  # whatever it said before is read by now
            if len(echod.lines("worker-started")) > 2:
                continue
            echod.signal(signal.SIGTERM)
            wait_until(lambda: deputy not in echod.workers(), "the deputy to leave")
            os.kill(replacement, signal.SIGCONT)
            status = echod.wait()
            assert status == 0 and echod.lines("drained", forced=0), (status, echod.raw[-5:])
            assert not is_alive(replacement)
            return
    raise Skip("the start is over too soon")


@scenario
def numbers_are_unique_and_load_is_spread(model):
    """No two of 300 connections have the same conn=, and all three workers have some."""
    with Echod("--workers=3", "--model=" + model, "-vv") as echod:
        before = {pid: sockets_of(pid) for pid in echod.processes()}
        clients = [echod.connect() for _ in range(300)]
        echod.wait_line("accepted", 300)  # before others follow, and the pipe is full
        for client in clients:
            echo(client, b"one of many")
        more = {pid: sockets_of(pid) - before[pid] for pid in before}
        assert sum(more.values()) == 300, more
        if model == "process":
            assert more.pop(echod.pid) == 0 and len(more) == 3 and min(more.values()) > 30, more
        else:
            assert echod.lines("ready")[0]["workers"] == "3" and not echod.workers()
        accepted = echod.lines("accepted")
        assert len({line["conn"] for line in accepted}) == len(accepted) == 300
        for client in clients:
            client.close()
        assert echod.stop() == 0


@scenario
def a_worker_that_dies_before_the_first_ready_ends_the_start():
    """Nothing is served by half a server: exit 1, and the log has the cause."""
    for _ in range(20):
        with Echod("--workers=100", ready=False) as echod:
            wait_until(lambda: echod.workers() or echod.process.poll() is not None, "a worker")
            suspend(echod.pid)  # in the middle of the start
            workers = echod.workers()
            if 0 < len(workers) < 100:
                os.kill(workers[-1], signal.SIGKILL)
                echod.signal(signal.SIGCONT)
                assert echod.wait() == 1
                assert "SIGKILL" in echod.lines("worker-died", pid=workers[-1])[0]["cause"]
                assert not echod.lines("ready"), echod.raw
                assert not any(map(is_alive, workers))
                return
    raise Skip("the start is over too soon")


@scenario
def of_two_that_start_at_the_same_moment_one_serves(model):
    """One has the port and serves; the other says that it is in use, and ends with 1."""
    for _ in range(15):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = "127.0.0.1:%d" % probe.getsockname()[1]
        with ThreadPoolExecutor(2) as pool:
            start = functools.partial(Echod, "--workers=4", "--model=" + model, endpoint,
                                      ready=False)
            pair = [one.result() for one in [pool.submit(start) for _ in range(2)]]
        try:
            wait_until(lambda: any(one.closed for one in pair), "one to give up")
            if all(one.closed or one.raw[:1] and one.raw[0].startswith("echod: ") for one in pair):
                continue  # somebody else on this machine has got the port
            loser, = [one for one in pair if one.closed]
            winner, = [one for one in pair if one is not loser]
            assert loser.wait() == 1
            assert loser.raw == ["echod: Address already in use: tcp://" + endpoint], loser.raw
            winner.wait_line("ready")
            with winner.connect() as client:
                echo(client, b"hello")
            assert winner.stop() == 0
        finally:
            for one in pair:
                one.kill()


@scenario
def signals_that_the_parent_blocked_are_heard(model):
    """Started with every signal blocked, as some service managers do: TERM ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        echod = Echod("--model=" + model, ready=False)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with echod:
        echod.wait_line("ready")
        assert echod.stop() == 0


main()
