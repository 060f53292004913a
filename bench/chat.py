#!/usr/bin/env python3
"""The chat: echod beside the same chat in other worlds, and a raw loop. A line that one of so many
members says is delivered to all others. Servers are measured in turns, in another order each round.

Environment: BENCH_QUICK=1, BENCH_PEERS="NAME ...", BENCH_ROUNDS=N.
Example: bench/chat.py --columns busy1000 -- src/echod -q -w 2 chat+tcp://127.0.0.1:{port}
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import namedtuple

import measure
import peers
import table

# in_flight: lines of each author that not everybody has yet.
Column = namedtuple("Column", "name title members authors in_flight size")
COLUMNS = [
    Column("single100", "a line of 64 B at a time", 100, 1, 1, 64),
    Column("busy100", "10 authors, 16 lines each", 100, 10, 16, 64),
    Column("single1000", "a line of 64 B at a time", 1000, 1, 1, 64),
    Column("busy1000", "10 authors, 16 lines each", 1000, 10, 16, 64),
]
DESCRIPTORS = 4096
BUDGET = 150  # seconds, in which another round has to fit


class Members:
    """The client, from when all members are in until they leave."""

    def __init__(self, client, server, count):
        self.server = server
        self.process = measure.start([client, count, "127.0.0.1", server.port],
                                     (measure.CLIENT_CORE,), stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read(self):
        """The JSON object that the client prints next; it bounds the time for that itself."""
        line = self.process.stdout.readline()
        if not line:
            raise measure.Failure("client: " + self.process.stderr.read().strip()[-200:])
        return json.loads(line)

    def talk(self, column, seconds):
        """A run; "rate" is in lines delivered a second, "cpu" the server's us for each."""
        before = self.server.cpu_seconds()
        print(column.authors, column.in_flight, column.size, seconds, file=self.process.stdin,
              flush=True)
        result = self.read()
        used = self.server.cpu_seconds() - before
        if result["corrupt"] > 0 or result["unsettled"] > 0 or result["lines"] == 0:
            raise measure.Failure("%(lines)d lines, %(corrupt)d corrupt, %(unsettled)d not "
                                  "delivered to all" % result)
        result["cpu"] = used * 1e6 / result["lines"]
        return result

    def __enter__(self):
        self.read()
        return self

    def __exit__(self, *_):
        self.process.communicate()


def run(command, columns, options):
    """A fresh server and its members, who are the same in all COLUMNS; returns results by name."""
    with measure.Server(command) as server:
        with Members(options.client, server, columns[0].members) as members:
            return {column.name: members.talk(column, options.seconds) for column in columns}


def by_members(columns):
    """Columns that can be measured with the same members, together."""
    return [[column for column in columns if column.members == count]
            for count in dict.fromkeys(column.members for column in columns)]


def one_round(number, rows, columns, options):
    """Returns results by row and column."""
    results = {name: {} for name in rows}
    for together in by_members(columns):
        for name in random.Random(number).sample(list(rows), len(rows)):
            try:
                results[name].update(run(rows[name], together, options))
            except measure.Failure as failure:
                print("%s, %d members: %s" % (name, together[0].members, failure),
                      file=sys.stderr)
    return results


def add_shares(results, columns):
    """Of what the best peer did in the same round."""
    for column in columns:
        best = max((results[name][column.name]["rate"] for name in peers.CHATS
                    if column.name in results.get(name, {})), default=None)
        for row in results.values():
            if best and column.name in row:
                row[column.name]["share"] = row[column.name]["rate"] / best


def collect(rows, columns, options):
    """All rounds' results as table.py has them, by row and column a list; and how many rounds."""
    collected = {name: {column.name: [] for column in columns} for name in rows}
    began = time.monotonic()
    for number in range(options.rounds):
        print("round %d of %d" % (number + 1, options.rounds), file=sys.stderr, flush=True)
        results = one_round(number, rows, columns, options)
        add_shares(results, columns)
        for name, row in results.items():
            for column, result in row.items():
                collected[name][column].append(result)
        if (time.monotonic() - began) * (number + 2) / (number + 1) > BUDGET:
            break
    return collected, number + 1


def render(results, columns):
    for together in by_members(columns):
        yield ("%d members" % together[0].members).ljust(14) + "".join(
            " |" + column.title.center(28) for column in together)
        yield " " * 14 + " | lines/s share     us client" * len(together)
        for row in results:
            yield row.ljust(14) + "".join(" |" + cells(results, row, column)
                                          for column in together)
        yield ""


def cells(results, row, column):
    def median(key):
        return table.median(results, row, column, key)

    return (table.rate(median("rate")).rjust(8) + table.cell(median("share"), 6, "%.2f") +
            table.cpu(median("cpu"), 7) + table.cell(median("client"), 7, "%.2f"))


def parse():
    quick = os.environ.get("BENCH_QUICK", "0") not in ("", "0")
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="bench/out", help="where the peers will be built")
    parser.add_argument("--client", default="bench/out/chatters")
    parser.add_argument("--echod", default="src/echod")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS") or
                                                          (1 if quick else 5)))
    parser.add_argument("--seconds", type=float, default=0.5, help="of each run (default 0.5)")
    parser.add_argument("--columns", default=",".join(c.name for c in COLUMNS),
                        help="some of " + ", ".join(c.name for c in COLUMNS))
    parser.add_argument("server", nargs="*", help="a command instead of echod's; {port} stands "
                        "for the port")
    return parser.parse_args()


def columns_of(options):
    names = options.columns.split(",")
    for name in names:
        if name not in [column.name for column in COLUMNS]:
            sys.exit("chat.py: no such column: " + name)
    return [column for column in COLUMNS if column.name in names]


def rows_of(options):
    """Commands by name; BENCH_PEERS may name peers of other benches, too."""
    command = [options.echod, "--quiet", "chat+tcp://127.0.0.1:{port}"]
    rows = {"raw": [os.path.join(options.build, "raw_chat"), "{port}"]}
    rows.update({"server": options.server} if options.server else {
        "echod process": command, "echod thread": command + ["--model=thread"]})
    names = os.environ.get("BENCH_PEERS", " ".join(peers.CHATS)).replace(",", " ").split()
    for name in filter(peers.CHATS.get, names):
        try:
            rows[name] = peers.CHATS[name](os.path.abspath(options.build))
        except peers.Missing as what:
            print("skipped: %s: not installed: %s" % (name, what), file=sys.stderr)
    return rows


def main():
    options = parse()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("chat.py: two processors are needed, one for the server and one for the client")
    measure.raise_limit(DESCRIPTORS)
    columns = columns_of(options)
    results, rounds = collect(rows_of(options), columns, options)
    print("\n".join(render(results, columns)))
    print("rounds: %d, %g s a run; load average at the end %.2f %.2f %.2f" % (
        rounds, options.seconds, *os.getloadavg()))


if __name__ == "__main__":
    main()
