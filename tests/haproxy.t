#!/usr/bin/env python3
"""contrib/haproxy: three echod behind haproxy, restarted one after the other under load."""
import contextlib
import csv
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from harness import (DEADLINE, ECHOD, Line, Skip, check_report, counts, echo, in_namespace, main,
                     probe, receive_all, receive_exactly, sanitized, scenario, wait_until)

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "contrib", "haproxy")
NAMES = "FRONT", "STATUS", "ECHOD1", "ECHOD2", "ECHOD3", "METRICS1", "METRICS2", "METRICS3"


def free_ports(count):
    """Ports that nobody uses, below those which the kernel gives to clients: a server that is away
    for a moment finds its own one free again."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
        first_of_clients = int(limits.read().split()[0])
    found = []
    for port in random.sample(range(10000, max(first_of_clients, 12000)), 1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise Skip("no free ports")


def elsewhere():
    """An environment in which the example is served at free ports."""
    return {name: str(port) if name.startswith("METRICS") else "127.0.0.1:%d" % port
            for name, port in zip(NAMES, free_ports(len(NAMES)))}


def defaults():
    """What haproxy.cfg takes where the environment says nothing."""
    with open(os.path.join(EXAMPLE, "haproxy.cfg")) as config:
        return dict(re.findall(r"presetenv (\S+) (\S+)", config.read()))


class Example:
    """The example, running; ENVIRONMENT says where, if not where it is by default."""

    def __init__(self, environment):
        for tool in "haproxy", "curl":
            if shutil.which(tool) is None:
                raise Skip(tool + " is not installed")
        self.places = {**defaults(), **environment}
        self.directory = tempfile.TemporaryDirectory(prefix="echod-haproxy.")
        self.environment = sanitized({**environment, "ECHOD": os.path.abspath(ECHOD),
                                      "STATE": self.directory.name})
        self.haproxy, self.said = None, []

    def __enter__(self):
        try:
            self.run("start")
            self.haproxy = subprocess.Popen(
                ["haproxy", "-db", "-f", os.path.join(EXAMPLE, "haproxy.cfg")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=self.environment, text=True)
            threading.Thread(target=self._collect, daemon=True).start()
            wait_until(lambda: all(map(self.uses, (1, 2, 3))), "haproxy to use all three")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.haproxy:
            self.haproxy.kill()
            self.haproxy.wait()
        for name in os.listdir(self.directory.name):
            if name.endswith(".pid"):
                with open(os.path.join(self.directory.name, name)) as file, \
                        contextlib.suppress(ValueError, ProcessLookupError):
                    os.kill(int(file.read()), signal.SIGKILL)
        self.directory.cleanup()

    def _collect(self):
        for line in self.haproxy.stderr:
            self.said.append(line.rstrip())

    def run(self, command, status=0, **environment):
        done = subprocess.run([os.path.join(EXAMPLE, "echods"), command], text=True,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=6 * DEADLINE, env={**self.environment, **environment})
        assert done.returncode == status, done
        return done.stderr if status else done.stdout

    def address(self, name="FRONT"):
        host, port = self.places[name].split(":")
        return host, int(port)

    def ask(self, path):
        """What haproxy's page of that PATH says; (status, text)."""
        try:
            with urllib.request.urlopen("http://%s/%s" % (self.places["STATUS"], path),
                                        timeout=DEADLINE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def uses(self, number):
        return self.ask("echod%d" % number)[0] == 200

    def counters(self):
        """haproxy's, of the three together, as numbers."""
        rows = csv.DictReader(self.ask(";csv")[1].removeprefix("# ").splitlines())
        row, = (row for row in rows if (row["pxname"], row["svname"]) == ("echods", "BACKEND"))
        return {key: int(value) for key, value in row.items() if value and value.isdigit()}

    def lines(self, number):
        with open(os.path.join(self.directory.name, "echod%d.log" % number)) as log:
            return [Line(line.rstrip("\n")) for line in log]


class Load:
    """Clients of all kinds, in threads, until a `with` block ends; what failed is raised then."""

    def __init__(self, address):
        self.address, self.served, self.drained, self.failed = address, 0, 0, []
        self.ended, self.lock = threading.Event(), threading.Lock()
        kinds = [self._come_and_go] * 4 + [self._stay] * 8 + [self._talk, self._send_all]
        self.threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in kinds]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        assert exception[0] or not self.failed, self.failed[:5]

    def _repeat(self, kind):
        try:
            while not self.ended.is_set():
                kind()
        except Exception as why:
            self.failed.append("%s: %r" % (kind.__name__, why))

    def _count(self, served=0, drained=0):
        with self.lock:
            self.served += served
            self.drained += drained

    def _come_and_go(self):
        with socket.create_connection(self.address, DEADLINE) as client:
            data = os.urandom(random.choice((1, 1000, 100000)))
            writer = threading.Thread(target=client.sendall, args=(data,))
            writer.start()
            assert receive_exactly(client, len(data)) == data
            writer.join()
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""
        self._count(served=1)
        time.sleep(0.005)

    def _stay(self):
        """Says something now and then. It may be told to go between two messages, and at no other
        time: if one crossed the end of file nothing of it has come back."""
        with socket.create_connection(self.address, DEADLINE) as client:
            while not self.ended.is_set():
                message = os.urandom(100)
                client.sendall(message)
                answer = client.recv(100)
                if answer and len(answer) < len(message):
                    answer += receive_exactly(client, len(message) - len(answer))
                assert answer in (message, b"")
                if not answer or select.select([client], [], [], random.uniform(0.1, 1))[0]:
                    assert client.recv(1) == b""
                    self._count(drained=1)
                    return

    def _talk(self):
        """Never pauses, for half a second."""
        run = probe("--json", "--load", "-c4", "-d0.5s", "-s1000", "%s:%d" % self.address)
        report = check_report(run)
        assert counts(report) == (0, 0, 0) and report["messages"] > 0, report

    def _send_all(self):
        run = probe("--json", "--half-close", "-c4", "-n400", "-s10000", "%s:%d" % self.address)
        assert counts(check_report(run)) == (0, 0, 0), run


