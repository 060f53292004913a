#!/usr/bin/env python3
"""UDP: what is answered, from where, and what is not."""
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time

from harness import (DEADLINE, ECHOD, Echod, Skip, echo, in_namespace, main, memory_kib, sanitized,
                     scenario, suspend, wait_until)

LARGEST = 65507
SIZES = [*range(9), 63, 64, 65, 255, 256, 511, 512, 1023, 1024, 1471, 1472, 1473, 1474, 2048, 4095,
         4096, 4097, 8192, 9000, 16383, 16384, 32767, 32768, 65000, 65506, LARGEST]
# A network with several addresses, of which nobody else knows.
ETHERNET = ["link add v0 type veth peer name v1", "link set v0 up", "link set v1 up",
            "addr add 10.0.0.1/24 brd 10.0.0.255 dev v0", "addr add 10.0.0.2/24 dev v0",
            "addr add 10.0.1.1/24 brd 10.0.1.255 dev v0", "route add 224.0.0.0/4 dev v0",
            "addr add fd00::1/64 dev v0 nodad", "addr add fd00::2/64 dev v0 nodad",
            "addr add fd00:0:0:1::1/64 dev v0 nodad", "addr add fe80::77/64 dev v0 nodad"]


def ports_of(echod):
    return {echod.address(i)[1] for i in range(len(echod.lines("listening")))}


def make_client(echod, host="127.0.0.1"):
    """A UDP socket bound to HOST, at a port that ECHOD does not serve anywhere."""
    while True:
        client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                               socket.SOCK_DGRAM)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.settimeout(DEADLINE)
        client.bind((host, 0))
        if client.getsockname()[1] not in ports_of(echod):
            return client
        client.close()


def exchange(client, address, data):
    """DATA goes to ADDRESS and comes back from there."""
    client.sendto(data, address)
    answer, source = client.recvfrom(65536)
    assert answer == data, "%d bytes came back as %d" % (len(data), len(answer))
    assert source[:2] == address[:2], "sent to %s, answered by %s" % (address, source)


def comes_back(client, address, data, seconds):
    """The same where no answer may come."""
    client.sendto(data, address)
    while select.select([client], [], [], seconds)[0]:
        if client.recv(65536) == data:
            return True
    return False


def count_waiting(client):
    count = 0
    while select.select([client], [], [], 0)[0]:
        client.recv(65536)
        count += 1
    return count


def wait_stats(echod, **wanted):
    """Waits until counters have these values; returns all of them."""
    def look():
        now = echod.stats()
        return now if all(now[key] == value for key, value in wanted.items()) else None

    return wait_until(look, wanted)


def raw_datagram(source, target, data):
    """Sends DATA with a made-up source; both are (IPv4 address, port)."""
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                     socket.inet_aton(source[0]), socket.inet_aton(target[0]))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(ip + udp, (target[0], 0))
    except PermissionError:
        raise Skip("raw sockets are root's")


@scenario
def every_size_comes_back_exactly(model):
    with Echod("--model=" + model, "--udp-rate=0", "udp://127.0.0.1:0", "udp://[::1]:0") as echod:
        for index, host in enumerate(["127.0.0.1", "::1"]):
            with make_client(echod, host) as client:
                for size in SIZES:
                    exchange(client, echod.address(index), os.urandom(size))
        stats = wait_stats(echod, datagrams_sent=2 * len(SIZES))
        assert stats["received_bytes"] == stats["sent_bytes"] == 2 * sum(SIZES), stats
        assert stats["datagrams_received"] == 2 * len(SIZES), stats
        assert echod.stop() == 0


@scenario
def the_answer_comes_from_the_address_dialled(model):
    for workers in 1, 3:
        with Echod("--model=" + model, "-w", workers, "udp://*:0") as echod:
            port = echod.address()[1]
            assert ports_of(echod) == {port}, "one port for both families"
            for _ in range(8):  # of various ports, for various workers
                with make_client(echod) as client:
                    for last in 1, 2, 77, 254:
                        exchange(client, ("127.0.0.%d" % last, port), b"from %d" % last)
                with make_client(echod, "::1") as client:
                    exchange(client, ("::1", port), b"from ::1")


