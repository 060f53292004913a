#!/usr/bin/env python3
"""README, word for word: every command in it is run, in its order, and says what README says it
does, but for times, ports and the like. What is a command is told by its prompt:

    $ COMMAND      its output follows; > begins the next line of a long one. A server goes on, in
                   the background, until the next server or heading.
    NAME$ COMMAND  somebody's terminal, in which NAME> is typed, and NAME is what is read

A block of anything else is the log of the server, or one of those that are held against their
source: the table, the plot and the map. /tmp stands for a directory of our own. Each server has a
network of its own, where the ports are free.
"""
import contextlib
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from harness import (DEADLINE, ECHOD, ECHOPROBE, SCENARIOS, Skip, in_namespace, main, sanitized,
                     scenario, wait_until)

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
BUILD = os.path.dirname(os.path.dirname(os.path.abspath(ECHOD)))
CI = os.path.join(TOP, ".ci", "run")
DATA = ["Beside inetd and the like", "How fast it is", "The reactor's map"]

SERVER = re.compile(r"(\./bootstrap && )?(systemd-socket-activate .*)?src/echod\b(?! --help)")
LOG = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z ")
BAR = re.compile(r" *[\d.]+ (us|ms|s) +\d+ .*")
FINGERPRINT = re.compile(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}")
WHATEVER = [(LOG, "TIME "), (re.compile(r"\bpid=\d+"), "pid=N"), (FINGERPRINT, "FINGERPRINT"),
            (re.compile(r"\[::1\]"), "127.0.0.1"),
            (re.compile(r"\bpeer=127.0.0.1:\d+"), "peer=N"),
            (re.compile(r"(?<![\d.])\d+\.\d+(?![\d.])"), "N.N")]

# Run another way than README has it, and why.
HELD = {
    "make bench": "make -n bench",  # 25 minutes
}
ELSEWHERE = "./bootstrap --all && make"  # so begins what CI runs, of which we are a part
TOOLS = ["curl", "make", "man", "nc", "openssl", "socat", "systemd-socket-activate"]
NEEDS = {"tls": "HAVE_OPENSSL", "--chat-bus": "HAVE_HIREDIS",
         "systemd-socket-activate": "HAVE_LIBSYSTEMD"}  # of config.h


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


class Block:
    """Indented lines, without the indentation: .lines, of which the first is .number, .heading."""

    def __init__(self, number, heading):
        self.number, self.heading, self.lines = number, heading, []

    def is_ci(self):
        return self.lines[0].startswith("./bootstrap")

    def is_log(self):
        return bool(LOG.match(self.lines[0]))

    def is_play(self):
        return bool(re.match(r"[a-z]+\$ ", self.lines[0]))

    def is_session(self):
        return self.lines[0].startswith("$ ")

    def is_data(self):
        return not (self.is_ci() or self.is_log() or self.is_play() or self.is_session())

    def commands(self):
        """Of a session: each command and its output."""
        if self.is_ci():
            return [(line, []) for line in self.lines]
        found = []
        for line in self.lines:
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("> ") and not found[-1][1]:
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1][1].append(line)
        return found

    def starts_a_server(self):
        return (self.is_session() or self.is_ci()) and any(
            SERVER.match(command) for command, _ in self.commands())


def parse(text):
    """README's blocks, and its lines of prose."""
    blocks, prose, heading, inside = [], [], "", False
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if re.fullmatch("[-=]{3,}", line):
            heading = lines[number - 2]
        if line.startswith("    "):
            if not inside:
                blocks.append(Block(number, heading))
            blocks[-1].lines.append(line[4:])
        elif line:
            prose.append(line)
        inside = line.startswith("    ")
    return blocks, prose


def unfolded(lines):
    """A line of the log, or a fingerprint, may go on in the next, further to the right."""
    whole = []
    for line in lines:
        if whole and line.startswith("    ") and (LOG.match(whole[-1]) or
                                                  "Fingerprint=" in whole[-1]):
            whole[-1] += ("" if whole[-1].endswith(":") else " ") + line.strip()
        else:
            whole.append(line)
    return whole


def normal(lines):
    """What README and the truth have to agree in."""
    same = []
    for line in unfolded(lines):
        line = BAR.sub("BAR", line.rstrip().replace(scratch, "/tmp"))
        for pattern, word in WHATEVER:
            line = pattern.sub(word, line)
        if not same or line != same[-1]:  # localhost is one address or two, and bars are many
            same.append(line)
    return same


def is_part(wanted, lines):
    """Are the WANTED lines among LINES, in this order?"""
    lines = iter(lines)
    return all(line in lines for line in wanted)


