#!/usr/bin/env python3
"""What --metrics costs: rounds of load with a scrape a second, and without, in alternating order; the
quotient of the medians is what is left. On a machine that has more to do believe the CPU time of a
scrape, which is told for each path: ten microseconds are a hundred-thousandth of what a core does
in a second.

Run it from the build directory. Environment: BENCH_QUICK=1, BENCH_ROUNDS=N.
"""
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from harness import ECHOPROBE, Echod, cpu_seconds

QUICK = bool(os.environ.get("BENCH_QUICK"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3" if QUICK else "9"))
SECONDS, CONNECTIONS, SCRAPES = 2 if QUICK else 4, 50, 1000
PATHS = ("/metrics", "/status.json", "/", "/readyz")


def get(connection, path):
    connection.request("GET", path)
    return len(connection.getresponse().read())


def scrape_until(ended, address):
    with contextlib.closing(http.client.HTTPConnection(address)) as connection:
        while not ended.wait(1):
            get(connection, "/metrics")


def load(echod, address):
    """Messages a second, while ADDRESS, if there is one, is scraped."""
    ended = threading.Event()
    scraper = threading.Thread(target=scrape_until, args=(ended, address))
    if address:
        scraper.start()
    run = subprocess.run([ECHOPROBE, "--json", "--load", "-c", str(CONNECTIONS), "-d",
                          "%ds" % SECONDS, echod.endpoint()], capture_output=True, check=True)
    ended.set()
    if address:
        scraper.join()
    return json.loads(run.stdout)["rate"]


def main():
    with Echod("--metrics=127.0.0.1:0") as echod:
        address = echod.endpoint(1)[len("http://"):]
        with contextlib.closing(http.client.HTTPConnection(address)) as connection:
            for path in PATHS:
                size, before = get(connection, path), cpu_seconds([echod.pid])
                for _ in range(SCRAPES):
                    get(connection, path)
                used = (cpu_seconds([echod.pid]) - before) / SCRAPES
                print("%-14s %6d bytes  %4.0f us of CPU time" % (path, size, used * 1e6))
        rates = {None: [], address: []}
        for number in range(ROUNDS):
            for scraped in (None, address) if number % 2 else (address, None):
                rates[scraped].append(load(echod, scraped))
        alone, along = statistics.median(rates[None]), statistics.median(rates[address])
        print("messages/s     %.0f alone, %.0f with a scrape a second: %.3f (%d rounds)" % (
            alone, along, along / alone, ROUNDS))


if __name__ == "__main__":
    main()
