#!/usr/bin/env python3
"""How near is a server to the raw loop? Pairs (raw, server) in alternating order, and between them
as many pairs (raw, raw), which show the noise; the answer is the quotient of the medians.

Example: bench/pair.py --probe src/echoprobe --raw bench/out/raw -- src/echod -q 127.0.0.1:{port}
"""
import argparse
import statistics
import sys

import measure
from columns import THROUGHPUT
from measure import middle, shares


def one_run(command, options, column):
    with measure.Server(command) as server:
        return measure.load(options.probe, server, column, options.seconds)


def measure_column(options, column):
    """Prints the column's line."""
    raw = [options.raw, "{port}"]
    pairs, noise = [], []

    def run(command):
        return one_run(command, options, column)

    for i in range(options.pairs):
        pairs.append(measure.run_pair(run, raw, options.server, i % 2 == 1))
        noise.append(measure.run_pair(run, raw, raw, i % 2 == 1))
        if options.verbose:
            print("    %s: server %.3f, raw %.3f" % (column.name, shares(pairs)[-1],
                                                     shares(noise)[-1]), flush=True)
    print_line(column, pairs, shares(noise))


def print_line(column, pairs, noise):
    share, against_itself = statistics.median(shares(pairs)), statistics.median(noise)
    print("%-22s %9.0f %9.0f %6.3f %6.3f (%.2f-%.2f) %6.3f %8.2f %8.2f" % (
        column.title, middle(pairs, 0, "rate"), middle(pairs, 1, "rate"), share, against_itself,
        min(noise), max(noise), share / against_itself, middle(pairs, 0, "cpu"),
        middle(pairs, 1, "cpu")), flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", default="src/echoprobe", help="the client")
    parser.add_argument("--raw", default="bench/out/raw", help="the raw loop")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run (default 1)")
    parser.add_argument("--columns", default=",".join(c.name for c in THROUGHPUT),
                        help="some of " + ", ".join(c.name for c in THROUGHPUT))
    parser.add_argument("-v", "--verbose", action="store_true", help="print every pair")
    parser.add_argument("server", nargs="+", help="command; {port} stands for the port, which is "
                        "else the last argument")
    options = parser.parse_args()
    if not any("{port}" in word for word in options.server):
        options.server.append("{port}")
    return options


def main():
    options = parse()
    print("%-22s %9s %9s %6s %-18s %6s %8s %8s" % (
        "msgs/s, medians", "raw", "server", "share", "raw against raw", "QUOTE", "CPU us:",
        "server"))
    for name in options.columns.split(","):
        column = next((c for c in THROUGHPUT if c.name == name), None)
        if column is None:
            sys.exit("pair.py: no such column: " + name)
        measure_column(options, column)


if __name__ == "__main__":
    try:
        main()
    except measure.Failure as failure:
        sys.exit("pair.py: %s" % failure)
