#!/usr/bin/env python3
"""TLS, as OpenSSL's own client and Python's speak it: exact both ways, half-closes, handshakes that
must not be, sessions that go on with another worker, certificates that change meanwhile."""
import contextlib
import functools
import hashlib
import os
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

from harness import (DEADLINE, ECHOD, Echod, Skip, echo, main, memory_kib, receive_all,
                     reload_without_room, sanitized, scenario, wait_until)

MIB = 1 << 20
PIECE = 64 * 1024
NOISE = os.urandom(MIB) * 2
VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
EXTENSIONS = """
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
extendedKeyUsage = clientAuth
"""


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, **more)


class Files:
    """Certificates and keys, made by openssl: by name, as paths without suffix."""

    def __init__(self, directory):
        self.directory = directory
        with open(self.path("extensions"), "w") as file:
            file.write(EXTENSIONS)
        self.sign("root", "ca")
        self.sign("middle", "ca", "root")
        self.sign("server", "server", "middle")
        self.sign("other", "server", "root")
        self.sign("client", "client", "middle")
        self.sign("stranger_ca", "ca")
        self.sign("stranger", "client", "stranger_ca")
        self.join("chain.crt", "server.crt", "middle.crt")
        self.join("all.pem", "server.key", "server.crt", "middle.crt")
        openssl("pkey", "-in", self.path("server.key"), "-aes256", "-passout", "pass:secret",
                "-out", self.path("encrypted.key"))
        openssl("genrsa", "-out", self.path("rsa.key"), "2048")
        self.write("empty", b"")
        self.write("garbage", b"\x00\x80 this is no PEM \xff" * 99)
        self.write("cut.crt", self.read("server.crt")[:200])
        self.write("cut.key", self.read("server.key")[:100])
        self.write("bad_chain.crt", self.read("server.crt") + self.read("middle.crt")[:200])

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def write(self, name, data):
        with open(self.path(name + "~"), "wb") as file:
            file.write(data)
        os.rename(self.path(name + "~"), self.path(name))

    def join(self, name, *parts):
        self.write(name, b"".join(map(self.read, parts)))

    def sign(self, name, kind, issuer=None):
        """A key NAME.key and a certificate NAME.crt of KIND; ISSUER None: signed by itself."""
        by = ["-CA", self.path(issuer + ".crt"), "-CAkey", self.path(issuer + ".key"),
              "-CAcreateserial"] if issuer else ["-signkey", self.path(name + ".key")]
        openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out",
                self.path(name + ".key"))
        request = openssl("req", "-new", "-key", self.path(name + ".key"), "-subj", "/CN=" + name)
        openssl("x509", "-req", *by, "-days", "30", "-extfile", self.path("extensions"),
                "-extensions", kind, "-out", self.path(name + ".crt"), input=request.stdout)

    @property
    def server(self):
        return ["--tls-cert=" + self.path("chain.crt"), "--tls-key=" + self.path("server.key")]


@functools.lru_cache
def certificates():
    directory = tempfile.TemporaryDirectory()
    files = Files(directory.name)
    files.keep = directory
    return files


@contextlib.contextmanager
def replaceable():
    """Certificates of one's own, to be changed."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(certificates().directory, directory, dirs_exist_ok=True)
        files = object.__new__(Files)
        files.directory = directory
        yield files


def trusting(*names, version=None, client=None):
    """A client's context; of one VERSION only, and with a certificate, if they are given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in names or ["root"]:
        context.load_verify_locations(certificates().path(name + ".crt"))
    if version:
        context.minimum_version = context.maximum_version = version
    if client:
        context.load_cert_chain(certificates().path(client + ".crt"),
                                certificates().path(client + ".key"))
    return context


