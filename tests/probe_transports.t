#!/usr/bin/env python3
"""echoprobe over unix sockets, UDP and TLS, and with PROXY headers: against servers that misbehave
in one way each."""
import contextlib
import functools
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from harness import (DEADLINE, Echod, Probe, Server, Skip, check_report, counts, main, probe,
                     probe_report, receive_all, receive_exactly, scenario, sockets_of,
                     wait_until)

DIRECTORY = tempfile.TemporaryDirectory()
EXACT = (0, 0, 0)
FLIPPED = lambda data: data[:-1] + bytes([data[-1] ^ 1])


def file_in_directory(name):
    return os.path.join(DIRECTORY.name, name)


def echo_all(connection):
    """A good server of one connection."""
    while True:
        data = connection.recv(65536)
        if not data:
            return
        connection.sendall(data)


# Unix sockets

@scenario
def unix_sockets_by_path_and_name():
    """In every mode, against the real daemon; a ping says where it goes."""
    for endpoint in ("unix://" + file_in_directory("echod"), "unix://@echod-test-%d" % os.getpid()):
        with Echod(endpoint):
            for arguments in (["-i", "1ms"], ["--load", "-p", "5"], ["--rate=1000"],
                              ["--half-close", "-s", "100000"]):
                report = probe_report("-n", "20", "-c", "4", *arguments, endpoint)
                assert report["endpoint"] == endpoint, report
                assert report["messages"] == 20 and counts(report) == EXACT, report
            run = probe("-n", "1", endpoint)
            assert re.match(r"64 bytes from %s: seq=1 time=[0-9.]+ ms\n" % endpoint,
                            run.stdout), run


@scenario
def unix_sockets_that_are_not_there():
    stale = file_in_directory("stale")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(stale)
    nothing = file_in_directory("nothing")
    for endpoint, why in (("unix://" + stale, "Connection refused"),
                          ("unix://" + nothing, "No such file or directory"),
                          ("unix://@no-such-name", "Connection refused")):
        run = probe(endpoint)
        assert (run.returncode, run.stdout) == (1, ""), run
        assert run.stderr == "echoprobe: %s: %s\n" % (why, endpoint), run


