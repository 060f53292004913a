"""Starts the real programs and speaks to them; runs scenarios, printing TAP.

No fixed port, no fixed sleep: the daemon listens at port 0 and says where, and what takes time is
polled with a deadline. ECHOD and ECHOPROBE name the programs under test; ECHOD_MODELS, if set,
limits which models are tried (process,thread).
"""
import contextlib
import ctypes
import fcntl
import functools
import inspect
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

ECHOD = os.environ.get("ECHOD", "src/echod")
ECHOPROBE = os.environ.get("ECHOPROBE", "src/echoprobe")
MODELS = os.environ.get("ECHOD_MODELS", "process,thread").split(",")
DEADLINE = float(os.environ.get("ECHOD_DEADLINE", "20"))  # seconds; more than ever needed

LINE = re.compile(r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>error|warning|"
                  r"notice|info|debug) (?P<event>[a-z-]+)(?P<rest>( [a-z_-]+=(\"([^\"\\]|\\.)*\"|"
                  r"[^ \"=\x00-\x1f\x7f]+))*)")
PAIR = re.compile(r" ([a-z_-]+)=(\"(?:[^\"\\]|\\.)*\"|[^ ]+)")


SUPPRESSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tsan.supp")

# A sanitizer is to leave a crash alone, and threads that a second signal cuts off.
SANITIZERS = {
    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0",
    "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "") + ":handle_segv=0",
    "TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") +
                    ":handle_segv=0:report_thread_leaks=0:suppressions=" + SUPPRESSIONS,
}


def sanitized(environment=None):
    """Our environment for a program under test, with ENVIRONMENT added."""
    return {**os.environ, **SANITIZERS, **(environment or {})}


class Line:
    """One log line: .level, .event, and the values by key, unquoted."""

    def __init__(self, text):
        match = LINE.fullmatch(text)
        assert match, "not a log line: %r" % text
        self.text, self.level, self.event = text, match["level"], match["event"]
        self.values = {}
        for key, value in PAIR.findall(match["rest"]):
            if value.startswith('"'):
                value = value[1:-1].encode().decode("unicode_escape")
            self.values[key] = value

    def __getitem__(self, key):
        return self.values[key]

    def __repr__(self):
        return self.text


