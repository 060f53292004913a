#!/usr/bin/env python3
"""What an engineer wants to know of an echo server, tried: echod beside inetd, xinetd, ncat and
socat, each as its manual would have it serve echo. The table is that of README; bench/README says
how each row is tried. In a network of its own, so it takes root; nothing is left behind.

Environment: BENCH_ROUNDS=N. Example: bench/beside.py --peers echod,socat --rows half-close,deny
"""
import argparse
import contextlib
import functools
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import hostile
import measure
import peers
import table
import textplot
from columns import Column

PORT = 7  # inetd's own echo serves no other
HOST = "127.0.0.1"
FIRST, SECOND = "10.7.0.1", "10.7.0.2"  # for datagrams: inetd answers none from 127/8
OWED = 12_000_000   # bytes of the client that half-closes
LIMIT = 20          # descriptors, and processes, of a server that is to run out
CLIENTS = 40        # come then
HELD = 200
USER = "uucp"       # whose limit of processes that is: nobody else's
PATIENCE = 3        # seconds
SIZES = 64, 512, 1024, 1400, 4096, 8192, 16384, 65507
TRIES = 4           # with a datagram
METRICS = 9777
LOAD = Column("small", "50 x 64 B", 50, ["--load", "-s", 64], True)

INETD = "{host}:echo {kind} {protocol}4 {wait} {user} internal\n"
XINETD = """
service echo
{{
    type = INTERNAL
    id = echo-{protocol}
    flags = {flags}
    socket_type = {kind}
    protocol = {protocol}
    wait = {wait}
    bind = {host}
    user = {user}
    {more}
}}
"""
NO_LIMITS = "instances = UNLIMITED\n    per_source = UNLIMITED\n    cps = 100000 1"


class Missing(Exception):
    """It has no such thing; the text is the cell."""


def written(text):
    """A configuration file."""
    with tempfile.NamedTemporaryFile("w", dir=scratch, suffix=".conf", delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    return file.name


# Each gives the command that serves WAY at HOST: "default" is what comes without any limit set or
# lifted, "tcp" is without limits, "most" is with at most 10 connections, "deny" without us.

def echod(way, host=HOST, user=None):
    at = "%s:%d" % (host, PORT)
    return [options.echod, "--quiet", *{
        "default": ["tcp://" + at], "tcp": ["tcp://" + at], "udp": ["udp://" + at],
        "tls": ["--tls-self-signed", "tls://" + at], "most": ["--max-connections=10", at],
        "deny": ["--deny=127.0.0.0/8", at], "metrics": ["--metrics=%s:%d" % (host, METRICS), at],
        "proxy": ["tcp://%s?proxy=127.0.0.1" % at]}[way]]


def inetd(way, host=HOST, user="root"):
    if way == "deny":  # by libwrap, whose file is the whole system's; for what is executed only
        return ["unshare", "--mount", "sh", "-c",
                'mount --bind "$0" /etc/hosts.deny && exec "$@"', written("ALL: 127.0.0.0/8\n"),
                peers.find("inetd"), "-i", "-l", written(
                    "%s:%d stream tcp4 nowait root %s cat\n" % (host, PORT, peers.find("cat")))]
    if way not in ("default", "tcp", "udp"):
        raise Missing("no")
    protocol = "udp" if way == "udp" else "tcp"
    wait = {"udp": "wait", "default": "nowait", "tcp": "nowait.100000"}[way]
    kind = "dgram" if way == "udp" else "stream"
    return [peers.find("inetd"), "-i", written(INETD.format(
        host=host, kind=kind, protocol=protocol, wait=wait, user=user))]


def xinetd(way, host=HOST, user="root"):
    if way in ("tls", "proxy", "metrics"):
        raise Missing("no")
    udp = way == "udp"
    more = {"default": "", "tcp": NO_LIMITS, "udp": "", "most": "instances = 10\n    cps = 1000 1",
            "deny": "no_access = 127.0.0.0/8"}[way]
    return [peers.find("xinetd"), "-dontfork", "-filelog", "/dev/null", "-pidfile",
            os.path.join(scratch, "xinetd.pid"), "-f", written(XINETD.format(
                host=host, user=user, more=more, protocol="udp" if udp else "tcp",
                kind="dgram" if udp else "stream", wait="yes" if udp else "no",
                flags="IPv4" if udp else "NODELAY"))]


def ncat(way, host=HOST, user=None):
    more = {"default": [], "tcp": ["-m", "5000"], "udp": ["--udp"], "most": ["-m", "10"],
            "tls": ["--ssl"], "deny": ["--deny", "127.0.0.0/8"]}
    if way not in more:
        raise Missing("no")
    return [peers.find("ncat"), "--listen", "--keep-open", *more[way], "--exec", peers.find("cat"),
            host, str(PORT)]


def socat(way, host=HOST, user=None):
    listen = "TCP-LISTEN:%d,bind=%s,reuseaddr,fork" % (PORT, host)
    more = {"default": listen, "tcp": listen + ",nodelay,backlog=4096",
            "most": listen + ",max-children=10", "deny": listen + ",range=10.0.0.0/8",
            "udp": "UDP4-RECVFROM:%d,bind=%s,fork" % (PORT, host)}
    if way == "tls":
        pem = self_signed()
        return [peers.find("socat"), "OPENSSL-LISTEN:%d,bind=%s,reuseaddr,fork,cert=%s,verify=0" % (
            PORT, host, pem), "EXEC:cat"]
    if way not in more:
        raise Missing("no")
    return [peers.find("socat"), "-b", "65536", more[way], "EXEC:cat"]


PEERS = {"echod": echod, "inetd": inetd, "xinetd": xinetd, "ncat": ncat, "socat": socat}


def self_signed():
    pem = os.path.join(scratch, "self.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-keyout", pem,
                    "-out", pem + ".crt"], check=True, capture_output=True)
    with open(pem, "a") as key, open(pem + ".crt") as certificate:
        key.write(certificate.read())
    return pem


