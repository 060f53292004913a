#!/usr/bin/env python3
"""Hostile clients: whatever they do, a well-behaved one beside them is served, exact to the byte;
memory has a bound, descriptors come back, no worker dies, the log stays short, and the daemon ends
as ever when it is told to."""
import contextlib
import mmap
import os
import select
import signal
import socket
import ssl
import struct
import threading
import time

from harness import (DEADLINE, Echod, Skip, connect_from, echo, in_namespace, main, memory_kib,
                     needs_tls, receive_all, reset, scenario, wait_until)

SANITIZED = bool(os.environ.get("ECHOD_SANITIZED"))
NOISE = os.urandom(1 << 20)
SIZES = [1, 63, 64, 1000, 4096, 65536, 200000]
POLITE = "127.0.0.2"  # nobody who attacks comes from there
# What malloc and the stacks may keep, of whatever came: pages, not clients.
SLACK_KIB = 1024


class Polite:
    """A well-behaved client, in a thread: says something and hears it, on a connection that lasts
    and on new ones. CONNECT makes one; MAY_COME: new ones, too; EXCHANGE is how it speaks. Leave a
    `with` block to end it."""

    def __init__(self, connect, may_come=True, exchange=echo):
        self.connect, self.may_come, self.exchange = connect, may_come, exchange
        self.rounds, self.failure, self.stopped = 0, None, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            with self.connect() as lasting:
                while not self.stopped.is_set():
                    self._speak(lasting)
                    if self.may_come and self.rounds % 5 == 0:
                        with self.connect() as fresh:
                            self._speak(fresh)
                    self.rounds += 1
                    self.stopped.wait(0.01)  # so much for being polite
        except BaseException as failure:
            self.failure = failure

    def _speak(self, connection):
        size = SIZES[self.rounds % len(SIZES)]
        start = self.rounds * 7919 % (len(NOISE) - size)
        self.exchange(connection, NOISE[start:start + size])

    def goes_on(self, rounds=30):
        """Waits until it has been served so often again."""
        wanted = self.rounds + rounds
        wait_until(lambda: self.rounds >= wanted or self.failure, "the polite client", 3 * DEADLINE)
        self.check()

    def check(self):
        if self.failure:
            raise AssertionError("the polite client: %r" % self.failure) from self.failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def descriptors(echod):
    return sum(len(os.listdir("/proc/%d/fd" % pid)) for pid in echod.processes())


class Siege:
    """Watches a daemon while it is attacked, in the body of a `with` block, which gets this: a
    POLITE client is served beside it; after it checks what has to hold whatever comes. At most
    GROWTH_KIB of memory more may be used meanwhile, and KEPT_KIB afterwards (None: the same, for
    those who come next)."""

    def __init__(self, echod, polite, growth_kib, kept_kib=None):
        self.echod, self.polite = echod, polite
        self.growth_kib, self.kept_kib = growth_kib, kept_kib or growth_kib
        self.over = threading.Event()
        with polite.connect() as client:  # what it takes to serve anybody at all is no growth
            polite.exchange(client, NOISE[:200000])
        self.wait_active(0)
        self.began, self.lines_before = time.monotonic(), len(echod.raw)
        self.descriptors = descriptors(echod)
        self.before = self.peak = self._memory()
        self.watcher = threading.Thread(target=self._watch)

    def _memory(self):
        return memory_kib(self.echod.processes())

    def _watch(self):
        while not self.over.wait(0.03):
            with contextlib.suppress(OSError):
                self.peak = max(self.peak, self._memory())

    def wait_active(self, count):
        wait_until(lambda: self.echod.stats()["active"] == count, "%d to be active" % count)

    def __enter__(self):
        self.watcher.start()
        self.polite.__enter__()
        self.polite.goes_on(10)
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.polite.goes_on(10)
        finally:
            self.over.set()
            self.watcher.join()
            self.polite.__exit__()
        if kind is None:
            self.check()

    def check(self):
        echod = self.echod
        self.polite.check()
        self.wait_active(0)
        wait_until(lambda: descriptors(echod) == self.descriptors, "descriptors to come back")
        self.check_memory()
        assert not echod.lines("worker-died") and echod.stats()["worker_restarts"] == 0
        said = [line for line in echod.lines()[self.lines_before:] if line.event != "stats"]
        most = 12 + 2 * (time.monotonic() - self.began)  # one pause a second, and its end
        assert len(said) <= most, said[-20:]
        assert echod.stop() == 0

    def check_memory(self):
        print("# %d KiB before, %d at most, %d after" % (self.before, self.peak, self._memory()))
        if SANITIZED:
            return
        grown = self.peak - self.before
        assert grown < self.growth_kib, "%d KiB" % grown
        wait_until(lambda: self._memory() - self.before < self.kept_kib, "memory to come back")


