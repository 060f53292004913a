#!/usr/bin/env python3
"""UDP: echod beside a raw loop over recvmmsg and sendmmsg. Pairs (raw, server) in alternating
order, and between them pairs (raw, raw), which show the noise; QUOTE is the quotient of the
medians. So much for datagrams a second; on a machine that has more to do believe CPU time, of which
"share" is the raw loop's for a datagram as a part of the server's.

Environment: BENCH_QUICK=1, BENCH_ROUNDS=N.
Example: bench/udp.py --pairs 9 --columns small -- src/echod -q udp://127.0.0.1:{port}
"""
import argparse
import os
import socket
import statistics
import sys
import time
from collections import namedtuple

import measure
from measure import middle, shares

# Sockets, datagrams in flight on each, bytes.
Column = namedtuple("Column", "name title sockets in_flight size")
COLUMNS = [
    Column("single", "100 x 64 B", 100, 1, 64),
    Column("small", "16 x 64 B, 16 deep", 16, 16, 64),
    Column("packet", "16 x 1400 B, 8 deep", 16, 8, 1400),
    Column("large", "4 x 65507 B", 4, 1, 65507),
]
FAST = "--udp-rate=1000000000"  # a limit that is kept, and never met


class Server(measure.Server):
    """A UDP server: it listens once it has answered."""

    def _wait_until_it_listens(self, name):
        end = time.monotonic() + measure.PATIENCE
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", self.port))
            client.settimeout(0.05)
            while time.monotonic() < end:
                if self.process.poll() is not None:
                    raise measure.Failure("%s ended with status %d" % (
                        name, self.process.returncode))
                try:
                    client.send(b"there?")
                    client.recv(100)
                    return
                except OSError:
                    time.sleep(0.01)
        raise measure.Failure("%s does not answer" % name)


def one_run(command, options, column):
    with Server(command) as server:
        result, used = measure.run_measured(
            [options.client, "-d", options.seconds, "-c", column.sockets, "-p", column.in_flight,
             "-s", column.size, "127.0.0.1", server.port], options.seconds, server)
    if result["corrupt"] > 0 or result["messages"] == 0:
        raise measure.Failure("%d messages, %d corrupt" % (result["messages"], result["corrupt"]))
    result["cpu"] = used * 1e6 / result["messages"]
    return result


def measure_column(options, servers, column):
    """Prints a line for each of SERVERS, names and commands; all are measured in turns."""
    raw = [options.raw, "{port}"]
    pairs = {name: [] for name in servers}

    def run(command):
        return one_run(command, options, column)

    for i in range(options.pairs):
        for name, command in {"raw": raw, **servers}.items():
            pairs.setdefault(name, []).append(measure.run_pair(run, raw, command, i % 2 == 1))
    noise = shares(pairs["raw"])
    for name in servers:
        print_line(column, name, pairs[name], noise)


def print_line(column, name, pairs, noise):
    share, against_itself = statistics.median(shares(pairs)), statistics.median(noise)
    print("%-20s %-14s %8.0f %8.0f %6.3f %6.3f (%.2f-%.2f) %6.3f %6.2f %6.2f %6.3f %4d" % (
        column.title, name, middle(pairs, 0, "rate"), middle(pairs, 1, "rate"), share,
        against_itself, min(noise), max(noise), share / against_itself, middle(pairs, 0, "cpu"),
        middle(pairs, 1, "cpu"),
        statistics.median(first["cpu"] / second["cpu"] for first, second in pairs),
        sum(second["lost"] for _, second in pairs)), flush=True)


def parse():
    quick = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", default="bench/out/datagrams")
    parser.add_argument("--raw", default="bench/out/raw_udp", help="the raw loop")
    parser.add_argument("--echod", default="src/echod")
    parser.add_argument("--pairs", type=int, default=int(os.environ.get("BENCH_ROUNDS") or
                                                         (1 if quick else 9)))
    parser.add_argument("--seconds", type=float, default=0.3, help="of each run (default 0.3)")
    parser.add_argument("--columns", default=",".join(c.name for c in COLUMNS),
                        help="some of " + ", ".join(c.name for c in COLUMNS))
    parser.add_argument("server", nargs="*", help="a command instead of echod's; {port} stands "
                        "for the port")
    return parser.parse_args()


def servers_of(options):
    if options.server:
        return {"server": options.server}
    command = [options.echod, "--quiet", "udp://127.0.0.1:{port}"]
    return {"echod process": command + ["--udp-rate=0"],
            "echod thread": command + ["--udp-rate=0", "--model=thread"],
            "rate limited": command + [FAST]}


def main():
    options = parse()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("udp.py: two processors are needed, one for the server and one for the client")
    print("%-20s %-14s %8s %8s %6s %-18s %6s %6s %6s %6s %s" % (
        "datagrams/s, medians", "", "raw", "server", "share", "raw against raw", "QUOTE", "CPU us",
        "server", "share", "lost"))
    for name in options.columns.split(","):
        column = next((c for c in COLUMNS if c.name == name), None)
        if column is None:
            sys.exit("udp.py: no such column: " + name)
        measure_column(options, servers_of(options), column)


if __name__ == "__main__":
    try:
        main()
    except measure.Failure as failure:
        sys.exit("udp.py: %s" % failure)
