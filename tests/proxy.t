#!/usr/bin/env python3
"""The PROXY protocol: a header that names the client comes first, from those who are believed."""
import contextlib
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time

from harness import (DEADLINE, Echod, Skip, echo, main, needs_tls, probe_report, receive_all,
                     receive_exactly, scenario, wait_until)

TRUSTED = "--proxy-protocol=127.0.0.0/8,::1"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 7777\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PEER = "192.0.2.7:4711"


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def v2(command=0x21, family=0x11, addresses=None, tlvs=b""):
    if addresses is None:
        addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + \
            struct.pack(">HH", 4711, 7777)
    body = addresses + tlvs
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(body)) + body


def tlv(kind, value):
    return bytes((kind,)) + struct.pack(">H", len(value)) + value


def with_checksum(wrong=0):
    header = bytearray(v2(tlvs=tlv(0x20, b"\1\2\3\4") + tlv(3, b"\0\0\0\0") + tlv(0xee, b"x")))
    at = header.index(tlv(3, b"\0\0\0\0")) + 3
    header[at:at + 4] = struct.pack(">I", crc32c(header) ^ wrong)
    return bytes(header)


def v6(host):
    return socket.inet_pton(socket.AF_INET6, host)


GOOD = {  # header, and who the client is by it; None: who connected
    "v1 TCP4": (V1, PEER),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 1\r\n", "[2001:db8::7]:65535"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2 TCP4": (v2(), PEER),
    "v2 TCP6": (v2(family=0x21, addresses=v6("2001:db8::7") + v6("2001:db8::1") +
                   struct.pack(">HH", 65535, 1)), "[2001:db8::7]:65535"),
    "v2 LOCAL": (v2(command=0x20, family=0, addresses=b""), None),
    "v2 LOCAL with bytes to skip": (v2(command=0x20, family=0, addresses=b"x" * 300), None),
    "v2 UNSPEC": (v2(family=0, addresses=b"whatever"), None),
    "v2 AF_UNIX": (v2(family=0x31, addresses=b"/client".ljust(108, b"\0") * 2), None),
    "v2 with TLVs": (v2(tlvs=tlv(1, b"h2") + tlv(4, b"") + tlv(0xe0, b"y" * 5000)), PEER),
    "v2 with a checksum": (with_checksum(), PEER),
    "v2, as long as can be": (v2(tlvs=tlv(4, b"\0" * (65535 - 12 - 3))), PEER),
}

BAD = {
    "no header": b"GET / HTTP/1.0\r\n\r\n",
    "v1, another protocol": b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "v1, a name": b"PROXY TCP4 localhost 198.51.100.1 1 2\r\n",
    "v1, IPv6 as IPv4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "v1, a port that is none": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
    "v1, a leading zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
    "v1, four fields": b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
    "v1, six fields": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
    "v1, two spaces": b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "v1, only LF": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n" + b"x" * 107,
    "v1, overlong": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v2, version 1": v2(command=0x11),
    "v2, another command": v2(command=0x22),
    "v2, another family": v2(family=0x41),
    "v2, another transport": v2(family=0x13),
    "v2, too short": v2(addresses=b"\1\2\3\4\5\6\7\10\11\12\13"),
    "v2, a TLV cut short": v2(tlvs=b"\4\0\5abc"),
    "v2, a wrong checksum": with_checksum(wrong=1),
    "v2, a checksum of two bytes": v2(tlvs=tlv(3, b"\0\0")),
    "v2, a broken signature": SIGNATURE[:-1] + b"\r" + v2()[12:],
}


def own(client):
    host, port = client.getsockname()[:2]
    return ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)


def check_lines(echod, client, who):
    """The client that was named is the peer, who connected is in `via`."""
    values = {"peer": who, "via": own(client)} if who else {"peer": own(client)}
    for event in "accepted", "closed":
        line = echod.wait_line(event, **values)
        assert who or "via" not in line.values, line
    assert (line["in"], line["out"], line["reason"]) == ("5", "5", "eof"), line


