#!/usr/bin/env python3
"""One chat of several servers, by way of a real Redis, which comes and goes."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from chatters import (CHAT, LONGEST, MIB, PROMPTLY, SANITIZED, SHORT, Flood, Listener, Member,
                      check_all_heard, connect_narrow, end, expect_all, listen, names, others,
                      rename, were_told)
from harness import (DEADLINE, ECHOD, Echod, Skip, main, memory_kib, sanitized, scenario, suspend,
                     wait_until)

# Debian's redis-tools has the server too, by another name.
REDIS = shutil.which("redis-server") or shutil.which("redis-check-rdb")
WORKER_PATIENCE = 2  # seconds: who speaks waits for a bus that hangs, if much waits for it
SILENT_MOST = 45  # seconds: more than a server may be silent before it is gone


class Redis:
    """A server with a port of its own, which stays reserved while it does not run; end it by
    leaving a `with` block."""

    def __init__(self, is_running=True):
        if REDIS is None:
            raise Skip("redis-server is not installed")
        self.place = socket.socket()
        self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.place.bind(("127.0.0.1", 0))
        self.port = self.place.getsockname()[1]
        self.directory, self.process = tempfile.TemporaryDirectory(), None
        if is_running:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.directory.cleanup()
        self.place.close()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", self.directory.name], executable=REDIS,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "Redis")

    def _answers(self):
        assert self.process.poll() is None, "Redis ended with %d" % self.process.returncode
        with contextlib.suppress(ConnectionRefusedError), self.connect():
            return True

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self):
        suspend(self.process.pid)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def publish(self, *messages):
        """What anybody may do who reaches it; all that listen have been sent them."""
        with self.connect() as client:
            client.sendall(b"".join(b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nechod\r\n$%d\r\n%s\r\n" %
                                    (len(message), message) for message in messages))
            with client.makefile("rb") as answers:
                for _ in messages:
                    assert answers.readline()[:1] == b":"


def bus(redis, channel=""):
    return "--chat-bus=redis://127.0.0.1:%d%s" % (redis.port, channel)


class House(Echod):
    """An echod with that bus, and .room, the members it has."""

    def __init__(self, redis, *arguments):
        super().__init__(bus(redis), *arguments, CHAT)
        self.room = []

    def settle(self, name):
        """A first member, with a NAME that nobody has."""
        member = Member(self.connect())
        member.say("/nick " + name)
        while member.line() != "* %s is now %s" % (member.name, name):
            pass
        member.name = name
        self.room.append(member)


@contextlib.contextmanager
def settled(redis, *arguments):
    """A house with each of these ARGUMENTS, and in each one member."""
    with contextlib.ExitStack() as stack:
        houses = [stack.enter_context(House(redis, *each)) for each in arguments]
        for number, house in enumerate(houses):
            house.settle("first%d" % number)
        yield houses


@contextlib.contextmanager
def town(redis, *arguments):
    """The same, and all know each other."""
    with settled(redis, *arguments) as houses:
        meet(houses)
        yield houses


def meet(houses, count=1):
    """They are connected, for the COUNT-th time, and all know each other."""
    for house in houses:
        house.wait_line("bus-connected", count)
    wait_until(lambda: know_each_other(houses), "all to know each other")


def know_each_other(houses):
    return all(roll(member) == (names(house.room), names(elsewhere(houses, house)))
               for house in houses for member in house.room)


def roll(member):
    """Who is here and who is elsewhere, as MEMBER is told; it has read all that there was."""
    member.say("/who")
    return member.names_of("here"), member.names_of("elsewhere")


def everybody(houses):
    return [member for house in houses for member in house.room]


def elsewhere(houses, house):
    return everybody(others(houses, house))


def enter(houses, house):
    """A new member, of whom all are told."""
    newcomer = Member(house.connect())
    assert newcomer.here == len(house.room) + 1
    expect_all(everybody(houses), "* %s joined" % newcomer.name)
    house.room.append(newcomer)
    return newcomer


def leave(houses, house):
    member = house.room.pop()
    member.close()
    expect_all(everybody(houses), "* %s left" % member.name)
    return member


def check_talk(houses):
    """Each is heard by all others, once."""
    for member in everybody(houses):
        member.say("hello", "I am " + member.name)
        expect_all(others(everybody(houses), member), "%s: hello" % member.name,
                   "%s: I am %s" % (member.name, member.name))
    for member in everybody(houses):
        assert member.answers() == []


def close(houses):
    for house in houses:
        end(house, house.room)


@scenario
def each_line_reaches_everybody_else_once(model):
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], ["-w1"],
                                ["-w2", "--model=" + model]) as houses:
        for _ in range(4):
            for house in houses:
                enter(houses, house)
        check_talk(houses)
        author, *readers = everybody(houses)
        author.say("x" * LONGEST)
        expect_all(readers, author.name + ": " + "x" * LONGEST)
        assert know_each_other(houses)
        close(houses)


@scenario
def notices_go_everywhere(model):
    """Who joins, leaves and has a new name, in the order of what they say."""
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], ["-w1"]) as houses:
        for house in houses * 2:
            member = enter(houses, house)
            member.say("before", "/nick new", "after", "/quit")
            member.expect("* %s is now new" % member.name)
            member.expect_end()
            house.room.remove(member)
            expect_all(everybody(houses), member.name + ": before",
                       "* %s is now new" % member.name, "new: after", "* new left")
            member.close()
        for house in houses:
            enter(houses, house)
            member = leave(houses, house)
            enter(houses, house)
            rename(everybody(houses), house.room[-1], member.name)
        assert know_each_other(houses)
        close(houses)


@scenario
def authors_of_all_servers_are_heard_in_order(model):
    each = 100 if SANITIZED else 600
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], ["-w2"],
                                ["--model=" + model]) as houses:
        for house in houses * 3:
            enter(houses, house)
        listeners = [Listener(member) for member in everybody(houses)]
        floods = [Flood(member, each, SHORT) for house in houses for member in house.room[:2]]
        longest = listen(listeners, lambda: all(flood.reaches(listeners) for flood in floods))
        check_all_heard(listeners, floods, longest)
        assert not any(one.other for one in listeners)
        for house in houses:
            stats = house.stats()
            assert (stats["chat_messages"], stats["chat_dropped"]) == (2 * each, 0), stats
        assert know_each_other(houses)
        close(houses)


@scenario
def a_name_is_given_once(model):
    """In all servers: guests' as well as those that are chosen."""
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], []) as houses:
        here, there = houses
        guests = [enter(houses, house) for house in houses * 5]
        assert len(set(names(guests))) == 10, names(guests)
        one, other = guests[:2]
        for number in range(5):
            last = max(int(member.name[5:]) for house in houses for member in house.room
                       if member.name.startswith("guest"))
            rename(everybody(houses), one, "guest%d" % (last + 1))
            assert enter(houses, there).name != one.name
        rename(everybody(houses), one, "prize")
        assert other.answers("/nick prize") == ["* prize is taken"]
        rename(everybody(houses), one, "another")
        rename(everybody(houses), other, "prize")
        assert one.answers("/nick prize") == ["* prize is taken"]
        there.room.remove(other)
        other.close()
        expect_all(everybody(houses), "* prize left")
        rename(everybody(houses), one, "prize")
        assert know_each_other(houses)
        close(houses)


