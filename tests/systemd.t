#!/usr/bin/env python3
"""The units for systemd: how far they shut echod in, and that it serves, shut in so far."""
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from harness import DEADLINE, ECHOD, Echod, Skip, echo, main, scenario

UNITS = os.path.join(os.path.dirname(ECHOD), "..", "contrib", "systemd")
SOCKET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "contrib", "systemd",
                      "echod.socket")
PAIR, TEMPLATE = "echod.service", "echod@.service"


def read(name):
    """The settings of a unit: values by name, in order."""
    path = SOCKET if name.endswith(".socket") else os.path.join(UNITS, name)
    settings = {}
    with open(path) as unit:
        for line in unit:
            match = re.fullmatch(r"([A-Za-z0-9]+)=(.*)\n", line)
            if match:
                settings.setdefault(match[1], []).append(match[2])
    return settings


def analyze(*arguments):
    if shutil.which("systemd-analyze") is None:
        raise Skip("systemd-analyze is not installed")
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True,
                          text=True, timeout=DEADLINE)


@contextlib.contextmanager
def installed(change=lambda text: text):
    """A directory with all units, that start the program under test."""
    with tempfile.TemporaryDirectory(prefix="echod-units.") as directory:
        for name in (PAIR, TEMPLATE):
            with open(os.path.join(UNITS, name)) as unit:
                text = re.sub(r"^ExecStart=\S+", "ExecStart=" + os.path.abspath(ECHOD),
                              unit.read(), flags=re.M)
            with open(os.path.join(directory, name), "w") as unit:
                unit.write(change(text))
        shutil.copy(SOCKET, directory)
        shutil.copy(os.path.join(directory, TEMPLATE), os.path.join(directory,
                                                                    "echod@7777.service"))
        yield directory


def exposure(directory, name, most):
    """What systemd-analyze says of a unit: (exposure, it is at most MOST)."""
    run = analyze("security", "--offline=true", "--threshold=%d" % (most * 10),
                  os.path.join(directory, name))
    if "unrecognized option" in run.stderr:
        raise Skip("this systemd-analyze does not work offline")
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", run.stdout)
    assert match, run
    return float(match[1]), run.returncode == 0


@scenario
def the_exposure_is_small():
    with installed() as directory:
        for name, most in ((PAIR, 1.0), (TEMPLATE, 1.2), ("echod@7777.service", 1.2)):
            level, is_low = exposure(directory, name, most)
            assert is_low and level <= most, "%s: %g" % (name, level)
    with installed(lambda text: text.replace("CapabilityBoundingSet=\n", "")) as directory:
        assert not exposure(directory, PAIR, 1.0)[1], "anything would pass"


@scenario
def systemd_finds_nothing_wrong():
    with installed() as directory:
        run = analyze("verify", "--man=no", *(os.path.join(directory, name) for name in
                                              (PAIR, "echod.socket", "echod@7777.service")))
        assert (run.returncode, run.stdout + run.stderr) == (0, ""), run


@scenario
def both_are_shut_in_alike():
    """But for the network, which one needs, and what they are."""
    pair, template = read(PAIR), read(TEMPLATE)
    differ = {key for key in {*pair, *template} if pair.get(key) != template.get(key)}
    assert differ == {"After", "Also", "Description", "EnvironmentFile", "ExecStart",
                      "IPAddressDeny", "PrivateNetwork", "Requires", "RestrictAddressFamilies",
                      "Wants"}, differ


@scenario
def a_drain_has_the_time_that_it_takes():
    """10 s and one more are the most that it takes by default."""
    seconds, = read(PAIR)["TimeoutStopSec"]
    assert int(seconds.rstrip("s")) > 11


@scenario
def a_reload_is_told_once():
    """By the manager, or by ExecReload=, not by both."""
    for name in (PAIR, TEMPLATE):
        unit = read(name)
        assert (unit["Type"], unit.get("ExecReload")) in (
            (["notify-reload"], None), (["notify"], ["kill -HUP $MAINPID"])), unit


# As the manager would start them.