@scenario
def good_headers(model):
    """Each kind of header; what follows it is echoed, and nothing of itself."""
    with Echod("-vv", "--model=" + model, "-w2", TRUSTED) as echod:
        for title, (header, who) in GOOD.items():
            with echod.connect() as client:
                client.sendall(header)
                echo(client, b"hello")
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b"", title
                check_lines(echod, client, who)


@scenario
def with_data_in_one_segment(model):
    with Echod("-vv", "--model=" + model, TRUSTED) as echod:
        for title, (header, _) in GOOD.items():
            with echod.connect() as client:
                client.sendall(header + b"hello")
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b"hello", title


@scenario
def split_at_every_byte():
    """The daemon has seen each byte before the next one comes."""
    with Echod("-vv", TRUSTED) as echod:
        for header in V1, with_checksum(), b"PROXY UNKNOWN\r\n":
            for at in range(1, len(header)):
                with echod.connect() as client:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client.sendall(header[:at])
                    client.sendall(header[at:])
                    echo(client, b"hello")
        with echod.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in V1 + b"hello":
                client.sendall(bytes((byte,)))
            assert receive_exactly(client, 5) == b"hello"


@scenario
def nothing_before_the_header_is_whole(model):
    """No byte is sent, and no CPU time used, while a part of the header is all there is."""
    with Echod("-vv", "--model=" + model, TRUSTED) as echod:
        with echod.connect() as client:
            client.sendall(V1[:-1])
            client.settimeout(0.3)
            try:
                raise AssertionError(client.recv(1))
            except socket.timeout:
                client.settimeout(DEADLINE)
            assert not echod.lines("accepted")
            client.sendall(V1[-1:])
            echo(client, b"hello")


@scenario
def malformed_headers(model):
    """The connection is closed without a byte; the log has proxy for a reason, and -vv why."""
    with Echod("-vv", "--model=" + model, TRUSTED) as echod:
        for number, (title, header) in enumerate(BAD.items(), 1):
            with echod.connect() as client:
                client.sendall(header)
                with contextlib.suppress(ConnectionResetError):
                    assert receive_all(client) == b"", title
                line = echod.wait_line("closed", reason="proxy", peer=own(client))
                assert line.level == "info" and line["in"] == "0", line
                echod.wait_line("handshake-failed", number)
        with echod.connect() as client:
            client.sendall(V1[:20])
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""
            echod.wait_line("closed", reason="proxy", peer=own(client))
        assert echod.stats()["closed_proxy"] == len(BAD) + 1
        with echod.connect() as client:
            client.sendall(V1)
            echo(client, b"hello")


@scenario
def late_headers(model):
    """The deadline is absolute: a byte now and then does not move it."""
    with Echod("-vv", "--model=" + model, TRUSTED, "--handshake-timeout=1s") as echod:
        with echod.connect() as silent, echod.connect() as slow:
            slow.sendall(V1[:1])
            sent = 1
            def is_closed():
                nonlocal sent
                if sent < len(V1) - 1 and not echod.lines("closed", peer=own(slow)):
                    with contextlib.suppress(OSError):
                        slow.sendall(V1[sent:sent + 1])
                    sent += 1
                return len(echod.lines("closed", reason="handshake")) == 2
            wait_until(is_closed, "both to be cut")
            assert echod.lines("closed", peer=own(slow))[0].level == "info"
            assert echod.lines("closed", peer=own(silent))[0].level == "debug"
            assert 0.99 < float(echod.lines("closed", peer=own(slow))[0]["duration"]) < 6


@scenario
def health_probes_make_no_noise(model):
    """A load balancer that only looks whether somebody is there."""
    with Echod("-vv", "--model=" + model, TRUSTED) as echod:
        with echod.connect() as client:
            name = own(client)
        line = echod.wait_line("closed", peer=name)
        assert (line.level, line["reason"]) == ("debug", "eof"), line
        with echod.connect() as client:
            client.sendall(GOOD["v2 LOCAL"][0])
            name = own(client)
        line = echod.wait_line("closed", peer=name)
        assert (line.level, line["reason"], line["in"]) == ("debug", "eof", "0"), line


