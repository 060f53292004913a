#!/usr/bin/env python3
"""--max-per-source and --accept-rate: a source has what it is allowed, exactly, whichever worker
accepts; what others do is nothing to it. A source is an IPv4 address, or an IPv6 network of /64."""
import contextlib
import os
import signal
import socket
import threading
import time

from harness import (Echod, connect_from, echo, in_namespace, main, needs_tls, receive_all, reset,
                     scenario, wait_until)

MORE = 50  # than are allowed
HEADER = b"PROXY TCP4 %s 198.51.100.1 4711 7777\r\n"
HEADER6 = b"PROXY TCP6 %s 2001:db8::1 4711 7777\r\n"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
# Two addresses of one network, and one of another.
NETWORKS = ["addr add fd00::1/64 dev lo nodad", "addr add fd00::2/64 dev lo nodad",
            "addr add fd00:0:0:1::1/64 dev lo nodad"]


class Crowd:
    """Clients that all come at a time, each from one of SOURCES, says PREAMBLE and then a word of
    its own: .served has those that were echoed, .refused the ports of those that were closed."""

    def __init__(self, address, *sources, preamble=b""):
        self.served, self.refused = [], []
        clients = [connect_from(source, address) for source in sources]
        for number, client in enumerate(clients):
            with contextlib.suppress(OSError):  # it shows when no echo comes
                client.sendall(preamble + b"%05d" % number)
        for number, client in enumerate(clients):
            self._look(client, b"%05d" % number)

    def _look(self, client, word):
        try:
            answer = client.recv(len(word), socket.MSG_WAITALL)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
        assert answer in (word, b""), answer
        if answer:
            self.served.append(client)
        else:
            self.refused.append(client.getsockname()[1])
            client.close()

    def counts(self):
        return len(self.served), len(self.refused)

    def leave(self, count=None, close=socket.socket.close):
        for client in self.served[:count]:
            close(client)
        del self.served[:count]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


def start(model, *options):
    return Echod("--model=" + model, "-w2", *options)


def wait_active(echod, count):
    wait_until(lambda: echod.stats()["active"] == count, "%d to be active" % count)


def refusals(echod, reason):
    """Ports of those whose refusal is in the log."""
    return sorted(int(line["peer"].rsplit(":", 1)[1])
                  for line in echod.lines("refused", reason=reason))


@scenario
def so_many_of_a_source_are_served_and_no_more(model):
    """Of N + 50 who come at once N are served, the others are told so; another source is not
    concerned, and places that come free are given again, each once."""
    most = 20
    with start(model, "-v", "--max-per-source=%d" % most) as echod:
        address = echod.address()
        with Crowd(address, *["127.0.0.1"] * (most + MORE)) as crowd:
            assert crowd.counts() == (most, MORE), crowd.counts()
            stats = echod.stats()
            assert stats["accepted"] == stats["active"] == most, stats
            assert stats["refused_max-per-source"] == MORE, stats
            assert refusals(echod, "max-per-source") == sorted(crowd.refused)
            assert {line.level for line in echod.lines("refused")} == {"info"}
            with Crowd(address, *["127.0.0.2"] * (most + 1)) as other:
                assert other.counts() == (most, 1), other.counts()
            for leavers, close in (1, socket.socket.close), (7, reset), (most - 8, reset):
                wait_active(echod, most)
                crowd.leave(leavers, close)
                wait_active(echod, most - leavers)
                with Crowd(address, *["127.0.0.1"] * most) as late:
                    assert late.counts() == (leavers, most - leavers), late.counts()
                    crowd.served += late.served
                    late.served = []
            for client in crowd.served:
                echo(client, b"still here")
        assert echod.stop() == 0


@scenario
def places_of_a_worker_that_was_killed_come_back():
    """Whoever was the dead worker's has gone, and so many may come: no more, no fewer."""
    most = 24
    with start("process", "--max-per-source=%d" % most) as echod:
        for crash in range(1, 4):
            with Crowd(echod.address(), *["127.0.0.1"] * 3 * most) as crowd:
                assert crowd.counts() == (most, 2 * most), (crash, crowd.counts())
                os.kill(echod.workers()[0], signal.SIGKILL)
                echod.wait_line("worker-died", crash)
                left = int(echod.stats()["active"])
                with Crowd(echod.address(), *["127.0.0.1"] * 2 * most) as late:
                    assert len(late.served) == most - left, (crash, left, late.counts())
                echod.wait_line("worker-started", 2 + crash)
            wait_active(echod, 0)
        assert echod.stop() == 0


