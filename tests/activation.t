#!/usr/bin/env python3
"""Sockets that a service manager passes, and what it is told: systemd-socket-activate, and a
manager that is played here."""
import contextlib
import functools
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

from harness import (DEADLINE, ECHOD, SANITIZERS, Echod, Skip, echo, main, needs_tls, receive_all,
                     scenario, stuff, suspend, wait_until)

# What a TMPDIR of any length leaves room for.
DIRECTORY = tempfile.TemporaryDirectory(prefix="echod-activation.", dir="/tmp")
CONFIG = os.path.join(os.path.dirname(ECHOD), "..", "config.h")


def fresh_path():
    """A path at which there is nothing."""
    return os.path.join(tempfile.mkdtemp(dir=DIRECTORY.name), "s")


def is_defined(name):
    """Does this build have it? Yes, unless it says no."""
    try:
        with open(CONFIG) as config:
            return "/* #undef %s */" % name not in config.read()
    except FileNotFoundError:
        return True


def needs_activation(function):
    """The scenario is skipped in a build without libsystemd."""
    @functools.wraps(function)
    def checked(**named):
        if not is_defined("HAVE_LIBSYSTEMD"):
            raise Skip("built without libsystemd")
        function(**named)
    return checked


def listen(host="127.0.0.1", family=socket.AF_INET):
    """A listening socket as systemd makes it: blocking."""
    if family == socket.AF_UNIX:
        one = socket.socket(family)
        one.bind(host)
    else:
        one = socket.socket(family)
        one.bind((host, 0))
    one.listen(128)
    return one


def datagram(host="127.0.0.1", family=socket.AF_INET):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind((host, 0))
    return one


def listen_dual(kind=socket.SOCK_STREAM):
    """One socket for IPv6 and IPv4, at all addresses."""
    try:
        one = socket.socket(socket.AF_INET6, kind)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(("::", 0))
    except OSError:
        raise Skip("this machine lacks IPv6")
    if kind == socket.SOCK_STREAM:
        one.listen(128)
    return one


def connect(address):
    """ADDRESS as getsockname gives it."""
    client = socket.socket(socket.AF_UNIX if isinstance(address, (str, bytes)) else socket.AF_INET)
    client.settimeout(DEADLINE)
    client.connect(address)
    return client


