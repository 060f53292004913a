"""Draws the results as SVG, by gnuplot."""
import os
import shutil
import subprocess
import sys

import table
from columns import CONNECTIONS, LATENCY, THROUGHPUT

HEAD = """
set terminal svg size 720,%(height)d font "sans,13" background "white"
set output "%(path)s"
set title "%(title)s"
set xlabel "%(unit)s"
set xrange [0:*]
set yrange [%(count)d:-1]
set style fill solid
set grid xtics
set border 3
set tics nomirror
set rmargin 9
unset key
$data << END
%(data)s
END
plot $data using ($2/2):0:($2/2):(0.38):($3):ytic(1) with boxxyerror linecolor rgb variable, \\
     $data using 2:0:4 with labels left offset 0.5,0
"""
COLOURS = {"raw": 0x888888, "echod": 0xC0392B}
OTHERS = 0x5B8DB8


def colour(name):
    return COLOURS.get(name.split()[0], OTHERS)


def bars(path, title, unit, values):
    """One bar for each (name, value), in that order; VALUE may be None: there is no bar then."""
    values = [(name, value) for name, value in values if value is not None]
    if not values:
        return
    data = "\n".join('"%s" %g %d "%.3g"' % (name, value, colour(name), value)
                     for name, value in values)
    script = HEAD % {"path": path, "title": title, "unit": unit, "count": len(values),
                     "data": data, "height": 130 + 24 * len(values)}
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def ranked(results, value_of, most_first):
    values = [(row, value_of(row)) for row in results]
    return sorted(values, key=lambda pair: pair[1] or 0, reverse=most_first)


def draw(results, directory):
    """One file for each column of the table, into DIRECTORY."""
    if shutil.which("gnuplot") is None:
        print("no plots: gnuplot is not installed", file=sys.stderr)
        return

    def plot(name, title, unit, value_of, most_first=False):
        bars(os.path.join(directory, name + ".svg"), title, unit,
             ranked(results, value_of, most_first))

    for column in THROUGHPUT:
        plot(column.name, column.title, "messages a second, as a share of the raw loop",
             lambda row: table.share(results, row, column), most_first=True)
        plot(column.name + "-cpu", column.title, "server CPU, us a message",
             lambda row: table.median(results, row, column, "cpu"))
    for percentile in table.PERCENTILES:
        plot("latency-" + percentile, LATENCY.title, "latency %s, us" % percentile,
             lambda row: table.latency(results, row, percentile))
    plot("connections", CONNECTIONS.title, "connections a second",
         lambda row: table.median(results, row, CONNECTIONS, "rate"), most_first=True)
    plot("idle", "idle connections that have echoed once", "process memory, KiB a connection",
         lambda row: table.idle(results, row))
