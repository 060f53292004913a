#!/usr/bin/env python3
"""No file includes one of its own or a higher floor; HACKING says which floor a file is on."""
import os
import re
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SOURCE = os.path.join(TOP, "src")
failures = []


def check(condition, complaint):
    if not condition:
        failures.append(complaint)


def read_floors():
    """HACKING's table: a floor's number, then the names that live there."""
    floors = {}
    with open(os.path.join(TOP, "HACKING")) as hacking:
        for line in hacking:
            match = re.fullmatch(r" +(\d+)  ([a-z_/ ]+?)\s*", line)
            if match:
                floors.update((name, int(match[1])) for name in match[2].split())
    return floors


def includes_of(path):
    with open(path) as source:
        return re.findall(r'^\s*#\s*include\s+"([^"]+)\.h"', source.read(), re.M)


def sources():
    """All files of src/ and below, by their paths there."""
    for directory, _, files in os.walk(SOURCE):
        for file in sorted(files):
            if file.endswith((".c", ".h")):
                yield os.path.relpath(os.path.join(directory, file), SOURCE)


def name_of(file):
    return os.path.normpath(file).rsplit(".", 1)[0]


floors = read_floors()
names = {name_of(file) for file in sources()}
check(set(floors) == names, "HACKING's floors and src/ differ: %s" % sorted(set(floors) ^ names))
for file in sources():
    name = name_of(file)
    for other in includes_of(os.path.join(SOURCE, file)):
        other = os.path.normpath(os.path.join(os.path.dirname(file), other))
        if other != name and os.path.basename(other) != "config":
            check(floors.get(other, 99) < floors.get(name, -1),
                  "%s (floor %s) includes %s.h (floor %s)" %
                  (file, floors.get(name), other, floors.get(other)))

print("1..1")
print("not ok" if failures else "ok", "1 - files include only files of lower floors")
for complaint in failures:
    print("#", complaint)
sys.exit(1 if failures else 0)