def exchange(address, data):
    """DATA as a datagram to ADDRESS, which has to answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE)
        client.bind(("127.0.0.1", 0))
        client.sendto(data, address)
        assert client.recvfrom(65536) == (data, address)


def endpoints(echod):
    return [line["endpoint"] for line in echod.lines("listening")]


# systemd-socket-activate: starts the daemon in its own place when the first client has come.

def free_port(kind=socket.SOCK_STREAM):
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def activate(options, make_addresses, *arguments):
    """systemd-socket-activate with OPTIONS, which listens at what MAKE_ADDRESSES gives; it is
    tried again where one was taken meanwhile. Returns the daemon and the addresses."""
    if shutil.which("systemd-socket-activate") is None:
        raise Skip("systemd-socket-activate is not installed")
    kept = ["-E%s=%s" % pair for pair in SANITIZERS.items()]
    for _ in range(10):
        addresses = make_addresses()
        at = [word for one in addresses for word in ("-l", one)]
        echod = Echod(*arguments, ready=False,
                      launcher=["systemd-socket-activate", *kept, *options, *at])
        wait_until(lambda: echod.closed or
                   sum("Listening on" in line for line in echod.raw) == len(addresses),
                   "systemd-socket-activate")
        if not echod.closed:
            return echod, addresses
        echod.kill()
    raise AssertionError("no free port: %s" % echod.raw)


def tcp_addresses(count):
    return lambda: ["127.0.0.1:%d" % free_port() for _ in range(count)]


def address_of(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


@scenario
@needs_activation
def systemd_socket_activate_passes_a_stream(model):
    echod, (at,) = activate([], tcp_addresses(1), "--model=" + model, "-w4")
    with echod:
        clients = [connect(address_of(at)) for _ in range(40)]
        for _ in range(2):
            for client in clients:
                echo(client, b"hello")
        echod.wait_line("ready", workers=4)
        assert endpoints(echod) == ["tcp://" + at]
        for client in clients:
            client.close()
        assert echod.stop() == 0
        assert not echod.lines(level="error")


@scenario
@needs_activation
def systemd_socket_activate_passes_a_path(model):
    path = fresh_path()
    echod, _ = activate([], lambda: [path], "--model=" + model, "-w2")
    with echod:
        with connect(path) as client:
            echo(client, b"hello")
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""
        echod.wait_line("ready")
        assert endpoints(echod) == ["unix://" + path]
        assert echod.stop() == 0
    assert os.path.lexists(path), "it is the manager's"


@scenario
@needs_activation
def systemd_socket_activate_passes_datagrams(model):
    echod, (at,) = activate(["--datagram"],
                            lambda: ["127.0.0.1:%d" % free_port(socket.SOCK_DGRAM)],
                            "--model=" + model, "-w4")
    with echod:
        for size in (0, 1, 1472, 65507):
            exchange(address_of(at), b"x" * size)
        echod.wait_line("ready")
        assert endpoints(echod) == ["udp://" + at]
        assert echod.stop() == 0


@scenario
@needs_activation
def systemd_socket_activate_gives_names():
    if not is_defined("HAVE_OPENSSL"):
        raise Skip("built without TLS")
    echod, at = activate(["--fdname=echo:echo+tls:echod.socket:echo+tcp"], tcp_addresses(4),
                         "--tls-self-signed")
    with echod:
        for index in (0, 2, 3):
            with connect(address_of(at[index])) as client:
                echo(client, b"hello")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(connect(address_of(at[1]))) as client:
            echo(client, b"hello")
        assert endpoints(echod) == ["tcp://" + at[0], "tls://" + at[1], "tcp://" + at[2],
                                    "tcp://" + at[3]]
        assert echod.stop() == 0


def says(echod):
    """What a daemon says that cannot start: one line."""
    line, = [text for text in echod.raw if text.startswith("echod: ")]
    return line


@scenario
@needs_activation
def a_connected_socket_is_refused():
    """Accept=yes: a daemon for each connection, which is none of ours."""
    echod, (at,) = activate(["--accept"], tcp_addresses(1))
    with echod:
        with connect(address_of(at)) as client:
            with contextlib.suppress(ConnectionResetError):
                assert receive_all(client) == b""
        wait_until(lambda: any("died with code 1" in text for text in echod.raw), "the end")
        assert says(echod) == ("echod: a connected socket (Accept=yes) is not served, only a "
                               "listening one: descriptor 3, named unknown")
        echod.signal(signal.SIGTERM)
        echod.process.wait(DEADLINE)


# A manager that is played here.

def refuses(passed, names=None, *arguments, status=1):
    """What a daemon says to that."""
    with Echod(*arguments, passed=passed, names=names, ready=False) as echod:
        assert echod.wait() == status, echod.raw
        assert len(echod.raw) == 1, echod.raw
        return echod.raw[0]


@scenario
@needs_activation
def what_cannot_be_served_is_one_line():
    pair, other = socket.socketpair()
    unbound = socket.socket()
    spoken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    spoken.connect(("127.0.0.1", 9))
    sequence = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sequence.bind(fresh_path())
    sequence.listen()
    local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    local.bind(fresh_path())
    fifo = open(os.pipe()[0], "rb")
    connected = "a connected socket (Accept=yes) is not served, only a listening one"
    other_kind = "neither a TCP, a UDP nor a unix stream socket"
    with listen() as good:
        for bad, what in ((pair, connected), (spoken, connected), (unbound, "not a listening socket"),
                          (sequence, other_kind), (local, other_kind), (fifo, "not a socket")):
            assert refuses([bad], "echo") == "echod: %s: descriptor 3, named echo" % what
            assert refuses([good, bad]) == "echod: %s: descriptor 4, named unknown" % what
    other.close()


@scenario
@needs_activation
def a_name_that_contradicts_is_one_line():
    contradiction = "not a socket of the transport that its name says"
    path = fresh_path()
    with listen() as tcp, datagram() as udp, listen(path, socket.AF_UNIX) as unix:
        for one, name, what in ((tcp, "echo+udp", contradiction), (tcp, "echo+unix", contradiction),
                                (udp, "echo+tcp", contradiction), (udp, "echo+tls", contradiction),
                                (unix, "echo+tcp", contradiction),
                                (unix, "echo+tls", contradiction),
                                (unix, "tls", contradiction), (udp, "tls", contradiction),
                                (tcp, "echo+tsl", "unknown transport"),
                                (tcp, "ecko+tcp", "unknown service"),
                                (unix, "metrics", "metrics are served at a TCP socket only"),
                                (udp, "metrics", "metrics are served at a TCP socket only"),
                                (udp, "chat", "only echo is served over udp")):
            assert refuses([one], name) == "echod: %s: descriptor 3, named %s" % (what, name)
        wrong = refuses([tcp], "echo+tls", status=2)
        assert wrong in ("echod: built without TLS: descriptor 3, named echo+tls",
                         "echod: neither --tls-cert nor --tls-self-signed is given: "
                         "descriptor 3, named echo+tls"), wrong


@scenario
@needs_activation
def what_is_said_has_to_be_true():
    with listen() as one:
        for variables in ({"LISTEN_FDS": "x"}, {"LISTEN_FDNAMES": "a:b"}, {"LISTEN_FDS": "9"}):
            with Echod(passed=[one], environment=variables, ready=False) as echod:
                assert echod.wait() == 1
                assert len(echod.raw) == 1 and echod.raw[0].endswith(": LISTEN_FDS"), echod.raw
            with Echod("--help", passed=[one], environment=variables, ready=False) as echod:
                assert echod.wait() == 0 and not echod.raw


@scenario
@needs_activation
def sockets_of_another_process_are_not_ours():
    with listen() as one:
        with Echod("tcp://127.0.0.1:0", passed=[one], environment={"LISTEN_PID": "1"}) as echod:
            assert len(endpoints(echod)) == 1
            assert endpoints(echod)[0] != "tcp://127.0.0.1:%d" % one.getsockname()[1]


@scenario
@needs_activation
def every_name_that_says_nothing_is_echo():
    path, names = fresh_path(), "echo:echod.socket:udp:unknown:echo+unix:unix"
    sockets = [listen(), listen(), listen(), datagram(), listen(path, socket.AF_UNIX),
               listen("\0echod/activation-%d" % os.getpid(), socket.AF_UNIX)]
    with Echod(passed=sockets, names=names) as echod:
        wanted = ["tcp://127.0.0.1:%d" % one.getsockname()[1] for one in sockets[:3]]
        wanted += ["udp://127.0.0.1:%d" % sockets[3].getsockname()[1], "unix://" + path,
                   "unix://@echod/activation-%d" % os.getpid()]
        assert endpoints(echod) == wanted
        exchange(sockets[3].getsockname(), b"hello")
        for one in sockets[:3] + sockets[4:]:
            with connect(one.getsockname()) as client:
                echo(client, b"hello")
        assert echod.stop() == 0
    assert os.path.lexists(path)


@scenario
@needs_activation
def blocking_sockets_stop_no_worker(model):
    """All workers wake for a client, and all but one get nothing."""
    with listen() as tcp, datagram() as udp:
        assert tcp.getblocking() and udp.getblocking()
        with Echod("--model=" + model, "-w4", passed=[tcp, udp]) as echod:
            clients = []
            for _ in range(100):
                clients.append(connect(tcp.getsockname()))
                echo(clients[-1], b"hello")
                exchange(udp.getsockname(), b"hello")
            for client in clients:
                echo(client, b"still there")
                client.close()
            assert echod.stop() == 0


@scenario
@needs_activation
def the_command_line_is_served_too(model):
    with listen() as passed:
        with Echod("--model=" + model, "-w2", "127.0.0.1:0", passed=[passed]) as echod:
            assert len(endpoints(echod)) == 2
            assert "tcp://127.0.0.1:%d" % passed.getsockname()[1] in endpoints(echod)
            for index in range(2):
                with echod.connect(index) as client:
                    echo(client, b"hello")
            assert echod.stop() == 0


@scenario
@needs_activation
def what_was_passed_is_taken(model):
    """On the command line as well, it is in use."""
    with listen() as passed:
        at = "tcp://127.0.0.1:%d" % passed.getsockname()[1]
        assert refuses([passed], None, "--model=" + model, at) == \
            "echod: Address already in use: " + at


@scenario
@needs_activation
def a_socket_for_both_families():
    with listen_dual() as tcp, listen_dual(socket.SOCK_DGRAM) as udp:
        with Echod("-vv", "-w2", passed=[tcp, udp]) as echod:
            port = tcp.getsockname()[1]
            assert endpoints(echod) == ["tcp://[::]:%d" % port,
                                        "udp://[::]:%d" % udp.getsockname()[1]]
            with connect(("127.0.0.1", port)) as client:
                echo(client, b"hello")
                echod.wait_line("accepted", peer="127.0.0.1:%d" % client.getsockname()[1])
            with socket.create_connection(("::1", port), DEADLINE) as client:
                echo(client, b"hello")
                echod.wait_line("accepted", peer="[::1]:%d" % client.getsockname()[1])
            for host in ("127.0.0.1", "127.0.0.2"):
                exchange((host, udp.getsockname()[1]), b"hello")
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(DEADLINE)
                client.sendto(b"hello", ("::1", udp.getsockname()[1]))
                answer, source = client.recvfrom(100)
                assert (answer, source[0]) == (b"hello", "::1"), (answer, source)


@scenario
@needs_activation
def accepted_sockets_have_our_options():
    """Keepalive is set on what was passed, for connections to inherit."""
    with listen() as passed:
        with Echod(passed=[passed]):
            for name, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_NODELAY, 1)):
                assert passed.getsockopt(socket.IPPROTO_TCP, name) == value


def passed_pair():
    """A socket of each family that has a queue."""
    return [listen(), listen(fresh_path(), socket.AF_UNIX)]


@scenario
@needs_activation
def a_queue_waits_for_the_next_instance(model):
    """A connection has the only slot, one has been accepted and waits for it; the others are
    queued, and stay so at the drain."""
    for passed in passed_pair():
        with Echod("--model=" + model, "-w2", "-m1", passed=[passed]) as first:
            served = connect(passed.getsockname())
            echo(served, b"hello")
            queued = [connect(passed.getsockname()) for _ in range(20)]
            for client in queued:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
            answers, readers = [], []
            for client in queued:
                readers.append(threading.Thread(
                    target=lambda c=client: answers.append(receive_all(c))))
                readers[-1].start()
            first.wait_line("paused", reason="max-connections")
            first.signal(signal.SIGTERM)
            assert receive_all(served) == b""
            served.close()
            assert first.wait() == 0
            mine = int(first.lines("drained")[0]["drained"])
            assert 2 <= mine <= 4, mine  # a worker at most accepts one that has to wait
        with Echod("--model=" + model, "-w2", passed=[passed]) as second:
            for reader in readers:
                reader.join()
            assert answers == [b"hello"] * 20, answers
            for client in queued:
                client.close()
            wait_until(lambda: second.stats()["accepted"] == 21 - mine, "the rest")
            assert second.stop() == 0
        passed.close()


@scenario
@needs_activation
def nobody_is_lost_between_instances(model):
    """Clients come all the time, while three instances take turns."""
    for passed in passed_pair():
        failures, served, is_over = [], [0], threading.Event()

        def come():
            try:
                while not is_over.is_set():
                    with connect(passed.getsockname()) as client:
                        client.sendall(b"hello")
                        client.shutdown(socket.SHUT_WR)
                        assert receive_all(client) == b"hello"
                        served[0] += 1
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                before = served[0]
                with Echod("--model=" + model, "-w2", passed=[passed]) as echod:
                    wait_until(lambda: failures or served[0] > before + 20, "clients")
                    assert echod.stop() == 0
            is_over.set()
            with Echod("--model=" + model, passed=[passed]) as echod:
                for thread in threads:
                    thread.join(DEADLINE)
                assert echod.stop() == 0
        finally:
            is_over.set()
        assert not failures, failures
        passed.close()


@scenario
@needs_activation
def a_worker_that_dies_is_replaced():
    with listen() as passed:
        with Echod("-w2", passed=[passed]) as echod:
            for pid in echod.workers():
                os.kill(pid, signal.SIGKILL)
            for _ in range(20):
                with connect(passed.getsockname()) as client:
                    echo(client, b"hello")
            echod.wait_line("worker-died", 2)
            assert echod.stop() == 0


# What the manager is told.

class Manager:
    """Hears what it is told: .variables are for the environment, .messages what came."""

    def __init__(self, name, **variables):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.settimeout(DEADLINE)
        self.variables = {"NOTIFY_SOCKET": name.replace("\0", "@"), **variables}
        self.messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def hear(self):
        """The next message, as its assignments."""
        text = self.socket.recv(4096).decode()
        self.messages.append(dict(line.split("=", 1) for line in text.splitlines()))
        return self.messages[-1]

    def wait(self, **values):
        """The next message with these VALUES."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            message = self.hear()
            if values.items() <= message.items():
                return message
        raise AssertionError("no %s in %s" % (values, self.messages))