@scenario
@in_namespace(*ETHERNET)
def the_answer_comes_from_any_address_dialled_of_an_interface():
    with Echod("-w", "2", "udp://*:0") as echod:
        port, index = echod.address()[1], socket.if_nametoindex("v0")
        for _ in range(4):
            with make_client(echod, "0.0.0.0") as client:
                for host in "10.0.0.1", "10.0.0.2", "10.0.1.1", "127.0.0.1":
                    exchange(client, (host, port), host.encode())
            with make_client(echod, "::") as client:
                for host in "fd00::1", "fd00::2", "fd00:0:0:1::1", "::1":
                    exchange(client, (host, port), host.encode())
                exchange(client, ("fe80::77", port, 0, index), b"link-local")


@scenario
@in_namespace(*ETHERNET)
def what_is_sent_to_many_is_not_answered():
    with Echod("-vv", "-w", "2", "udp://*:0") as echod:
        port, index = echod.address()[1], socket.if_nametoindex("v0")
        with make_client(echod, "0.0.0.0") as client, make_client(echod, "::") as client6:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"v0")
            for host in "10.0.0.255", "10.0.1.255", "255.255.255.255", "224.0.0.1":
                client.sendto(host.encode(), (host, port))
                echod.wait_line("received", data=host, dropped="multicast")
            for host in "ff02::1", "ff01::1":
                client6.sendto(host.encode(), (host, port, 0, index))
                echod.wait_line("received", data=host, dropped="multicast")
            stats = echod.stats()
            assert stats["datagrams_received"] == stats["dropped_multicast"] >= 6, stats
            assert stats["datagrams_sent"] == 0, stats
            assert count_waiting(client) == count_waiting(client6) == 0
            exchange(client, ("10.0.0.1", port), b"one")
            exchange(client6, ("fd00::1", port), b"one")


@scenario
def what_is_sent_to_loopbacks_broadcast_address_is_not_answered():
    with Echod("udp://0.0.0.0:0") as echod, make_client(echod) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"many", ("127.255.255.255", echod.address()[1]))
        wait_stats(echod, dropped_multicast=1, datagrams_received=1, datagrams_sent=0)
        exchange(client, ("127.0.0.1", echod.address()[1]), b"one")


@scenario
def the_servers_own_ports_get_no_answer():
    with Echod("udp://127.0.0.1:0", "udp://127.0.0.2:0", "tcp://127.0.0.3:0") as echod:
        for host, index in ("127.0.0.9", 0), ("127.0.0.9", 1):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((host, echod.address(index)[1]))
                client.sendto(b"loop", echod.address(0))
                wait_stats(echod, dropped_port=index + 1, datagrams_sent=0)
                assert count_waiting(client) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.bind(("127.0.0.9", echod.address(2)[1]))
            exchange(client, echod.address(0), b"a port that we serve over TCP")


@scenario
def low_ports_get_no_answer():
    with Echod("udp://127.0.0.1:0") as echod:
        for number, port in enumerate([0, 1, 7, 19, 53, 1023, 2049], 1):
            raw_datagram(("127.0.0.9", port), echod.address(), b"reflect")
            wait_stats(echod, datagrams_received=number, dropped_port=number, datagrams_sent=0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE)
            client.bind(("127.0.0.9", 1024))
            exchange(client, echod.address(), b"the first of the others")


def burst(clients, address, count):
    """So many datagrams from each of CLIENTS; how many are answered in all, and within what time
    they were sent."""
    began = time.monotonic()
    for _ in range(count):
        for client in clients:
            client.sendto(b"burst", address)
    return time.monotonic() - began


