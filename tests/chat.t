#!/usr/bin/env python3
"""The chat: what members are told and by whom, one room over all workers and endpoints, and what
becomes of those who read slowly, or not at all."""
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from chatters import (CHAT, HICCUP, LONGEST, MIB, PROMPTLY, SANITIZED, Flood, Listener, Member,
                      check_all_heard, connect_narrow, end, expect_all, gather, join, join_mute,
                      listen, meanwhile, names, numbered, others, rename, reset, were_told)
from harness import (DEADLINE, ECHOD, Echod, Skip, TooSlow, echo, is_alive, main, memory_kib,
                     needs_tls, sanitized, scenario, suspend, wait_until)

IAC, SB, SE, DO, WILL, IP, NAWS = b"\xff", b"\xfa", b"\xf0", b"\xfd", b"\xfb", b"\xf4", b"\x1f"

# What a TMPDIR of any length leaves room for.
DIRECTORY = tempfile.TemporaryDirectory(prefix="echod-chat.", dir="/tmp")


def fresh_path():
    """A path at which there is nothing."""
    return os.path.join(tempfile.mkdtemp(dir=DIRECTORY.name), "s")


def connect_unix(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE)
    client.connect(path)
    return client


def careless():
    """A client's context that trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def by_worker(echod, members):
    """MEMBERS, connected by TCP, in lists by the process id of their worker."""
    address = "0100007F:%04X" % echod.address()[1]
    with open("/proc/net/tcp") as sockets:
        rows = [line.split() for line in sockets if address in line]
    ports = {row[9]: int(row[2].split(":")[1], 16) for row in rows if row[1] == address}
    member_at = {member.socket.getsockname()[1]: member for member in members}
    found = {}
    for pid in echod.workers():
        links = [os.readlink(entry.path) for entry in os.scandir("/proc/%d/fd" % pid)]
        inodes = [link[8:-1] for link in links if link.startswith("socket:")]
        found[pid] = [member_at[ports[inode]] for inode in inodes
                      if ports.get(inode) in member_at]
    return found


def gather_everywhere(echod, each=2):
    """A room with at least EACH members in every worker."""
    room = gather(echod, 3 * each * len(echod.workers()))
    while min(map(len, by_worker(echod, room).values())) < each:
        assert len(room) < 200, "one worker gets nobody"
        for _ in range(each):
            join(room, echod.connect())
    return room


@contextlib.contextmanager
def at_one_moment(echod):
    """What is done meanwhile, all workers and the supervisor find at the same moment."""
    processes = echod.processes()
    for pid in processes:
        suspend(pid)
    yield
    for pid in processes:
        os.kill(pid, signal.SIGCONT)


@scenario
def each_line_reaches_everybody_else_once(model):
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        assert echod.endpoint().startswith("chat+tcp://127.0.0.1:")
        room = gather(echod, 12)
        for member in room:
            member.say("hello", "I am " + member.name)
            expect_all(others(room, member), "%s: hello" % member.name,
                       "%s: I am %s" % (member.name, member.name))
        for member in room:
            assert member.answers() == []  # also none of its own
        while len(room) > 1:
            member = room.pop()
            member.close()
            expect_all(room, "* %s left" % member.name)
        assert room[0].who() == names(room)
        end(echod, room)


@scenario
def what_members_are_told(model):
    """The wording, and that answers are for who asked only."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        alice, bob, carol = room = gather(echod, 3)
        rename(room, alice, "alice")
        rename(room, bob, "bob")
        assert carol.answers("/who") == ["* 3 here: alice, bob, " + carol.name]
        assert carol.answers("/nick bob") == ["* bob is taken"]
        for name in "", " ", "x" * 33, "two words", "dot.dot", "caf\u00e9", "a:", "*":
            assert carol.answers("/nick" + " " * bool(name) + name) == [
                "* a name has 1 to 32 of letters, digits, - and _"], name
        assert carol.answers("/foo") == ["* no such command: /foo; try /help"]
        assert carol.answers("/nickname x") == ["* no such command: /nickname; try /help"]
        assert carol.answers("", "\r", "") == []
        help_lines = carol.answers("/help")
        assert help_lines and all(line.startswith("* ") for line in help_lines), help_lines
        for command in "/nick", "/who", "/quit", "/help":
            assert any(command in line for line in help_lines), (command, help_lines)
        rename(room, carol, "A-Z_09" + "x" * 26)
        for member in room:
            assert member.answers() == []
        assert alice.who() == names(room)
        end(echod, room)


@scenario
def a_name_that_is_left_is_free(model):
    """By a new name as by leaving; and guests get none that somebody has chosen."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        alice, bob = room = gather(echod, 2)
        rename(room, alice, "alice")
        rename(room, alice, "alicia")
        rename(room, bob, "alice")
        room.remove(alice)
        alice.close()
        bob.expect("* alicia left")
        rename(room, bob, "alicia")
        join(room, echod.connect())
        for _ in range(8):
            last = max(int(member.name[5:]) for member in room if member.name[:5] == "guest")
            rename(room, bob, "guest%d" % (last + 1))
            join(room, echod.connect())
            assert len(set(names(room))) == len(room), names(room)
        assert bob.who() == names(room)


@scenario
def a_new_name_holds_from_there_on(model):
    """What one segment says before /nick has the old name, what comes after it the new one; of
    another's name it gets nothing but the answer."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        author, taken, *_ = room = gather(echod, 8)
        rename(room, taken, "taken")
        for number in range(30):
            old, new = author.name, "author%d" % number
            author.say("before", "/nick " + new, "after", "/nick taken", "and on", "/who")
            for member in others(room, author):
                member.expect(old + ": before", "* %s is now %s" % (old, new), new + ": after",
                              new + ": and on")
            author.name = new
            author.expect("* %s is now %s" % (old, new), "* taken is taken",
                          "* 8 here: " + ", ".join(names(room)))
        author.send(b"/nick last\nlast\n/quit\nnever heard\n")
        author.expect("* %s is now last" % author.name)
        author.expect_end()
        for member in others(room, author):
            member.expect("* %s is now last" % author.name, "last: last", "* last left")
        assert taken.who() == names(others(room, author))
        end(echod, room)