def manager_names():
    return [fresh_path(), "\0echod/manager-%d" % os.getpid()]


@scenario
def ready_is_when_every_worker_serves(model):
    for name in manager_names():
        with Manager(name) as manager, tempfile.TemporaryFile() as log:
            with Echod("--model=" + model, "-w4", ready=False, stderr=log,
                       environment=manager.variables) as echod:
                assert manager.hear() == {"READY": "1", "STATUS": "Serving, 0 connections"}
                log.seek(0)
                assert len(re.findall(rb" worker-started ", log.read())) == 4
                echod.signal(signal.SIGTERM)
                assert manager.hear() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "11000000",
                                          "STATUS": "Draining, 0 connections"}
                assert echod.process.wait(DEADLINE) == 0


@scenario
def a_start_that_fails_is_not_ready():
    with Manager(fresh_path()) as manager:
        with Echod("unix:///nowhere/at/all", ready=False, environment=manager.variables) as echod:
            assert echod.wait() == 1
        manager.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(manager.hear())


@scenario
def the_status_has_the_connections(model):
    with Manager(fresh_path()) as manager:
        with Echod("--model=" + model, "-w2", environment=manager.variables) as echod:
            clients = [echod.connect() for _ in range(3)]
            for client in clients:
                echo(client, b"hello")
            manager.wait(STATUS="Serving, 3 connections")
            for client in clients[1:]:
                client.close()
            manager.wait(STATUS="Serving, 1 connection")
            clients[0].sendall(b"x")  # so that it is not quiet, and the drain waits
            echod.signal(signal.SIGTERM)
            message = manager.wait(STOPPING="1")
            assert message["STATUS"] == "Draining, 1 connection", message
            assert receive_all(clients[0]) == b"x"
            clients[0].close()
            assert echod.wait() == 0


