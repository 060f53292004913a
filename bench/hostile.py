#!/usr/bin/env python3
"""Hostile clients: what others see of a server that is attacked, and what that costs the server;
echod beside xinetd and the raw loops, each with every attack in turn. In a network of its own where
that is permitted, as some attacks come from sources that do not exist.

Environment: BENCH_QUICK=1, BENCH_ROUNDS=N.
Example: bench/hostile.py --attacks none,connect --rows "echod limited"
"""
import argparse
import ctypes
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import namedtuple

import measure
import peers
import table
import udp
from columns import Column

# options: of floods, of which the attack is one; a million a minute are 16667 a second.
Attack = namedtuple("Attack", "name title transport options")
TCP = [
    Attack("none", "nobody", "tcp", None),
    Attack("connect", "connections, opened and closed: 1M a minute from 4 sources", "tcp",
           ["-r", "16667"]),
    Attack("reset", "connections, reset after 64 B: 1M a minute from 4 sources", "tcp",
           ["-r", "16667"]),
    Attack("hold", "2000 connections held, 4000 attempts a second, from 4 sources", "tcp",
           ["-r", "4000", "-n", "2000"]),
    Attack("byte", "one byte at a time on 500 connections, 20000 a second", "tcp",
           ["-r", "20000", "-n", "500"]),
    Attack("deaf", "200 that send all they can and never read, with tiny windows", "tcp",
           ["-r", "4000", "-n", "200"]),
]
UDP = [
    Attack("udp-none", "nobody", "udp", None),
    Attack("udp", "datagrams of one source, 60000 a second", "udp", ["-r", "60000"]),
    Attack("forged", "datagrams of a million sources that do not exist, 60000 a second", "udp",
           ["-r", "60000"]),
]
ATTACKS = TCP + UDP
LEAD = 0.3      # seconds that the polite clients are there before the attack
NEWCOMERS = 20  # a second
PATIENCE = 1    # seconds that a newcomer waits
POLITE = {"tcp": Column("polite", "polite", 10, ["--rate", "500", "-s", "64"], False),
          "udp": Column("polite", "polite", 4, ["--rate", "500", "-s", "64"], False)}
DESCRIPTORS = 65536
BUDGET = 300    # seconds, in which another round has to fit
CLONE_NEWNET = 0x40000000

# What protects them, alike as far as may be.
LIMITS = ["--max-connections=2000", "--max-per-source=100", "--accept-rate=100",
          "--idle-timeout=30"]
XINETD = """
defaults
{
    instances = 2000
    per_source = 100
    cps = 400 1
}
service echo
{
    type = %(kind)s
    id = echo-%(protocol)s
    flags = %(flags)s
    socket_type = %(socket)s
    protocol = %(protocol)s
    wait = %(wait)s
    bind = 127.0.0.1
    port = %(port)d
    user = %(user)d
    %(server)s
}
"""
STREAM = {"protocol": "tcp", "socket": "stream", "wait": "no", "flags": "NODELAY", "server": ""}
DATAGRAM = {"protocol": "udp", "socket": "dgram", "wait": "yes", "flags": "IPv4", "server": ""}


def xinetd(build, **service):
    program = peers.find("xinetd")

    def command(port):
        configuration = os.path.join(build, "xinetd_hostile.conf")
        with open(configuration, "w") as file:
            file.write(XINETD % {**service, "port": port, "user": os.getuid()})
        return [program, "-dontfork", "-f", configuration, "-filelog", "/dev/null"]

    return command