@scenario
def a_source_is_limited_over_all_workers(model):
    rate, each = 40, 30
    with Echod("--model=" + model, "-w", "3", "--udp-rate=%d" % rate, "udp://127.0.0.1:0") as echod:
        clients = [make_client(echod) for _ in range(8)]
        total = each * len(clients)
        began = time.monotonic()
        burst(clients, echod.address(), each)
        wait_until(lambda: echod.stats()["datagrams_received"] == total, "all to be received")
        stats = wait_until(lambda: [s for s in [echod.stats()] if s["datagrams_sent"] +
                                    s["dropped_rate"] == total], "all to be decided")[0]
        most = rate + rate * (time.monotonic() - began) + 1
        assert rate <= stats["datagrams_sent"] <= most, (most, stats)
        assert sum(map(count_waiting, clients)) == stats["datagrams_sent"]
        with make_client(echod, "127.0.0.2") as other:  # has a bucket of its own
            exchange(other, echod.address(), b"me too")
        wait_until(lambda: comes_back(clients[0], echod.address(), b"again", 0.1), "new tokens")


@scenario
@in_namespace(*ETHERNET)
def an_ipv6_source_is_a_network():
    with Echod("--udp-rate=1", "udp://*:0") as echod:
        address = ("fd00::1", echod.address()[1])
        with make_client(echod, "fd00::1") as first, make_client(echod, "fd00::2") as same, \
                make_client(echod, "fd00:0:0:1::1") as other:
            exchange(first, address, b"first")
            exchange(other, address, b"of another network")
            same.sendto(b"of the same", address)
            first.sendto(b"and again", address)
            stats = wait_until(lambda: [s for s in [echod.stats()] if
                                        s["datagrams_received"] == 4], "all to be received")[0]
            assert stats["dropped_rate"] >= 1, stats


@scenario
def without_a_rate_nobody_is_limited():
    with Echod("--udp-rate=0", "udp://127.0.0.1:0") as echod, make_client(echod) as client:
        for i in range(3000):
            exchange(client, echod.address(), b"%d" % i)
        wait_stats(echod, dropped_rate=0, datagrams_sent=3000)


@scenario
def the_default_rate_is_1000(model):
    with Echod("--model=" + model, "udp://127.0.0.1:0") as echod, make_client(echod) as client:
        began, sent = time.monotonic(), 0
        while echod.stats()["dropped_rate"] == 0:
            assert time.monotonic() - began < DEADLINE
            for _ in range(200):
                client.sendto(b"x", echod.address())
            sent += 200
        assert wait_until(lambda: [s for s in [echod.stats()] if s["datagrams_sent"] >= 1000],
                          "a thousand answers")


@scenario
def two_servers_at_one_port_fall_silent_at_once():
    with Echod("--udp-rate=0", "udp://127.0.0.1:0") as first:
        port = first.address()[1]
        with Echod("--udp-rate=0", "udp://127.0.0.2:%d" % port) as second:
            raw_datagram(second.address(), first.address(), b"and you")
            wait_stats(first, datagrams_received=1, dropped_port=1, datagrams_sent=0)
            assert second.stats()["datagrams_received"] == 0


@scenario
def two_servers_at_a_low_port_and_a_high_one_fall_silent_at_once():
    try:
        low = Echod("--udp-rate=0", "udp://127.0.0.9:7")
    except AssertionError:
        raise Skip("port 7 is root's, or taken")
    with low, Echod("--udp-rate=0", "udp://127.0.0.1:0") as high:
        raw_datagram(high.address(), low.address(), b"and you")  # goes one way, and no further
        wait_stats(high, datagrams_received=1, dropped_port=1, datagrams_sent=0)
        wait_stats(low, datagrams_received=1, datagrams_sent=1)


@scenario
def two_servers_at_high_ports_fall_silent_by_the_rate():
    with Echod("--udp-rate=25", "udp://127.0.0.1:0") as first, \
            Echod("--udp-rate=25", "udp://127.0.0.2:0") as second:
        if first.address()[1] == second.address()[1]:
            raise Skip("by chance at one port")
        raw_datagram(second.address(), first.address(), b"and you")
        wait_until(lambda: first.stats()["dropped_rate"] + second.stats()["dropped_rate"] == 1,
                   "one to be dropped, which was the only one")
        sent = first.stats()["datagrams_sent"], second.stats()["datagrams_sent"]
        assert min(sent) >= 24 and sum(sent) >= 50, sent
        time.sleep(0.2)  # nothing circles any more
        assert sent == (first.stats()["datagrams_sent"], second.stats()["datagrams_sent"])