@scenario
def a_hangup_is_answered(model):
    """As Type=notify-reload has it."""
    with Manager(fresh_path()) as manager:
        with Echod("--model=" + model, environment=manager.variables) as echod:
            manager.wait(READY="1")
            for _ in range(3):
                before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                echod.signal(signal.SIGHUP)
                message = manager.wait(RELOADING="1")
                after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                assert before <= int(message["MONOTONIC_USEC"]) <= after, message
                assert manager.hear()["READY"] == "1"
            assert echod.stop() == 0


@scenario
def a_reload_is_done_when_every_worker_serves_with_it():
    """Not before; a file that is wrong is answered at once."""
    needs_tls()
    with tempfile.TemporaryDirectory() as directory, Manager(fresh_path()) as manager:
        chain = os.path.join(directory, "chain.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                        "/CN=echod", "-keyout", chain, "-out", chain], check=True,
                       stderr=subprocess.DEVNULL)
        with Echod("-w2", "--tls-cert=" + chain, "tls://127.0.0.1:0",
                   environment=manager.variables) as echod:
            manager.wait(READY="1")
            suspended = echod.workers()[0]
            suspend(suspended)
            echod.signal(signal.SIGHUP)
            manager.wait(RELOADING="1")
            manager.socket.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                raise AssertionError(manager.hear())
            manager.socket.settimeout(DEADLINE)
            os.kill(suspended, signal.SIGCONT)
            assert manager.hear()["READY"] == "1"
            echod.wait_line("reloaded")
            os.unlink(chain)
            echod.signal(signal.SIGHUP)
            manager.wait(RELOADING="1")
            assert manager.hear()["READY"] == "1"
            echod.wait_line("reload-failed")
            assert echod.stop() == 0