def rows_of(options):
    """By transport and name: the command, or the function that makes it (measure.Server)."""
    echod, build = [options.echod, "--quiet"], options.build
    rows = {
        "tcp": {"raw": [os.path.join(build, "raw"), "{port}"],
                "echod": echod + ["tcp://127.0.0.1:{port}"],
                "echod limited": echod + LIMITS + ["tcp://127.0.0.1:{port}"]},
        "udp": {"raw": [os.path.join(build, "raw_udp"), "{port}"],
                "echod unlimited": echod + ["--udp-rate=0", "udp://127.0.0.1:{port}"],
                "echod": echod + ["udp://127.0.0.1:{port}"]},
    }
    try:
        internal = "INTERNAL UNLISTED"
        rows["tcp"]["xinetd internal"] = xinetd(build, kind=internal, **STREAM)
        rows["tcp"]["xinetd cat"] = xinetd(build, kind="UNLISTED", **{
            **STREAM, "server": "server = " + peers.find("cat")})
        rows["udp"]["xinetd internal"] = xinetd(build, kind=internal, **DATAGRAM)
    except peers.Missing as what:
        print("skipped: xinetd: not installed: %s" % what, file=sys.stderr)
    for transport, there in rows.items():
        rows[transport] = {name: command for name, command in there.items()
                           if not options.rows or name in options.rows.split(",")}
    return rows


class UdpServer(udp.Server):
    def target(self):
        return ["udp://127.0.0.1:%d" % self.port]


SERVERS = {"tcp": measure.Server, "udp": UdpServer}


class Repeated:
    """Does ACTION every SECONDS, in a thread, from START seconds on until a `with` block ends."""

    def __init__(self, action, seconds, start=0.0):
        self.action, self.seconds, self.start = action, seconds, start
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        pause = self.start
        while not self.over.wait(pause):
            self.action()
            pause = self.seconds

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def come(transport, port):
    """Somebody new: how many ms the first echo took, or None: it had none within PATIENCE."""
    began = time.monotonic()
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(PATIENCE)
        try:
            client.bind(("127.0.0.9", 0))
            client.connect(("127.0.0.1", port))
            client.sendall(b"hello")
            return (time.monotonic() - began) * 1e3 if client.recv(100) == b"hello" else None
        except OSError:
            return None


def start_attack(attack, server, options):
    """Starts it, LEAD seconds from now; its output is one line of JSON. It yields to whoever is
    polite on its processor: that one, and not the attacker, is to be measured."""
    return measure.start(["sh", "-c", "sleep %g; exec nice -n 19 \"$@\"" % LEAD, "sh",
                          options.floods, "-d", options.seconds, *attack.options,
                          attack.name, "127.0.0.1", server.port],
                         (measure.CLIENT_CORE,), stdout=subprocess.PIPE)


def besiege(attack, server, options):
    """The polite clients' run, beside the ATTACK if there is one; returns echoprobe's result."""
    seconds = options.seconds + LEAD
    if attack.options is None:
        return measure.load(options.probe, server, POLITE[attack.transport], seconds)
    with start_attack(attack, server, options) as flood:
        try:
            result = measure.load(options.probe, server, POLITE[attack.transport], seconds)
            result["attack"] = json.loads(flood.stdout.read() or "{}")
        finally:
            flood.kill()
    if not result["attack"]:
        raise measure.Failure("the attack failed")
    return result


def run(command, attack, options):
    """A fresh server under ATTACK: one result."""
    with SERVERS[attack.transport](command) as server:
        newcomers, memory = [], [server.private_kib()]
        used, began = server.cpu_seconds(), time.monotonic()
        with Repeated(lambda: newcomers.append(come(attack.transport, server.port)),
                      1 / NEWCOMERS, 2 * LEAD), \
                Repeated(lambda: memory.append(server.private_kib()), 0.1):
            result = besiege(attack, server, options)
        cpu = (server.cpu_seconds() - used) / (time.monotonic() - began)
    served = sorted(filter(None, newcomers))
    flood = result.get("attack", {})
    return {"p50": result["latency_us"]["p50"], "p99": result["latency_us"]["p99"],
            "lost": 100 * result["lost"] / max(1, result["messages"] + result["lost"]),
            "newcomer": statistics.median(served) if served else None,
            "worst": served[-1] if served else None,
            "turned away": 100 * (len(newcomers) - len(served)) / max(1, len(newcomers)),
            "a minute": 60 * flood["rate"] if flood else None, "held": flood.get("held"),
            "cpu": cpu * 100, "kib": max(memory) - memory[0]}