@scenario
def each_channel_is_a_room():
    with Redis() as redis, town(redis, [], [bus(redis, "/echod")]) as default, \
            town(redis, *[[bus(redis, "/one/two?")]] * 2) as other:
        for houses in default, other:
            for house in houses:
                enter(houses, house)
            check_talk(houses)
        assert know_each_other(default) and know_each_other(other)
        close(default + other)


@scenario
def a_bus_that_is_away_at_the_start(model):
    """The chat goes on without it, and is joined when it comes; it is lost once, however often it
    is tried."""
    with Redis(is_running=False) as redis, \
            settled(redis, ["-w3", "--model=" + model], [], ["--model=" + model]) as houses:
        for house in houses:
            assert house.wait_line("bus-lost")["server"] == "127.0.0.1:%d" % redis.port
            enter([house], house)
            check_talk([house])
            member, _ = house.room
            assert member.answers("/who") == ["* 2 here: " + ", ".join(names(house.room))]
            rename(house.room, house.room[1], member.name.replace("first", "second"))
        redis.start()
        meet(houses)
        check_talk(houses)
        enter(houses, houses[0])
        for house in houses:
            assert len(house.lines("bus-lost")) == len(house.lines("bus-connected")) == 1
        close(houses)


@scenario
def a_bus_that_is_killed_and_started_again(model):
    """Meanwhile those of a server are by themselves; what they said is not sent later, and who
    came, left and got another name is known afterwards."""
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], [],
                                ["-w2", "--model=" + model]) as houses:
        for turn in range(1, 4):
            for house in houses:
                enter(houses, house)
            check_talk(houses)
            known = {house: names(elsewhere(houses, house)) for house in houses}
            redis.kill()
            for number, house in enumerate(houses):
                house.wait_line("bus-lost", turn)
                for member in house.room:
                    assert sorted(member.answers()) == ["* %s left" % name for name in known[house]]
                enter([house], house)
                rename(house.room, house.room[-1], "late%d-%d" % (number, turn))
                leave([house], house) if turn == 2 else check_talk([house])
                assert house.room[0].answers("/who") == [
                    "* %d here: %s" % (len(house.room), ", ".join(names(house.room)))]
            redis.start()
            meet(houses, turn + 1)
            check_talk(houses)
        close(houses)