@scenario
def of_many_who_want_one_name_one_gets_it(model):
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        room = gather(echod, 24)
        for number in range(5):
            prize = "prize%d" % number
            with at_one_moment(echod):
                for member in room:
                    member.say("/nick " + prize)
            winners = []
            for member in room:
                won = "* %s is now %s" % (member.name, prize)
                lines = {member.line()}
                if won in lines:
                    winners.append(member)
                else:
                    lines.add(member.line())
                    assert "* %s is taken" % prize in lines, lines
            winner, = winners
            winner.name = prize
            for member in room:
                assert member.answers() == []
            assert {tuple(member.who()) for member in room} == {tuple(names(room))}
        end(echod, room)


@scenario
def many_who_come_at_one_moment(model):
    """All have names of their own, and everybody knows of everybody, once: from the greeting's
    count or as one who joined."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        with at_one_moment(echod):
            clients = [echod.connect() for _ in range(40)]
        room = [Member(client) for client in clients]
        assert len(set(names(room))) == 40, names(room)
        for member in room:
            member.seen = [member.line() for _ in range(40 - member.here)]
            assert member.answers() == []
        joined = {"* %s joined" % member.name for member in room}
        for member in room:
            assert len(set(member.seen)) == 40 - member.here and joined.issuperset(member.seen)
            assert "* %s joined" % member.name not in member.seen
            assert member.who() == names(room)


@scenario
def who_is_gone_before_the_greeting(model):
    """Some say something first, some leave half a line, some abort: of each that joins it is told
    that it left, and the room is as before."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        watcher, = gather(echod, 1)
        for turn in range(1, 4):
            with at_one_moment(echod):
                for number in range(60):
                    client = echod.connect()
                    client.sendall([b"", b"hi\n", b"half", b"/nick gone\n"][number % 4])
                    (reset if number % 3 else socket.socket.close)(client)
            wait_until(lambda: echod.stats()["accepted"] == 1 + turn * 60, "all to be accepted")
            wait_until(lambda: echod.stats()["active"] == 1, "all to be gone")
        newcomer = Member(echod.connect())
        newcomer.say("and?")
        there, sign, seen = set(), newcomer.name + ": and?", False
        while not seen or there != {newcomer.name}:
            line = watcher.line()
            seen = seen or line == sign
            follow(there, line)
        wait_until(lambda: watcher.who() == names([watcher, newcomer]), "the list to say so")
        assert echod.stats()["chat_members"] == 2
        end(echod, [watcher, newcomer])


def follow(there, line):
    """Keeps the set of who is THERE, by the notices; nobody speaks who is not."""
    if match := re.fullmatch(r"\* (\S+) joined", line):
        assert match[1] not in there, "%s joined twice" % match[1]
        there.add(match[1])
    elif match := re.fullmatch(r"\* (\S+) left", line):
        there.remove(match[1])
    elif match := re.fullmatch(r"\* (\S+) is now (\S+)", line):
        assert match[2] not in there, line
        there.remove(match[1])
        there.add(match[2])
    else:
        assert line.split(":")[0] in there, line


@scenario
def a_thousand_come_and_go(model):
    """From four sides, each with a name and a line of its own; whoever stays gets every notice,
    in order."""
    visitors, sides = 75 if SANITIZED else 400, 4
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        watchers = [Listener(member) for member in gather(echod, 6)]
        room = [watcher.member for watcher in watchers]
        failures = []

        def come_and_go(side):
            try:
                for number in range(visitors):
                    member = Member(echod.connect())
                    member.say("/nick visitor%d-%d" % (side, number % 7), "here I am")
                    if number % 2:
                        member.say("/quit")
                    member.half_close()
                    member.rest()
                    member.close()
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=come_and_go, args=(side,)) for side in range(sides)]
        for thread in threads:
            thread.start()
        listen(watchers, lambda: failures or all(len(watcher.other) >= 4 * visitors * sides
                                                 for watcher in watchers))
        for thread in threads:
            thread.join()
        assert not failures, failures
        for watcher in watchers:
            there, said = set(), [line for line in watcher.other if line.endswith(": here I am")]
            for line in watcher.other:
                follow(there, line)
            assert there == set() and len(said) == visitors * sides, (there, len(said))
            assert watcher.member.answers() == []
        assert room[0].who() == names(room)
        wait_until(lambda: echod.stats()["chat_members"] == 6, "the count to say so")
        end(echod, room)


@scenario
def a_list_of_many(model):
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        clients = [echod.connect() for _ in range(300)]
        room = [Member(client) for client in clients]
        assert room[0].who() == names(room)