@scenario
def a_unix_socket_whose_queue_is_full():
    """It has room for one; the others are tried again until the server accepts."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(file_in_directory("queue"))
    listener.listen(0)
    endpoint = "unix://" + listener.getsockname()
    with Probe("--json", "--load", "-c", "5", "-n", "50", endpoint) as run:
        wait_until(lambda: sockets_of(run.process.pid) >= 5, "attempts")
        with Server(echo_all, listener):
            report = check_report(run.wait())
    assert report["messages"] == 50 and counts(report) == EXACT, report


@scenario
def a_unix_socket_that_changes_a_byte():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(file_in_directory("flip"))
    listener.listen()

    def serve(connection):
        connection.sendall(FLIPPED(receive_exactly(connection, 640)))
        echo_all(connection)

    with Server(serve, listener) as server:
        report = probe_report("--load", "-p", "10", "-n", "100", server.endpoint, status=1)
        assert counts(report) == (0, 1, 0) and report["messages"] == 100, report


# UDP

class Datagrams:
    """Calls ANSWER(number, data, reply) for each datagram that comes, of numbers 0, ...; reply
    sends bytes back to where that came from."""

    def __init__(self, answer):
        self.answer = answer
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.settimeout(0.01)
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.endpoint = "udp://" + self.address
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        number = 0
        while not self.ended.is_set():
            with contextlib.suppress(socket.timeout):
                data, peer = self.socket.recvfrom(65536)
                self.answer(number, data, lambda back, to=peer: self.socket.sendto(back, to))
                number += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.socket.close()


def echo_datagram(number, data, reply):
    reply(data)


def only_at(position, change):
    """An echo, but for one datagram, of which CHANGE(data) comes back; None: nothing does."""
    def answer(number, data, reply):
        back = change(data) if number == position else data
        if back is not None:
            reply(back)
    return answer


@scenario
def datagrams_of_all_sizes_and_in_all_ways():
    """No more in all than the kernel holds for the server, however late that is."""
    with Datagrams(echo_datagram) as server:
        for size in (0, 1, 2, 15, 64, 1472, 9000, 65507):
            count = min(50, 1 + 200000 // (size + 1))
            for arguments in (["--load"], ["--load", "-p", "3", "-c", "5", "-t", "2"],
                              ["--rate=1000", "-c", "3"], ["-i", "1ms"]):
                report = probe_report("-n", count, "-s", size, "-W", DEADLINE, *arguments,
                                      server.endpoint)
                assert (report["messages"], report["bytes"]) == (count, count * size), report
                assert counts(report) == EXACT, report


@scenario
def datagrams_are_pinged():
    with Datagrams(echo_datagram) as server:
        run = probe("-n", "2", "-i", "0.01", server.endpoint)
        lines = run.stdout.splitlines()
        for number in (1, 2):
            assert re.fullmatch(r"64 bytes from %s: seq=%d time=[0-9.]+ ms" %
                                (server.address, number), lines[number - 1]), run
        assert (run.returncode, run.stderr) == (0, ""), run


@scenario
def what_a_server_drops_is_lost():
    """And only that: the loads go on, each slot after the timeout."""
    def answer(number, data, reply):
        if number % 10 != 3:
            reply(data)

    for arguments in (["--load", "-p", "4", "-c", "2"], ["--rate=1000"], ["-i", "1ms"]):
        with Datagrams(answer) as server:
            report = probe_report("-n", "60", "-W", "0.5", *arguments, server.endpoint, status=1)
            assert (report["messages"], report["lost"]) == (54, 6), report
            assert counts(report) == (6, 0, 0), report


@scenario
def answers_twice_or_in_another_order_are_exact():
    held = []

    def twice(number, data, reply):
        reply(data)
        reply(data)

    def swapped(number, data, reply):
        held.append(data)
        if number % 3 == 2:
            while held:
                reply(held.pop())

    for answer in (twice, swapped):
        for arguments in (["--load", "-p", "6"], ["--rate=1000"]):
            with Datagrams(answer) as server:
                report = probe_report("-n", "60", "-W", DEADLINE, *arguments, server.endpoint)
                assert report["messages"] == 60 and counts(report) == EXACT, report


@scenario
def a_changed_datagram_is_one_corrupt_message():
    """Whichever byte it is, and also if there are too few or too many."""
    for change in (FLIPPED, lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[1:],
                   lambda data: data[:-1], lambda data: data + b"!", lambda data: b""):
        for arguments in (["--load"], ["--rate=500"], ["-i", "1ms"]):
            with Datagrams(only_at(7, change)) as server:
                report = probe_report("-n", "20", "-W", DEADLINE, *arguments, server.endpoint,
                                      status=1)
                assert counts(report) == (0, 1, 0) and report["messages"] == 20, report


@scenario
def a_datagram_of_another_connection_is_corrupt():
    first = []

    def answer(number, data, reply):
        first.append((data, reply))
        if number % 2 == 1:
            (one, reply_one), (two, reply_two) = first[-2:]
            reply_one(two)
            reply_two(one)

    with Datagrams(answer) as server:
        report = probe_report("--load", "-c", "2", "-n", "2", "-W", DEADLINE, server.endpoint,
                              status=1)
        assert counts(report) == (0, 2, 0), report


@scenario
def an_answer_that_comes_too_late_is_lost_and_nothing_else():
    held = []

    def answer(number, data, reply):
        if number == 0:
            held.append(data)
            return
        if number == 1:  # number 0 is lost by now, and comes
            reply(held.pop())
        reply(data)

    with Datagrams(answer) as server:
        report = probe_report("--load", "-n", "20", "-W", "0.3", server.endpoint, status=1)
        assert counts(report) == (1, 0, 0) and report["messages"] == 19, report


@scenario
def a_ping_does_not_wait_for_one_that_is_lost():
    """Numbers 2 to 5 come back while the first one, which never does, is still awaited."""
    with Datagrams(only_at(0, lambda data: None)) as server:
        run = probe("-n", "5", "-i", "0.02", "-W", "2", server.endpoint)
        seen = re.findall(r"^(64 bytes|no answer) from %s: seq=(\d)" % server.address, run.stdout,
                          re.M)
        assert seen == [("64 bytes", seq) for seq in "2345"] + [("no answer", "1")], run
        assert "\n1 lost, 0 corrupt, 0 errors\n" in run.stdout and run.returncode == 1, run


@scenario
def datagrams_that_nobody_answers():
    """The default is a second; whatever is sent until the end of a load is lost."""
    with Datagrams(lambda number, data, reply: None) as server:
        began = time.monotonic()
        report = probe_report("--load", "-n", "3", "-p", "3", server.endpoint, status=1)
        assert counts(report) == (3, 0, 0) and report["messages"] == 0, report
        assert 0.9 < time.monotonic() - began < 9
        report = probe_report("--rate=100", "-d", "0.5", "-W", "0.2", server.endpoint, status=1)
        assert counts(report) == (50, 0, 0), report


@scenario
def refused_datagrams_are_a_line_and_status_1():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for arguments in (["-n", "1"], ["--load", "-c", "20", "-t", "2"], ["--rate=100"]):
        run = probe(*arguments, "udp://127.0.0.1:%d" % port)
        assert run.returncode == 1, run
        assert run.stderr == "echoprobe: Connection refused: udp://127.0.0.1:%d\n" % port, run


@scenario
def addresses_are_tried_in_turn_with_datagrams_too():
    """localhost may stand for ::1 as well, where nobody serves; what that refuses is sent again."""
    with Datagrams(echo_datagram) as server:
        endpoint = "udp://localhost:" + server.address.split(":")[1]
        for arguments in (["--load", "-c", "3"], ["-i", "1ms"], ["--rate=1000"]):
            report = probe_report("-n", "9", "-W", DEADLINE, *arguments, endpoint)
            assert report["messages"] == 9 and counts(report) == EXACT, report


@scenario
def an_open_loop_of_datagrams_does_not_forget_a_stall():
    def answer(number, data, reply):
        if number == 20:
            threading.Event().wait(0.3)
        reply(data)

    with Datagrams(answer) as server:
        report = probe_report("--rate=100", "-n", "100", "-W", DEADLINE, server.endpoint)
        latency = report["latency_us"]
        assert latency["max"] >= 299000 and latency["p50"] < 50000, report
        assert report["messages"] == 100 and report["seconds"] > 0.98, report


@scenario
def a_signal_ends_a_load_of_datagrams():
    """What is on its way comes back first."""
    got = threading.Event()

    def answer(number, data, reply):
        reply(data)
        got.set()

    with Datagrams(answer) as server, Probe("--json", "--load", "-d", "1h", "-p", "4", "-c", "3",
                                            "-W", DEADLINE, server.endpoint) as run:
        assert got.wait(DEADLINE)
        run.process.send_signal(signal.SIGINT)
        report = check_report(run.wait())
        assert report["messages"] > 0 and counts(report) == EXACT, report


# TLS

def tls_scenario(function):
    """A scenario for which echoprobe has to be built with TLS."""
    @functools.wraps(function)
    def try_it():
        if "built without TLS" in probe("tls://127.0.0.1:1").stderr:
            raise Skip("built without TLS")
        function()
    return scenario(try_it)



class Certificate:
    """A self-signed one for NAMES, as subjectAltName has them: .certificate and .key are files."""

    def __init__(self, name, names):
        self.certificate = file_in_directory(name + ".pem")
        self.key = file_in_directory(name + ".key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=" + name, "-addext", "subjectAltName=" + names, "-keyout", self.key,
                        "-out", self.certificate], check=True, stderr=subprocess.DEVNULL)

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def certificates():
    """For this machine, and for another; made once."""
    if not hasattr(certificates, "made"):
        certificates.made = (Certificate("here", "DNS:localhost,IP:127.0.0.1"),
                             Certificate("there", "DNS:example.com,IP:192.0.2.1"))
    return certificates.made


def close_well(connection):
    """close_notify, and wait for the peer's."""
    with contextlib.suppress(OSError):
        connection.unwrap()


