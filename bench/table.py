"""The results as text: medians over the rounds."""
import os
import platform
import statistics
import subprocess
import time

from columns import CONNECTIONS, IDLE, LATENCY, THROUGHPUT

# Each prints its version first; one that is not installed is left out.
VERSIONS = [["cc", "--version"], ["go", "version"], ["/usr/bin/rustc", "--version"],
            ["/usr/bin/python3", "--version"]]
NUMBERS = {"libevent": ["pkg-config", "--modversion", "libevent"],
           "libuv": ["pkg-config", "--modversion", "libuv"], "node": ["node", "--version"]}
PERCENTILES = ["p50", "p99", "p99.9"]


def values(results, row, column, key):
    return [result[key] for result in results[row].get(column.name, []) if key in result]


def median(results, row, column, key):
    """Of KEY over the rounds, or None if there is no result."""
    found = values(results, row, column, key)
    return statistics.median(found) if found else None


def share(results, row, column):
    """The median of the ratios to the raw loop's rate, as measured just before."""
    return median(results, row, column, "share")


def latency(results, row, percentile):
    found = values(results, row, LATENCY, "latency_us")
    return statistics.median(latency[percentile] for latency in found) if found else None


def idle(results, row):
    return median(results, row, IDLE, "kib")


def cell(value, width, form):
    return "-".rjust(width) if value is None else (form % value).rjust(width)


def cpu(value, width):
    """Three digits, or more if they stand before the point."""
    return cell(value, width, "%.3g" if value is None or value < 999.5 else "%.0f")


def rate(value):
    """Three digits or so: 987, 12.3k, 2.37M."""
    if value is None:
        return "-"
    for unit, suffix in (1e6, "M"), (1e3, "k"):
        if value >= unit:
            return "%.*f%s" % (2 if value < 10 * unit else 1 if value < 100 * unit else 0,
                               value / unit, suffix)
    return "%.0f" % value


def throughput_table(results, columns, unit):
    head = " " * 18 + "".join(" |" + c.title.center(20) for c in columns)
    lines = [head, " " * 18 + " |%8s share    us" * len(columns) % ((unit,) * len(columns))]
    for row in results:
        line = row.ljust(18)
        for column in columns:
            line += " |" + rate(median(results, row, column, "rate")).rjust(8)
            line += cell(share(results, row, column), 6, "%.2f")
            line += cpu(median(results, row, column, "cpu"), 6)
        lines.append(line)
    return lines


def other_table(results):
    lines = ["                   |%s|%s|  %s" % (LATENCY.title.center(24),
                                              CONNECTIONS.title.center(24), IDLE.title),
             "                   |     p50     p99   p99.9|  conns/s  share      us|"
             "  KiB a connection"]
    for row in results:
        line = row.ljust(18) + " |"
        line += "".join(cell(latency(results, row, p), 8, "%.0f") for p in PERCENTILES) + "|"
        line += rate(median(results, row, CONNECTIONS, "rate")).rjust(9)
        line += cell(share(results, row, CONNECTIONS), 7, "%.2f")
        line += cpu(median(results, row, CONNECTIONS, "cpu"), 8) + "|"
        lines.append(line + cell(idle(results, row), 18, "%.2f"))
    return lines


def noise(results, column):
    """How far what the others are a share of, the first row, was from itself."""
    shares = values(results, next(iter(results)), column, "share")
    return "%.2f-%.2f" % (min(shares), max(shares)) if shares else "-"


def notes(results, plan):
    """What the tables do not say: the noise, lost messages, and other numbers of connections."""
    yield "raw against raw, from and to, column by column: " + ", ".join(
        noise(results, column) for column in THROUGHPUT + [CONNECTIONS])
    for row in results:
        for column in THROUGHPUT + [LATENCY]:
            lost = sum(values(results, row, column, "lost"))
            if lost > 0:
                yield "%s, %s: lost %d of %d messages" % (
                    row, column.title, lost, lost + sum(values(results, row, column, "messages")))
        if any(count not in (plan.idle, plan.few) for count in values(results, row, IDLE, "count")):
            yield "%s: %d idle connections" % (row, values(results, row, IDLE, "count")[0])


def first_line(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout.strip().splitlines()[0]
    except (OSError, IndexError):
        return ""


def field_of(path, name):
    """The first value of NAME in a file of `NAME: VALUE` lines."""
    with open(path) as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return "unknown"


def machine(options):
    memory = int(field_of("/proc/meminfo", "MemTotal").split()[0]) / 1048576
    yield "%s, %d processors, %.0f GiB" % (field_of("/proc/cpuinfo", "model name"),
                                          os.cpu_count(), memory)
    yield "Linux %s; %s" % (platform.release(), " ".join(platform.libc_ver()))
    yield ", ".join([first_line(options.echod, "--version")] + [
        name + " " + first_line(*command) for name, command in NUMBERS.items()
        if first_line(*command)])
    yield ", ".join(filter(None, (first_line(*command) for command in VERSIONS)))
    yield "load average at the end %.2f %.2f %.2f" % os.getloadavg()


def render(results, plan, options):
    head = ["A run of `make bench` on " + time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            *machine(options),
            "rounds: %d, %g s a run; %d connections opened, %d idle (%d where each forks)" % (
                len(results["raw"][LATENCY.name]), plan.seconds, plan.connections, plan.idle,
                plan.few),
            "Server on core 0, client on core 1; with 2 workers the server is on both.", ""]
    return "\n".join(head + throughput_table(results, THROUGHPUT, "msgs/s") + [""] +
                     other_table(results) + ["", *notes(results, plan)]).rstrip() + "\n"