class Filter:
    """SystemCallFilter= and RestrictAddressFamilies= of a unit, by libseccomp: what they do not
    allow ends the process, so that it is noticed."""
    KILL, ALLOW, EQUAL = 0x80000000, 0x7fff0000, 4

    class Argument(ctypes.Structure):
        _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64),
                    ("b", ctypes.c_uint64)]

    def __init__(self, unit):
        try:
            self.library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        except OSError:
            raise Skip("libseccomp is not installed")
        self.library.seccomp_init.restype = ctypes.c_void_p
        families = unit["RestrictAddressFamilies"][-1].split()
        self.families = [getattr(socket, family) for family in families]
        self.calls = set()
        for value in unit["SystemCallFilter"]:
            names = {call for word in value.lstrip("~").split() for call in expand(word)}
            self.calls = self.calls - names if value.startswith("~") else self.calls | names

    def load(self):
        library = self.library
        context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(self.KILL)))
        for call in self.calls - {"socket"}:
            self._allow(context, call)
        for family in self.families:
            self._allow(context, "socket", self.Argument(0, self.EQUAL, int(family), 0))
        assert library.seccomp_load(context) == 0

    def _allow(self, context, call, *arguments):
        number = self.library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # of another architecture
            return
        array = (self.Argument * len(arguments))(*arguments)
        status = self.library.seccomp_rule_add_array(context, ctypes.c_uint32(self.ALLOW), number,
                                                     len(arguments), array)
        assert status == 0, (call, status)


def expand(word):
    """A system call, or those of a set, and the sets in it."""
    if not word.startswith("@"):
        return {word}
    run = analyze("syscall-filter", word)
    if run.returncode != 0:
        raise Skip("this systemd-analyze does not know " + word)
    words = [line.strip() for line in run.stdout.splitlines()[1:]]
    return {call for one in words if one and one[0] != "#" for call in expand(one)}


CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def confine(name, command):
    """Becomes COMMAND as the manager starts it for the unit NAME: with a socket, if it is the pair,
    and in a network of its own, where that is permitted; in its filter."""
    filter_ = Filter(read(name))
    if name == PAIR:
        os.dup2(socket.create_server(("127.0.0.1", 0)).detach(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="echo")
        library = ctypes.CDLL(None)
        if library.unshare(CLONE_NEWNET) != 0:
            library.unshare(CLONE_NEWUSER | CLONE_NEWNET)
    filter_.load()
    os.execv(command[0], command)


def start(name, instance, manager):
    """The daemon, with the command line of the unit, and a path for what it tells the manager."""
    if os.environ.get("ECHOD_SANITIZED"):
        raise Skip("sanitizers need more system calls")
    Filter(read(name))  # or it is skipped
    words = read(name)["ExecStart"][0].replace("$ECHOD_OPTIONS", "-w2").replace("%I", instance)
    return Echod(*words.split()[1:], ready=False, environment={"NOTIFY_SOCKET": manager},
                 launcher=[sys.executable, os.path.abspath(__file__), "--confine", name])


@scenario
def it_serves_as_it_is_shut_in():
    """All that it does: it is ready, serves, reloads, replaces a worker, drains."""
    with tempfile.TemporaryDirectory(prefix="echod-units.", dir="/tmp") as directory, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(directory, "s"))
        manager.settimeout(DEADLINE)

        def hear(word):
            while word not in manager.recv(4096).decode().splitlines():
                pass

        for name, instance in ((PAIR, ""), (TEMPLATE, "localhost:0")):
            with start(name, instance, manager.getsockname()) as echod:
                hear("READY=1")
                with echod.connect() as client:
                    echo(client, b"hello")
                echod.signal(signal.SIGHUP)
                hear("RELOADING=1")
                hear("READY=1")
                os.kill(echod.workers()[0], signal.SIGKILL)
                echod.wait_line("worker-started", 3)
                for _ in range(10):
                    with echod.connect() as client:
                        echo(client, b"hello")
                assert echod.stop() == 0, echod.raw
                assert len(echod.lines("worker-died")) == 1, echod.raw


if sys.argv[1:2] == ["--confine"]:
    confine(sys.argv[2], sys.argv[3:])
main()