@scenario
def a_rolling_restart_is_noticed_by_nobody():
    with Example(elsewhere()) as example:
        with Load(example.address()) as load:
            wait_until(lambda: load.served > 20 or load.failed, "some clients")
            example.run("rolling-restart")
            after = load.served
            wait_until(lambda: load.served > after + 20 or load.failed, "more clients")
        assert load.drained > 0
        for number in 1, 2, 3:
            assert example.uses(number)
            lines = example.lines(number)
            assert sum(line.event == "ready" for line in lines) == 2, number
            drained, = (line for line in lines if line.event == "drained")
            assert drained["forced"] == "0", drained
        # Each was taken out for its 503, in time: nobody was sent to one that was gone.
        down = [line for line in example.said if " is DOWN" in line]
        assert len(down) == 3 and all("Layer7 wrong status, code: 503" in one for one in down), down
        counters = example.counters()
        assert (counters["econ"], counters["wretr"], counters["wredis"]) == (0, 0, 0), counters
        assert counters["stot"] > 100, counters


@scenario
def echod_learns_who_the_client_is():
    with Example(elsewhere()) as example, \
            socket.create_connection(example.address(), DEADLINE) as client:
        echo(client, b"hello")
        name = "%s:%d" % client.getsockname()
        client.close()
        line = wait_until(lambda: [line for number in (1, 2, 3) for line in example.lines(number)
                                   if line.event == "closed"], "the connection's line")[0]
        assert line["peer"] == name and line["via"] != name, line


@scenario
def what_is_not_there_is_said():
    with Example(elsewhere()) as example:
        example.haproxy.kill()
        example.haproxy.wait()
        text = example.run("rolling-restart", status=1)
        assert text.startswith("echods: haproxy does not use echod1"), text
        example.run("stop")
        assert example.run("rolling-restart", 1) == ("echods: echod1 does not run: start comes "
                                                     "first\n")
        text = example.run("start", status=1, ECHOD1="nonsense")
        assert text.startswith("echods: echod1 did not start: echod: "), text
        text = example.run("restart", status=2)
        assert text == "usage: echods start|rolling-restart|stop\n", text


@scenario
@in_namespace()
def both_files_have_the_same_addresses():
    """Without any environment: the commands of the README."""
    with Example({}) as example:
        assert example.address() == ("127.0.0.1", 7777)
        run = probe("-n3", "-i1ms", "7777")
        assert run.returncode == 0, run
        assert example.run("stop") == "drained: echod 1 2 3\n"
        wait_until(lambda: not any(map(example.uses, (1, 2, 3))), "haproxy to notice the end")


main(around=True)