def echo_and_close_well(connection):
    echo_all(connection)
    close_well(connection)


@contextlib.contextmanager
def secure_server(serve=echo_and_close_well, certificate=None, change=None):
    """A server over TLS, whose context CHANGE changes; its .endpoint, and arguments to trust it."""
    certificate = certificate or certificates()[0]
    context = certificate.context()
    if change:
        change(context)
    wrap = lambda connection: context.wrap_socket(connection, server_side=True)
    with Server(serve, wrap=wrap) as server:
        server.address = server.endpoint
        server.endpoint = "tls://" + server.address
        server.trust = "--tls-ca=" + certificate.certificate
        yield server


def told(what, server):
    return "echoprobe: %s: %s\n" % (what, server.endpoint)


@tls_scenario
def tls_is_exact_for_sizes_and_ways():
    """With both versions; half-close is close_notify, and the server's has to come."""
    def version(number):
        def change(context):
            context.minimum_version = context.maximum_version = number
        return change

    for number in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with secure_server(change=version(number)) as server:
            for size in (1, 64, 16384, 65537, 1 << 20):
                for arguments in (["--load"], ["--load", "-p", "3", "-c", "3", "-t", "2"],
                                  ["--rate=200"], ["--half-close", "-c", "3"], ["-i", "1ms"]):
                    report = probe_report("-n", "12", "-s", size, *arguments, server.trust,
                                          server.endpoint)
                    assert (report["messages"], report["bytes"]) == (12, 12 * size), report
                    assert counts(report) == EXACT, report