@scenario
def who_is_not_trusted_is_refused(model):
    with Echod("-v", "--model=" + model, "--proxy-protocol=192.0.2.0/24,127.0.0.2") as echod:
        with echod.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(V1 + b"hello")
                assert receive_all(client) == b""
            echod.wait_line("refused", peer=own(client), reason="untrusted-proxy")
        with socket.create_connection(echod.address(), DEADLINE, ("127.0.0.2", 0)) as client:
            client.sendall(V1)
            echo(client, b"hello")
        stats = echod.stats()
        assert (stats["accepted"], stats["refused_untrusted-proxy"]) == (1, 1), stats


@scenario
def an_endpoint_decides_for_itself():
    """?proxy= is for one endpoint, and ?proxy=off takes one out; without it all is data."""
    with Echod("-vv", TRUSTED, "tcp://127.0.0.1:0?proxy=off", "tcp://127.0.0.1:0",
               "tcp://127.0.0.1:0?proxy=192.0.2.0/24") as echod:
        with echod.connect(0) as client:
            echo(client, V1)
        with echod.connect(1) as client:
            client.sendall(V1)
            echo(client, b"hello")
        with echod.connect(2) as client:
            with contextlib.suppress(OSError):
                client.sendall(V1)
                assert receive_all(client) == b""
            echod.wait_line("refused", peer=own(client))
    with Echod("tcp://127.0.0.1:0?proxy=127.0.0.1", "tcp://127.0.0.1:0") as echod:
        with echod.connect(0) as client:
            client.sendall(V1)
            echo(client, b"hello")
        with echod.connect(1) as client:
            echo(client, V1)


@scenario
def a_limit_and_a_drain(model):
    """Who owes a header holds a slot; at the drain it is let go, and nothing is forced."""
    with Echod("-v", "--model=" + model, "-m2", TRUSTED) as echod:
        with echod.connect() as waiting, echod.connect() as client:
            client.sendall(V1)
            echo(client, b"hello")
            with echod.connect() as third:
                third.sendall(V1 + b"third")
                echod.wait_line("paused", reason="max-connections")
                waiting.close()
                assert receive_exactly(third, 5) == b"third"
        with echod.connect() as waiting:
            wait_until(lambda: echod.stats()["active"] == 1, "the last one")
            assert echod.stop() == 0
            assert echod.lines("drained", drained=1, forced=0), echod.raw


@scenario
def a_drain_waits_for_headers_that_come(model):
    """In pieces, over longer than a quiet connection is left, and then again behind it."""
    with Echod("--model=" + model, TRUSTED) as echod, echod.connect() as client, \
            echod.connect() as other:
        other.sendall(V1)
        echo(other, b"hello")
        wait_until(lambda: echod.stats()["active"] == 2, "both")
        echod.signal(signal.SIGTERM)
        echod.wait_line("draining")
        for at in range(0, len(V1), 5):
            client.sendall(V1[at:at + 5])
            time.sleep(0.08)  # a piece that comes after a stall of 250 ms comes too late
        echo(client, b"hello")
        assert receive_all(client) == receive_all(other) == b""
        client.close()
        other.close()
        assert echod.wait() == 0
        assert echod.lines("drained", drained=2, forced=0), echod.raw


@scenario
def before_tls(model):
    """The header, then TLS; in one segment with the hello too."""
    needs_tls()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Echod("-vv", "--model=" + model, TRUSTED, "--tls-self-signed",
               "tls://127.0.0.1:0") as echod:
        for header in V1, with_checksum():
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing)
            with echod.connect() as client:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                client.sendall(header + outgoing.read())
                while True:
                    incoming.write(client.recv(65536))
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        client.sendall(outgoing.read())
                tls.write(b"hello")
                client.sendall(outgoing.read())
                answer = b""
                while len(answer) < 5:
                    try:
                        answer += tls.read(5)
                    except ssl.SSLWantReadError:
                        incoming.write(client.recv(65536))
                assert answer == b"hello"
        echod.wait_line("accepted", 2, peer=PEER)
        with echod.connect() as client:  # and without
            with contextlib.suppress(OSError, ssl.SSLError):
                context.wrap_socket(client)
                raise AssertionError("it did without a header")
        echod.wait_line("closed", reason="proxy")