@scenario
def a_bus_that_hangs(model):
    """People who talk do not notice; after three seconds it is away, like any other."""
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], []) as houses:
        for house in houses * 2:
            enter(houses, house)
        redis.pause()
        slowest = 0
        for member in everybody(houses):  # in the midst of it those of the other house leave
            member.ignored = r"\* \w+ left"
        while not all(house.lines("bus-lost") for house in houses):
            for house in houses:
                began = time.monotonic()
                check_talk([house])
                slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)  # as people do
        assert slowest < PROMPTLY, "%g s" % slowest
        assert all(house.lines("bus-lost")[0]["error"] == "no answer" for house in houses)
        redis.resume()
        meet(houses, 2)
        for member in everybody(houses):
            member.ignored = None
        check_talk(houses)
        close(houses)


@scenario
def a_bus_that_hangs_in_a_flood(model):
    """Who speaks waits for it no longer than for a worker; nobody hears a line twice or late."""
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], ["-w2"]) as houses:
        for house in houses * 3:
            enter(houses, house)
        here, there = houses
        author = here.room[0]
        near = [Listener(member) for member in here.room[1:]]
        far = [Listener(member) for member in there.room]
        flood = Flood(author)
        listen(near + far, lambda: flood.count > 100)
        redis.pause()
        longest = listen(near + far, lambda: all(house.lines("bus-lost") for house in houses))
        redis.resume()
        longest = max(longest, listen(near + far, lambda: all(
            len(house.lines("bus-connected")) == 2 for house in houses)))
        until = flood.count + 200
        longest = max(longest, listen(near + far, lambda: all(
            one.count(author) >= until for one in far)))
        flood.stop()
        longest = max(longest, listen(near + far, lambda: flood.reaches(near)))
        check_all_heard(near, [flood], longest)
        assert not any(one.ended for one in far)
        silence = max(one.silence for one in near)
        assert silence < WORKER_PATIENCE + PROMPTLY, "nothing came for %g s" % silence