@scenario
def to_leave(model):
    """/quit gets a FIN after what is pending; with EOF a last line without its end counts; after a
    reset too the others are told. What was said comes before `left`."""
    with Echod("-v", "-w4", "--model=" + model, CHAT) as echod:
        room = gather(echod, 8)

        def leave(said, then):
            member = room.pop()
            member.send(said)
            then(member)
            expect_all(room, "%s: bye" % member.name, "* %s left" % member.name)
            return member

        quitter = leave(b"bye\n/quit\nand on\nand on", lambda member: None)
        quitter.expect_end()
        quitter.close()
        echod.wait_line("closed", reason="eof")
        leave(b"bye", Member.half_close).expect_end()
        leave(b"bye\n/quit", Member.half_close).expect_end()
        half = leave(b"bye\n/who", Member.half_close).rest()
        assert len(half) == 1 and " here: " in half[0], half
        leave(b"bye", Member.close)
        aborted = room.pop()
        aborted.say("bye")
        expect_all(room, aborted.name + ": bye")
        aborted.reset()
        expect_all(room, "* %s left" % aborted.name)
        assert room[0].who() == names(room)


@scenario
def lines_come_in_pieces(model):
    """Ends of segments mean nothing, also within a character; many lines may be in one."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, *readers = gather(echod, 4)
        author.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        text = "H\u00e9llo, \u4e16\u754c \U0001f600"
        expected = author.name + ": " + text
        seen = echod.stats()["received_bytes"]
        for piece in text.encode()[:2], text.encode()[2:9], text.encode()[9:-2]:
            author.send(piece)
            seen += len(piece)
            wait_until(lambda: echod.stats()["received_bytes"] == seen, "it to be read")
        author.send(text.encode()[-2:] + b"\r\n")
        expect_all(readers, expected)
        for byte in (text + "\n").encode() * 3:
            author.send(bytes([byte]))
        expect_all(readers, *[expected] * 3)
        author.say(*[text] * 500)
        expect_all(readers, *[expected] * 500)
        assert author.answers() == []


@scenario
def a_line_has_at_most_4096_bytes(model):
    """What is longer is refused, once, however long it is; and the connection goes on."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, *readers = room = gather(echod, 4)
        rename(room, author, "n" * 32)
        refused = "* a line has at most 4096 bytes"
        author.say("x" * LONGEST)
        expect_all(readers, author.name + ": " + "x" * LONGEST)
        assert author.answers("x" * (LONGEST + 1)) == [refused]
        assert author.answers("x" * (2 * LONGEST), "y" * (4 * LONGEST)) == [refused] * 2
        before = memory_kib(echod.processes())
        author.send(b"z" * (8 * MIB))
        assert SANITIZED or memory_kib(echod.processes()) - before < 4096
        author.say("")
        author.expect(refused)
        author.say("and on")
        expect_all(readers, author.name + ": and on")
        assert author.answers("/" + "x" * (LONGEST - 1))[0].startswith("* no such command: /x")
        author.send(b"x" * (LONGEST + 1))
        author.half_close()
        author.expect(refused)
        author.expect_end()
        expect_all(readers, "* %s left" % author.name)


@scenario
def text_is_utf8_and_nothing_else(model):
    """What is no character is replaced; what controls a terminal is not passed on, to nobody."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, *readers = gather(echod, 4)

        def heard():
            line, = {reader.line() for reader in readers}
            assert line.startswith(author.name + ": ")
            return line[len(author.name) + 2:]

        for text in ("caf\u00e9", "\u20ac", "\uffff", "\U0010ffff", "e\u0301", "\ufffd", "a: b",
                     "* a"):
            author.say(text)
            assert heard() == text
        for wrong in (b"\x80", b"\xfe", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf",
                      b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80"):
            author.send(b"a" + wrong + b"b\n" + b"a" + wrong + b"\n")
            for pattern in "a\ufffd+b", "a\ufffd+":
                text = heard()
                assert re.fullmatch(pattern, text), (wrong, text)
        for code in [*range(1, 10), *range(11, 32), 127, *range(128, 160)]:
            author.say("a%cb" % code)
            assert heard() in ("ab", "a b"), code
        author.send(b"a\0b\n\x1b[31mred\x1b[0m\a\n")
        assert [heard(), heard()] == ["ab", "[31mred[0m"]
        answer, = author.answers("/\x1b[31m\u009b2Jfoo")
        assert answer.startswith("* no such command: /") and answer.isprintable(), answer


@scenario
def what_grows_when_it_is_replaced(model):
    """4096 bytes, none of which is a character, are a line like another, or are too long, but the
    same for all readers; and everything goes on."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        author, *readers = room = gather(echod, 12)
        rename(room, author, "n" * 32)
        author.send(b"\x80" * LONGEST + b"\n")
        author.say("and on")
        lines, = {reader.line() for reader in readers}
        if lines != author.name + ": and on":
            assert re.fullmatch(author.name + ": \ufffd+", lines), lines[:100]
            expect_all(readers, author.name + ": and on")
        assert author.who() == names(room)