@scenario
def a_worker_that_was_killed_is_replaced():
    with Echod("-w", "2", "--udp-rate=0", "udp://127.0.0.1:0") as echod:
        clients = [make_client(echod) for _ in range(16)]
        for i, client in enumerate(clients):
            exchange(client, echod.address(), b"before %d" % i)
        wait_stats(echod, datagrams_sent=16)
        victim = echod.workers()[0]
        os.kill(victim, signal.SIGKILL)
        for i, client in enumerate(clients):
            wait_until(lambda: comes_back(client, echod.address(), b"meanwhile", 0.1), "an answer")
        echod.wait_line("worker-started", 3)
        for client in clients:
            count_waiting(client)
            exchange(client, echod.address(), b"after")
        stats = echod.stats()
        assert stats["worker_restarts"] == 1 and stats["datagrams_received"] >= 48, stats
        assert echod.stop() == 0


@scenario
def each_worker_has_a_share_of_the_clients():
    with Echod("-w", "2", "udp://127.0.0.1:0") as echod:
        stopped = echod.workers()[0]
        clients = [make_client(echod) for _ in range(32)]
        suspend(stopped)
        for client in clients:
            client.sendto(b"hello", echod.address())
        wait_until(lambda: echod.stats()["datagrams_sent"] > 0, "the other worker's answers")
        time.sleep(0.2)
        served = sum(map(count_waiting, clients))
        assert 0 < served < 32, served
        os.kill(stopped, signal.SIGCONT)
        wait_stats(echod, datagrams_sent=32)
        assert served + sum(map(count_waiting, clients)) == 32


@scenario
def a_drain_answers_what_is_queued(model):
    with Echod("--model=" + model, "-w", "2", "udp://127.0.0.1:0") as echod:
        workers = echod.workers() if model == "process" else [echod.pid]
        clients = [make_client(echod) for _ in range(10)]
        address = echod.address()
        for pid in workers:
            suspend(pid)
        for i in range(40):  # more than one event takes in
            for client in clients:
                client.sendto(b"queued %02d" % i, address)
        echod.signal(signal.SIGTERM)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert echod.wait() == 0
        for client in clients:
            got = [client.recv(100) for _ in range(40)]
            assert got == [b"queued %02d" % i for i in range(40)], got
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.connect(address)
            late.send(b"late")
            late.settimeout(DEADLINE)
            try:
                raise AssertionError("answered: %r" % late.recv(100))
            except ConnectionRefusedError:
                pass


@scenario
def a_drain_ends_under_a_flood(model):
    with Echod("--model=" + model, "--udp-rate=0", "udp://127.0.0.1:0") as echod:
        stopped = threading.Event()

        def flood():
            with make_client(echod) as client:
                while not stopped.is_set():
                    client.sendto(b"flood", echod.address())

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            wait_until(lambda: echod.stats()["datagrams_sent"] > 1000, "the flood")
            assert echod.stop() == 0
        finally:
            stopped.set()
            thread.join()