def wait_until(condition, what, seconds=DEADLINE):
    """Polls CONDITION until it gives something true, which is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "waited %g s for %s" % (seconds, what)
        time.sleep(0.01)


class Echod:
    """A running daemon; end it with stop(), or leave a `with` block to have it killed.

    ARGUMENTS are options and endpoints; without an endpoint (anything not beginning with `-`) it
    serves tcp://127.0.0.1:0. NOFILE is a limit of descriptors, or a pair: soft and hard. With
    ready=False the constructor does not wait for the `ready` line. PASSED are sockets that are
    passed as a service manager does it, with NAMES; LAUNCHER is a command that does so, and what it
    says itself is no line of the log. Both leave the default endpoint to the daemon.
    """

    def __init__(self, *arguments, nofile=None, environment=None, ready=True, stderr=None,
                 passed=(), names=None, launcher=()):
        arguments = [str(a) for a in arguments]
        if not passed and not launcher and all(a.startswith("-") for a in arguments):
            arguments.append("tcp://127.0.0.1:0")
        environment = dict(environment or {})
        self.launcher = list(launcher)
        if passed:
            self.launcher = ["sh", "-c", 'LISTEN_PID=${LISTEN_PID-$$} exec "$@"', "sh"]
            environment.setdefault("LISTEN_FDS", str(len(passed)))
            if names:
                environment["LISTEN_FDNAMES"] = names

        def prepare():
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE,
                                   nofile if isinstance(nofile, tuple) else (nofile, nofile))
            aside = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 100) for one in passed]
            for number, fd in enumerate(aside, 3):
                os.dup2(fd, number)
                os.close(fd)

        self.process = subprocess.Popen([*self.launcher, ECHOD, *arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=stderr or subprocess.PIPE, preexec_fn=prepare,
                                        close_fds=not passed, env=sanitized(environment))
        self.pid = self.process.pid
        self.raw = []        # stderr, line by line
        self.parsed = []     # the same, as far as somebody asked
        self.lock = threading.Lock()
        self.closed = False  # stderr has ended: nobody holds it any more
        if stderr is None:
            threading.Thread(target=self._collect, daemon=True).start()
            if ready:
                try:
                    self.wait_line("ready")
                except BaseException:
                    self.kill()
                    raise

    def _collect(self):
        for line in self.process.stderr:
            self.raw.append(line.decode("utf-8", "surrogateescape").rstrip("\n"))
        self.closed = True

    def _is_no_line(self, text):
        return text.startswith("echod: ") or (self.launcher and not LINE.fullmatch(text))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def lines(self, event=None, **values):
        """The log so far: lines of EVENT with these VALUES (`in` is spelt in_). What a daemon says
        that cannot start is no line of the log."""
        with self.lock:
            self.parsed += [None if self._is_no_line(text) else Line(text)
                            for text in self.raw[len(self.parsed):]]
            return [line for line in self.parsed if line and event in (None, line.event) and all(
                line.values.get(k.rstrip("_")) == str(v) for k, v in values.items())]

    def wait_line(self, event, count=1, seconds=DEADLINE, **values):
        """Waits for the COUNT-th such line and returns it."""
        def look():
            found = self.lines(event, **values)
            if len(found) < count and self.closed:
                raise AssertionError("ended without %s %s: %s" % (event, values, self.raw[-8:]))
            return found[count - 1] if len(found) >= count else None
        return wait_until(look, "line %d of %s %s" % (count, event, values), seconds)

    def address(self, index=0):
        """(host, port) of the INDEX-th `listening` line."""
        host, port = self.wait_line("listening", index + 1)["endpoint"].split("://")[1].rsplit(
            ":", 1)
        return host.strip("[]"), int(port)

    def endpoint(self, index=0):
        """The same, as echoprobe takes it."""
        return self.wait_line("listening", index + 1)["endpoint"]

    def connect(self, index=0, timeout=DEADLINE):
        return socket.create_connection(self.address(index), timeout=timeout)

    def workers(self):
        """Process ids of the workers that run (process model), youngest last."""
        with open("/proc/%d/task/%d/children" % (self.pid, self.pid)) as children:
            return sorted(map(int, children.read().split()), key=start_time)

    def processes(self):
        return [self.pid] + self.workers()

    def stats(self):
        """Asks for a `stats` line and returns its values as numbers."""
        count, asked = len(self.lines("stats")), 0

        def ask():
            nonlocal asked
            if time.monotonic() - asked > 3:  # or again: a line may be lost where nobody reads
                self.signal(signal.SIGUSR1)
                asked = time.monotonic()
            return len(self.lines("stats")) > count

        wait_until(ask, "a stats line")
        values = self.lines("stats")[count].values
        return {key: float(value) for key, value in values.items()}

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, number=None, seconds=DEADLINE):
        """Sends a signal (TERM) and returns the exit status; the whole log is there then."""
        self.signal(number or signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds=DEADLINE):
        status = self.process.wait(seconds)
        wait_until(lambda: self.closed or self.process.stderr is None, "the end of stderr")
        return status

    def kill(self):
        """Ends it and its workers, whatever state they are in."""
        if self.process.poll() is None:
            workers = self.workers()
            self.process.kill()
            self.process.wait()
            for pid in workers:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


class Probe:
    """A running echoprobe: .process; leave a `with` block to have it killed."""

    def __init__(self, *arguments, environment=None):
        self.process = subprocess.Popen([ECHOPROBE, *map(str, arguments)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True,
                                        env=sanitized(environment))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def wait(self, seconds=3 * DEADLINE):
        """Waits for its end; a subprocess.CompletedProcess with its text."""
        output, errors = self.process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, output,
                                           errors)


class Server:
    """Runs SERVE(connection) in a thread for each client, until a `with` block ends. LISTENER is
    the socket to listen at; what it accepts is given to WRAP first, whose result is served."""

    def __init__(self, serve, listener=None, wrap=None):
        self.serve, self.wrap = serve, wrap
        self.listener = listener or socket.create_server(("127.0.0.1", 0), backlog=128)
        name = self.listener.getsockname()
        self.endpoint = "%s:%d" % name[:2] if isinstance(name, tuple) else "unix://" + name
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                if connection.family != socket.AF_UNIX:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            if self.wrap:
                with self.wrap(connection) as wrapped:
                    self.serve(wrapped)
            else:
                self.serve(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Manager:
    """A service manager, who hears what it is told: .variables are for the environment, .messages
    what came."""

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


def probe(*arguments, environment=None, seconds=3 * DEADLINE):
    """Runs echoprobe to its end; a subprocess.CompletedProcess with its text."""
    return subprocess.run([ECHOPROBE, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=seconds,
                          env=sanitized(environment))


def probe_report(*arguments, status=0, errors=""):
    """What echoprobe says with --json; it ends with STATUS and has ERRORS on stderr."""
    return check_report(probe("--json", *arguments), status, errors)


def check_report(run, status=0, errors=""):
    """The same of a run that has ended."""
    assert (run.returncode, run.stderr) == (status, errors), run
    assert run.stdout.count("\n") == 1 and run.stdout.endswith("\n"), run.stdout
    return json.loads(run.stdout)


def start_time(pid):
    """When PID was started, in ticks since boot."""
    try:
        with open("/proc/%d/stat" % pid) as status:
            return int(status.read().rsplit(")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def is_alive(pid):
    """Does PID run (a zombie does not)?"""
    try:
        with open("/proc/%d/stat" % pid) as status:
            return status.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def suspend(pid):
    """Stops a process, with SIGSTOP, and waits until each of its threads has stopped."""
    os.kill(pid, signal.SIGSTOP)
    tasks = "/proc/%d/task" % pid

    def has_stopped():
        for task in os.listdir(tasks):
            with open("%s/%s/stat" % (tasks, task)) as status:
                state = status.read().rsplit(")", 1)[1].split()[0]
            assert state not in "ZX", "process %d has ended" % pid
            if state != "T":
                return False
        return True

    wait_until(has_stopped, "process %d to stop" % pid)


def memory_kib(pids):
    """Private memory of these processes, KiB."""
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as rollup:
            for line in rollup:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    total += int(line.split()[1])
    return total


def cpu_seconds(pids):
    """CPU time that these processes have used."""
    total = 0
    for pid in pids:
        with open("/proc/%d/stat" % pid) as status:
            fields = status.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def sockets_of(pid):
    """How many sockets a process has open."""
    directory, count = "/proc/%d/fd" % pid, 0
    for name in os.listdir(directory):
        try:
            count += os.readlink(os.path.join(directory, name)).startswith("socket:")
        except FileNotFoundError:
            pass
    return count


def counts(report):
    """What --json says went wrong."""
    return report["lost"], report["corrupt"], report["errors"]


def receive_exactly(connection, count):
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(1 << 20, count - len(data)))
        assert piece, "the end after %d of %d bytes" % (len(data), count)
        data += piece
    return bytes(data)


def receive_all(connection):
    """Everything up to the end."""
    data = bytearray()
    while True:
        piece = connection.recv(1 << 20)
        if not piece:
            return bytes(data)
        data += piece


def echo(connection, message):
    """One round trip, checked."""
    connection.sendall(message)
    answer = receive_exactly(connection, len(message))
    assert answer == message, "%r came back as %r" % (message[:40], answer[:40])


def connect_from(source, address, timeout=DEADLINE):
    """A connection from the IP address SOURCE, begun: it is made when it is used first."""
    client = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
    client.bind((source, 0))
    client.setblocking(False)
    client.connect_ex(address)
    client.settimeout(timeout)
    return client


def stuff(client):
    """Sends until nobody takes any more; returns how much that was."""
    sent = 0
    client.settimeout(0.15)
    try:
        while True:
            sent += client.send(b"x" * 65536)
    except socket.timeout:
        client.settimeout(DEADLINE)
        return sent


def connect_slow_reader(echod):
    """A client for whom the kernels hold next to nothing; it sends small segments, each at once."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(DEADLINE)
    client.connect(echod.address())
    return client