@scenario
def telnet_is_a_client(model):
    """Its negotiation is no text, wherever a segment ends, and an end of line in it is none."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, *readers = room = gather(echod, 3)
        author.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        window = IAC + SB + NAWS + b"\0\n" + IAC + IAC + b"\n" + IAC + SE
        lines = (IAC + DO + b"\3" + IAC + WILL + NAWS + window + b"hel" + IAC + IP + IAC + DO +
                 b"\6lo\r\n" + b"wor" + window + b"ld\r\n/nick " + IAC + WILL + b"\nalice\r\n")
        author.send(lines)
        expected = [author.name + ": hello", author.name + ": world",
                    "* %s is now alice" % author.name]
        expect_all(readers, *expected)
        author.expect(expected[-1])
        author.name = "alice"
        rename(room, author, "bob")
        for byte in lines:
            author.send(bytes([byte]))
        expect_all(readers, "bob: hello", "bob: world", "* bob is now alice")
        author.expect("* bob is now alice")
        author.send(b"bye" + IAC)
        author.half_close()
        author.expect_end()
        expect_all(readers, "alice: bye", "* alice left")


@scenario
def the_telnet_command_is_a_client():
    if shutil.which("telnet") is None:
        raise Skip("telnet is not installed")
    with Echod(CHAT) as echod:
        watcher, = gather(echod, 1)
        with subprocess.Popen(["telnet", *map(str, echod.address())], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as telnet:
            name = watcher.line().split()[1]
            telnet.stdin.write(b"hello\n")
            telnet.stdin.flush()
            watcher.expect(name + ": hello")
            watcher.say("hello yourself")
            telnet.stdin.write(b"/quit\n")
            telnet.stdin.flush()
            watcher.expect("* %s left" % name)
            said, _ = telnet.communicate(timeout=DEADLINE)
        said = said.decode().replace("\r", "")
        assert "* you are %s, 2 here\n" % name in said, said
        assert watcher.name + ": hello yourself\n" in said, said


@scenario
def nc_is_a_client(model):
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        if shutil.which("nc") is None:
            raise Skip("nc is not installed")
        watcher, = gather(echod, 1)
        for said in b"hello\n", b"hello":
            done = subprocess.run(["nc", "-N", *map(str, echod.address())], input=said,
                                  capture_output=True, timeout=DEADLINE)
            name = watcher.line().split()[1]
            watcher.expect(name + ": hello", "* %s left" % name)
            assert (done.returncode, done.stdout.decode()) == \
                (0, "* you are %s, 2 here\n" % name), done


@scenario
def one_room_for_all_endpoints(model):
    """Two ports and a unix socket; at an echo endpoint beside them nobody is a member."""
    path = fresh_path()
    with Echod("-w2", "--model=" + model, CHAT, "tcp://127.0.0.1:0", CHAT, "127.0.0.1:0",
               "chat+unix://" + path) as echod:
        assert [line["endpoint"].split("//")[0] for line in echod.lines("listening")] == \
            ["chat+tcp:", "tcp:", "chat+tcp:", "tcp:", "chat+unix:"]
        room = []
        for _ in range(2):
            join(room, echod.connect(0))
            join(room, echod.connect(2))
            join(room, connect_unix(path))
            for index in 1, 3:
                with echod.connect(index) as client:
                    echo(client, b"/who\nis anybody there?\n")
        for member in room:
            member.say("hello")
            expect_all(others(room, member), member.name + ": hello")
        unix = room.pop()
        unix.send(b"/nick unix\nbye")
        unix.half_close()
        unix.expect("* %s is now unix" % unix.name)
        unix.expect_end()
        expect_all(room, "* %s is now unix" % unix.name, "unix: bye", "* unix left")
        for member in room:
            assert member.who() == names(room)
        end(echod, room)


@scenario
def members_by_tls(model):
    """They are in the same room; close_notify is an end like another."""
    needs_tls()
    with Echod("-w2", "--model=" + model, "--tls-self-signed", CHAT, "chat+tls://127.0.0.1:0",
               "tls://127.0.0.1:0") as echod:
        room = []
        for _ in range(3):
            join(room, echod.connect())
            join(room, careless().wrap_socket(echod.connect(1)))
        with careless().wrap_socket(echod.connect(2)) as client:
            echo(client, b"hello\n")
        for member in room:
            member.say("hello", "x" * LONGEST)
            expect_all(others(room, member), member.name + ": hello",
                       member.name + ": " + "x" * LONGEST)
        while len(room) > 2:
            member = room.pop()
            member.send(b"bye")
            if isinstance(member.socket, ssl.SSLSocket):
                member.socket.unwrap()
            member.close()
            expect_all(room, member.name + ": bye", "* %s left" % member.name)
        end(echod, room)


@scenario
def chat_needs_a_stream():
    for endpoint in "chat+udp://127.0.0.1:0", "chatter+tcp://127.0.0.1:0":
        run = subprocess.run([ECHOD, endpoint], stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=DEADLINE, env=sanitized())
        assert run.returncode == 2 and run.stderr.count("\n") == 1, run
        assert run.stderr.startswith("echod: ") and endpoint in run.stderr, run


@scenario
def what_is_counted(model):
    """A line once, however many get it; commands and refused lines are none."""
    with Echod("-v", "-w4", "--model=" + model, CHAT, "tcp://127.0.0.1:0") as echod:
        room = gather(echod, 10)
        with echod.connect(1) as client:
            echo(client, b"hello\n")
        for member in room:
            member.say("hello", "", "/who", "/nick a b", "x" * 5000, "bye")
        wait_until(lambda: echod.stats()["chat_messages"] == 20, "20 lines")
        stats = echod.stats()
        assert (stats["chat_members"], stats["chat_dropped"]) == (10, 0), stats
        for member in room[5:]:
            member.reset()
        wait_until(lambda: echod.stats()["chat_members"] == 5, "five to be gone")
        for member in room[:5]:
            member.half_close()
            member.rest()
            member.close()
        wait_until(lambda: echod.stats()["active"] == 0, "all to be gone")
        stats = echod.stats()
        assert (stats["chat_messages"], stats["chat_members"]) == (20, 0), stats
        assert echod.stop() == 0


@scenario
def authors_of_all_workers_are_heard_in_order(model):
    """All say as much as they can, and read meanwhile: nobody stands in another's way for ever."""
    each = 30 if SANITIZED else 150
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        room = gather(echod, 12)
        listeners = [Listener(member) for member in room]
        floods = [Flood(member, each) for member in room]
        longest = listen(listeners, lambda: all(flood.reaches(listeners) for flood in floods))
        check_all_heard(listeners, floods, longest)
        assert not any(one.other for one in listeners)
        stats = echod.stats()
        assert (stats["chat_messages"], stats["chat_dropped"]) == (12 * each, 0), stats
        end(echod, room)