@scenario
def tcp_is_served_under_a_flood():
    with Echod("--udp-rate=0", "udp://127.0.0.1:0", "tcp://127.0.0.1:0") as echod:
        stopped = threading.Event()

        def flood():
            with make_client(echod) as client:
                while not stopped.is_set():
                    client.sendto(b"x" * 8000, echod.address(0))

        threads = [threading.Thread(target=flood) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            with echod.connect(1) as client:
                for i in range(100):
                    echo(client, b"message %d" % i)
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


@scenario
def clients_that_are_gone_do_no_harm(model):
    with Echod("--model=" + model, "--udp-rate=0", "udp://127.0.0.1:0") as echod:
        with make_client(echod) as client:  # first: one that came later might have a port of theirs
            for _ in range(50):
                with make_client(echod) as other:
                    other.sendto(b"gone", echod.address())
            exchange(client, echod.address(), b"still here")
        wait_stats(echod, datagrams_received=51)
        assert echod.lines("worker-died") == []


@scenario
def memory_is_bounded_whatever_comes():
    with Echod("-w", "2", "--udp-rate=0", *["udp://127.0.0.1:0"] * 8) as echod:
        before = memory_kib(echod.processes())
        clients = [make_client(echod) for _ in range(8)]
        for i in range(400):
            for index, client in enumerate(clients):
                client.sendto(b"x" * LARGEST, echod.address(index))
            if i % 20 == 0:
                sum(map(count_waiting, clients))
        wait_until(lambda: echod.stats()["datagrams_received"] > 400, "most of them")
        grown = memory_kib(echod.processes()) - before
        if not os.environ.get("ECHOD_SANITIZED"):
            assert grown < 2 * 2.5 * 1024, "%d KiB" % grown


@scenario
def what_is_received_is_logged_when_asked_for():
    with Echod("-vv", "--udp-rate=1", "udp://127.0.0.1:0") as echod, make_client(echod) as client:
        exchange(client, echod.address(), b"line\n")
        line = echod.wait_line("received")
        assert (line.level, line["bytes"], line["data"]) == ("debug", "5", "line\n"), line
        assert line["peer"] == "127.0.0.1:%d" % client.getsockname()[1]
        assert line["endpoint"] == echod.endpoint() and "dropped" not in line.values
        for _ in range(20):
            client.sendto(b"y" * 1000, echod.address())
        line = echod.wait_line("received", dropped="rate")
        assert (line["bytes"], line["data"]) == ("1000", "y" * 256), line


@scenario
def udp_and_tcp_share_a_port_number():
    with Echod("udp://127.0.0.1:0") as first:
        port = first.address()[1]
        with Echod("tcp://127.0.0.2:%d" % port, "udp://127.0.0.2:%d" % port) as echod:
            with echod.connect() as client:
                echo(client, b"stream")
            with make_client(echod) as client:
                exchange(client, echod.address(1), b"datagram")


def fails(status, *arguments):
    """echod does not start: STATUS, and one line, which is returned."""
    done = subprocess.run([ECHOD, *arguments], capture_output=True, text=True, timeout=DEADLINE,
                          env=sanitized())
    assert done.returncode == status and done.stderr.count("\n") == 1, done
    return done.stderr


@scenario
def mistakes_are_told():
    assert "in use" in fails_beside_another("-w", "2"), "with several sockets of ours"
    assert "in use" in fails_beside_another("-w", "1")
    fails(2, "chat+udp://127.0.0.1:0")
    fails(2, "udp://127.0.0.1:9999", "udp://127.0.0.1:9999")
    fails(2, "udp://127.0.0.1:9999?proxy=10.0.0.1")
    fails(2, "--udp-rate=x", "udp://127.0.0.1:0")


def fails_beside_another(*arguments):
    with Echod(*arguments, "udp://127.0.0.1:0") as first:
        return fails(1, *arguments, first.endpoint())


def netcat(*command):
    """The answer that a real client prints to one line."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        try:
            client.stdin.write(b"hello, datagram\n")
            client.stdin.flush()
            if select.select([client.stdout], [], [], DEADLINE)[0]:
                return os.read(client.stdout.fileno(), 100)
        finally:
            client.kill()
    return b""


@scenario
def real_clients_are_answered():
    with Echod("udp://*:0") as echod:
        port = str(echod.address()[1])
        assert netcat("nc", "-u", "127.0.0.1", port) == b"hello, datagram\n"
        assert netcat("nc", "-u", "::1", port) == b"hello, datagram\n"
        assert netcat("ncat", "-u", "127.0.0.1", port) == b"hello, datagram\n"
        assert netcat("socat", "-", "UDP:127.0.0.1:" + port) == b"hello, datagram\n"
        assert netcat("socat", "-", "UDP6:[::1]:" + port) == b"hello, datagram\n"


if __name__ == "__main__":
    main()