@scenario
def a_server_that_is_killed_has_no_members():
    """Others notice that it is silent; and a new one is another server."""
    with Redis() as redis, town(redis, ["-w2"], [], []) as houses:
        for house in houses * 2:
            enter(houses, house)
        victim, *houses = houses
        victim.kill()
        gone = sorted("* %s left" % member.name for member in victim.room)
        listeners = [Listener(member) for member in everybody(houses)]
        listen(listeners, lambda: were_told(listeners, *gone), SILENT_MOST)
        assert all(sorted(one.other) == gone for one in listeners)
        check_talk(houses)
        with House(redis) as successor:
            successor.settle(victim.room[0].name)
            meet([*houses, successor])
            enter([*houses, successor], successor)


@scenario
def who_publishes_may_be_anybody(model):
    """What is no message is none, a line is made clean, and a server that others speak for is asked
    again."""
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], []) as houses:
        for house in houses:
            enter(houses, house)
        stranger, junk = b"echod1 0123456789abcdef ", b"\n" + os.urandom(5000)
        redis.publish(
            b"", b"\n", b"hello", b"echod1", b"echod1 \n", junk, b"\0" * 100, b"x" * MIB,
            b"echod1 0123456789ABCDEF say\nwrong: a\n", b"echod1 0123456789abcdef0 say\nwrong: b",
            b"echod2 0123456789abcdef say\nwrong: c", b"echod1 0123456789abcde say\nwrong: d",
            b"echod1  0123456789abcdef say\nwrong: e", stranger + b"say", stranger + b"shout\nno",
            stranger + b"say" + b" " * 100 + b"\nwrong: f", stranger + b"say \nwrong: g",
            stranger + b"say\0\nwrong: h", stranger + b"say" * 50 + b"\nwrong: i",
            stranger + b"joined", stranger + b"joined\n", stranger + b"joined\n\n",
            stranger + b"joined\ntwo words", stranger + b"joined\n" + b"x" * 33,
            stranger + b"joined\n\x1b[31m", stranger + b"joined\ncaf\xc3\xa9",
            stranger + b"left\nfirst0", stranger + b"left\n", stranger + b"left\nnobody",
            stranger + b"renamed\nfirst0\nfirst9", stranger + b"renamed\nfirst0",
            stranger + b"names\n\x1b[31m\n", stranger + b"more\n" + junk,
            stranger + b"alive", stranger + b"alive\n-1", stranger + b"alive\n" + b"9" * 1000)
        redis.publish(*[b"echod1 %016x alive\n0" % number for number in range(1000)])
        redis.publish(stranger + b"say\n" + b"long: " + b"x" * (MIB // 2) + b"\n\n\r\n" + b"\n" * 9,
                      stranger + b"say\nmallory: \x1b[31mred\x1b[0m\a\x7f\xc2\x9b2J\r\nand\ton\xff",
                      stranger + b"joined\nmallory", stranger + b"joined\nmallory",
                      stranger + b"renamed\nmallory\nfirst0\x1b",
                      stranger + b"renamed\nmallory\neve", stranger + b"left\nmallory",
                      stranger + b"left\neve")
        expect_all(everybody(houses), "mallory: [31mred[0m2J", "and on\ufffd", "* mallory joined",
                   "* mallory is now eve", "* eve left")
        check_talk(houses)
        assert know_each_other(houses)
        close(houses)


@scenario
def a_slow_reader_elsewhere_slows_nobody(model):
    """It misses lines, with those of its worker, which is counted; the author's own house does not
    notice, and nothing grows."""
    enough, pace, room = (400, 60000, 4096) if SANITIZED else (4000, MIB, 32768)
    with Redis() as redis, town(redis, ["-w2", "--model=" + model],
                                ["--model=" + model]) as houses:
        here, there = houses
        for house in houses * 3:
            enter(houses, house)
        slow = Member(connect_narrow(there, room))
        expect_all(everybody(houses), "* %s joined" % slow.name)
        author = here.room[0]
        near = [Listener(member) for member in here.room[1:]]
        far = [Listener(member) for member in there.room] + [Listener(slow, pace)]
        processes = here.processes() + there.processes()
        before = memory_kib(processes)
        flood = Flood(author)
        longest = listen(near + far, lambda: flood.count >= enough and
                         there.stats()["chat_dropped"] > 0)
        grown = memory_kib(processes) - before
        flood.stop()
        for one in far:
            one.rate = None
        longest = max(longest, listen(near + far, lambda: flood.reaches(near)))
        check_all_heard(near, [flood], longest)
        assert grown < 16 * 1024 or SANITIZED, "%d KiB more" % grown

        def is_heard():
            """It may be dropped as well, until the others have been read."""
            author.say("that was it")
            until = time.monotonic() + 0.1
            listen(near + far, lambda: time.monotonic() > until)
            return were_told(far, author.name + ": that was it")

        wait_until(is_heard, "all to hear again")
        dropped = there.stats()["chat_dropped"]
        assert here.stats()["chat_dropped"] == 0
        print("# %d lines, %d dropped, %d KiB of memory" % (flood.count, dropped, grown))
        for one in far:
            assert not one.ended and flood.count - one.count(author) + one.missed <= dropped
        assert longest < DEADLINE


@scenario
def a_drain_tells_the_others(model):
    """What was said before TERM reaches all; then they have left, and the others go on."""
    each = 40
    with Redis() as redis, town(redis, ["-w3", "--model=" + model], [], ["-w2"]) as houses:
        for house in houses * 2:
            enter(houses, house)
        drained, *houses = houses
        leaving = [Listener(member) for member in drained.room]
        listeners = [Listener(member) for member in everybody(houses)]
        for author in drained.room:
            author.send(b"".join(b"%d x\n" % number for number in range(each)))
        drained.signal(signal.SIGTERM)
        listen(listeners + leaving, lambda: all(one.ended for one in leaving))
        for member in drained.room:
            member.close()
        assert drained.wait() == 0
        assert drained.lines("drained", drained=3, forced=0), drained.raw[-3:]
        gone = sorted("* %s left" % member.name for member in drained.room)
        listen(listeners, lambda: were_told(listeners, *gone), PROMPTLY)
        for one in listeners:
            assert [one.count(author) for author in drained.room] == [each] * 3 and not one.missed
            assert sorted(one.other) == gone, one.other
        check_talk(houses)
        close(houses)


@scenario
def a_drain_does_not_wait_for_the_bus(model):
    """Be it away or hanging."""
    for how in Redis.kill, Redis.pause:
        with Redis() as redis, town(redis, ["-w2", "--model=" + model]) as (house,):
            enter([house], house)
            how(redis)
            check_talk([house])
            began = time.monotonic()
            close([house])
            assert time.monotonic() - began < 2 * PROMPTLY


def refused(*arguments):
    """The exit status, and what is wrong."""
    run = subprocess.run([ECHOD, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True, timeout=DEADLINE, env=sanitized())
    assert run.stderr.startswith("echod: ") and run.stderr.count("\n") == 1, run
    return run.returncode, run.stderr[len("echod: "):-1]


@scenario
def what_is_no_bus():
    for url, wrong in {
            "": "not redis://HOST:PORT[/CHANNEL]",
            "localhost:6379": "not redis://HOST:PORT[/CHANNEL]",
            "http://localhost:6379": "not redis://HOST:PORT[/CHANNEL]",
            "redis://": None, "redis://localhost": None, "redis://:6379": None,
            "redis://localhost:0": "port out of range",
            "redis://localhost:65536": "port out of range",
            "redis://*:6379": "malformed address",
            "redis://localhost:6379?db=1": "malformed address",
            "redis://localhost:6379/": "no channel after the /",
            "redis://me:secret@localhost:6379": "a user or password cannot be given"}.items():
        status, text = refused("--chat-bus=" + url, CHAT)
        assert status == 2 and url in text and text.startswith(wrong or ""), (url, status, text)
    status, text = refused("--chat-bus=redis://localhost:6379", "tcp://127.0.0.1:0")
    assert (status, text) == (2, "no chat endpoint: --chat-bus")
    status, text = refused("--chat-bus=redis://no.such.host.invalid:6379", CHAT)
    assert status == 1 and "no.such.host.invalid" in text, (status, text)


main()
