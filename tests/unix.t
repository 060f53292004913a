#!/usr/bin/env python3
"""Unix sockets: paths and abstract names, who owns the file, and who the peer is."""
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading

from harness import (DEADLINE, Echod, Skip, echo, main, receive_all, receive_exactly, scenario,
                     stuff, suspend, wait_until)

# What a TMPDIR of any length leaves room for.
DIRECTORY = tempfile.TemporaryDirectory(prefix="echod-unix.", dir="/tmp")


def fresh_path():
    """A path at which there is nothing."""
    directory = tempfile.mkdtemp(dir=DIRECTORY.name)
    return os.path.join(directory, "s")


def connect(name):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE)
    client.connect("\0" + name[1:] if name.startswith("@") else name)
    return client


def command(name):
    if shutil.which(name) is None:
        raise Skip(name + " is not installed")
    return name


def refuses_to_start(*arguments):
    """What a daemon says that cannot start; it ends with 1."""
    with Echod(*arguments, ready=False) as echod:
        assert echod.wait() == 1
        assert len(echod.raw) == 1, echod.raw
        return echod.raw[0]


@scenario
def bytes_come_back_exact(model):
    data = os.urandom(4 << 20)
    path = fresh_path()
    with Echod("--model=" + model, "-w2", "unix://" + path) as echod:
        clients = [connect(path) for _ in range(4)]
        for client in clients:
            threading.Thread(target=lambda c=client: (c.sendall(data),
                                                      c.shutdown(socket.SHUT_WR))).start()
        for client in clients:
            assert receive_all(client) == data
            client.close()
        assert echod.endpoint() == "unix://" + path
        assert echod.stop() == 0
    assert not os.path.lexists(path)


@scenario
def an_abstract_name():
    name = "@echod/test-%d" % os.getpid()
    with Echod("unix://" + name) as echod:
        with connect(name) as client:
            echo(client, b"hello")
        assert echod.endpoint() == "unix://" + name
        assert echod.stop() == 0


@scenario
def nc_and_socat_are_clients():
    path = fresh_path()
    with Echod("unix://" + path):
        for words in (["nc", "-N", "-U", path],
                      ["socat", "-t", str(int(DEADLINE)), "-", "UNIX-CONNECT:" + path]):
            command(words[0])
            done = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=DEADLINE)
            assert (done.returncode, done.stdout) == (0, b"hello\n"), done


@scenario
def the_peer_is_a_user_and_a_process():
    path = fresh_path()
    with Echod("-vv", "unix://" + path) as echod:
        with connect(path) as client:
            echo(client, b"hello")
        peer = "uid:%d,pid:%d" % (os.getuid(), os.getpid())
        echod.wait_line("accepted", peer=peer, endpoint="unix://" + path)
        assert echod.wait_line("closed", peer=peer)["reason"] == "eof"


@scenario
def a_stale_file_is_replaced():
    path = fresh_path()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    with Echod("unix://" + path) as echod:
        with connect(path) as client:
            echo(client, b"hello")
        assert echod.stop() == 0
    assert not os.path.lexists(path)


@scenario
def a_live_one_is_an_error_and_goes_on():
    path = fresh_path()
    with Echod("unix://" + path):
        assert refuses_to_start("unix://" + path) == \
            "echod: Address already in use: unix://" + path
        with connect(path) as client:
            echo(client, b"hello")


@scenario
def any_other_file_is_an_error_and_stays():
    path = fresh_path()
    with open(path, "w") as file:
        file.write("precious")
    assert refuses_to_start("unix://" + path) == \
        "echod: exists and is not a socket: unix://" + path
    with open(path) as file:
        assert file.read() == "precious"
    assert refuses_to_start("unix:///nowhere/at/all") == \
        "echod: No such file or directory: unix:///nowhere/at/all"


@scenario
def the_mode_is_as_asked_for():
    path = fresh_path()
    with Echod("unix://%s?mode=0640" % path) as echod:
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o640
        assert echod.endpoint() == "unix://" + path


