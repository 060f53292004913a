#!/usr/bin/env python3
"""Runs echod, the raw loop and the peers side by side; prints a table and draws SVG plots.

Environment: BENCH_QUICK=1 (under 2 minutes instead of under 10), BENCH_PEERS="NAME ..." (some of
the peers), BENCH_ROUNDS=N.
"""
import argparse
import os
import random
import sys
import time
from collections import namedtuple

import measure
import peers
import plot
import table
import tls_peers
from columns import CONNECTIONS, IDLE, LATENCY, THROUGHPUT

# at_once: so many connections at most are opened at a time.
Row = namedtuple("Row", "name command cores forks at_once")
Plan = namedtuple("Plan", "rounds seconds connections idle few budget")

# seconds: of one run; few: connections to a server that forks for each; budget: seconds, in which
# another round has to fit.
FULL = Plan(rounds=9, seconds=0.35, connections=2000, idle=15000, few=200, budget=480)
QUICK = Plan(rounds=1, seconds=0.3, connections=2000, idle=5000, few=100, budget=80)
DESCRIPTORS = 65536  # of each process: Go needs three for a connection, two of them for a pipe
AT_ONCE = 64         # connections under way while many are opened
BASELINE_EVERY = 4   # rows; the raw loop that they are a share of was measured seconds before

ONE_CORE = (measure.SERVER_CORE,)
BOTH_CORES = (measure.SERVER_CORE, measure.CLIENT_CORE)
ECHOD = [("echod process", "process", 1), ("echod thread", "thread", 1),
         ("echod 2 processes", "process", 2), ("echod 2 threads", "thread", 2)]


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def own_rows(options):
    """The raw loop, whose share of itself shows the noise, and echod's models."""
    rows = [Row("raw", [os.path.join(options.build, "raw"), "{port}"], ONE_CORE, False, AT_ONCE)]
    for name, model, workers in ECHOD:
        command = [options.echod, "--quiet", "--model=" + model, "--workers=%d" % workers,
                   "127.0.0.1:{port}"]
        rows.append(Row(name, command, ONE_CORE if workers == 1 else BOTH_CORES, False, AT_ONCE))
    return rows


def peer_rows(build, names):
    """Those that can be built and started here; the others are named."""
    rows = []
    for name in names:
        if name in tls_peers.PEERS and name not in peers.PEERS:
            continue
        if name not in peers.PEERS:
            sys.exit("run.py: no such peer: %s (there are: %s)" % (name, " ".join(peers.PEERS)))
        try:
            command = peers.PEERS[name](build)
            rows.append(Row(name, command, ONE_CORE, name in peers.FORKING,
                            peers.AT_ONCE.get(name, AT_ONCE)))
        except peers.Missing as what:
            say("skipped: %s: not installed: %s" % (name, what))
    return rows


def adapted(column, row):
    """The column as it is measured for ROW: nothing is opened in bursts that it cannot take."""
    if row.at_once == AT_ONCE:
        return column
    return column._replace(connections=row.at_once)


def attempt(what, action):
    """What ACTION returns, or None, having said what went wrong."""
    try:
        return action()
    except measure.Failure as failure:
        say("%s: %s" % (what, failure))
        return None


class Bench:
    """Results by row's and column's name: a list, of one result a round. What the first row does is
    what the others' is a share of."""

    server = measure.Server
    columns = THROUGHPUT + [LATENCY, CONNECTIONS]

    def __init__(self, options, plan, rows):
        self.options, self.plan, self.rows = options, plan, rows
        self.baseline = rows[0]._replace(name="baseline")
        self.results = {row.name: {} for row in rows}

    def start(self, servers):
        """Starts the servers of all rows and adds them, by name; None for one that fails."""
        for row in self.rows + [self.baseline]:
            servers[row.name] = attempt(row.name, lambda: self.server(row.command, row.cores))

    def takes_part(self, row, column):
        return column.forks or not row.forks

    def idle_count(self, row):
        """How many idle connections it has to hold."""
        return self.plan.few if row.forks else self.plan.idle

    def measure(self, row, server, column):
        """One result, or None if there is none."""
        if server is None:
            return None
        what = "%s, %s" % (row.name, column.title)
        if column.connections is None:
            count = self.plan.few if row.forks else self.plan.connections
            return attempt(what, lambda: measure.connect_and_close(
                [self.options.connects, *column.arguments], server, count, row.at_once))
        return attempt(what, lambda: measure.load(
            self.options.probe, server, adapted(column, row), self.plan.seconds))

    def column(self, column, order, servers):
        """Each row in ORDER once, and the baseline every few rows."""
        order = [row for row in order if self.takes_part(row, column)]
        raw = None
        for place, row in enumerate(order):
            if place % BASELINE_EVERY == 0:
                raw = self.measure(self.baseline, servers["baseline"], column) or raw
            result = self.measure(row, servers[row.name], column)
            if result and raw:
                result["share"] = result["rate"] / raw["rate"]
                self.results[row.name].setdefault(column.name, []).append(result)

    def round(self, number):
        """All servers run; column by column each is measured once, in another order each round."""
        order = random.Random(number).sample(self.rows, len(self.rows))
        servers = {}
        try:
            self.start(servers)
            for column in self.columns:
                say("round %d of %d: %s" % (number + 1, self.plan.rounds, column.title))
                self.column(column, order, servers)
        finally:
            for server in filter(None, servers.values()):
                server.stop()

    def idle_of(self, row, count, wait=0):
        def action():
            with self.server(row.command, row.cores) as server:
                return {"count": count, "kib": measure.idle_memory(
                    [self.options.connects], server, count, row.at_once, wait)}

        return attempt("%s, %d idle" % (row.name, count), action)

    def idle(self):
        """Memory is taken once, of a fresh server; with fewer connections if it cannot hold all."""
        say("idle connections")
        for row in self.rows:
            count = self.idle_count(row)
            result = self.idle_of(row, count) or self.idle_of(row, count // 3)
            self.results[row.name][IDLE.name] = [result] if result else []

    def run(self):
        began = time.monotonic()
        for number in range(self.plan.rounds):
            self.round(number)
            if (time.monotonic() - began) * (number + 2) / (number + 1) > self.plan.budget:
                break
        self.idle()
        return self.results


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="bench/out", help="where raw, textbook and connects are "
                        "built, and the other peers will be")
    parser.add_argument("--echod", default="src/echod")
    parser.add_argument("--probe", default="src/echoprobe", help="the client")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.connects = os.path.join(options.build, "connects")
    return options


def main():
    options = parse()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("run.py: two processors are needed, one for the server and one for the client")
    plan = QUICK if os.environ.get("BENCH_QUICK", "0") not in ("", "0") else FULL
    plan = plan._replace(rounds=int(os.environ.get("BENCH_ROUNDS") or plan.rounds))
    names = os.environ.get("BENCH_PEERS", " ".join(peers.PEERS)).replace(",", " ").split()
    began = time.monotonic()
    measure.raise_limit(DESCRIPTORS)
    rows = own_rows(options) + peer_rows(options.build, names)
    results = Bench(options, plan, rows).run()
    text = table.render(results, plan, options)
    print(text)
    with open(os.path.join(options.build, "RESULTS"), "w") as file:
        file.write(text)
    plot.draw(results, options.build)
    say("%.0f s; also in %s, with plots beside it" %
        (time.monotonic() - began, os.path.join(options.build, "RESULTS")))


if __name__ == "__main__":
    main()