@scenario
def workers_that_are_killed_in_a_rush_leave_no_place_taken():
    """While clients come and go as fast as they can: when all are gone, so many may come."""
    most, over = 20, threading.Event()

    def rush(address):
        while not over.is_set():
            clients = [connect_from("127.0.0.1", address) for _ in range(10)]
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"x")
                reset(client)

    with start("process", "--max-per-source=%d" % most) as echod:
        threads = [threading.Thread(target=rush, args=(echod.address(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for crash in range(1, 5):
                os.kill(echod.workers()[0], signal.SIGKILL)
                echod.wait_line("worker-started", 2 + crash)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        wait_active(echod, 0)
        with Crowd(echod.address(), *["127.0.0.1"] * 3 * most) as crowd:
            assert crowd.counts() == (most, 2 * most), crowd.counts()
        assert echod.stop() == 0


@scenario
def who_leaves_in_whatever_way_gives_its_place_back(model):
    """Resets at once, ends before a byte, and clients that were refused leave nothing behind."""
    with start(model, "--max-per-source=5") as echod:
        address = echod.address()
        for number in range(300):
            client = connect_from("127.0.0.1", address)
            if number % 3:
                with contextlib.suppress(OSError):
                    client.sendall(b"x" * number)
            (reset if number % 2 else socket.socket.close)(client)
        with echod.connect() as last:  # those before it have been accepted, at this worker's socket
            receive_or_reset(last)
        wait_until(lambda: sum(echod.stats()[key] for key in (
            "accepted", "refused_max-per-source")) >= 301, "all to be decided")
        wait_active(echod, 0)
        with Crowd(address, *["127.0.0.1"] * 25) as crowd:
            assert crowd.counts() == (5, 20), crowd.counts()
        assert echod.stop() == 0


def receive_or_reset(client):
    """Says that all has been said, and waits for the end, whichever it is."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        receive_all(client)


@scenario
def handshakes_count_and_give_back(model):
    """A client that is not through its handshake has a place, until that is cut."""
    needs_tls()
    with start(model, "--max-per-source=3", "--handshake-timeout=1", "--tls-self-signed",
               "tls://127.0.0.1:0", "tcp://127.0.0.1:0") as echod:
        for _ in range(2):
            silent = [echod.connect() for _ in range(3)]
            wait_active(echod, 3)
            with Crowd(echod.address(1), *["127.0.0.1"] * 2) as crowd:  # all endpoints together
                assert crowd.counts() == (0, 2), crowd.counts()
            for client in silent:
                receive_or_reset(client)
            wait_active(echod, 0)
            with Crowd(echod.address(1), *["127.0.0.1"] * 5) as crowd:
                assert crowd.counts() == (3, 2), crowd.counts()
            wait_active(echod, 0)


@scenario
@in_namespace(*NETWORKS)
def a_network_of_64_bits_is_one_source():
    with Echod("-w2", "--max-per-source=10", "tcp://*:0") as echod:
        address = "fd00::1", echod.address()[1]
        same = ["fd00::1", "fd00::2"] * 15
        with Crowd(address, *same) as first, \
                Crowd(address, *["fd00:0:0:1::1"] * 11) as other, \
                Crowd(("127.0.0.1", address[1]), *["127.0.0.1"] * 11) as third:
            assert first.counts() == (10, 20), first.counts()
            assert other.counts() == third.counts() == (10, 1), (other.counts(), third.counts())
    with Echod("-w2", "--accept-rate=10", "tcp://*:0") as echod:
        address = "fd00::1", echod.address()[1]
        check_burst(10, lambda: Crowd(address, *same))
        with Crowd(address, "fd00:0:0:1::1") as other:
            assert other.counts() == (1, 0)


@scenario
def behind_a_load_balancer_the_named_client_counts(model):
    """The load balancer's own address does not, nor do its own connections: LOCAL."""
    with start(model, "-v", "--max-per-source=4", "--proxy-protocol=127.0.0.1",
               "tcp://127.0.0.1:0", "tcp://127.0.0.1:0?proxy=off") as echod:
        def come(count, preamble):
            return Crowd(echod.address(), *["127.0.0.1"] * count, preamble=preamble)

        with come(7, HEADER % b"192.0.2.7") as one, come(5, HEADER % b"192.0.2.8") as two, \
                come(3, HEADER6 % b"2001:db8::1") as three, \
                come(3, HEADER6 % b"2001:db8::2") as four, \
                come(12, LOCAL) as local, come(12, b"PROXY UNKNOWN\r\n") as unknown:
            assert (one.counts(), two.counts()) == ((4, 3), (4, 1)), (one.counts(), two.counts())
            assert (three.counts(), four.counts()) == ((3, 0), (1, 2)), four.counts()
            assert local.counts() == unknown.counts() == (12, 0), (local.counts(),
                                                                   unknown.counts())
            refused = echod.lines("refused", peer="192.0.2.7:4711", reason="max-per-source")
            assert {int(line["via"].rsplit(":", 1)[1]) for line in refused} == set(one.refused)
            with Crowd(echod.address(1), *["127.0.0.1"] * 5) as direct:
                assert direct.counts() == (4, 1), direct.counts()
            one.leave(2)
            wait_until(lambda: len(echod.lines("closed", peer="192.0.2.7:4711", reason="eof")) == 2,
                       "two to have gone")
            with come(4, HEADER % b"192.0.2.7") as late:
                assert late.counts() == (2, 2), late.counts()
        assert echod.stop() == 0


@scenario
def the_named_client_counts_as_if_it_came_directly():
    with Echod("--max-per-source=2", "--proxy-protocol=127.0.0.1", "tcp://127.0.0.1:0",
               "tcp://127.0.0.1:0?proxy=off") as echod:
        with Crowd(echod.address(1), "127.0.0.9") as direct, \
                Crowd(echod.address(), *["127.0.0.1"] * 3, preamble=HEADER % b"127.0.0.9") as named:
            assert direct.counts() == (1, 0) and named.counts() == (1, 2), named.counts()
            mapped = HEADER6 % b"::ffff:127.0.0.9"
            with Crowd(echod.address(), "127.0.0.1", preamble=mapped) as same:
                assert same.counts() == (0, 1), "the same address, mapped"


@scenario
def who_waits_for_a_slot_is_not_refused(model):
    """Beside --max-connections: sources that have their share do not take a slot more."""
    with start(model, "--max-connections=4", "--max-per-source=2") as echod:
        address = echod.address()
        with Crowd(address, *["127.0.0.1"] * 3) as first:
            with Crowd(address, *["127.0.0.2"] * 2) as second:
                assert first.counts() == (2, 1) and second.counts() == (2, 0), first.counts()
                with connect_from("127.0.0.3", address) as third:
                    third.sendall(b"hello")
                    echod.wait_line("paused", reason="max-connections")
                    first.leave(1)
                    assert third.recv(5, socket.MSG_WAITALL) == b"hello"
                    assert echod.stats()["active"] == 4
                    for client in second.served:
                        echo(client, b"still here")


@scenario
def unix_sockets_have_no_source(model):
    name = "@echod-sources-%d" % os.getpid()
    with start(model, "--max-per-source=1", "--accept-rate=1", "unix://" + name) as echod:
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect("\0" + name[1:])
                echo(client, b"hello")
        assert echod.stop() == 0


def check_burst(rate, come):
    """Of those who COME, more than RATE, RATE are served, and at most as many more as time allows;
    returns the crowd, which has left."""
    began = time.monotonic()
    with come() as crowd:
        most = rate + rate * (time.monotonic() - began) + 1
        assert rate <= len(crowd.served) <= most, (most, crowd.counts())
    return crowd


@scenario
def a_source_connects_so_often_and_no_more(model):
    """A burst of N is served, then N a second, over all workers; others come as they like."""
    rate = 30
    with start(model, "-v", "--accept-rate=%d" % rate) as echod:
        address = echod.address()
        crowd = check_burst(rate, lambda: Crowd(address, *["127.0.0.1"] * (rate + MORE)))
        assert len(crowd.refused) > 0, "so slow that nothing was tried"
        assert refusals(echod, "accept-rate") == sorted(crowd.refused)
        assert echod.stats()["refused_accept-rate"] == len(crowd.refused)
        with Crowd(address, *["127.0.0.2"] * rate) as other:
            assert other.counts() == (rate, 0), other.counts()

        def come_again():
            with Crowd(address, "127.0.0.1") as crowd:
                return len(crowd.served)

        wait_until(come_again, "another one to be served")
        time.sleep(1.1)  # until the bucket is full again: a burst, not more than one
        check_burst(rate, lambda: Crowd(address, *["127.0.0.1"] * (rate + MORE)))
        assert echod.stop() == 0


@scenario
def the_rate_holds_behind_a_load_balancer(model):
    with start(model, "--accept-rate=10", "--proxy-protocol=127.0.0.1") as echod:
        def come(count, preamble):
            return Crowd(echod.address(), *["127.0.0.1"] * count, preamble=preamble)

        check_burst(10, lambda: come(10 + MORE, HEADER % b"192.0.2.7"))
        for preamble in HEADER % b"192.0.2.8", HEADER6 % b"2001:db8::8":
            with come(10, preamble) as other:
                assert other.counts() == (10, 0), other.counts()
        with come(10 + MORE, LOCAL) as local:
            assert local.counts() == (10 + MORE, 0), local.counts()


@scenario
def whoever_is_refused_for_its_rate_takes_no_place(model):
    with start(model, "--accept-rate=5", "--max-per-source=100") as echod:
        address = echod.address()
        for _ in range(100):
            connect_from("127.0.0.1", address).close()
        wait_until(lambda: echod.stats()["accepted"] + echod.stats()["refused_accept-rate"] >= 100,
                   "all to be decided")
        wait_active(echod, 0)
        stats = echod.stats()
        assert stats["refused_max-per-source"] == 0 and stats["refused_accept-rate"] > 0, stats


if __name__ == "__main__":
    main()