def careless(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Client:
    """A TLS client that has both ends of its conversation in its hands. Usable as a socket by
    harness.echo and its like; the end is b"" when it came with close_notify."""

    def __init__(self, echod, context, session=None, handshake=True, small=False):
        self.socket = socket.socket()
        if small:  # it is the daemon's memory that is to fill
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(echod.address())
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, session=session,
                                    server_hostname="localhost" if context.check_hostname
                                    else None)
        if handshake:
            try:
                self.complete(self.tls.do_handshake)
            except BaseException:
                self.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def flush(self):
        if self.outgoing.pending:
            self.socket.sendall(self.outgoing.read())

    def feed(self):
        data = self.socket.recv(MIB)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def complete(self, step):
        """Does STEP, and what it wants of the network."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()
            finally:
                self.flush()

    def sendall(self, data):
        self.tls.write(data)
        self.flush()

    def recv(self, size):
        try:
            return self.complete(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""

    def half_close(self, how):
        """Says that nothing more comes: HOW is a list of close_notify, FIN."""
        if "close_notify" in how:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
            self.flush()
        if "FIN" in how:
            self.socket.shutdown(socket.SHUT_WR)

    def expect_end(self):
        """close_notify, then FIN, and not a byte before either."""
        assert self.recv(1) == b""
        assert self.incoming.pending == 0 and receive_all(self.socket) == b""

    def close(self):
        self.socket.close()


def exchange(client, total, pause_at=None):
    """Sends TOTAL bytes of NOISE and verifies what comes back, both at once; then there is still
    to come what is returned."""
    sent = got = 0
    waiting = b""
    client.socket.setblocking(False)
    while sent < total or waiting:
        reads, writes, _ = select.select([client.socket], [client.socket], [], DEADLINE)
        assert reads or writes, "nothing moves, %d of %d are back" % (got, sent)
        if reads:
            client.feed()
            got = verify(client, got)
        if writes and not waiting and sent < total:
            piece = min(PIECE, total - sent)
            client.tls.write(NOISE[sent % MIB:sent % MIB + piece])
            sent += piece
            waiting = client.outgoing.read()
        if waiting and writes:
            waiting = waiting[client.socket.send(waiting):]
        if pause_at is not None and sent >= pause_at:
            time.sleep(0.3)
            pause_at = None
    client.socket.settimeout(DEADLINE)
    return got


def verify(client, got):
    """Checks what has come after GOT bytes; returns how many there are now."""
    while True:
        try:
            data = client.tls.read(PIECE)
        except ssl.SSLWantReadError:
            return got
        assert data, "the end after %d bytes" % got
        assert data == NOISE[got % MIB:got % MIB + len(data)], "differs after %d bytes" % got
        got += len(data)


def receive_noise(client, got, total):
    while got < total:
        data = client.recv(PIECE)
        assert data, "the end after %d of %d bytes" % (got, total)
        assert data == NOISE[got % MIB:got % MIB + len(data)], "differs after %d bytes" % got
        got += len(data)
    assert got == total, "%d bytes for %d" % (got, total)


def peer(client):
    """As the log spells CLIENT."""
    return "%s:%d" % client.socket.getsockname()


HALF_CLOSES = ["close_notify"], ["FIN"], ["close_notify", "FIN"]


@scenario
def both_ways_at_once(model):
    """64 MiB there and back with each version, and each way to end them; then close_notify comes
    after the last byte, and FIN after that."""
    total = 64 * MIB
    with Echod("-v", "--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        for version, how in zip(VERSIONS * 2, HALF_CLOSES):
            with Client(echod, trusting(version=version)) as client:
                got = exchange(client, total, pause_at=3 * MIB)
                client.half_close(how)
                receive_noise(client, got, total)
                client.expect_end()
                name = peer(client)
            echod.wait_line("closed", peer=name, in_=total, out=total, reason="eof")


@scenario
def what_is_owed_comes_after_a_half_close(model):
    """The peer is done before it has read anything."""
    with Echod("-v", "--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        for version in VERSIONS:
            for how in HALF_CLOSES:
                for size in 0, 1, 300000:
                    with Client(echod, trusting(version=version)) as client:
                        if size:
                            client.sendall(NOISE[:size])
                        client.half_close(how)
                        receive_noise(client, 0, size)
                        client.expect_end()


@scenario
def messages_of_many_sizes(model):
    """Around a record's 16 KiB, and a thousand small ones that wait in one segment."""
    with Echod("--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        for version in VERSIONS:
            with Client(echod, trusting(version=version)) as client:
                for size in 1, 2, 16383, 16384, 16385, 65535, 65536, 65537, 200000:
                    client.tls.write(NOISE[:size])
                    client.flush()
                    assert receive(client, size) == NOISE[:size], size
                for number in range(1000):
                    client.tls.write(b"%03d" % number)
                client.flush()
                assert receive(client, 3000) == b"".join(b"%03d" % n for n in range(1000))


def receive(client, size):
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, "the end after %d of %d" % (len(data), size)
        data += piece
    return data


@scenario
def a_record_in_single_bytes(model):
    """Handshake and message arrive byte by byte."""
    with Echod("--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting(), handshake=False) as client:
            def drip():
                for byte in client.outgoing.read():
                    client.socket.sendall(bytes([byte]))

            client.flush = drip
            client.complete(client.tls.do_handshake)
            echo(client, b"byte by byte")


@scenario
def openssl_s_client():
    """OpenSSL's own client, with its own view of the certificate, and of the versions."""
    files = certificates()
    with Echod("-vv", *files.server, "tls://127.0.0.1:0") as echod:
        target = ["s_client", "-connect", "%s:%d" % echod.address(), "-CAfile",
                  files.path("root.crt"), "-verify_return_error", "-verify_hostname", "localhost",
                  "-quiet", "-no_ign_eof"]
        for version in "-tls1_2", "-tls1_3":
            with subprocess.Popen(["openssl", *target, version], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
                client.stdin.write(b"hello\n")
                client.stdin.flush()
                assert client.stdout.readline() == b"hello\n"
                client.stdin.close()
                assert client.wait(DEADLINE) == 0
        for version in "-tls1", "-tls1_1":
            refused = subprocess.run(["openssl", *target, version, "-cipher", "ALL@SECLEVEL=0"],
                                     stdin=subprocess.DEVNULL, capture_output=True,
                                     timeout=DEADLINE)
            assert refused.returncode == 1 and b"alert protocol version" in refused.stderr, refused
        assert echod.wait_line("closed", 2, reason="tls").level == "info"
        echod.wait_line("handshake-failed", 2, error="unsupported protocol")


@scenario
def the_minimum_may_be_13(model):
    with Echod("-v", "--model=" + model, "--tls-min-version=1.3", *certificates().server,
               "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting()) as client:
            echo(client, b"hello")
        try:
            Client(echod, trusting(version=VERSIONS[0]))
            raise AssertionError("it spoke 1.2")
        except ssl.SSLError as error:
            assert "PROTOCOL_VERSION" in str(error), error
        echod.wait_line("closed", reason="tls")


@scenario
def a_handshake_has_a_deadline(model):
    """Whoever says nothing, or drips a byte now and then, is cut, and others are not."""
    with Echod("-vv", "--model=" + model, "--handshake-timeout=1.5", *certificates().server,
               "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting()) as good, echod.connect() as silent, \
                Client(echod, trusting(), handshake=False) as drip:
            began = time.monotonic()
            with contextlib.suppress(ssl.SSLWantReadError):
                drip.tls.do_handshake()
            hello = drip.outgoing.read()
            name = peer(drip)
            try:
                for byte in hello:
                    drip.socket.sendall(bytes([byte]))
                    if select.select([drip.socket], [], [], 0.05)[0]:
                        break
                assert drip.socket.recv(1) == b""
            except ConnectionResetError:
                pass
            assert time.monotonic() - began > 1.4
            assert receive_all(silent) == b""
            echo(good, b"hello")
            assert echod.wait_line("closed", peer=name, reason="handshake").level == "info"
            line = echod.wait_line("closed", 2, reason="handshake", in_=0, out=0)
            assert 1.4 < float(line["duration"]) < 1.5 + DEADLINE, line
        with Client(echod, trusting()) as late:  # the timer goes on for those who come now
            echo(late, b"hello")
            with echod.connect() as silent:
                assert receive_all(silent) == b""
        # Nobody who is silent all the time is worth a line at -v.
        assert {line.level for line in echod.lines("closed", reason="handshake")} == {
            "info", "debug"}


@scenario
def plain_text_is_refused(model):
    """Whatever is no TLS: the connection is closed at once, with an alert at most."""
    with Echod("-vv", "--model=" + model, "--handshake-timeout=1h", *certificates().server,
               "tls://127.0.0.1:0") as echod:
        for number, text in enumerate([b"h", b"hi", b"hello\n", b"GET / HTTP/1.1\r\n\r\n",
                                       b"\x00" * 99, b"\x16\x03\x01\xff\xff", NOISE[:MIB]], 1):
            with echod.connect() as client:
                with contextlib.suppress(ConnectionError):
                    client.sendall(text)
                with contextlib.suppress(ConnectionError):
                    assert len(receive_all(client)) <= 7
            echod.wait_line("closed", number, reason="tls", in_=0, out=0)
        assert echod.lines("handshake-failed")[0]["error"] == "wrong version number"
        with echod.connect() as client:  # nor is nothing at all: that is a health probe
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""
        with Client(echod, trusting()) as client:
            echo(client, b"hello")
        assert len(echod.lines("closed")) >= 7


@scenario
def a_hello_of_ssl_2_is_refused():
    """As clients once sent it, to whatever version the server might speak (RFC 8446, D.5)."""
    hello = b"\x01\x03\x03" + struct.pack(">HHH", 3, 0, 32) + b"\x00\xc0\x2f" + b"R" * 32
    with Echod("-vv", *certificates().server, "tls://127.0.0.1:0") as echod:
        with echod.connect() as client:
            client.sendall(struct.pack(">H", 0x8000 | len(hello)) + hello)
            assert receive_all(client) == b""
        echod.wait_line("handshake-failed", error="wrong version number")


@scenario
def garbage_after_the_handshake(model):
    """It closes the connection, and what came before it was echoed."""
    with Echod("-v", "--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        for number, version in enumerate(VERSIONS, 1):
            with Client(echod, trusting(version=version)) as client:
                echo(client, b"hello")
                client.socket.sendall(b"\x17\x03\x03\x00\x20" + b"no record of ours" * 4)
                try:
                    client.recv(1)
                    raise AssertionError("it was taken")
                except ssl.SSLError as error:
                    assert "ALERT" in str(error), error
                client.socket.shutdown(socket.SHUT_WR)
            echod.wait_line("closed", number, reason="tls", in_=5, out=5)


def is_resumed(echod, context, session):
    with Client(echod, context, session) as client:
        echo(client, b"hello")
        return client.tls.session_reused


def session_of(echod, context):
    with Client(echod, context) as client:
        echo(client, b"hello")  # with 1.3 tickets come after the handshake
        assert not client.tls.session_reused
        assert client.tls.session.has_ticket
        return client.tls.session


@scenario
def sessions_go_on_with_any_worker(model):
    """With four workers, after one was replaced, and after HUP."""
    with replaceable() as files, Echod("-w4", "--model=" + model, *files.server,
                                       "tls://127.0.0.1:0") as echod:
        for version in VERSIONS:
            context = trusting(version=version)
            session = session_of(echod, context)
            assert all(is_resumed(echod, context, session) for _ in range(24))
            if model == "process":
                for number, pid in enumerate(echod.workers(), 1):
                    started = len(echod.lines("worker-started"))
                    os.kill(pid, signal.SIGKILL)
                    echod.wait_line("worker-started", started + 1)
                assert all(is_resumed(echod, context, session) for _ in range(24))
            reloads = len(echod.lines("reloaded"))
            echod.signal(signal.SIGHUP)
            echod.wait_line("reloaded", reloads + 1)
            assert all(is_resumed(echod, context, session) for _ in range(24))


@scenario
def openssl_resumes(model):
    """The same by OpenSSL's own client."""
    files = certificates()
    with Echod("-w4", "--model=" + model, *files.server, "tls://127.0.0.1:0") as echod, \
            tempfile.TemporaryDirectory() as directory:
        session = os.path.join(directory, "session")
        target = ["s_client", "-connect", "%s:%d" % echod.address(), "-CAfile",
                  files.path("root.crt"), "-no_ign_eof"]

        def run(*more):
            """What it says of a connection that echoes a line."""
            with subprocess.Popen(["openssl", *target, *more], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
                client.stdin.write(b"a line\n")
                client.stdin.flush()
                text = b""
                while not text.endswith(b"\na line\n"):
                    line = client.stdout.readline()
                    assert line, text
                    text += line
                client.stdin.close()
                client.stdout.read()
                assert client.wait(DEADLINE) == 0
            return text

        for version in "-tls1_2", "-tls1_3":
            assert b"\nNew, TLSv1" in run(version, "-sess_out", session)
            for _ in range(6):
                assert b"\nReused, TLSv1" in run(version, "-sess_in", session)


@scenario
def clients_need_a_certificate(model):
    """Signed by one of those in the file, be it no root; who has none is told so by an alert."""
    files = certificates()
    for ca in "root", "middle":
        with Echod("-vv", "-w2", "--model=" + model, *files.server,
                   "--tls-client-ca=" + files.path(ca + ".crt"), "tls://127.0.0.1:0") as echod:
            for version in VERSIONS:
                for who in None, "stranger":
                    refused = len(echod.lines("closed", reason="tls"))
                    try:
                        with Client(echod, trusting(version=version, client=who)) as client:
                            client.sendall(b"hello")
                            client.recv(1)
                        raise AssertionError("%s was served" % who)
                    except ssl.SSLError as error:
                        assert "ALERT" in str(error), error
                    echod.wait_line("closed", refused + 1, reason="tls", in_=0, out=0)
                context = trusting(version=version, client="client")
                if ca == "root":  # which has not signed it: the client shows who did
                    files.join("client_chain.crt", "client.crt", "middle.crt")
                    context.load_cert_chain(files.path("client_chain.crt"),
                                            files.path("client.key"))
                session = session_of(echod, context)
                assert all(is_resumed(echod, context, session) for _ in range(8))


def served_as(echod):
    """The name in the certificate that a new connection gets."""
    with Client(echod, trusting()) as client:
        echo(client, b"hello")
        return dict(pair for part in client.tls.getpeercert()["subject"] for pair in part)[
            "commonName"]


@scenario
def hup_loads_a_new_certificate(model):
    """New connections get it from every worker, old ones go on; what is broken changes nothing."""
    with replaceable() as files, Echod("-w4", "--model=" + model, *files.server,
                                       "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting()) as old:
            echo(old, b"before")
            assert served_as(echod) == "server"
            files.join("server.key", "other.key")
            files.join("chain.crt", "other.crt")
            assert served_as(echod) == "server"
            echod.signal(signal.SIGHUP)
            assert echod.wait_line("reloaded").level == "notice"
            assert {served_as(echod) for _ in range(24)} == {"other"}
            echo(old, b"after")
            chain, key = files.path("chain.crt"), files.path("server.key")
            for name, wrong, file in [
                    ("chain.crt", "empty", chain), ("chain.crt", "garbage", chain),
                    ("chain.crt", "cut.crt", chain), ("chain.crt", "bad_chain.crt", chain),
                    ("chain.crt", None, chain), ("server.key", "empty", key),
                    ("server.key", "garbage", key), ("server.key", "cut.key", key),
                    ("server.key", "encrypted.key", key), ("server.key", "rsa.key", key),
                    ("server.key", "client.key", key), ("server.key", None, key)]:
                good, failed = files.read(name), len(echod.lines("reload-failed"))
                if wrong:
                    files.join(name, wrong)
                else:
                    os.unlink(files.path(name))
                echod.signal(signal.SIGHUP)
                assert echod.wait_line("reload-failed", failed + 1)["file"] == file
                assert {served_as(echod) for _ in range(8)} == {"other"}
                files.write(name, good)
            echo(old, b"after all")
            old.half_close(["close_notify"])
            old.expect_end()
        assert len(echod.lines("reloaded")) == 1
        echod.signal(signal.SIGHUP)
        echod.wait_line("reloaded", 2)


@scenario
def who_has_no_room_for_a_certificate_gets_it_later():
    """A worker without descriptors goes on with the old one, and the reload is not done before."""
    with replaceable() as files, Echod("-w2", *files.server, "tls://127.0.0.1:0") as echod:
        assert served_as(echod) == "server"
        files.join("server.key", "other.key")
        files.join("chain.crt", "other.crt")
        reload_without_room(echod, "tls-failed")
        assert {served_as(echod) for _ in range(24)} == {"other"}


@scenario
def workers_open_no_file(model):
    """The files may go: a worker that is replaced has what the others have."""
    with replaceable() as files, Echod("-w2", "--model=" + model, *files.server,
                                       "--tls-client-ca=" + files.path("middle.crt"),
                                       "tls://127.0.0.1:0") as echod:
        context = trusting(client="client")
        session = session_of(echod, context)
        for name in "chain.crt", "server.key", "middle.crt":
            os.unlink(files.path(name))
        if model == "process":
            for pid in echod.workers():
                started = len(echod.lines("worker-started"))
                os.kill(pid, signal.SIGKILL)
                echod.wait_line("worker-started", started + 1)
        for _ in range(12):
            assert is_resumed(echod, context, session)
            with Client(echod, context) as client:
                echo(client, b"hello")


@scenario
def hup_while_workers_are_replaced():
    """Whatever comes first, all have the same in the end."""
    with replaceable() as files, Echod("-w4", "--tls-cert=" + files.path("all.pem"),
                                       "tls://127.0.0.1:0") as echod:
        for number, name in enumerate(["other", "server", "other"], 1):
            files.join("all.pem", name + ".key", name + ".crt", "middle.crt")
            for pid in echod.workers()[:2]:
                os.kill(pid, signal.SIGKILL)
            echod.signal(signal.SIGHUP)
            for pid in echod.workers()[2:]:
                os.kill(pid, signal.SIGKILL)
            echod.wait_line("reloaded", number)
            assert {served_as(echod) for _ in range(24)} == {name}
            wait_until(lambda: len(echod.workers()) == 4, "workers")


@scenario
def self_signed(model):
    """The log has the fingerprint of what clients see; it is good for this host's names."""
    with Echod("-w2", "--model=" + model, "--tls-self-signed", "tls://127.0.0.1:0") as echod:
        with Client(echod, careless()) as client:
            echo(client, b"hello")
            der = client.tls.getpeercert(binary_form=True)
        fingerprint = hashlib.sha256(der).hexdigest().upper()
        line = echod.wait_line("self-signed")
        assert line.level == "notice" and line["fingerprint"].replace(":", "") == fingerprint, line
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=der)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        name = socket.gethostname()
        for host in ["localhost", "127.0.0.1", "::1"] + [name] * name.replace("-", "").isalnum():
            with echod.connect() as plain:
                with context.wrap_socket(plain, server_hostname=host) as client:
                    echo(client, b"hello")
        echod.signal(signal.SIGHUP)
        echod.wait_line("reloaded")
        with Client(echod, careless()) as client:
            assert client.tls.getpeercert(binary_form=True) == der


@scenario
def one_file_for_all():
    files = certificates()
    with Echod("--tls-cert=" + files.path("all.pem"), "tls://127.0.0.1:0") as echod:
        assert served_as(echod) == "server"


@scenario
def what_cannot_be_served_with_is_told_at_start():
    """One line that names the file, status 1; nothing waits for a passphrase."""
    files = certificates()
    fifo = files.path("fifo")
    os.mkfifo(fifo)
    for cert, key, ca, what, where in [
            ("missing", "server.key", None, "No such file", "missing"),
            ("chain.crt", "missing", None, "No such file", "missing"),
            ("chain.crt", "server.key", "missing", "No such file", "missing"),
            (".", "server.key", None, "regular file", "."),
            ("fifo", "server.key", None, "regular file", "fifo"),
            ("empty", "server.key", None, "no certificate", "empty"),
            ("garbage", "server.key", None, "no certificate", "garbage"),
            ("server.key", "server.key", None, "no certificate", "server.key"),
            ("cut.crt", "server.key", None, "malformed certificate", "cut.crt"),
            ("bad_chain.crt", "server.key", None, "malformed certificate", "bad_chain.crt"),
            ("chain.crt", None, None, "no private key", "chain.crt"),
            ("chain.crt", "garbage", None, "no private key", "garbage"),
            ("chain.crt", "cut.key", None, "malformed private key", "cut.key"),
            ("chain.crt", "encrypted.key", None, "encrypted", "encrypted.key"),
            ("chain.crt", "client.key", None, "does not match", "client.key"),
            ("chain.crt", "rsa.key", None, "does not match", "rsa.key"),
            ("chain.crt", "server.key", "empty", "no certificate", "empty"),
            ("chain.crt", "server.key", "server.key", "no certificate", "server.key"),
            ("chain.crt", "server.key", "cut.crt", "malformed certificate", "cut.crt")]:
        arguments = ["--%s=%s" % (option, files.path(name)) for option, name in
                     [("tls-cert", cert), ("tls-key", key), ("tls-client-ca", ca)] if name]
        run = subprocess.run([ECHOD, *arguments, "tls://127.0.0.1:0"], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=DEADLINE, env=sanitized())
        assert run.returncode == 1 and run.stdout == "", run
        assert run.stderr.count("\n") == 1 and run.stderr.startswith("echod: "), run
        assert what in run.stderr and run.stderr.endswith(": %s\n" % files.path(where)), run


@scenario
def a_drain_loses_nothing(model):
    """Quiet ones get close_notify and FIN; who sends on gets all of it back."""
    with Echod("-w2", "--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod, \
            contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(echod, trusting(version=VERSIONS[n % 2])))
                   for n in range(20)]
        busy, quiet = clients[:10], clients[10:]
        for client in clients:
            echo(client, b"hello")
        echod.signal(signal.SIGTERM)
        until, ended = time.monotonic() + 1, set()
        while time.monotonic() < until:
            for client in busy:
                if client not in ended and not trickle(client):
                    ended.add(client)  # we were too slow, and it was quiet
            time.sleep(0.01)
        for client in quiet:
            client.expect_end()
            client.half_close(["close_notify", "FIN"])
        for client in busy:
            if client not in ended:
                client.expect_end()
            client.half_close(["FIN"])
        assert echod.wait() == 0
        assert echod.lines("drained", drained=20, forced=0), echod.raw


def trickle(client):
    """A round trip; false if the end came instead, and nothing is lost."""
    client.tls.write(b"and on")
    client.flush()
    data = client.recv(6)
    assert data in (b"and on", b""), data
    return bool(data)


@scenario
def what_is_cut_counts_as_forced(model):
    """Half a record is something that is still being sent; a quiet client is not."""
    with Echod("--drain-timeout=1", "--model=" + model, *certificates().server,
               "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting()) as half, Client(echod, trusting()) as quiet:
            echo(half, b"hello")
            echo(quiet, b"hello")
            half.tls.write(b"never whole")
            half.socket.sendall(half.outgoing.read()[:-3])
            echod.signal(signal.SIGTERM)
            quiet.expect_end()
            quiet.half_close(["FIN"])
            assert echod.wait() == 0
        assert echod.lines("drained", drained=1, forced=1), echod.raw


@scenario
def idle_ones_are_closed(model):
    with Echod("-v", "--idle-timeout=1", "--model=" + model, *certificates().server,
               "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting()) as client:
            echo(client, b"hello")
            receive_all(client.socket)
            echod.wait_line("closed", reason="idle", in_=5, out=5)


@scenario
def at_most_so_many(model):
    """A handshake too takes a place, and gives it back."""
    with Echod("-w2", "-m2", "--model=" + model, "--handshake-timeout=1", *certificates().server,
               "tls://127.0.0.1:0") as echod:
        with echod.connect(), Client(echod, trusting()) as second:
            echo(second, b"second")
            with Client(echod, trusting()) as third:  # once the first is cut
                echo(third, b"third")
        echod.wait_line("paused", reason="max-connections")


@scenario
def who_never_reads_costs_little(model):
    """Sends until nothing more is taken, and gets it all back once it reads; meanwhile the daemon
    holds no more than a few records of each."""
    clients = 10
    with Echod("--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod, \
            contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(Client(echod, trusting(), small=True))
                       for _ in range(clients)]
        for client in all_of_them:
            echo(client, NOISE[:PIECE])
        before = memory_kib(echod.processes())
        rest = []
        for client in all_of_them:
            sent, waiting = 0, b""
            client.socket.settimeout(0.3)
            with contextlib.suppress(socket.timeout):
                while True:
                    assert sent < 64 * MIB, "64 MiB, and no end: who keeps all that?"
                    client.tls.write(NOISE[sent % MIB:sent % MIB + PIECE])
                    sent += PIECE
                    waiting = client.outgoing.read()
                    while waiting:
                        waiting = waiting[client.socket.send(waiting):]
            rest.append((sent, waiting))
        grown = (memory_kib(echod.processes()) - before) / clients
        assert grown < 200 or os.environ.get("ECHOD_SANITIZED"), "%.0f KiB each" % grown
        for client, (sent, waiting) in zip(all_of_them, rest):
            client.socket.settimeout(DEADLINE)
            sender = threading.Thread(target=client.socket.sendall, args=(waiting,))
            sender.start()
            receive_noise(client, 0, sent)
            sender.join()
            client.half_close(["close_notify"])
            client.expect_end()


def hello(client):
    """Begins the handshake, and leaves what comes unread."""
    with contextlib.suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.flush()


@scenario
def many_handshakes_at_once_leave_little(model):
    """What a handshake takes is given back, also where others were under way in between."""
    if os.environ.get("ECHOD_SANITIZED"):
        raise Skip("sanitizers take memory of their own")
    clients = 200
    with Echod("--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod, \
            contextlib.ExitStack() as stack:
        with Client(echod, trusting()) as first:
            echo(first, b"first")
        before = memory_kib(echod.processes())
        context = trusting()
        all_of_them = [stack.enter_context(Client(echod, context, handshake=False))
                       for _ in range(clients)]
        for client in all_of_them:
            hello(client)
        for client in all_of_them:
            client.complete(client.tls.do_handshake)
            echo(client, b"settled")
        wait_until(lambda: (memory_kib(echod.processes()) - before) / clients < 30,
                   "less than 30 KiB for each")


@scenario
def who_just_closes_was_done(model):
    """Most clients do not wait for our close_notify, and many send none: that is no reset."""
    with Echod("-v", "--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        for number, version in enumerate(VERSIONS * 2, 1):
            with Client(echod, trusting(version=version)) as client:
                echo(client, b"hello")
                if number > 2:
                    client.half_close(["close_notify"])
            echod.wait_line("closed", number, reason="eof", in_=5, out=5)


@scenario
def bytes_are_counted_without_their_wrapping(model):
    with Echod("-vv", "--model=" + model, *certificates().server, "tls://127.0.0.1:0") as echod:
        with Client(echod, trusting()) as client:
            echo(client, b"hello")
            wait_until(lambda: echod.stats()["sent_bytes"] == 5, "the count of the answer")
            assert echod.stats()["received_bytes"] == 5
            assert echod.lines("received")[0]["data"] == "hello"
            client.half_close(["close_notify"])
            client.expect_end()
        echod.wait_line("closed", in_=5, out=5, reason="eof")


main()
