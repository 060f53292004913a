#!/usr/bin/env python3
"""Workers that hang: seen, killed and replaced, and nobody else is."""
import contextlib
import ctypes
import os
import resource
import select
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from harness import (DEADLINE, Echod, Manager, Skip, echo, is_alive, main, needs_tls, receive_all,
                     scenario, sockets_of, suspend, wait_until)

HUNG, SILENT = 10, 2  # seconds, as the manual has it
SLACK = 8             # more, on a busy machine
WORD = 0.2            # how often WATCHDOG=1 comes
NO_HEARTBEAT = "no heartbeat for 10 s"

WAITING, POOL, BEGUN = [], ThreadPoolExecutor(8), {}


def together(function):
    """A scenario that mostly waits: all of them run at the same time, from when the first is due."""
    WAITING.append(function)

    def wait():
        if not BEGUN:
            for one in WAITING:
                if not sys.argv[1:] or one.__name__ in sys.argv[1:]:
                    BEGUN[one] = POOL.submit(one)
        BEGUN[function].result()

    wait.__name__ = function.__name__
    return scenario(wait)


class Watchdog(Manager):
    """A manager that notes when WATCHDOG=1 comes: .times."""

    def __init__(self):
        super().__init__("\0echod/heartbeat-%d-%d" % (os.getpid(), threading.get_ident()),
                         WATCHDOG_USEC=str(int(2 * WORD * 1e6)))
        self.times = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while True:
                if "WATCHDOG" in self.hear():
                    self.times.append(time.monotonic())

    def gap(self, since, until):
        """The longest time without, in between."""
        times = [since, *[one for one in self.times if since < one < until], until]
        return max(after - before for before, after in zip(times, times[1:]))

    def wait_word(self):
        """Until the next comes; when that was."""
        count = len(self.times)
        wait_until(lambda: len(self.times) > count, "WATCHDOG=1")
        return self.times[-1]


def serve_some(echod):
    """Connects, and is echoed; how long that took."""
    began = time.monotonic()
    with echod.connect() as client:
        echo(client, b"hello")
    return time.monotonic() - began


def answered(clients, count):
    """Sends to each; those who are answered, COUNT of them."""
    for client in clients:
        client.sendall(b"x")
    wait_until(lambda: len(select.select(clients, [], [], 0)[0]) == count, "%d answers" % count)
    found = select.select(clients, [], [], 0)[0]
    assert all(client.recv(2) == b"x" for client in found)
    return found


def is_gone(client):
    try:
        return receive_all(client) == b""
    except ConnectionResetError:  # it was owed something
        return True


@together
def a_worker_that_hangs_is_replaced():
    """One of two is stopped: the other one's clients notice nothing, its own are gone when it is
    killed, who comes meanwhile is served by the other one, and WATCHDOG=1 waits until then."""
    with Watchdog() as watchdog, Echod("-w2", environment=watchdog.variables) as echod:
        victim = echod.workers()[0]
        mine = -sockets_of(victim)
        clients = [echod.connect() for _ in range(40)]
        for client in clients:
            echo(client, b"here")
        mine += sockets_of(victim)
        assert 0 < mine < 40, mine
        watchdog.wait_word()
        suspend(victim)
        stopped, waits = time.monotonic(), []
        others = answered(clients, 40 - mine)
        while not echod.lines("worker-died"):
            waits.append(serve_some(echod))
            for client in others:
                echo(client, b"as if nothing was")
            time.sleep(0.02)
            assert time.monotonic() < stopped + HUNG + SLACK, "it is still there"
        died = echod.wait_line("worker-died")
        hung = time.monotonic() - stopped
        came = echod.wait_line("worker-started", 3)
        assert (died.level, died["cause"]) == ("error", NO_HEARTBEAT), died
        assert int(died["pid"]) == victim and died["worker"] == came["worker"], (died, came)
        assert HUNG <= hung < HUNG + SLACK, hung
        assert max(waits) < HUNG / 2 + 2, "somebody waited %g s" % max(waits)
        back = watchdog.wait_word()
        silence = watchdog.gap(stopped, back)
        assert HUNG - SILENT - 3 < silence < HUNG + SLACK, silence
        assert all(is_gone(client) for client in clients if client not in others)
        stats = echod.stats()
        assert stats["worker_restarts"] == 1 and len(echod.workers()) == 2, stats
        assert stats["closed_crash"] == mine, (stats, mine)
        for client in others:
            echo(client, b"to the end")
            client.close()
        assert echod.stop() == 0
        assert len(echod.lines("worker-died")) == 1