def prepare():
    """A directory that looks like the one that README is read in."""
    os.mkdir(os.path.join(scratch, "src"))
    os.makedirs(os.path.join(scratch, "bench", "out"))
    os.mkdir(os.path.join(scratch, "bin"))
    os.chmod(scratch, 0o755)
    for path in "man", "bench/textplot.py":
        os.symlink(os.path.join(TOP, path), os.path.join(scratch, path))
    os.symlink(os.path.join(TOP, "bench/RESULTS"), os.path.join(scratch, "bench/out/RESULTS"))
    for program in ECHOD, ECHOPROBE:
        os.symlink(os.path.abspath(program),
                   os.path.join(scratch, "src", os.path.basename(program)))
    with open(os.path.join(scratch, "Makefile"), "w") as makefile:
        makefile.write("%%:\n\t@$(MAKE) -C '%s' $@\n" % BUILD)
    script("bootstrap", "# what CI runs")
    script("bin/sudo", 'DESTDIR="%s/root" exec "$@"' % scratch)


def script(name, text):
    with open(os.path.join(scratch, name), "w") as file:
        file.write("#!/bin/sh\n%s\n" % text)
    os.chmod(os.path.join(scratch, name), 0o755)


def environment(**more):
    ours = {key: value for key, value in sanitized().items()
            if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}
    return {**ours, "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "no_proxy": "*",
            "PATH": os.path.join(scratch, "bin") + ":" + os.environ["PATH"], **more}


def ours(command):
    return ["bash", "-c", "set -o pipefail; " + command.replace("/tmp/", scratch + "/")]


@functools.lru_cache
def configuration():
    with open(os.path.join(BUILD, "config.h")) as header:
        return header.read()


def check_needs(command):
    """Skips what cannot be tried here."""
    for tool in TOOLS:
        if re.search(r"(^|[|&;\n] ?)(sudo )?%s " % tool, command) and not shutil.which(tool):
            raise Skip("no %s here" % tool)
    for what, macro in NEEDS.items():
        if what in command and re.search(r"#undef %s\b" % macro, configuration()):
            raise Skip("built without " + macro)
    if "--user" in command and os.geteuid() != 0:
        raise Skip("not root")