@tls_scenario
def tls_against_socat():
    """Somebody else's server, one process a connection."""
    certificate = certificates()[0]
    listen = "OPENSSL-LISTEN:0,bind=127.0.0.1,cert=%s,key=%s,verify=0,fork" % (
        certificate.certificate, certificate.key)
    with subprocess.Popen(["socat", "-d", "-d", listen, "EXEC:cat"],
                          stderr=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stderr:
                match = re.search(r"listening on AF=2 (127\.0\.0\.1:\d+)", line)
                if match:
                    break
            threading.Thread(target=server.stderr.read, daemon=True).start()
            report = probe_report("--load", "-n", "100", "-c", "2", "-p", "3", "-s", "1000",
                                  "--tls-ca=" + certificate.certificate, "tls://" + match[1])
            assert report["messages"] == 100 and counts(report) == EXACT, report
        finally:
            server.terminate()


@tls_scenario
def certificates_are_verified():
    """Who signed it, and for whom: a name, or an address; unless nothing is."""
    here, there = certificates()
    failed = "certificate verify failed: "
    for certificate, arguments, host, why in (
            (here, ["--tls-ca=" + here.certificate], "localhost", None),
            (here, ["--tls-ca=" + here.certificate], "127.0.0.1", None),
            (here, [], "localhost", failed + "self-signed certificate"),
            (here, ["--tls-ca=" + there.certificate], "localhost",
             failed + "self-signed certificate"),
            (there, ["--tls-ca=" + there.certificate], "localhost", failed + "hostname mismatch"),
            (there, ["--tls-ca=" + there.certificate], "127.0.0.1",
             failed + "IP address mismatch"),
            (there, ["--insecure"], "localhost", None)):
        with secure_server(certificate=certificate) as server:
            endpoint = server.endpoint.replace("127.0.0.1", host)
            run = probe("--load", "-n", "2", *arguments, endpoint)
            if why:
                assert run.returncode == 1 and run.stdout == "", run
                assert run.stderr == told(why, server), run  # with the address it went to
            else:
                assert run.returncode == 0 and run.stderr == "", run


@tls_scenario
def a_file_of_certificates_that_cannot_be_read():
    empty = file_in_directory("empty")
    open(empty, "w").close()
    for file, why in (("/nonexistent", "No such file or directory"),
                      (empty, "no certificate or crl found")):
        run = probe("--tls-ca=" + file, "tls://127.0.0.1:1")
        assert (run.returncode, run.stdout) == (1, ""), run
        assert run.stderr == "echoprobe: %s: %s\n" % (why, file), run


@tls_scenario
def the_name_is_told_to_the_server():
    """By SNI; a numeric address is not."""
    asked = []

    def note_name(context):
        context.sni_callback = lambda connection, name, own: asked.append(name)

    with secure_server(change=note_name) as server:
        for host in ("localhost", "127.0.0.1"):
            probe_report("-n", "1", server.trust, server.endpoint.replace("127.0.0.1", host))
    assert asked == ["localhost", None], asked


@tls_scenario
def a_changed_byte_under_tls_is_one_corrupt_message():
    def serve(connection):
        connection.sendall(FLIPPED(receive_exactly(connection, 64)))
        echo_and_close_well(connection)

    for arguments in (["--load"], ["--half-close"], ["--rate=1000"]):
        with secure_server(serve) as server:
            report = probe_report("-n", "20", *arguments, server.trust, server.endpoint, status=1)
            assert counts(report) == (0, 1, 0) and report["messages"] == 20, report


@tls_scenario
def half_close_wants_close_notify():
    """A server that ends without it could as well have been cut off; other modes do not care."""
    with secure_server(echo_all) as server:
        report = probe_report("--half-close", "-n", "20", server.trust, server.endpoint, status=1,
                              errors=told("Connection closed without close_notify", server))
        assert counts(report) == (0, 0, 1) and report["messages"] == 20, report
        assert counts(probe_report("--load", "-n", "20", server.trust, server.endpoint)) == EXACT


@tls_scenario
def a_tls_server_that_closes_early():
    def serve(connection):
        connection.sendall(receive_exactly(connection, 64))
        close_well(connection)

    with secure_server(serve) as server:
        report = probe_report("--half-close", "-n", "5", server.trust, server.endpoint, status=1,
                              errors=told("Connection closed early", server))
        assert counts(report) == (4, 0, 1), report


@tls_scenario
def a_server_that_wants_a_certificate_of_ours():
    """We have none. In TLS 1.3 that comes out when the handshake seems done."""
    def change(context):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates()[0].certificate)

    with secure_server(change=change) as server:
        report = probe_report("--load", "-n", "5", server.trust, server.endpoint, status=1,
                              errors=told("TLS: tlsv13 alert certificate required", server))
        assert report["errors"] == 1 and report["messages"] == 0, report