class Attackers:
    """Processes that run ATTACK(number) over and over until a `with` block ends."""

    def __init__(self, attack, processes=2):
        self.counts = memoryview(mmap.mmap(-1, 8 * processes)).cast("Q")
        self.pids = [self._fork(attack, number) for number in range(processes)]

    def _fork(self, attack, number):
        parent, child = os.getpid(), os.fork()
        if child == 0:
            try:
                while os.getppid() == parent:
                    attack(number)
                    self.counts[number] += 1
            finally:
                os._exit(1)
        return child

    def made(self, count):
        """Waits until each has made COUNT attacks."""
        wait_until(lambda: min(self.counts) >= count, "%d attacks" % count, 3 * DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def start(model, *options, **more):
    return Echod("--model=" + model, "-w2", *options, **more)


def polite_at(address, **more):
    return Polite(lambda: connect_from(POLITE, address), **more)


def attacker_of(number):
    return "127.0.1.%d" % (number + 1)


def open_and_close(address):
    """An attack: a connection that is opened and closed, as fast as can be."""
    def attack(number):
        with contextlib.suppress(OSError), connect_from(attacker_of(number), address) as client:
            client.sendall(b"x")  # it was made, or refused
    return attack


def send_and_reset(address):
    """An attack: something is sent, and before it comes back the connection is reset."""
    def attack(number):
        with contextlib.suppress(OSError):
            client = connect_from(attacker_of(number), address)
            client.sendall(NOISE[:1000 + number])
            reset(client)
    return attack


def hold(stack, source, address, count):
    """COUNT connections that STACK closes."""
    return [stack.enter_context(connect_from(source, address)) for _ in range(count)]


def have_ended(clients):
    """Those at whose end the connection is over."""
    ended = []
    for client in select.select(clients, [], [], 0)[0]:
        try:
            if client.recv(1, socket.MSG_PEEK) == b"":
                ended.append(client)
        except ConnectionResetError:
            ended.append(client)
    return ended


@scenario
def a_flood_that_holds_its_connections(model):
    """One source gets what a source may have, all together what there is; who came before is
    served, and who comes meanwhile is when they go."""
    with start(model, "--max-connections=100", "--max-per-source=60") as echod:
        address = echod.address()
        # Of each held connection some KiB.
        with Siege(echod, polite_at(address, may_come=False), SLACK_KIB + 100 * 8) as siege:
            with contextlib.ExitStack() as stack:
                flood = hold(stack, attacker_of(0), address, 400)
                wait_until(lambda: len(have_ended(flood)) >= 340, "340 to be refused")
                siege.wait_active(61)
                assert len(have_ended(flood)) == 340
                siege.polite.goes_on()
                hold(stack, attacker_of(1), address, 60)  # and these wait
                echod.wait_line("paused", reason="max-connections")
                siege.wait_active(100)
                siege.polite.goes_on()
                late = connect_from("127.0.0.4", address)
                late.sendall(b"hello")
                siege.polite.goes_on()
            assert late.recv(5, socket.MSG_WAITALL) == b"hello"
            late.close()


@scenario
def a_flood_that_takes_all_descriptors():
    """Without any limit: who is in is served, and the log says once a second at most what is."""
    with start("process", nofile=64) as echod:
        address = echod.address()
        with Siege(echod, polite_at(address, may_come=False), SLACK_KIB + 128 * 8) as siege:
            with contextlib.ExitStack() as stack:
                hold(stack, attacker_of(0), address, 300)
                echod.wait_line("paused", reason="descriptors")
                siege.polite.goes_on()
            siege.polite.may_come = True


@scenario
def a_flood_that_opens_and_closes(model):
    with start(model, "--accept-rate=100") as echod:
        address = echod.address()
        with Siege(echod, polite_at(address), SLACK_KIB) as siege:
            with Attackers(open_and_close(address)) as attackers:
                attackers.made(2000)
                siege.polite.goes_on()
            stats = echod.stats()
            assert stats["refused_accept-rate"] > 0, stats


@scenario
def a_storm_of_resets(model):
    with start(model) as echod:
        address = echod.address()
        with Siege(echod, polite_at(address), 2 * SLACK_KIB + 512) as siege:
            with Attackers(send_and_reset(address)) as attackers:
                attackers.made(2000)
                siege.polite.goes_on()
            stats = echod.stats()
            assert stats["closed_reset"] > 0 and stats["closed_error"] == 0, stats


def client_hello():
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def trusting():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def drip(clients, words):
    """Each of CLIENTS says its word byte by byte, all but the last byte of it, by turns, until all
    are cut."""
    poll, waiting = select.poll(), dict(zip((c.fileno() for c in clients), words))
    for client in clients:
        poll.register(client, select.POLLIN)
    turn, end = 0, time.monotonic() + DEADLINE
    while waiting:
        assert time.monotonic() < end, "%d are not cut" % len(waiting)
        for client in clients:
            word = waiting.get(client.fileno(), b"")
            if turn < len(word) - 1:
                with contextlib.suppress(OSError):
                    client.send(word[turn:turn + 1])
        turn += 1
        for number, _ in poll.poll(50):
            poll.unregister(number)
            del waiting[number]


def slow_handshakes(echod, polite, word, each_kib, kept_kib=None):
    """150 who stop in the middle of WORD, 100 who say it by byte, and 50 who say nothing."""
    address, count = echod.address(), 300
    with Siege(echod, polite, SLACK_KIB + count * each_kib, kept_kib) as siege:
        with contextlib.ExitStack() as stack:
            clients = hold(stack, attacker_of(0), address, count)
            for client in clients[:150]:
                client.sendall(word[:len(word) // 2])
            drip(clients, [b""] * 150 + [word] * 100 + [b""] * 50)
            siege.polite.goes_on(5)
        assert echod.stats()["closed_handshake"] == count, echod.stats()


@scenario
def slow_tls_handshakes(model):
    """All are cut at the deadline, whatever they say until then."""
    needs_tls()
    with start(model, "--handshake-timeout=1.5", "--tls-self-signed",
               "tls://127.0.0.1:0") as echod:
        context = trusting()

        def connect():
            return context.wrap_socket(connect_from(POLITE, echod.address()))

        # OpenSSL's state and buffers, which are given back.
        slow_handshakes(echod, Polite(connect), client_hello(), 48, 3 * SLACK_KIB)


@scenario
def slow_proxy_headers(model):
    with start(model, "--handshake-timeout=1.5", "--proxy-protocol=127.0.0.0/8") as echod:
        def connect():
            client = connect_from(POLITE, echod.address())
            client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 7777\r\n")
            return client

        slow_handshakes(echod, Polite(connect),
                        b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 7777\r\n", 4)


def tiny(address, number):
    """A client that has next to no room for what comes back."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as little as the kernel gives
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(DEADLINE)
    client.bind((attacker_of(number), 0))
    client.connect(address)
    return client


def stuff(clients):
    """All send, by turns, until for a moment none of them gets rid of anything."""
    last = time.monotonic()
    for client in clients:
        client.setblocking(False)
    while time.monotonic() - last < 0.2:
        for client in clients:
            with contextlib.suppress(BlockingIOError, ConnectionError):  # it may be cut by now
                client.send(NOISE[:65536])
                last = time.monotonic()
        select.select([], [], [], 0.001)


@scenario
def tiny_windows_and_no_reader(model):
    """They send what they can get rid of, and never read: 64 KiB each (one read) are kept, until
    they have been idle for too long."""
    with start(model, "--idle-timeout=1") as echod:
        address, count = echod.address(), 60
        with Siege(echod, polite_at(address), SLACK_KIB + count * 160) as siege:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(tiny(address, i % 3)) for i in range(count)]
                stuff(clients)
                siege.polite.goes_on(5)
                wait_until(lambda: echod.stats()["closed_idle"] == count, "all to be cut")


@scenario
def tiny_windows_read_by_byte(model):
    """Much is sent, the answer read one byte at a time: all of it comes, and nobody waits."""
    size = 20000
    with start(model, "--idle-timeout=10") as echod:
        address, count = echod.address(), 20
        with Siege(echod, polite_at(address), SLACK_KIB + count * 160) as siege:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(tiny(address, i % 3)) for i in range(count)]
                for number, client in enumerate(clients):
                    client.sendall(NOISE[number:number + size])
                answers = [bytearray() for _ in clients]
                for _ in range(300):
                    for client, answer in zip(clients, answers):
                        answer += client.recv(1)
                siege.polite.goes_on(10)
                for number, client in enumerate(clients):
                    client.shutdown(socket.SHUT_WR)
                    answers[number] += receive_all(client)
                    assert answers[number] == NOISE[number:number + size], number


@scenario
def one_byte_at_a_time(model):
    """Each byte comes alone, and comes back."""
    with start(model) as echod:
        address = echod.address()
        with Siege(echod, polite_at(address), SLACK_KIB + 50 * 8) as siege:
            with contextlib.ExitStack() as stack:
                clients = hold(stack, attacker_of(0), address, 50)
                for client in clients:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for place in range(300):
                    for number, client in enumerate(clients):
                        client.sendall(NOISE[number + place:number + place + 1])
                for number, client in enumerate(clients):
                    client.shutdown(socket.SHUT_WR)
                    assert receive_all(client) == NOISE[number:number + 300], number
                siege.polite.goes_on(5)


@scenario
def it_drains_in_the_midst_of_floods(model):
    """Who comes and goes all the time does not keep it, nor who stays and says nothing."""
    with start(model, "--drain-timeout=5") as echod:
        address = echod.address()
        with contextlib.ExitStack() as stack:
            floods = [stack.enter_context(Attackers(attack(address), 1))
                      for attack in (open_and_close, send_and_reset)]
            hold(stack, attacker_of(0), address, 100)
            for flood in floods:
                flood.made(100)
            assert echod.stop() == 0
        assert not echod.lines("worker-died")


# A link to a network of sources that do not exist: answers to them arrive at v1, to be counted.
OURS, LINK, FORGER = "192.0.2.1", b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
FORGED = [
    "link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02",
    "link set v0 up", "link set v1 up", "addr add 192.0.2.1/24 dev v0",
    "neigh add 192.0.2.254 lladdr 02:00:00:00:00:02 dev v0 nud permanent",
    "route add 10.0.0.0/8 via 192.0.2.254",
]


def checksum(header):
    total = sum(struct.unpack("!%dH" % (len(header) // 2), header))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


class Forger:
    """Sends datagrams to PORT from any source (IPv4 address as a number, and port), and counts the
    answers that go there."""

    def __init__(self, port):
        for name in "all", "v0":  # as a router's host, that believes what comes
            try:
                with open("/proc/sys/net/ipv4/conf/%s/rp_filter" % name, "w") as setting:
                    setting.write("0")
            except OSError as error:
                raise Skip("rp_filter: %s" % error)
        self.port, self.answers = port, {}
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind(("v1", 0x0800))
        self.socket.setblocking(False)

    def send(self, source, source_port, data):
        udp = struct.pack("!HHHH", source_port, self.port, 8 + len(data), 0) + data
        ip = struct.pack("!BBHHHBBHI4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source,
                         socket.inet_aton(OURS))
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        with contextlib.suppress(BlockingIOError):
            self.socket.send(LINK + FORGER + b"\x08\0" + ip + udp)

    def count(self):
        """Takes the answers there are; how many came for each source so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self.socket.recv(2048)
                if frame[23] == 17 and struct.unpack("!H", frame[34:36])[0] == self.port:
                    source = struct.unpack("!I", frame[30:34])[0]
                    self.answers[source] = self.answers.get(source, 0) + 1
        return self.answers

    def close(self):
        self.socket.close()


def ask(client, data):
    """A datagram there and back; what is lost on the way is sent again."""
    data, end = data[:1400], time.monotonic() + DEADLINE
    while time.monotonic() < end:
        client.send(data)
        with contextlib.suppress(socket.timeout):
            while client.recv(65536) != data:  # a late one
                pass
            return
    raise AssertionError("no answer")


def polite_sender(address):
    def connect():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.bind((address[0], 0))
        client.connect(address)
        client.settimeout(0.1)
        return client

    return Polite(connect, exchange=ask)


# Of each worker a batch of datagrams (2 MiB if all are of the largest), and all rates: 1 MiB.
DATAGRAMS_KIB = 2 * 2560 + 1024


@scenario
@in_namespace(*FORGED)
def datagrams_from_made_up_sources(model):
    """A source that has had its share has no more while a hundred thousand others come, nothing
    grows, ports that services have get no answer, and nobody gets more than was sent for it."""
    rate, victim = 20, 0x0afffffe
    with start(model, "--udp-rate=%d" % rate, "udp://*:0", "tcp://127.0.0.1:0") as echod:
        port = echod.address()[1]
        forger = Forger(port)
        with contextlib.closing(forger), \
                Siege(echod, polite_sender((OURS, port)), DATAGRAMS_KIB) as siege:
            began = time.monotonic()
            for number in range(rate + 200):
                forger.send(victim, 5000 + number % 1000, b"?")
            wait_until(lambda: forger.count().get(victim, 0) >= rate, "the victim's share")
            for number in range(100000):
                forger.send(0x0a000000 + number, 2000 + number % 60000, NOISE[:64])
                if number % 200 == 0:
                    forger.send(victim, 5000, b"?")
                    forger.count()
            siege.polite.goes_on(5)
            answers, most = forger.count(), rate * (2 + time.monotonic() - began)
            assert rate <= answers[victim] <= most, (answers[victim], most)
            del answers[victim]
            assert len(answers) > 1000 and max(answers.values()) == 1, max(answers.values())
            forger.answers = {}
            before = echod.stats()["dropped_port"]
            for source_port in (0, 7, 19, 53, 123, 1023, 2049, port):
                forger.send(0x0af00000 + source_port, source_port, b"!")
            wait_until(lambda: echod.stats()["dropped_port"] - before == 8, "8 to be dropped")
            forger.send(0x0af00001, 4711, b"!")
            wait_until(lambda: forger.count(), "an answer to another")
            assert set(forger.answers) == {0x0af00001}, forger.answers


def flood_of_datagrams(address):
    """An attack: datagrams, some of them large, faster than anybody may have answers."""
    sockets = {}

    def attack(number):
        if number not in sockets:
            sockets[number] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets[number].bind((attacker_of(0), 0))
            sockets[number].connect(address)
        sockets[number].send(NOISE[:8000 if number else 64])
    return attack


@scenario
def datagrams_from_one_source(model):
    """It gets what a source gets, and neither clients nor other sources notice."""
    rate = 100
    with start(model, "--udp-rate=%d" % rate, "udp://127.0.0.1:0", "tcp://127.0.0.1:0") as echod:
        sender, began = polite_sender(echod.address(0)), time.monotonic()
        with Siege(echod, polite_at(echod.address(1)), DATAGRAMS_KIB) as siege, sender:
            sender.goes_on(5)
            with Attackers(flood_of_datagrams(echod.address(0))) as attackers:
                attackers.made(5000)
                siege.polite.goes_on()
                sender.goes_on(5)
        values = [line for line in echod.lines("stats")][-1].values
        others = 2 * sender.rounds + 2
        most = rate * (2 + time.monotonic() - began) + others
        assert int(values["dropped_rate"]) > 0 and int(values["datagrams_sent"]) <= most, values


if __name__ == "__main__":
    main()