class RunningServer:
    """A server of README, in the background, until end()."""

    def __init__(self, command):
        check_needs(command)
        self.is_told = False  # README itself has ended it
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind("\0" + os.path.join(scratch, "notify", str(os.getpid())))
        self.log_path = os.path.join(scratch, "log")
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                ours(re.sub(r"^(\./bootstrap && )?", r"\1exec ", command)),
                cwd=scratch, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment(NOTIFY_SOCKET="@" + manager.getsockname()[1:].decode()))
        if command.startswith("systemd-socket-activate"):
            wait_until(lambda: "Listening on" in self.log(), "Listening on")
        else:
            self.wait_until_ready(manager)
        manager.close()

    def wait_until_ready(self, manager):
        def is_told():
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(BlockingIOError):
                return b"READY=1" in manager.recv(4096)

        manager.setblocking(False)
        wait_until(is_told, "READY=1")

    def log(self):
        with open(self.log_path) as log:
            return log.read()

    def wait_log(self, lines):
        wanted = normal(lines)
        try:
            wait_until(lambda: is_part(wanted, normal(self.log().split("\n"))), "the log")
        except AssertionError:
            raise AssertionError("README has\n%s\nthe log\n%s" % ("\n".join(lines), self.log()))

    def end(self):
        """A drain, as clean as any."""
        if not self.is_told:
            self.process.terminate()
        status = self.process.wait(DEADLINE)
        assert status == 0, "status %d: %s" % (status, self.log())

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Terminal:
    """Somebody at a terminal: types, and reads line by line."""

    def __init__(self, command):
        check_needs(command)
        self.lines, self.read = [], 0
        self.process = subprocess.Popen(ours("exec " + command), cwd=scratch,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.collect, daemon=True).start()

    def collect(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\r\n"))

    def type(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def expect(self, text):
        wait_until(lambda: len(self.lines) > self.read, text)
        assert self.lines[self.read] == text, (self.lines[self.read], text)
        self.read += 1

    def end(self):
        self.process.kill()
        self.process.wait()


def play(block):
    """People, in turn."""
    people = {}
    try:
        for line in block.lines:
            name, sign, text = re.fullmatch(r"([a-z]+)([$>]? ) ?(.*)", line).groups()
            if sign == "$ ":
                people[name] = Terminal(text)
            elif sign == "> ":
                people[name].type(text)
            else:
                people[name].expect(text)
        for name, person in people.items():
            assert person.read == len(person.lines), (name, person.lines)
    finally:
        for person in people.values():
            person.end()


def run_command(command, output, server):
    """One that ends by itself, with status 0; and where README has its output, with that."""
    check_needs(command)
    done = subprocess.run(ours(HELD.get(command, command)), cwd=scratch, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=2 * DEADLINE, env=environment())
    assert done.returncode == 0, "%s: status %d: %s" % (command, done.returncode, done.stdout)
    if output:
        assert normal(output) == normal(done.stdout.rstrip("\n").split("\n")), (
            "%s: README has\n%s\nit says\n%s" % (command, "\n".join(output), done.stdout))
    prints = set(FINGERPRINT.findall(done.stdout))
    assert not prints or prints <= set(FINGERPRINT.findall(server.log())), done.stdout
    if command.startswith("sudo make "):
        there = {name for _, _, names in os.walk(os.path.join(scratch, "root")) for name in names}
        assert command.endswith("uninstall") != bool(there), (command, there)
        assert not there or there >= {"echod", "echoprobe", "echod.8", "echoprobe.1"}, there
    if command.startswith("kill -TERM"):
        server.is_told = True
    if command.startswith("kill -USR1"):
        wait_until(lambda: " stats " in server.log(), "a stats line")


def run_group(blocks):
    """Commands, with at most one server, which is there until the end."""
    server = None
    try:
        for block in blocks:
            if block.is_play():
                play(block)
            elif block.is_log():
                server.wait_log(block.lines)
            else:
                for command, output in block.commands():
                    if SERVER.match(command):
                        if server:
                            server.end()
                        server = RunningServer(command)
                        server.wait_log(output)
                    elif not command.startswith(ELSEWHERE):
                        run_command(command, output, server)
        if server:
            server.end()
    finally:
        if server:
            server.kill()


def groups(blocks):
    """What belongs together: from a server, or a heading, to the next."""
    found, heading = [], None
    for block in blocks:
        if block.is_data():
            continue
        if block.heading != heading or block.starts_a_server():
            found.append([])
        heading = block.heading
        found[-1].append(block)
    return found


def add_group(group):
    first = group[0].commands()[0][0] if not group[0].is_play() else group[0].lines[0]

    def run():
        run_group(group)

    run.__name__ = "line %d: %s" % (group[0].number, first.split(" #")[0].strip())
    SCENARIOS.append((in_namespace()(functools.wraps(run)(run)), None))


def data(heading):
    """The block that stands under HEADING."""
    found = [block for block in README if block.is_data() and block.heading == heading]
    assert len(found) == 1, "%d blocks of data under %s" % (len(found), heading)
    return found[0]


@scenario
def no_command_is_left_out():
    left = [block for block in README if block.is_data() and block.heading not in DATA]
    assert not left, "line %d: neither a command nor its output" % left[0].number
    for line in PROSE + [line for heading in DATA for line in data(heading).lines]:
        assert not re.search(r"src/echo(d|probe) |`[^`]* [^`]*`|^ *\$ ", line), (
            "a command outside a block: " + line)
    commands = [command for block in README if block.is_session() or block.is_ci()
                for command, _ in block.commands()]
    assert set(HELD) <= set(commands), "not in README any more: %s" % (set(HELD) - set(commands))


@scenario
def ci_runs_the_two_commands_as_they_stand():
    serve, check = [block.lines for block in README if block.is_ci()]
    assert serve == ["./bootstrap && src/echod"], serve
    assert len(check) == 1 and re.fullmatch(ELSEWHERE + "( -j[0-9]+)? check", check[0]), check
    if not os.path.exists(CI):
        raise Skip("not in a clone")
    assert "readme_commands() {\n    %s\n}" % check[0] in read(".ci", "run")


@scenario
def options_in_the_text_are_there():
    known = subprocess.run([os.path.join(TOP, "configure"), "--help"], capture_output=True,
                           text=True).stdout + read("bootstrap")
    for program in ECHOD, ECHOPROBE:
        known += subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    for line in PROSE:
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            assert re.search(re.escape(option) + r"(?![a-z-])", known), option


@scenario
def files_in_the_text_are_there():
    for path in re.findall(r"(?<![\w/.])((?:bench|contrib|man|src|tests)/[\w./-]*\w)",
                           "\n".join(PROSE)):
        assert path == "bench/out" or os.path.exists(os.path.join(TOP, path)) or \
            os.path.exists(os.path.join(BUILD, path)), path


@scenario
def the_table_is_that_of_bench_RESULTS():
    assert "\n".join(data(DATA[0]).lines) in read("bench", "RESULTS")


@scenario
def the_plot_is_drawn_from_bench_RESULTS():
    drawn = subprocess.run([sys.executable, os.path.join(TOP, "bench", "textplot.py")],
                           capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONIOENCODING": "utf-8"}).stdout
    assert data(DATA[1]).lines == drawn.rstrip("\n").split("\n"), "it draws:\n" + drawn


@scenario
def the_map_is_true_to_the_source():
    """Its files are there; what it says that libevent's part in one of them is, is used there."""
    found, lines = 0, data(DATA[2]).lines
    for line in list(map(" ".join, zip(lines, lines[1:]))) + PROSE:  # a file may stand below
        files = re.findall(r"\b([a-z_]+\.[ch])\b", line)
        for file in files:
            assert os.path.exists(os.path.join(TOP, "src", file)), file
        for word in re.findall(r"\b(?:evconnlistener|bufferevent|evsignal|evhttp|event_base)\b",
                               line if files else ""):
            found += 1
            assert any(word in read("src", file) for file in files), (word, line)
    assert found > 5, found


scratch = tempfile.mkdtemp(prefix="readme")
try:
    prepare()
    README, PROSE = parse(read("README"))
    for some in groups(README):
        add_group(some)
    main(around=True)
finally:
    shutil.rmtree(scratch)