class Server(measure.Server):
    """One of them, at PORT; whatever it leaves behind is ended."""

    def __init__(self, peer, way, launcher=()):
        self.udp, self.seen = way == "udp", {}
        user = USER if launcher else "root"
        command = [*launcher, *PEERS[peer](way, host=FIRST if self.udp else HOST, user=user)]
        super().__init__(command, cores=os.sched_getaffinity(0), port=PORT)

    def _wait_until_it_listens(self, name):
        if not self.udp:
            return super()._wait_until_it_listens(name)
        time.sleep(0.3)  # a datagram might be a client that it is then occupied with

    def tree(self):
        """Also those whose parent has ended."""
        for pid in super().tree():
            self.seen.setdefault(pid, measure.born(pid))
        return [pid for pid, born in self.seen.items() if measure.born(pid) == born]

    def stop(self):
        left = self.tree()
        for pid in left:
            if pid != self.process.pid:
                measure.kill(pid)
        super().stop()


def connect():
    client = socket.create_connection((HOST, PORT), timeout=PATIENCE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def echoes(client, message=b"hello"):
    """Does it come back?"""
    try:
        client.sendall(message)
        back = b""
        while len(back) < len(message):
            piece = client.recv(len(message))
            if not piece:
                return False
            back += piece
        return back == message
    except OSError:
        return False


def half_close(peer):
    """The worst of three."""
    cells = [half_close_once(peer) for _ in range(3)]
    return max(cells, key=lambda cell: (cell == "stalls", cell != "exact"))


def half_close_once(peer):
    """All is sent, then FIN; the reader pauses for a second now and then."""
    with Server(peer, "tcp"), connect() as client:
        sent = os.urandom(OWED)

        def send():
            with contextlib.suppress(OSError), client.dup() as same:
                same.settimeout(60)
                same.sendall(sent)
                same.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        client.settimeout(PATIENCE)
        sender.start()
        back, stalled = bytearray(), False
        try:
            while True:
                piece = client.recv(65536)
                if not piece:
                    break
                if len(back) // 2_000_000 != (len(back) + len(piece)) // 2_000_000:
                    time.sleep(1)
                back += piece
        except socket.timeout:
            stalled = True
        except OSError:
            pass
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # the sender, should it still try
        sender.join()
    if back == sent:
        return "exact"
    return "stalls" if stalled else "%.0f %% lost" % (100 - 100 * len(back) / OWED)


def slow_reader(peer):
    with Server(peer, "tcp") as server, connect() as client:
        assert echoes(client)
        before, most = server.private_kib(), 0
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 500_000_000:
                sent += client.send(b"x" * 65536)
                most = max(most, server.private_kib())
        most = max(most, server.private_kib())
    return "+%.0f KiB" % max(0, most - before) if sent < 500_000_000 else "unbounded"


def run_out(peer):
    """Neither descriptors nor processes suffice for all; then some go."""
    launcher = ["prlimit", "--nofile=%d" % LIMIT, "--nproc=%d" % LIMIT, "setpriv", "--reuid", USER,
                "--regid", USER, "--clear-groups"]
    with Server(peer, "tcp", launcher) as server:
        clients = []
        for _ in range(CLIENTS):
            with contextlib.suppress(OSError):
                clients.append(connect())
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.sendall(b"hello")
        time.sleep(1.5)
        served, waiting = [], []
        for client in clients:
            try:
                served += [client] if client.recv(9) == b"hello" else []
            except BlockingIOError:
                waiting.append(client)
            except OSError:
                pass
        if server.process.poll() is not None:
            return "exits"
        used, began = server.cpu_seconds(), time.monotonic()
        time.sleep(0.5)
        busy = (server.cpu_seconds() - used) / (time.monotonic() - began)
        for client in served:
            client.close()
        later = 0
        for client in waiting:
            client.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                later += client.recv(9) == b"hello"
            client.close()
        try:
            with connect() as newcomer:
                again = echoes(newcomer)
        except OSError:
            again = False
        dropped = CLIENTS - len(served) - later
        cell = "all served" if dropped == 0 else "%d lost" % dropped
        return cell + (", spins" if busy > 0.5 else "") + ("" if again else ", hangs")


@functools.lru_cache
def at_once(peer):
    """Processes, and memory for each of HELD connections."""
    with Server(peer, "tcp") as server:
        time.sleep(0.3)
        before, processes, clients = server.private_kib(), len(server.tree()), []
        for _ in range(HELD):
            clients.append(connect())
            assert echoes(clients[-1])
        more, kib = len(server.tree()) - processes, server.private_kib() - before
        for client in clients:
            client.close()
    return more, kib / HELD


def processes_each(peer):
    return "%.0f" % (at_once(peer)[0] / HELD)


def memory_each(peer):
    return "%.0f KiB" % at_once(peer)[1]


def one_after_another(peer):
    """300 connections in a row, without an option that limits or lifts limits; it is given up when
    three in a row were not served."""
    with Server(peer, "default"):
        served, failed = 0, 0
        for _ in range(300):
            good = False
            with contextlib.suppress(OSError), connect() as client:
                good = echoes(client)
            served, failed = (served + 1, 0) if good else (served, failed + 1)
            if failed == 3:
                break
    return "%d" % served


@functools.lru_cache
def loads(peer):
    """Its rate as a share of echod's just before or after, and its CPU time for a message."""
    shares, cpu = [], []
    column = LOAD._replace(connections=8) if peer == "ncat" else LOAD
    for number in range(options.rounds):
        def run(name):
            with measure.Server(PEERS[name]("tcp"), port=PORT) as server:
                return measure.load(options.probe, server, column, 2)
        ours, theirs = measure.run_pair(run, "echod", peer, number % 2)
        shares.append(theirs["rate"] / ours["rate"])
        cpu.append(theirs["cpu"])
    return "%.2f" % statistics.median(shares), "%.0f us" % statistics.median(cpu)


def datagrams_received():
    with open("/proc/net/snmp") as counters:
        names, values = [line.split() for line in counters if line.startswith("Udp:")]
    return int(values[names.index("InDatagrams")])


def comes_back(size):
    """Does a datagram?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((FIRST, PORT))
        client.settimeout(0.5)
        message = os.urandom(size)
        client.send(message)
        try:
            return client.recv(65536) == message
        except OSError:
            return False


def udp(peer):
    """The largest datagram that comes back whole; each is from a source of its own."""
    largest = 0
    with Server(peer, "udp"):
        for size in SIZES:
            if not any(comes_back(size) for _ in range(TRIES)):
                break
            largest = size
    return "any size" if largest == SIZES[-1] else "up to %d B" % largest if largest else "no"


def forge(source, destination, text=b"loop"):
    """A datagram from where we are not."""
    head = struct.pack("!HHHH", PORT, PORT, 8 + len(text), 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(text), 0, 0, 64, socket.IPPROTO_UDP, 0,
                     socket.inet_aton(source), socket.inet_aton(destination))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(ip + head + text, (destination, 0))


def udp_loop(peer):
    """Two of them, set on each other by one datagram with a forged source."""
    if udp(peer) == "no":
        return "no UDP"
    with Server(peer, "udp"), another(peer, SECOND):
        before = datagrams_received()
        forge(SECOND, FIRST)
        time.sleep(1)
        after = datagrams_received() - before
        time.sleep(0.5)
        goes_on = datagrams_received() - before > after
    return "for ever" if goes_on else "ends"


@contextlib.contextmanager
def another(peer, host):
    other = measure.start(PEERS[peer]("udp", host=host), os.sched_getaffinity(0),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        yield
    finally:
        for pid in measure.children_of(other.pid):
            measure.kill(pid)
        other.kill()
        other.wait()


def tls(peer):
    with Server(peer, "tls"):
        done = subprocess.run([options.probe, "--insecure", "-n", "3", "-i", "0.05",
                               "tls://%s:%d" % (HOST, PORT)], capture_output=True)
    return "yes" if done.returncode == 0 else "fails"


def proxy(peer):
    """The header is taken, and not echoed."""
    with Server(peer, "proxy"), connect() as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n")
        return "yes" if echoes(client) else "no"


def term(peer):
    """SIGTERM, while 10 clients are owed megabytes that they read slowly, and one is idle."""
    size, whole = 4_000_000, []
    with Server(peer, "tcp") as server, connect() as idle:
        assert echoes(idle)

        def transfer():
            with contextlib.suppress(OSError), connect() as client:
                sender = threading.Thread(target=lambda: quietly(client, size))
                sender.start()
                got = 0
                while got < size:
                    time.sleep(0.02)
                    piece = client.recv(65536)
                    if not piece:
                        break
                    got += len(piece)
                whole.append(got == size)
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
                sender.join()

        clients = [threading.Thread(target=transfer) for _ in range(10)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        server.tree()
        server.process.terminate()
        for client in clients:
            client.join()
        idle.settimeout(PATIENCE)
        try:
            ended = idle.recv(9) == b""
        except socket.timeout:
            ended = False
        except OSError:
            ended = True
        idle.close()
        finished = sum(whole)
    if finished == 10:
        return "all finish" + ("" if ended else " *")
    return "%d of 10 cut" % (10 - finished)


def quietly(client, size):
    with contextlib.suppress(OSError), client.dup() as same:
        same.settimeout(60)
        same.sendall(bytes(size))


def most(peer):
    """At most 10: what becomes of number 11 to 15."""
    with Server(peer, "most"):
        time.sleep(0.3)
        clients = [connect() for _ in range(15)]
        served = 0
        for client in clients[:10]:
            served += echoes(client)
        refused = 0
        for client in clients[10:]:
            client.settimeout(0.5)
            try:
                client.sendall(b"x")
                refused += client.recv(1) == b""
            except socket.timeout:
                pass
            except OSError:
                refused += 1
        for client in clients:
            client.close()
    if served < 10:
        return "%d served" % served
    return "refused" if refused == 5 else "waits" if refused == 0 else "%d refused" % refused


def deny(peer):
    """Who is on the list gets nothing back."""
    with Server(peer, "deny"):
        try:
            with connect() as client:
                return "no" if echoes(client) else "yes"
        except OSError:
            return "yes"


def metrics(peer):
    """Counters that a Prometheus could scrape."""
    with Server(peer, "metrics"):
        with urllib.request.urlopen("http://%s:%d/metrics" % (HOST, METRICS), timeout=2) as page:
            return "yes" if b"# TYPE" in page.read() else "no"


def from_bench(title):
    """What `make bench` measured, in the column TITLE of RESULTS: the plot's figures."""
    with open(textplot.RESULTS) as file:
        column = textplot.read_column(list(file), title)
    return lambda peer: column.get({"echod": "echod process"}.get(peer, peer), "-")


ROWS = {
    "half-close": ("half-close, slow reader", half_close),
    "slow": ("client never reads", slow_reader),
    "run-out": ("40 clients, room for 20", run_out),
    "processes": ("processes a client", processes_each),
    "memory": ("memory a client", memory_each),
    "row": ("300 in a row, served", one_after_another),
    "rate": ("messages/s", from_bench(textplot.COLUMNS[0][0])),
    "connects": ("new connections/s", from_bench(textplot.COLUMNS[1][0])),
    "share": ("messages/s, of echod's", lambda peer: loads(peer)[0]),
    "cpu": ("CPU time a message", lambda peer: loads(peer)[1]),
    "udp": ("UDP", udp),
    "loop": ("forged loop of two", udp_loop),
    "tls": ("TLS", tls),
    "proxy": ("PROXY protocol", proxy),
    "term": ("SIGTERM, 10 transfers", term),
    "most": ("at most 10: the 11th", most),
    "deny": ("access list", deny),
    "metrics": ("metrics to scrape", metrics),
}
BUSY = "share", "cpu"  # these want a machine that has nothing else to do: by request only


def cell(row, peer):
    try:
        return ROWS[row][1](peer)
    except Missing as what:
        return str(what)
    except (measure.Failure, OSError) as failure:
        print("%s, %s: %s" % (peer, row, failure), file=sys.stderr)
        return "-"


def version(peer):
    package = {"inetd": "openbsd-inetd"}.get(peer, peer)
    if peer == "echod":
        return table.first_line(options.echod, "--version")
    policy = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True).stdout
    found = re.search(r"Candidate: (?:\d+:)?(.*)", policy)
    return package + " " + (found[1] if found else "of unknown version")


def line(title, cells):
    return (title.ljust(24) + "".join(text.ljust(14) for text in cells)).rstrip()


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--echod", default="src/echod")
    parser.add_argument("--probe", default="src/echoprobe")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS") or 5))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rows", default=",".join(
        row for row in ROWS if row not in BUSY))
    return parser.parse_args()


def main():
    if not hostile.enter_network():
        sys.exit("beside.py: a network of its own is not permitted: root is needed")
    for address in FIRST, SECOND:
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as file:
        file.write("0")  # of that network
    measure.raise_limit(4096)
    names = options.peers.split(",")
    print(", ".join(version(name) for name in names) + "\n", flush=True)
    print(line("", names))
    for row in options.rows.split(","):
        print(line(ROWS[row][0], [cell(row, name) for name in names]), flush=True)
    print("\nload average at the end %.2f %.2f %.2f" % os.getloadavg())


if __name__ == "__main__":
    options = parse()
    scratch = tempfile.mkdtemp()
    os.chmod(scratch, 0o755)
    try:
        main()
    finally:
        shutil.rmtree(scratch)
