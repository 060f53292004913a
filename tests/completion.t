#!/usr/bin/env python3
"""Completion, in a bash that has read our file and no other: called as bash does, and by keys."""
import contextlib
import os
import pty
import re
import select
import subprocess
import tempfile
import time

from harness import DEADLINE, ECHOD, ECHOPROBE, main, sanitized, scenario

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FILE = os.path.join(os.path.abspath(TOP), "contrib", "completion", "echod")
PROGRAMS = {"echod": os.path.abspath(ECHOD), "echoprobe": os.path.abspath(ECHOPROBE)}
SHELL = ["bash", "--norc", "--noprofile"]


def options(text):
    """The options in TEXT, as --help has them: `  -w, --workers=N|auto`."""
    return sorted(re.findall(r"^(?:  -\w, |      )--\S+", text, re.M))


def help_of(name):
    return subprocess.run([PROGRAMS[name], "--help"], capture_output=True, text=True, check=True,
                          timeout=DEADLINE, env=sanitized()).stdout


def complete(*words, directory="."):
    """What is offered for the last of WORDS, which are cut as in COMP_WORDS."""
    script = """
        . "$0" || exit
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        set -u
        replaced=${!#}
        [[ ${@: -2:1} != *@ ]] || replaced=@$replaced # it is no end of a word to readline
        _echod "$1" "$replaced"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    run = subprocess.run([*SHELL, "-c", script, FILE, PROGRAMS[words[0]], *words[1:]],
                         capture_output=True, text=True, timeout=DEADLINE, cwd=directory,
                         env=sanitized())
    assert (run.returncode, run.stderr) == (0, ""), run
    return run.stdout.split("\n")[:-1] if run.stdout != "\n" else []


@contextlib.contextmanager
def files():
    """A directory with chain.pem, bad-networks and, with a space, `cert dir`."""
    with tempfile.TemporaryDirectory(prefix="echod-completion.") as directory:
        os.mkdir(os.path.join(directory, "cert dir"))
        for name in ("chain.pem", "bad-networks"):
            open(os.path.join(directory, name), "w").close()
        yield directory


def cut(line):
    """The words of LINE, as bash has them in COMP_WORDS."""
    return [piece for word in line.split(" ")
            for piece in re.findall("[=:@]+|[^=:@]+", word) or [""]]


@scenario
def options_are_those_of_the_help():
    with open(FILE) as file:
        tables = re.findall(r"^\w+='\n(.*?)^'$", file.read(), re.M | re.S)
    for name, table in zip(PROGRAMS, tables, strict=True):
        assert options(table) == options(help_of(name)), name
        assert len(options(table)) == table.count("\n"), "a line that is no option: " + table
        offered = complete(name, "-")
        names = re.findall(r"(?<= )-[\w-]+=?", table)
        assert offered == names, (offered, names)


@scenario
def values_of_options():
    backends = subprocess.run([PROGRAMS["echod"], "--list-backends"], capture_output=True,
                              text=True, check=True, env=sanitized()).stdout.split()
    for line, offered in (
            ("echod --mo", ["--model="]),
            ("echod --model=", ["process", "thread"]),
            ("echod --model=pro", ["process"]),
            ("echod --model thr", ["thread"]),
            ("echod --workers=", ["auto"]),
            ("echod -w ", ["auto"]),
            ("echod -w 4", []),
            ("echod --backend=", backends),
            ("echod -b ", backends),
            ("echod --sandbox=", ["on", "off"]),
            ("echod --tls-min-version=1", ["1.2", "1.3"]),
            ("echod -u roo", ["root"]),
            ("echod -u root:roo", ["root"]),
            ("echod --metrics=", ["localhost:"]),
            ("echod --idle-timeout=", []),
            ("echod --help=", []),
            ("echod --proxy-protocol=", []),
            ("echoprobe --proxy-protocol=", ["v1", "v2"]),
            ("echoprobe --mo", [])):
        assert complete(*cut(line)) == offered, (line, complete(*cut(line)))
    assert complete("echod", "--model=pro") == ["--model=process"], "with = not in COMP_WORDBREAKS"


@scenario
def files_and_directories():
    with files() as directory:
        for line, offered in (
                ("echod --tls-cert=", ["bad-networks", "cert dir", "chain.pem"]),
                ("echod --tls-key ch", ["chain.pem"]),
                ("echoprobe --tls-ca=ch", ["chain.pem"]),
                ("echod --chroot=", ["cert dir"]),
                ("echod --allow=ba", []),
                ("echod --deny @ba", ["@bad-networks"]),
                ("echod unix://%s/ba" % directory, ["//%s/bad-networks" % directory])):
            assert sorted(complete(*cut(line), directory=directory)) == offered, line


@scenario
def endpoints():
    """All that are offered are those of the help, and mean something."""
    for name in PROGRAMS:
        text = help_of(name)
        for word in complete(name, "") + complete(name, "e"):
            assert word.replace("echo+", "[echo+]") in text or word in text or word in (
                "localhost:7777", "echo+udp://"), (name, word)
    assert {"tcp://", "tls://", "udp://", "unix://", "chat+tcp://"} <= set(complete("echod", ""))
    for line, offered in (
            ("echod chat+u", ["chat+unix://"]),
            ("echod -w 2 -- tl", ["tls://"]),
            ("echod -- -", []),
            ("echod tcp:", ["//"]),
            ("echod tcp://", ["//localhost:7777"]),
            ("echoprobe chat", []),
            ("echoprobe -n 3 loc", ["localhost:7777"])):
        assert complete(*cut(line)) == offered, (line, complete(*cut(line)))


@contextlib.contextmanager
def shell(directory):
    """An interactive bash that has read our file: what is written to it, and what it shows."""
    leader, follower = pty.openpty()
    environment = {**sanitized(), "PS1": "$ ", "TERM": "dumb", "INPUTRC": "/dev/null",
                   "PATH": os.path.dirname(PROGRAMS["echod"]) + ":" + os.environ["PATH"]}
    bash = subprocess.Popen([*SHELL, "-i"], stdin=follower, stdout=follower, stderr=follower,
                            cwd=directory, env=environment, start_new_session=True)
    os.close(follower)
    with os.fdopen(leader, "r+b", buffering=0) as terminal:
        try:
            yield terminal
        finally:
            bash.kill()
            bash.wait()


def wait_for(terminal, text):
    """Reads until TEXT is shown."""
    shown, end = b"", time.monotonic() + DEADLINE
    while text.encode() not in shown:
        ready = select.select([terminal], [], [], max(0, end - time.monotonic()))[0]
        assert ready, "%r is not in %r" % (text, shown)
        shown += terminal.read(4096)


@scenario
def keys_in_a_terminal():
    """A tab ends words as they are to be run: cut by readline, and quoted; then the cursor stands
    where the next character belongs."""
    with files() as directory, shell(directory) as terminal:
        terminal.write(b". '%s'; printf '%%s\\n' rea''dy\n" % FILE.encode())
        wait_for(terminal, "ready\r\n")
        for line, whole in (("echod --mod", "--model="),
                            ("echod --model=pr", "--model=process "),
                            ("echod -b epo", "-b epoll "),
                            ("echod tcp:", "tcp://"),
                            ("echod chat+unix://", "chat+unix:///"),
                            ("echod --deny=@ba", "--deny=@bad-networks"),
                            ("echod --deny=@ce", "--deny=@cert\\ dir"),
                            ("echod --deny \"@ce", "--deny \"@cert dir\""),
                            ("echod --tls-cert=ce", "--tls-cert=cert\\ dir/"),
                            ("echod --tls-cert=\"ce", "--tls-cert=\"cert dir\"/"),
                            ("echod unix://%s/ch" % directory, "/chain.pem "),
                            ("echod --sandbox=", "o"),
                            ("echoprobe --tls-ca ch", "--tls-ca chain.pem ")):
            terminal.write(line.encode() + b"\t|")
            wait_for(terminal, whole + "|")
            terminal.write(b"\x15")  # the line is gone


main(around=True)