@scenario
def an_answer_comes_after_its_question(model):
    """For everybody, though the two who talk may have different workers."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        room = gather(echod, 12)
        for number in range(100):
            one, other = room[number % 12], room[(number * 5 + 1) % 12]
            if one is other:
                continue
            one.say("question %d" % number)
            other.expect("%s: question %d" % (one.name, number))
            other.say("answer %d" % number)
            one.expect("%s: answer %d" % (other.name, number))
            for member in others(others(room, one), other):
                member.expect("%s: question %d" % (one.name, number),
                              "%s: answer %d" % (other.name, number))


@scenario
def who_comes_in_the_middle_hears_all_from_there_on(model):
    """And who goes takes nothing from the others."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        author, *readers = gather(echod, 6)
        listeners = [Listener(member) for member in readers]
        flood, longest = Flood(author), 0
        for number in range(12):
            newcomer = meanwhile(listeners, lambda: Member(echod.connect()))
            if number % 3:
                listeners.append(Listener(newcomer, is_late=True))
            else:
                newcomer.reset()
            until = flood.count + 20
            longest = max(longest, listen(listeners, lambda: flood.count >= until))
        flood.stop()
        longest = max(longest, listen(listeners, lambda: flood.reaches(listeners)))
        check_all_heard(listeners, [flood], longest)


@scenario
def members_of_a_dead_worker_are_gone():
    """The others are told, once; names are free; whoever comes knows who is there. Two workers at
    a time."""
    with Echod("-w4", CHAT) as echod:
        room = gather_everywhere(echod)
        for number, member in enumerate(room):
            rename(room, member, "member%d" % number)
        for crashes in 2, 4:
            homes = by_worker(echod, room)
            killed = echod.workers()[-2:]
            gone = [member for pid in killed for member in homes[pid]]
            room = [member for member in room if member not in gone]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            left = {"* %s left" % member.name for member in gone}
            for member in room:
                told = [member.line() for _ in gone]
                assert set(told) == left, (told, left)
                assert member.answers() == []
            echod.wait_line("worker-started", 4 + crashes)
            wait_until(lambda: len(echod.workers()) == 4, "the replacements")
            for _ in range(12):
                member = join(room, echod.connect())
                assert member.who() == names(room)
                if gone:
                    rename(room, member, gone.pop().name)
            for member in room:
                member.say("still here")
                expect_all(others(room, member), member.name + ": still here")
        assert echod.stats()["chat_members"] == len(room)
        end(echod, room)


@scenario
def a_worker_dies_in_the_flood():
    """The others hear all that those say who live."""
    with Echod("-w3", CHAT) as echod:
        room = gather_everywhere(echod)
        homes = by_worker(echod, room)
        victim, *pids = homes
        listeners = [Listener(member) for pid in pids for member in homes[pid]]
        floods = [Flood(homes[pid][0]) for pid in pids]
        doomed = [Listener(member) for member in homes[victim]]
        doomed_flood = Flood(homes[victim][0])
        longest = listen(listeners + doomed, lambda: all(
            flood.count > 100 for flood in floods + [doomed_flood]))
        os.kill(victim, signal.SIGKILL)
        gone = sorted("* %s left" % member.name for member in homes[victim])
        longest = max(longest, listen(listeners, lambda: were_told(listeners, *gone)))
        for flood in floods:
            flood.stop()
        longest = max(longest, listen(listeners, lambda: all(
            flood.reaches(listeners) for flood in floods)))
        check_all_heard(listeners, floods, longest)
        assert all(sorted(one.other) == gone for one in listeners)