@tls_scenario
def a_server_that_speaks_no_tls():
    def greet(connection):
        connection.sendall(b"220 mail ESMTP\r\n")
        receive_all(connection)

    for serve, why in ((greet, "TLS handshake failed: wrong version number"),
                       (lambda connection: connection.recv(1000),
                        "TLS handshake failed: connection closed"),
                       (receive_all, "TLS handshake timed out")):
        with Server(serve) as server:
            server.endpoint = "tls://" + server.endpoint
            report = probe_report("--load", "-c", "3", "-W", "0.5", server.endpoint, status=1,
                                  errors=told(why, server))
            assert counts(report) == (0, 0, 3), report


@tls_scenario
def latency_is_without_the_handshake():
    def serve(connection):
        threading.Event().wait(0.3)  # before the handshake: it is the socket that is served
        with certificates()[0].context().wrap_socket(connection, server_side=True) as secure:
            echo_and_close_well(secure)

    with Server(serve) as server:
        report = probe_report("--load", "-n", "20", "--insecure", "tls://" + server.endpoint)
        assert report["latency_us"]["p50"] < 200000 and report["messages"] == 20, report


# PROXY headers

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def header_of(connection, version):
    """What a header of VERSION has to be, from a client at the other end of CONNECTION."""
    (client, client_port), (own, own_port) = connection.getpeername(), connection.getsockname()
    if version == "v1":
        return b"PROXY TCP4 %s %s %d %d\r\n" % (client.encode(), own.encode(), client_port,
                                               own_port)
    return V2 + b"\x21\x11\0\x0c" + socket.inet_aton(client) + socket.inet_aton(own) + \
        client_port.to_bytes(2, "big") + own_port.to_bytes(2, "big")


def take_header(connection, version):
    wanted = header_of(connection, version)
    header = receive_exactly(connection, len(wanted))
    assert header == wanted, (header, wanted)