def stuff_until_it_is_held(echod, client):
    """Sends until the daemon itself holds bytes for CLIENT, its only one, and has none left to
    read, which alone would make the kernel reset; returns how many were sent, and when the last."""
    sent = 0
    while True:
        client.sendall(b"x" * 1000)
        sent, last = sent + 1000, time.monotonic()
        wait_until(lambda: echod.stats()["received_bytes"] == sent, "%d bytes to be read" % sent)
        if all(echod.stats()["sent_bytes"] < sent for _ in range(10)):  # and not just not yet
            return sent, last


def receive_until_reset(connection):
    """Reads until the peer resets, as it must; returns how many bytes came before."""
    got = 0
    try:
        while True:
            piece = connection.recv(1 << 20)
            assert piece, "a clean end after %d bytes" % got
            got += len(piece)
    except ConnectionResetError:
        return got


def reset(connection):
    """Closes with RST in place of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


SCENARIOS = []


def scenario(function):
    """A scenario is tried once; one with the parameter `model` once with each model."""
    takes_model = "model" in inspect.signature(function).parameters
    for model in MODELS if takes_model else [None]:
        SCENARIOS.append((function, model))
    return function


def reload_without_room(echod, event):
    """A reload while its first worker has no descriptor left for what it is sent, which EVENT
    tells; it is done once there is one."""
    pid = echod.workers()[0]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    echod.signal(signal.SIGHUP)
    line = echod.wait_line(event, 2)  # it was tried again
    assert line.level == "error" and line["error"] == "Too many open files", line
    assert not echod.lines("reloaded")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    echod.wait_line("reloaded")


class Skip(Exception):
    """Raised by a scenario that cannot be tried here; its text says why."""


def needs_tls():
    """Skips the scenario where the programs were built without."""
    version = subprocess.run([ECHOD, "--version"], capture_output=True, text=True).stdout
    if "with TLS" not in version:
        raise Skip("built without TLS")


class TooSlow(Skip):
    """The same, because this machine was busy for a moment: it is tried again, a few times."""


def in_namespace(*commands):
    """The scenario runs in a process and a network of its own, in which COMMANDS of ip(8) were
    run; skipped where that is not permitted."""
    def decorate(function):
        @functools.wraps(function)
        def alone(*arguments, **named):
            ours, theirs = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(ours)
                os._exit(_run_alone(commands, lambda: function(*arguments, **named), theirs))
            os.close(theirs)
            with os.fdopen(ours) as pipe:
                text = pipe.read()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status == SKIPPED:
                raise Skip(text)
            assert status == 0, text or "ended with status %d" % status
        return alone
    return decorate


SKIPPED = 77
CLONE_NEWNET = 0x40000000
IFA_F_TENTATIVE, RTF_LOCAL = 0x40, 0x80000000


def _addresses_are_routed():
    """Does the kernel deliver to each IPv6 address? It does a moment after it was added."""
    with open("/proc/net/if_inet6") as addresses, open("/proc/net/ipv6_route") as routes:
        added = {fields[0] for fields in map(str.split, addresses)
                 if not int(fields[4], 16) & IFA_F_TENTATIVE}
        return added <= {fields[0] for fields in map(str.split, routes)
                         if int(fields[8], 16) & RTF_LOCAL}


def _run_alone(commands, action, pipe):
    """In the child: runs ACTION in a network of its own; the exit status, and why to PIPE."""
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise Skip("a network of its own: " + os.strerror(ctypes.get_errno()))
        for command in ("link set lo up", *commands):
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)
        wait_until(_addresses_are_routed, "the addresses to be routed")
        action()
        return 0
    except Skip as why:
        os.write(pipe, str(why).encode())
        return SKIPPED
    except BaseException:
        os.write(pipe, traceback.format_exc().encode())
        return 1


def run(function, model):
    """Runs a scenario."""
    for patience in range(5, -1, -1):
        try:
            return function(**({"model": model} if model else {}))
        except TooSlow:
            if patience == 0:
                raise


def main(around=False):
    """Runs the scenarios (or those whose names are arguments) and prints TAP. AROUND: they are of
    what stands around the programs, and tell a sanitizer nothing that others do not."""
    if around and os.environ.get("ECHOD_SANITIZED"):
        print("1..0 # SKIP of what stands around the programs")
        return
    wanted = [s for s in SCENARIOS if not sys.argv[1:] or s[0].__name__ in sys.argv[1:]]
    failed = 0
    print("1..%d" % len(wanted), flush=True)
    for number, (function, model) in enumerate(wanted, 1):
        title = "%d - %s%s" % (number, function.__name__.replace("_", " "),
                               ", %s model" % model if model else "")
        try:
            run(function, model)
            print("ok", title, flush=True)
        except Skip as why:
            print("ok", title, "# SKIP", why, flush=True)
        except Exception:
            failed += 1
            print("not ok", title)
            print("".join("# %s\n" % line for line in traceback.format_exc().splitlines()),
                  end="", flush=True)
    sys.exit(1 if failed else 0)