@scenario
def a_stuck_worker_stops_nobody():
    """Its members miss lines, which is counted; nobody else does, and nothing grows. When it goes
    on they are in the room again, and know who is there."""
    path, enough = fresh_path(), 400 if SANITIZED else 4000
    with Echod("-w3", CHAT, "chat+unix://" + path) as echod:
        room = gather_everywhere(echod)
        homes = by_worker(echod, room)
        stuck, *pids = homes
        author, renamed, goer = homes[pids[0]][0], homes[pids[1]][0], homes[pids[1]][1]
        listeners = [Listener(member) for pid in pids for member in homes[pid]
                     if member is not author]
        awake = [pid for pid in echod.processes() if pid != stuck]
        before = memory_kib(awake)
        began = time.monotonic()
        suspend(stuck)
        flood = Flood(author)
        longest = listen(listeners, lambda: flood.count >= enough)
        grown = memory_kib(awake) - before
        newcomer = meanwhile(listeners, lambda: Member(connect_unix(path)))  # of who accepts there
        listeners.append(Listener(newcomer, is_late=True))
        renamed.say("/nick renamed")
        goer.say("/quit")
        flood.stop()
        longest = max(longest, listen(listeners, lambda: flood.reaches(listeners)))
        goer.close()
        listeners = [one for one in listeners if one.member is not goer]
        check_all_heard(listeners, [flood], longest)
        assert grown < 16 * 1024 or SANITIZED, "%d KiB more" % grown
        renamed.name = "renamed"
        room = [member for member in room + [newcomer] if member is not goer]

        if time.monotonic() > began + 8:
            raise TooSlow("one that is stuck for much longer is killed")
        os.kill(stuck, signal.SIGCONT)
        slow = [Listener(member) for member in homes[stuck]]
        question = author.name + ": are you there?"

        def is_heard():
            """It may be missed as well, as long as they have some catching up to do."""
            author.say("are you there?")
            until = time.monotonic() + 0.1
            listen(slow, lambda: time.monotonic() > until)
            return were_told(slow, question)

        wait_until(is_heard, "those who were stuck to hear again")
        assert all(one.count(author) < flood.count for one in slow)
        assert echod.stats()["chat_dropped"] >= flood.count - slow[0].count(author)
        for one in slow:
            assert one.member.who() == names(room)
            one.member.say("we are")
        answers = [member.name + ": we are" for member in homes[stuck]]
        listen(listeners, lambda: were_told(listeners, *answers))
        assert not any(one.ended for one in listeners + slow)
        end(echod, room)


@scenario
def a_worker_that_pauses_costs_nothing():
    """For less than 2 s it is waited for, and finds nobody slow when it was slow itself."""
    with Echod("-w3", CHAT) as echod:
        room = gather_everywhere(echod)
        homes = by_worker(echod, room)
        author = homes[echod.workers()[0]][0]
        listeners = [Listener(member) for member in others(room, author)]
        flood, longest = Flood(author), 0
        for pid in echod.workers():
            until = flood.count + 50
            longest = max(longest, listen(listeners, lambda: flood.count >= until))
            suspend(pid)
            began = time.monotonic()
            longest = max(longest, listen(listeners, lambda: time.monotonic() > began + 0.6))
            os.kill(pid, signal.SIGCONT)
            if time.monotonic() > began + 1.5:
                raise TooSlow("that was no short pause")
        flood.stop()
        longest = max(longest, listen(listeners, lambda: flood.reaches(listeners)))
        check_all_heard(listeners, [flood], longest)
        assert echod.stats()["chat_dropped"] == 0


@scenario
def a_stuck_worker_may_be_killed():
    """Its members are gone then, as always; with what waited for it."""
    with Echod("-w3", CHAT) as echod:
        room = gather_everywhere(echod)
        homes = by_worker(echod, room)
        stuck, *pids = homes
        author = homes[pids[0]][0]
        listeners = [Listener(member) for pid in pids for member in homes[pid]]
        suspend(stuck)
        flood = Flood(author)
        listen(listeners, lambda: flood.count >= 200)
        os.kill(stuck, signal.SIGKILL)
        gone = sorted("* %s left" % member.name for member in homes[stuck])
        flood.stop()
        longest = listen(listeners, lambda: flood.reaches(listeners) and
                         were_told(listeners, *gone))
        check_all_heard(listeners, [flood], longest)
        assert all(sorted(one.other) == gone for one in listeners)
        echod.wait_line("worker-started", 4)
        rest = [one.member for one in listeners]
        for _ in range(6):
            assert join(rest, echod.connect()).who() == names(rest)