@scenario
def a_proxy_header_is_sent_first():
    """Once on each connection, before any message, and also when there is none yet."""
    for version in ("v1", "v2"):
        seen = []

        def serve(connection):
            take_header(connection, version)
            seen.append(connection)
            echo_all(connection)

        for arguments in (["--load", "-p", "3"], ["--half-close"], ["-i", "1ms"]):
            seen.clear()
            with Server(serve) as server:
                report = probe_report("-n", "9", "-c", "3", "--proxy-protocol=" + version,
                                      *arguments, server.endpoint)
                assert report["messages"] == 9 and counts(report) == EXACT, report
                assert len(seen) == 3, seen


@scenario
def a_proxy_header_of_ipv6():
    headers = []

    def serve(connection):
        headers.append((receive_exactly(connection, 52), connection.getpeername()))
        echo_all(connection)

    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with Server(serve, listener):
        port = listener.getsockname()[1]
        probe_report("--load", "-n", "1", "--proxy-protocol=v2", "[::1]:%d" % port)
    (header, peer), = headers
    own = socket.inet_pton(socket.AF_INET6, "::1")
    assert header == V2 + b"\x21\x21\0\x24" + own + own + peer[1].to_bytes(2, "big") + \
        port.to_bytes(2, "big"), header


@tls_scenario
def a_proxy_header_comes_before_tls():
    here = certificates()[0]

    def wrap(connection):
        take_header(connection, "v2")
        return here.context().wrap_socket(connection, server_side=True)

    with Server(echo_and_close_well, wrap=wrap) as server:
        report = probe_report("--half-close", "-n", "9", "-c", "3", "--proxy-protocol=v2",
                              "--tls-ca=" + here.certificate, "tls://" + server.endpoint)
        assert report["messages"] == 9 and counts(report) == EXACT, report


@scenario
def datagrams_against_echod():
    with Echod("--udp-rate=0", "udp://127.0.0.1:0") as echod:
        for arguments in (["-s", "0"], ["-s", "65507", "-c", "2"], ["-p", "16", "-c", "3"]):
            report = probe_report("--load", "-n", "300", "-W", DEADLINE, *arguments,
                                  echod.endpoint())
            assert report["messages"] == 300 and counts(report) == EXACT, report


@tls_scenario
def tls_behind_a_load_balancer_against_echod():
    """We are the load balancer; the daemon's log names both ends as the header does."""
    with Echod("-v", "--tls-self-signed", "--proxy-protocol=127.0.0.1",
               "tls://127.0.0.1:0") as echod:
        for version in ("v1", "v2"):
            for arguments in (["--half-close", "-s", "100k"], ["--load", "-p", "3"]):
                report = probe_report("-n", "20", "-c", "2", "--insecure",
                                      "--proxy-protocol=" + version, *arguments, echod.endpoint())
                assert report["messages"] == 20 and counts(report) == EXACT, report
        line = echod.wait_line("closed", 8)
        assert line["peer"] == line["via"] and line["reason"] == "eof", line


@scenario
def usage_errors_of_transports():
    for arguments in (["--half-close", "udp://127.0.0.1:7"], ["-s", "65508", "udp://127.0.0.1:7"],
                      ["-s", "0", "tls://127.0.0.1:7"], ["-s", "0", "unix:///x"],
                      ["--proxy-protocol=v3", "7"], ["--proxy-protocol=v1", "udp://a:7"],
                      ["--proxy-protocol=v2", "unix:///x"], ["--insecure", "7"],
                      ["--tls-ca=/x", "unix:///x"], ["udp://*:7"],
                      ["--insecure", "--tls-ca=/x", "tls://a:7"], ["unix://relative"],
                      ["unix:///x?mode=0600"], ["tls://a:7?proxy=off"], ["tls://a:0"],
                      ["sctp://a:7"]):
        run = probe(*arguments)
        assert run.returncode == 2 and run.stdout == "", run
        assert re.fullmatch(r"echoprobe: [^:\n]+: [^\n]+\n", run.stderr), run


main()