@scenario
def the_watchdog_is_fed():
    with Manager(fresh_path(), WATCHDOG_USEC="100000") as manager:
        with Echod(environment=manager.variables) as echod:
            for _ in range(5):
                manager.wait(WATCHDOG="1")
            assert echod.stop() == 0


@scenario
def the_watchdog_of_another_process_is_not():
    with Manager(fresh_path(), WATCHDOG_USEC="1000", WATCHDOG_PID="1") as manager:
        with Echod(environment=manager.variables) as echod:
            with echod.connect() as client:
                echo(client, b"hello")
                manager.wait(STATUS="Serving, 1 connection")
            assert echod.stop() == 0
            manager.wait(STOPPING="1")
            assert not any("WATCHDOG" in message for message in manager.messages)


@scenario
def a_manager_that_does_not_listen_holds_nobody_up():
    """Its queue is full, at a handful of messages."""
    with Manager(fresh_path(), WATCHDOG_USEC="2000") as manager:
        with Echod("-w2", environment=manager.variables) as echod:
            def is_full():
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                    other.setblocking(False)
                    try:
                        other.sendto(b"X=1", manager.variables["NOTIFY_SOCKET"])
                    except BlockingIOError:
                        return True
                    return False

            wait_until(is_full, "its queue to be full")
            echod.signal(signal.SIGHUP)
            with echod.connect() as client:
                echo(client, b"hello")
            assert echod.stats()["accepted"] == 1
            assert echod.stop() == 0


@scenario
def what_it_had_no_room_for_comes_later():
    with Manager(fresh_path()) as manager:
        with Echod(environment=manager.variables) as echod:
            with contextlib.suppress(BlockingIOError), \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                while True:
                    other.sendto(b"X=1", manager.variables["NOTIFY_SOCKET"])
            with echod.connect() as client:
                assert stuff(client) > 0  # who does not read is not quiet: the drain waits
                echod.signal(signal.SIGTERM)
                echod.wait_line("draining")
                manager.wait(STOPPING="1")
            assert echod.wait() == 0


@scenario
def a_manager_that_is_not_there_is_a_warning():
    for name in (fresh_path(), "@echod/nobody-%d" % os.getpid(), "/" + "x" * 200):
        with Echod(environment={"NOTIFY_SOCKET": name}) as echod:
            assert echod.wait_line("notify-failed")["what"] == name
            with echod.connect() as client:
                echo(client, b"hello")
            assert echod.stop() == 0


main()
