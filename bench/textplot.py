#!/usr/bin/env python3
"""Draws the plot of README from RESULTS (or the file named): what a server does with small
messages, and with connections that come and go. tests/readme.t holds README against it."""
import os
import sys

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "RESULTS")
COLUMNS = [("100 x 64 B", "messages a second"), ("connect, 64 B, close", "connections a second")]
WIDTH = 24  # of the longest bar
UNITS = {"k": 1e3, "M": 1e6}
EIGHTHS = " ▏▎▍▌▋▊▉"


def cells(line):
    return [cell.strip() for cell in line.rstrip("\n").split("|")]


def read_column(lines, title):
    """By row's name what stands first in the column TITLE; a row without a figure is left out."""
    values, place = {}, None
    for line in lines:
        here = cells(line)
        if place is None:
            place = here.index(title) if title in here[1:] else None
        elif len(here) <= place:
            break
        elif here[0] and here[place].split()[0] != "-":
            values[here[0]] = here[place].split()[0]
    return values


def number(text):
    return float(text.rstrip("kM")) * UNITS.get(text[-1], 1)


def bar(value, most):
    eighths = max(1, round(value / most * WIDTH * 8))
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).strip()


def draw(lines):
    columns = [read_column(lines, title) for title, _ in COLUMNS]
    most = [max(map(number, column.values())) for column in columns]
    order = sorted(columns[0], key=lambda row: -number(columns[0][row]))
    yield (" " * 19 + "".join(unit.ljust(WIDTH + 9) for _, unit in COLUMNS)).rstrip()
    for row in order:
        text = row.ljust(19)
        for column, largest in zip(columns, most):
            value = column.get(row, "")
            text += "%6s %s" % (value, bar(number(value), largest).ljust(WIDTH + 2))
        yield text.rstrip()


def main():
    with open(sys.argv[1] if len(sys.argv) > 1 else RESULTS) as file:
        lines = list(file)
    print("\n".join(draw(lines)))


if __name__ == "__main__":
    main()