def health(echod):
    """The status that /healthz has."""
    url, = [line["endpoint"] for line in echod.lines("listening")
            if line["endpoint"].startswith("http:")]
    try:
        with urllib.request.urlopen(url + "/healthz", timeout=DEADLINE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@together
def a_worker_that_comes_back_goes_on():
    """Silent for a few seconds: WATCHDOG=1 is kept back, and comes again, and so does /healthz;
    nothing else is done."""
    with Watchdog() as watchdog, Echod("-w2", "--metrics=127.0.0.1:0", "127.0.0.1:0",
                                       environment=watchdog.variables) as echod:
        clients = [echod.connect() for _ in range(20)]
        for client in clients:
            echo(client, b"here")
        victim = echod.workers()[0]
        for _ in range(2):
            watchdog.wait_word()
            assert health(echod) == 200
            suspend(victim)
            wait_until(lambda: health(echod) == 503, "a silence")
            os.kill(victim, signal.SIGCONT)
            watchdog.wait_word()
            assert health(echod) == 200
            assert not echod.lines("worker-died")
        for client in clients:
            echo(client, b"still here")
            client.close()
        for _ in range(20):
            serve_some(echod)
        assert echod.stats()["worker_restarts"] == 0
        assert echod.stop() == 0
        assert not echod.lines("worker-died")


@together
def a_supervisor_that_stood_still_blames_nobody():
    """It does not ask meanwhile, and hears the answers first when it goes on."""
    with Echod("-w3", "-v") as echod:
        with echod.connect() as client:
            echo(client, b"here")
            suspend(echod.pid)
            time.sleep(HUNG + 3)
            echo(client, b"still here")
            echod.signal(signal.SIGCONT)
            echo(client, b"and after")
        echod.wait_line("closed")
        time.sleep(1.5)  # it has judged by then
        assert echod.stats()["worker_restarts"] == 0
        assert echod.stop() == 0
        assert not echod.lines("worker-died")


@together
def a_machine_that_stood_still_blames_nobody():
    """All stop, several times, and go on in any order."""
    with Echod("-w3") as echod:
        everybody = echod.processes()
        for order in (1, -1) * 3:
            for pid in everybody:
                suspend(pid)
            time.sleep(SILENT)
            for pid in everybody[::order]:
                os.kill(pid, signal.SIGCONT)
            serve_some(echod)
        assert echod.stats()["worker_restarts"] == 0
        assert echod.stop() == 0
        assert not echod.lines("worker-died")


PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
ANY_CHILD = 0x40000000  # threads, too


def stop_thread(thread):
    """Stops one thread, as a debugger does; the caller has to reap it."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long] * 4
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if ptrace(request, thread, 0, 0) != 0:
            raise Skip("ptrace: " + os.strerror(ctypes.get_errno()))
    os.waitpid(thread, ANY_CHILD)


@together
def a_thread_that_hangs_ends_all():
    """It cannot be killed: as after a crash the daemon ends, with 1, for its manager to start it
    again. A unix socket's file is removed all the same."""
    with tempfile.TemporaryDirectory(prefix="echod-heartbeat.", dir="/tmp") as directory:
        path = os.path.join(directory, "s")
        with Echod("-w3", "--model=thread", "127.0.0.1:0", "unix://" + path) as echod:
            serve_some(echod)
            threads = [int(one) for one in os.listdir("/proc/%d/task" % echod.pid)]
            threads.remove(echod.pid)
            thread = max(threads)
            stop_thread(thread)
            stopped = time.monotonic()
            died = echod.wait_line("worker-died", seconds=HUNG + SLACK)
            hung = time.monotonic() - stopped
            assert (died.level, died["cause"]) == ("error", NO_HEARTBEAT), died
            assert int(died["pid"]) == echod.pid and HUNG <= hung < HUNG + SLACK, (died, hung)
            os.waitpid(thread, ANY_CHILD)
            assert echod.wait() == 1
            assert not os.path.exists(path)


@together
def a_drain_need_not_wait_for_one_that_hangs():
    """Its deadline is far; the others are done, and the one that hangs is killed in time."""
    with Echod("-w2", "--drain-timeout=1h") as echod:
        serve_some(echod)
        victim = echod.workers()[0]
        suspend(victim)
        echod.signal(signal.SIGTERM)
        assert echod.wait(HUNG + SLACK) == 0
        assert echod.lines("worker-died", pid=victim)[0]["cause"] == NO_HEARTBEAT
        assert echod.lines("drained") and not is_alive(victim)
        assert len(echod.lines("worker-started")) == 2


def client_hello():
    """The first bytes of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def send_at_once(echod, clients, data):
    """The worker finds all of it when it goes on."""
    worker, = echod.workers()
    suspend(worker)
    for client in clients:
        client.sendall(data)
    os.kill(worker, signal.SIGCONT)


def shake_hands(echod, clients):
    """All begin at the same time; how long it takes until the last has its answer. What comes in
    front has the reactor see how many there are, so that it asks for all of them at a time."""
    hello = client_hello()
    for i in range(4):
        send_at_once(echod, clients, hello[i:i + 1])
        for _ in range(20):  # rounds, until there is nothing more to do
            serve_some(echod)
    send_at_once(echod, clients, hello[4:])
    began = time.monotonic()
    for client in clients:
        assert client.recv(1), "no answer"
    return time.monotonic() - began


@scenario
def handshakes_without_end_do_not_look_like_one_that_hangs():
    """Thousands, each of milliseconds, are due in one round of the reactor, which takes seconds:
    the worker answers all the while."""
    needs_tls()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as directory, Watchdog() as watchdog:
        chain = os.path.join(directory, "chain.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:4096", "-nodes", "-subj",
                        "/CN=echod", "-keyout", chain, "-out", chain], check=True,
                       stderr=subprocess.DEVNULL)
        with Echod("--handshake-timeout=1h", "--tls-cert=" + chain, "127.0.0.1:0",
                   "tls://127.0.0.1:0", environment=watchdog.variables) as echod:
            few = [echod.connect(1) for _ in range(100)]
            each = shake_hands(echod, few) / len(few)
            many = [echod.connect(1) for _ in range(min(most // 2, int(5 * SILENT / each)))]
            began = time.monotonic()
            took = shake_hands(echod, many)
            gap = watchdog.gap(began, began + took)
            if took < 2 * SILENT + 1:
                raise Skip("this machine is too fast: %g s" % took)
            assert gap < took / 3, "silent for %g of %g s" % (gap, took)
            for client in few + many:
                client.close()
            assert not echod.lines("worker-died")


main()
