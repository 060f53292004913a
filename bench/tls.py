#!/usr/bin/env python3
"""TLS: echod beside other servers, in turns as in run.py. What the others do is a share of what
echod does, which is measured against another instance of itself.

Environment: BENCH_QUICK=1, BENCH_PEERS="NAME ..." (some of the peers), BENCH_ROUNDS=N.
"""
import argparse
import os
import sys
import time

import measure
import peers
import table
import tls_connects
import tls_peers
from columns import IDLE, Column, closed_loop
from run import AT_ONCE, DESCRIPTORS, ONE_CORE, Bench, Plan, Row, attempt, say

FULL = Plan(rounds=5, seconds=0.35, connections=300, idle=2000, few=100, budget=120)
QUICK = Plan(rounds=1, seconds=0.15, connections=50, idle=300, few=30, budget=20)
LOADS = [
    closed_loop("single", "1 x 64 B", 1, 64, 1, forks=True),
    closed_loop("small", "100 x 64 B", 100, 64, 1, forks=True),
    closed_loop("medium", "16 x 16 KiB", 16, 16384, 1, forks=True),
]
HANDSHAKES = [Column("handshake", "full handshake", None, [], True),
              Column("resumed", "resumed", None, ["-s"], True)]
# So many handshakes under way at a time, and for how long their connections are idle then.
RUSH, CALM = 1000, 2
AFTER_RUSH = Column("rush", "after a rush", None, [], False)


class Server(measure.Server):
    """A TLS server, and what it may be in front of: it listens once it has echoed."""

    def target(self):
        return ["--insecure", "tls://127.0.0.1:%d" % self.port]

    def _wait_until_it_listens(self, name):
        end = time.monotonic() + measure.PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise measure.Failure("%s ended with status %d" % (name, self.process.returncode))
            try:
                tls_connects.session_of(tls_connects.new_context(), ("127.0.0.1", self.port))
                return
            except (OSError, tls_connects.Failure):
                time.sleep(0.01)
        raise measure.Failure("%s does not echo" % name)


class TlsBench(Bench):
    server = Server
    columns = LOADS + HANDSHAKES

    def takes_part(self, row, column):
        return row.at_once > 1 or column.connections in (None, 1)

    def idle_count(self, row):
        return 1 if row.at_once == 1 else super().idle_count(row)

    def idle(self):
        super().idle()
        for row in self.rows:
            if self.plan.idle > RUSH and row.at_once > 1 and not row.forks:
                result = self.idle_of(row._replace(at_once=RUSH), self.plan.idle, CALM)
                self.results[row.name][AFTER_RUSH.name] = [result] if result else []


def rows_of(options, pem, names):
    """echod's models, and those peers that can be built and started here; the others are named."""
    rows = [Row("echod " + model, [options.echod, "--quiet", "--model=" + model,
                                   "--tls-cert=" + pem, "tls://127.0.0.1:{port}"],
                ONE_CORE, False, AT_ONCE) for model in ("process", "thread")]
    for name in names:
        try:
            command = tls_peers.PEERS[name](options.build, pem, options.echod)
            rows.append(Row(name, command, ONE_CORE, name in tls_peers.FORKING,
                            tls_peers.AT_ONCE.get(name, AT_ONCE)))
        except peers.Missing as what:
            say("skipped: %s: not installed: %s" % (name, what))
    return rows


def render(results, plan):
    lines = table.throughput_table(results, LOADS, "msgs/s") + [""]
    more = table.throughput_table(results, HANDSHAKES, "conns/s")
    memory = [" idle, has echoed; after a rush", " KiB a connection"] + [
        "".join(table.cell(table.median(results, row, column, "kib"), 14, "%.1f")
                for column in (IDLE, AFTER_RUSH)) for row in results]
    lines += [line + " |" + kib for line, kib in zip(more, memory)]
    lines += ["", "echod process against itself, from and to, column by column: " + ", ".join(
        table.noise(results, column) for column in LOADS + HANDSHAKES)]
    head = ["", time.strftime("TLS: a run of bench/tls.py on %Y-%m-%d %H:%M UTC", time.gmtime()),
            "; ".join(filter(None, (table.first_line("openssl", "version"),
                                    table.first_line("haproxy", "-v")))),
            "rounds: %d, %g s a run; %d handshakes, %d idle connections (%d where each forks)" % (
                len(results["echod process"][LOADS[0].name]), plan.seconds, plan.connections,
                plan.idle, plan.few),
            "load average at the end %.2f %.2f %.2f" % os.getloadavg(), ""]
    return "\n".join(head + lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="bench/out", help="where the peers will be built")
    parser.add_argument("--echod", default="src/echod")
    parser.add_argument("--probe", default="src/echoprobe", help="the client")
    options = parser.parse_args()
    options.build, options.echod = map(os.path.abspath, (options.build, options.echod))
    options.connects = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tls_connects.py")
    return options


def main():
    options = parse()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("tls.py: two processors are needed, one for the server and one for the client")
    plan = QUICK if os.environ.get("BENCH_QUICK", "0") not in ("", "0") else FULL
    plan = plan._replace(rounds=int(os.environ.get("BENCH_ROUNDS") or plan.rounds))
    names = os.environ.get("BENCH_PEERS", " ".join(tls_peers.PEERS)).replace(",", " ").split()
    measure.raise_limit(DESCRIPTORS)
    tls_peers.agree_on_a_cipher(options.build)
    pem = tls_peers.certificate(options.build)
    rows = rows_of(options, pem, [name for name in names if name in tls_peers.PEERS])
    print(render(TlsBench(options, plan, rows).run(), plan))


if __name__ == "__main__":
    try:
        main()
    except peers.Missing as what:
        say("skipped: TLS: not installed: %s" % what)
