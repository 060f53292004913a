"""Starts a server and a client on their own cores, and takes what a measurement needs."""
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import time

SERVER_CORE, CLIENT_CORE = 0, 1
PATIENCE = 6  # seconds that a server may take to listen, and a client beyond its duration
TICKS = os.sysconf("SC_CLK_TCK")
CPU_CLOCK = 2  # of a process, all its threads: the kernel's CPUCLOCK_SCHED


class Failure(Exception):
    """A server or a client did not do what it was started for; the text says what."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raise_limit(wanted):
    """Lets what is started from now on have WANTED descriptors, or as many as we are permitted;
    returns how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, wanted), max(hard, wanted)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def start(command, cores, stdin=subprocess.DEVNULL, **streams):
    """Runs COMMAND on these CORES."""
    try:
        return subprocess.Popen([str(word) for word in command], stdin=stdin,
                                preexec_fn=lambda: os.sched_setaffinity(0, cores), **streams)
    except OSError as error:
        raise Failure("cannot start %s: %s" % (command[0], error.strerror))


class Server:
    """A server that listens, until stop(). COMMAND is a list, in which {port} stands for the port,
    or a function that is given the port and returns a list. PORT 0: a free one."""

    def __init__(self, command, cores=(SERVER_CORE,), port=0):
        self.port = port or free_port()
        if callable(command):
            command = command(self.port)
        command = [word.replace("{port}", str(self.port)) for word in command]
        self.process = start(command, cores, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait_until_it_listens(command[0])
        except Failure:
            self.stop()
            raise

    def _wait_until_it_listens(self, name):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failure("%s ended with status %d" % (name, self.process.returncode))
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise Failure("%s does not listen" % name)

    def target(self):
        """What echoprobe is to be told."""
        return ["tcp://127.0.0.1:%d" % self.port]

    def tree(self):
        """The server's process id and those of all that descend from it."""
        found = [self.process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def cpu_seconds(self):
        """What the whole tree has used, children that have ended (and were waited for) too."""
        return sum(own_seconds(pid) + children_seconds(pid) for pid in self.tree())

    def settle(self, processes):
        """Waits until the tree is down to so many: children that ended have been counted then."""
        end = time.monotonic() + PATIENCE
        while len(self.tree()) > processes and time.monotonic() < end:
            time.sleep(0.01)

    def private_kib(self):
        """Memory that is this tree's alone."""
        return sum(private_kib(pid) for pid in self.tree())

    def stop(self):
        """Ends the tree, by process id."""
        pids = {pid: born(pid) for pid in self.tree()} if self.process.poll() is None else {}
        if pids:
            self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pid in pids:
            if pid != self.process.pid and born(pid) == pids[pid]:
                kill(pid)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def children_of(pid):
    found = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as children:
                found += map(int, children.read().split())
    except OSError:  # it has ended meanwhile
        pass
    return found


def stat_of(pid):
    """The fields of /proc/PID/stat that follow the name; zeros once it has ended."""
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return ["0"] * 20


def born(pid):
    """Tells a process from a later one of the same number."""
    return stat_of(pid)[19]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it was about to end by itself
        pass


def children_seconds(pid):
    return sum(map(int, stat_of(pid)[13:15])) / TICKS


def own_seconds(pid):
    """By its CPU clock (clock_getcpuclockid(3)), which has the threads that ended too: the ticks of
    /proc/PID/stat are too coarse for short runs."""
    try:
        return time.clock_gettime(~pid << 3 | CPU_CLOCK)
    except OSError:  # it has ended
        return 0


def private_kib(pid):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as rollup:
            return sum(int(line.split()[1]) for line in rollup
                       if line.startswith(("Private_Clean:", "Private_Dirty:")))
    except OSError:
        return 0


def run_client(command, seconds):
    """Runs a client that takes SECONDS, and returns the JSON object that it prints."""
    client = start(command, (CLIENT_CORE,), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, complaint = client.communicate(timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        raise Failure("the client hangs")
    if not output:
        raise Failure("client: " + complaint.decode().strip()[-200:])
    return json.loads(output)


def run_measured(command, seconds, server):
    """The same, and what the server's CPU time was meanwhile."""
    processes, before = len(server.tree()), server.cpu_seconds()
    result = run_client(command, seconds)
    server.settle(processes)
    return result, server.cpu_seconds() - before


def load(probe, server, column, seconds):
    """A run of echoprobe; its JSON object, with the server's "cpu" in us a message. Messages that
    were lost are for the caller to see; bytes that came back wrong are a Failure."""
    result, used = run_measured([probe, "--json", "-W", PATIENCE / 3, "-d", seconds,
                                 "-c", column.connections, *column.arguments, *server.target()],
                                seconds, server)
    if result["corrupt"] > 0 or result["messages"] == 0:
        raise Failure("%d messages, %d corrupt" % (result["messages"], result["corrupt"]))
    result["cpu"] = used * 1e6 / result["messages"]
    return result


def connect_and_close(client, server, count, at_once):
    """COUNT connections, one message on each; "rate" a second, and "cpu" in us a connection. CLIENT
    is a list: bench/out/connects, or bench/tls_connects.py, and options."""
    result, used = run_measured([*client, "-n", count, "-r", at_once, "127.0.0.1", server.port],
                                PATIENCE, server)
    if result["failed"] > 0:
        raise Failure("%d of %d connections failed" % (result["failed"], count))
    result["cpu"] = used * 1e6 / count
    return result


def idle_memory(client, server, count, at_once, wait=0):
    """Private KiB for each of COUNT connections that have echoed once and been idle for WAIT
    seconds. If that is one, all of the server's is: another connection would need another server.
    """
    before = server.private_kib() if count > 1 else 0
    holder = start([*client, "-k", "-n", count, "-r", at_once, "127.0.0.1", server.port],
                   (CLIENT_CORE,), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:  # leaving ends its input, and thereby the client
        result = json.loads(holder.stdout.readline() or "{}")
        if result.get("verified") != count:
            raise Failure("%s of %d connections echoed" % (result.get("verified", 0), count))
        time.sleep(wait)
        return (server.private_kib() - before) / count


def run_pair(run, first, second, swapped):
    """RUN of both once, SECOND before FIRST if SWAPPED; returns their results, FIRST's first."""
    if swapped:
        return run_pair(run, second, first, False)[::-1]
    return run(first), run(second)


def shares(pairs):
    """What the second of each of PAIRS moved, as a part of the first's."""
    return [second["rate"] / first["rate"] for first, second in pairs]


def middle(pairs, which, key):
    """The median of KEY in the first (0) or second (1) of PAIRS."""
    return statistics.median(pair[which][key] for pair in pairs)