@scenario
def a_header_and_then_silence(model):
    """The deadline is for both, the header and the TLS handshake; a header alone is no noise."""
    with Echod("-vv", "--model=" + model, TRUSTED, "--tls-self-signed", "--handshake-timeout=1s",
               "tls://127.0.0.1:0") as echod:
        with echod.connect() as client:
            client.sendall(V1)
            assert receive_all(client) == b""
            line = echod.wait_line("closed", reason="handshake")
            assert (line["peer"], line["via"], line.level) == (PEER, own(client), "debug"), line


@scenario
def echoprobe_plays_the_load_balancer():
    for version in "v1", "v2":
        with Echod("-v", TRUSTED) as echod:
            report = probe_report("--proxy-protocol=" + version, "--load", "-n", 100, "-c", 4,
                                  echod.endpoint())
            assert report["messages"] == 100, report
            echod.wait_line("closed", 4, reason="eof")
            for line in echod.lines("closed"):
                assert line["peer"] == line["via"], line


HAPROXY = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 20s
    timeout client 60s
    timeout server 60s
frontend front
    bind fd@%d
    default_backend back
backend back
    server one %s:%d %s
"""


@contextlib.contextmanager
def haproxy(echod, how):
    """haproxy in front of ECHOD; gives its address."""
    if shutil.which("haproxy") is None:
        raise Skip("haproxy is not installed")
    with tempfile.TemporaryDirectory() as directory, socket.socket() as front:
        front.bind(("127.0.0.1", 0))
        front.listen(100)
        front.set_inheritable(True)
        config = os.path.join(directory, "haproxy.cfg")
        with open(config, "w") as file:
            file.write(HAPROXY % (front.fileno(), *echod.address(), how))
        process = subprocess.Popen(["haproxy", "-db", "-f", config], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   pass_fds=[front.fileno()])
        try:
            yield front.getsockname()
        finally:
            process.terminate()
            process.wait(DEADLINE)


@scenario
def haproxy_in_front(model):
    """The real thing, with each version, and with the checksum; half-close goes through it."""
    data = os.urandom(1 << 20)
    for how in "send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id":
        with Echod("-v", "--model=" + model, TRUSTED) as echod, \
                haproxy(echod, how) as address:
            with socket.create_connection(address, DEADLINE) as client:
                name = own(client)
                echo(client, data)
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b""
            line = echod.wait_line("closed", peer=name)
            assert line["via"].startswith("127.0.0.1:") and line["via"] != name, line
            assert int(line["in"]) == len(data), line


@scenario
def haproxy_in_front_of_tls():
    """haproxy passes TLS on; its header comes before the hello."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    data = os.urandom(1 << 18)
    for how in "send-proxy", "send-proxy-v2":
        with Echod("-v", TRUSTED, "--tls-self-signed", "tls://127.0.0.1:0") as echod, \
                haproxy(echod, how) as address:
            with socket.create_connection(address, DEADLINE) as plain:
                name = own(plain)
                with context.wrap_socket(plain) as client:
                    echo(client, data)
            line = echod.wait_line("closed", peer=name)
            assert int(line["in"]) == len(data) and "via" in line.values, line


@scenario
def haproxy_checks_health():
    """send-proxy-v2 checks come as LOCAL: no noise."""
    with Echod("-v", TRUSTED) as echod, \
            haproxy(echod, "send-proxy-v2 check inter 50ms") as address:
        wait_until(lambda: echod.stats()["closed_eof"] + echod.stats()["closed_reset"] > 3,
                   "some checks")
        with socket.create_connection(address, DEADLINE) as client:
            echo(client, b"hello")
        echod.wait_line("closed", in_=5)
        assert len(echod.lines("closed")) == 1, echod.lines("closed")


main()