@scenario
def a_file_of_somebody_else_stays():
    """Who replaced our file meanwhile keeps his."""
    path = fresh_path()
    with Echod("unix://" + path) as echod:
        os.unlink(path)
        other = socket.socket(socket.AF_UNIX)
        other.bind(path)
        assert echod.stop() == 0
        assert os.path.lexists(path)
        other.close()


@scenario
def the_file_goes_however_it_ends(model):
    path = fresh_path()
    with Echod("--model=" + model, "unix://" + path) as echod:
        client = connect(path)
        echo(client, b"hello")
        assert stuff(client) > 0
        echod.signal(signal.SIGTERM)
        echod.wait_line("draining")
        wait_until(lambda: not os.path.lexists(path), "the file to go")
        echod.signal(signal.SIGTERM)
        assert echod.wait() == 1
        client.close()
    path = fresh_path()
    with Echod("unix://" + path, "unix:///nowhere/at/all", ready=False) as echod:
        assert echod.wait() == 1
    assert not os.path.lexists(path)


@scenario
def a_slow_reader_gets_all():
    """It has sent its FIN, and reads what it is owed only then."""
    path, size = fresh_path(), 1 << 20
    with Echod("unix://" + path) as echod:
        with connect(path) as client:
            client.setblocking(False)
            sent = 0
            try:
                while sent < size:
                    sent += client.send(b"x" * 65536)
            except BlockingIOError:
                pass
            client.settimeout(DEADLINE)
            client.shutdown(socket.SHUT_WR)
            assert len(receive_all(client)) == sent
        assert echod.stop() == 0
        assert echod.lines("drained")[0]["forced"] == "0"


@scenario
def who_reads_late_holds_no_drain_up():
    """What the kernel holds for a client is its own, however late it is read."""
    path = fresh_path()
    with Echod("unix://" + path) as echod:
        with connect(path) as client:
            client.sendall(b"x" * 10000)
            wait_until(lambda: echod.stats()["sent_bytes"] == 10000, "the echo")
            assert echod.stop() == 0
            drained, = echod.lines("drained")
            assert (drained["drained"], drained["forced"]) == ("1", "0"), drained
            assert float(drained["duration"]) < 9, drained
            assert receive_all(client) == b"x" * 10000


@scenario
def who_is_queued_at_the_drain_is_served(model):
    path = fresh_path()
    with Echod("--model=" + model, "-w2", "unix://" + path) as echod:
        for pid in echod.processes():
            suspend(pid)
        clients = [connect(path) for _ in range(20)]
        for client in clients:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
        echod.signal(signal.SIGTERM)
        for pid in echod.processes():
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            assert receive_all(client) == b"hello"
            client.close()
        assert echod.wait() == 0
        assert echod.lines("drained")[0]["forced"] == "0"


@scenario
def nobody_is_reset_by_the_drain(model):
    """Clients that come all the time are served, or not let in: none is reset."""
    path = fresh_path()
    with Echod("--model=" + model, "-w2", "unix://" + path) as echod:
        served, failures = [], []

        def come():
            try:
                while True:
                    with connect(path) as client:
                        client.sendall(b"hello")
                        served.append(receive_exactly(client, 5))
            except (FileNotFoundError, ConnectionRefusedError):
                pass  # not let in
            except Exception as failure:
                failures.append(failure)

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(served) > 50, "clients")
        assert echod.stop() == 0
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert echod.lines("drained")[0]["forced"] == "0"


@scenario
def a_worker_that_dies_is_replaced():
    path = fresh_path()
    with Echod("-w2", "unix://" + path) as echod:
        for pid in echod.workers():
            os.kill(pid, signal.SIGKILL)
        with connect(path) as client:
            echo(client, b"hello")
        echod.wait_line("worker-died", 2)
        assert echod.stop() == 0


@scenario
def with_a_limit_the_queue_waits():
    path = fresh_path()
    with Echod("-m1", "unix://" + path) as echod:
        first = connect(path)
        echo(first, b"hello")
        second = connect(path)
        second.sendall(b"later")
        echod.wait_line("paused", reason="max-connections")
        first.close()
        assert receive_exactly(second, 5) == b"later"
        second.close()


main()