@scenario
def the_slowest_reader_sets_the_pace(model):
    """30 members, 4 KB lines from one author without a pause; some read a megabyte a second, one
    nothing at all. That one is cut and holds nobody up; all others get every line."""
    seconds, path = 2, fresh_path()
    with Echod("-v", "-w2", "--model=" + model, CHAT, "chat+unix://" + path) as echod:
        readers = gather(echod, 24)
        room = readers[:]
        author = join(room, connect_unix(path))  # for which the kernel keeps 200 KiB, and no more
        slow = [join(room, connect_narrow(echod, 32768)) for _ in range(4)]  # in both workers
        mute = join_mute(room, connect_narrow(echod, 4096))
        before = memory_kib(echod.processes())
        listeners = [Listener(one) for one in readers] + [Listener(one, MIB) for one in slow]
        flood, began = Flood(author), time.monotonic()
        longest = listen(listeners, lambda: time.monotonic() > began + seconds)
        grown = memory_kib(echod.processes()) - before
        ahead = flood.check_pace(listeners, 4 * MIB)
        flood.stop()
        left = "* %s left" % mute.name
        longest = max(longest, listen(listeners, lambda: flood.reaches(listeners) and
                                      were_told(listeners, left)))
        check_all_heard(listeners, [flood], longest)
        silence = max(one.silence for one in listeners)
        print("# %d lines in %d s, %d KiB ahead, %d KiB of memory, nothing for %.3f s" %
              (flood.count, seconds, ahead // 1024, grown, silence))
        assert all(one.other == [left] for one in listeners)
        assert echod.wait_line("closed")["reason"] == "slow"
        assert grown < 16 * 1024 or SANITIZED, "%d KiB more" % grown
        assert silence < PROMPTLY or longest > HICCUP, "nothing came for %g s" % silence
        stats = echod.stats()
        assert (stats["closed_slow"], stats["chat_members"]) == (1, 29), stats


@scenario
def the_pace_is_set_from_every_worker():
    """By a slow reader that has the author's own worker, and by one that has another."""
    with Echod("-w2", CHAT) as echod:
        room = gather_everywhere(echod)
        homes = by_worker(echod, room)
        author = homes[echod.workers()[0]][0]
        for pid in homes:
            slow = None
            while slow not in by_worker(echod, room)[pid]:
                slow = join(room, connect_narrow(echod, 32768))
            listeners = [Listener(one, MIB if one is slow else None)
                         for one in others(room, author)]
            flood, began = Flood(author), time.monotonic()
            longest = listen(listeners, lambda: time.monotonic() > began + 1)
            flood.check_pace(listeners, 8 * MIB)
            flood.stop()
            longest = max(longest, listen(listeners, lambda: flood.reaches(listeners)))
            check_all_heard(listeners, [flood], longest)
            room.remove(slow)
            slow.close()
            expect_all(room, "* %s left" % slow.name)


@scenario
def a_slow_room_hears_the_other_one():
    """While authors speak in both workers: it is only slow, and not taken for one that hangs."""
    with Echod("-w2", CHAT) as echod:
        room = gather_everywhere(echod)
        homes = by_worker(echod, room)
        near = echod.workers()[0]
        authors, slow = [homes[pid][0] for pid in homes], None
        while slow not in by_worker(echod, room)[near]:
            slow = join(room, connect_narrow(echod, 4096))
        listeners = [Listener(one, 60000 if one is slow else None) for one in room]
        floods, began = [Flood(one) for one in authors], time.monotonic()
        longest = listen(listeners, lambda: time.monotonic() > began + 4)
        for flood in floods:
            flood.stop()
        for one in listeners:
            one.rate = None
        longest = max(longest, listen(listeners, lambda: all(flood.reaches(listeners)
                                                             for flood in floods)))
        check_all_heard(listeners, floods, longest)
        assert echod.stats()["chat_dropped"] == 0


@scenario
def a_drain_brings_what_is_on_its_way():
    """From one worker to a slow reader in the other; the author's worker has ended meanwhile."""
    with Echod("-w2", CHAT) as echod:
        room = gather_everywhere(echod)
        homes = list(by_worker(echod, room).values())
        author, slow = homes[0][0], None
        while slow is None or slow in by_worker(echod, room)[echod.workers()[0]]:
            slow = join(room, connect_narrow(echod, 32768))
        for member in others(others(room, author), slow):
            member.close()
        listener = Listener(slow, MIB)
        flood = Flood(author, 300)
        listen([listener], flood.is_over)
        echod.signal(signal.SIGTERM)
        author.half_close()
        listen([listener], lambda: listener.ended)
        assert (listener.count(author), listener.missed) == (300, 0)
        author.close()
        slow.close()
        assert echod.wait() == 0 and echod.lines("drained", forced=0), echod.raw


@scenario
def the_pace_is_set_by_tls_and_unix_as_well(model):
    needs_tls()
    path = fresh_path()
    with Echod("-v", "-w2", "--model=" + model, "--tls-self-signed", CHAT,
               "chat+tls://127.0.0.1:0", "chat+unix://" + path) as echod:
        def connect_tls(size=65536):
            return careless().wrap_socket(connect_narrow(echod, size, index=1))

        room = gather(echod, 1)
        for _ in range(3):
            join(room, connect_tls())
            join(room, connect_unix(path))
        readers = room[:]
        author = join(room, connect_unix(path))
        slow = [join(room, connect_tls(32768)), join(room, connect_unix(path))]
        mutes = [join_mute(room, connect_tls(4096)), join_mute(room, connect_unix(path))]
        listeners = [Listener(one) for one in readers] + [Listener(one, MIB) for one in slow]
        flood, began = Flood(author), time.monotonic()
        longest = listen(listeners, lambda: time.monotonic() > began + 1)
        flood.check_pace(listeners, 4 * MIB)
        flood.stop()
        left = sorted("* %s left" % mute.name for mute in mutes)
        longest = max(longest, listen(listeners, lambda: flood.reaches(listeners) and
                                      were_told(listeners, *left)))
        check_all_heard(listeners, [flood], longest)
        assert all(sorted(one.other) == left for one in listeners)
        echod.wait_line("closed", 2, reason="slow")


@scenario
def who_pauses_gets_all_later(model):
    """Under 256 KiB that wait for it nobody is cut, and nobody waits for it."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, reader = room = gather(echod, 2)
        absent = join(room, connect_narrow(echod))
        listener, late = Listener(reader), Listener(absent)
        flood = Flood(author, 50)
        began = time.monotonic()
        listen([listener], lambda: flood.reaches([listener]))
        assert time.monotonic() - began < 2 * PROMPTLY
        wait_until(lambda: time.monotonic() > began + 0.5, "some time to go by")
        listen([late], lambda: flood.reaches([late]))
        check_all_heard([listener, late], [flood], 0)
        absent.say("back again")
        expect_all([author, reader], absent.name + ": back again")


@scenario
def many_who_never_read(model):
    """All are cut, one author is heard by all others, and the memory is given back."""
    with Echod("-v", "-w2", "--model=" + model, CHAT) as echod:
        author, *readers = room = gather(echod, 4)
        mutes = [join_mute(room, connect_narrow(echod, 4096)) for _ in range(16)]
        listeners = [Listener(member) for member in readers]
        before = memory_kib(echod.processes())
        flood = Flood(author)
        left = sorted("* %s left" % mute.name for mute in mutes)
        longest = listen(listeners, lambda: were_told(listeners, *left))
        flood.stop()
        longest = max(longest, listen(listeners, lambda: flood.reaches(listeners)))
        check_all_heard(listeners, [flood], longest)
        grown = memory_kib(echod.processes()) - before
        assert grown < 16 * 1024 or SANITIZED, "%d KiB more" % grown
        assert all(sorted(one.other) == left for one in listeners)
        echod.wait_line("closed", 16, reason="slow")
        assert author.who() == names([author, *readers])
        end(echod, room)


@scenario
def short_lines_cost_no_more_than_long_ones(model):
    """What waits for those who do not read is counted in bytes, and costs little more than these,
    however small the pieces that it came in."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, reader = room = gather(echod, 2)
        for _ in range(8):
            join(room, connect_narrow(echod, 4096))
        before = memory_kib(echod.processes())
        for _ in range(800 if SANITIZED else 8000):
            author.say("x")
            reader.expect(author.name + ": x")
        grown = memory_kib(echod.processes()) - before
        assert grown < 4 * 1024 or SANITIZED, "%d KiB more" % grown
        end(echod, room)


@scenario
def who_asks_and_never_reads_the_answers(model):
    """Answers wait like lines do: it is not read from, or cut, and costs nobody else anything."""
    with Echod("-v", "-w2", "--model=" + model, CHAT) as echod:
        one, other = gather(echod, 2)
        for question in b"/help\n", b"/who\n", b"/nick\n", b"/help\n/who\n/nick\n/foo\n":
            before = memory_kib(echod.processes())
            glutton, asked, slowest = connect_narrow(echod, 4096), 0, 0
            glutton.setblocking(False)
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    asked += glutton.send(question * 1000)
                began = time.monotonic()
                one.say("hello")
                while other.line() != one.name + ": hello":
                    pass
                slowest = max(slowest, time.monotonic() - began)
            grown = memory_kib(echod.processes()) - before
            assert grown < 4096 or SANITIZED, "%s: %d KiB more after %d bytes" % (
                question, grown, asked)
            assert slowest < PROMPTLY, "a line took %g s" % slowest
            reset(glutton)


@scenario
def who_hears_something_is_not_idle(model):
    """Bytes move in one direction; when none does any more, all are."""
    with Echod("-v", "--idle-timeout=1", "-w2", "--model=" + model, CHAT) as echod:
        author, *readers = room = gather(echod, 4)
        end_of_talk = time.monotonic() + 1.3
        while time.monotonic() < end_of_talk:
            author.say("hello")
            expect_all(readers, author.name + ": hello")
            time.sleep(0.02)
        for member in room:
            member.rest()
            member.close()
        assert echod.wait_line("closed")["reason"] == "idle"


@scenario
def a_supervisor_that_is_gone_ends_the_chat():
    """Its workers drain, and leave none behind."""
    with Echod("-w2", CHAT) as echod:
        room, workers = gather(echod, 4), echod.workers()
        os.kill(echod.pid, signal.SIGKILL)
        for member in room:
            member.rest()
            member.close()
        echod.process.wait()
        wait_until(lambda: not any(map(is_alive, workers)), "the workers to go")


@scenario
def a_drain_cuts_no_line(model):
    """What was said before TERM reaches all, in all workers; then they get FIN."""
    with Echod("-w4", "--model=" + model, CHAT) as echod:
        room = gather(echod, 12)
        listeners = [Listener(member) for member in room]
        authors, each = room[::3], 40
        for author in authors:
            author.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        for author in authors:
            author.send(b"".join(map(numbered, range(each))))
        echod.signal(signal.SIGTERM)
        listen(listeners, lambda: all(one.ended for one in listeners))
        for listener in listeners:
            assert listener.missed == 0 and not listener.member.unread
            assert [listener.count(author) for author in others(authors, listener.member)] == \
                [each] * (4 - (listener.member in authors)), listener.next
            listener.member.close()
        assert echod.wait() == 0
        assert echod.lines("drained", drained=12, forced=0), echod.raw[-3:]


@scenario
def a_drain_waits_for_who_reads_late(model):
    """As long as it may: who has not read yet gets all of it, and FIN."""
    with Echod("-w2", "--model=" + model, CHAT) as echod:
        author, reader = room = gather(echod, 2)
        late = Listener(join(room, connect_narrow(echod)))
        listener = Listener(reader)
        flood = Flood(author, 40)
        listen([listener], lambda: flood.reaches([listener]))
        echod.signal(signal.SIGTERM)
        listen([listener], lambda: listener.ended)
        author.rest()
        for member in author, reader:
            member.close()
        listen([late], lambda: late.ended)
        assert (late.count(author), late.missed) == (40, 0)
        late.member.close()
        assert echod.wait() == 0
        assert echod.lines("drained", drained=3, forced=0), echod.raw[-3:]


@scenario
def a_drain_ends_a_flood(model):
    """Those who never stop are cut at the deadline."""
    with Echod("-w2", "--drain-timeout=1", "--model=" + model, CHAT) as echod:
        room = gather(echod, 6)
        listeners = [Listener(member) for member in room]
        floods = [Flood(member) for member in room[:2]]
        listen(listeners, lambda: all(flood.count > 50 for flood in floods))
        echod.signal(signal.SIGTERM)
        listen(listeners, lambda: all(one.ended for one in listeners))
        for member in room:
            member.close()
        assert echod.wait() == 0 and not any(one.missed for one in listeners)


main()