HEAD = [" " * 17 + " |" + " |".join(["who is served".center(23), "who comes".center(23),
                                     "the attack".center(17), "the server".center(15)]),
        " " * 17 + " |" + " |".join(["  p50 us  p99 us  lost%", "  p50 ms   worst  fail%",
                                     "  a minute   held", " CPU %    + KiB"])]


def line_of(name, results):
    """A row: medians over the rounds."""
    def middle(key):
        there = [result[key] for result in results if result[key] is not None]
        return statistics.median(there) if there else None

    def cells(*columns):
        return "".join(table.cell(middle(key), width, form) for key, width, form in columns)

    return name.ljust(17) + " |" + " |".join([
        cells(("p50", 8, "%.0f"), ("p99", 8, "%.0f"), ("lost", 7, "%.1f")),
        cells(("newcomer", 8, "%.2f"), ("worst", 8, "%.1f"), ("turned away", 7, "%.0f")),
        table.rate(middle("a minute")).rjust(10) + cells(("held", 7, "%.0f")),
        cells(("cpu", 6, "%.0f"), ("kib", 9, "%.0f"))])


def render(results, attacks):
    yield from HEAD
    for attack in attacks:
        yield ""
        yield "%s: %s" % (attack.transport.upper(), attack.title)
        for name, there in results[attack.name].items():
            yield line_of(name, there)


def collect(rows, attacks, options):
    """All rounds' results by attack and row; and how many rounds."""
    results = {attack.name: {name: [] for name in rows[attack.transport]} for attack in attacks}
    began = time.monotonic()
    for number in range(options.rounds):
        for attack in attacks:
            print("round %d of %d: %s" % (number + 1, options.rounds, attack.title),
                  file=sys.stderr, flush=True)
            for name, command in rows[attack.transport].items():
                try:
                    results[attack.name][name].append(run(command, attack, options))
                except measure.Failure as failure:
                    print("%s, %s: %s" % (name, attack.name, failure), file=sys.stderr)
        if (time.monotonic() - began) * (number + 2) / (number + 1) > BUDGET:
            break
    return results, number + 1


def enter_network():
    """A network of our own, from now on. False: that is not permitted."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True


def parse():
    quick = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
    names = ",".join(attack.name for attack in ATTACKS)
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="bench/out", help="where raw, raw_udp and floods are")
    parser.add_argument("--echod", default="src/echod")
    parser.add_argument("--probe", default="src/echoprobe", help="the polite clients")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS") or
                                                          (1 if quick else 3)))
    parser.add_argument("--seconds", type=float, default=0.5 if quick else 2,
                        help="of each attack (default %(default)s)")
    parser.add_argument("--attacks", default=names, help="some of " + names)
    parser.add_argument("--rows", default="", help="some of them, by name")
    options = parser.parse_args()
    options.floods = os.path.join(options.build, "floods")
    return options


def main():
    options = parse()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("hostile.py: two processors are needed, one for the server and one for clients")
    wanted = options.attacks.split(",")
    for name in wanted:
        if name not in [attack.name for attack in ATTACKS]:
            sys.exit("hostile.py: no such attack: " + name)
    if not enter_network():
        print("skipped: forged: a network of its own is not permitted", file=sys.stderr)
        wanted = [name for name in wanted if name != "forged"]
    attacks = [attack for attack in ATTACKS if attack.name in wanted]
    measure.raise_limit(DESCRIPTORS)
    os.sched_setaffinity(0, (measure.CLIENT_CORE,))
    results, rounds = collect(rows_of(options), attacks, options)
    print("\n".join(render(results, attacks)))
    print("\nrounds: %d, %g s an attack; load average at the end %.2f %.2f %.2f" % (
        rounds, options.seconds, *os.getloadavg()))


if __name__ == "__main__":
    main()
