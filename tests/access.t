#!/usr/bin/env python3
"""Access lists: who may connect or send, by whatever way, and what changes by SIGHUP."""
import contextlib
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

from harness import (DEADLINE, ECHOD, Echod, Skip, echo, in_namespace, main, needs_tls,
                     reload_without_room, sanitized, scenario, wait_until)

# Loopback has but one IPv6 address.
SEVERAL = ["addr add fd00::%d/128 dev lo nodad" % i for i in (1, 2, 3)]


def send_through(echod, source, index=0, before=b"", tls=None):
    """Whether who connects from SOURCE and says BEFORE first is served, and not refused. Where both
    families are served, an IPv4 source connects by IPv4."""
    host, port = echod.address(index)
    if host in ("::", "0.0.0.0"):
        host = "fd00::1" if ":" in source else "127.0.0.1"
    try:
        with socket.create_connection((host, port), DEADLINE, (source, 0)) as plain:
            plain.sendall(before)
            with tls.wrap_socket(plain) if tls else contextlib.nullcontext(plain) as client:
                client.sendall(b"hello")
                answer = client.recv(100)
                assert answer in (b"", b"hello"), answer
                return answer == b"hello"
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        return False


def is_answered(echod, source, index=0):
    """The same of a datagram, which the daemon has looked at in any case."""
    host, port = echod.address(index)
    if host in ("::", "0.0.0.0"):
        host = "fd00::1" if ":" in source else "127.0.0.1"
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    dropped = echod.stats()["dropped_deny"]
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind((source, 0))
        client.sendto(b"hello", (host, port))

        def look():
            if select.select([client], [], [], 0)[0]:
                assert client.recv(100) == b"hello"
                return "answered"
            return "dropped" if echod.stats()["dropped_deny"] > dropped else None

        return wait_until(look, "an answer, or the end") == "answered"


def is_pending(pid):
    """Whether a hangup has not been taken by the process PID yet."""
    with open("/proc/%d/status" % pid) as file:
        sets = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
    return any(pending & 1 << signal.SIGHUP - 1 for pending in sets)


def careless():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextlib.contextmanager
def list_file(text):
    """A path, and a function to put something else there."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "list")

        def write(text):
            with open(path + "~", "w") as file:
                file.write(text)
            os.rename(path + "~", path)

        write(text)
        yield path, write


def hang_up(echod):
    count = len(echod.lines("reloaded"))
    echod.signal(signal.SIGHUP)
    assert echod.wait_line("reloaded", count + 1).level == "notice"


@scenario
@in_namespace(*SEVERAL)
def every_transport_and_family(model):
    """A client is who it is, be it by a socket for its own family or one for both."""
    for lists, good, bad in [
            (["--deny=127.0.0.2,fd00::2"], ["127.0.0.3", "fd00::3"], ["127.0.0.2", "fd00::2"]),
            (["--allow=127.0.0.3", "--allow=fd00::3"], ["127.0.0.3", "fd00::3"],
             ["127.0.0.2", "fd00::2", "127.0.0.1", "fd00::1"]),
            (["--deny=0.0.0.0/0"], ["fd00::3"], ["127.0.0.1"]),
            (["--deny=::/0"], ["127.0.0.1"], ["fd00::3"]),
            (["--deny=::ffff:127.0.0.0/127"], ["127.0.0.2", "fd00::1"], ["127.0.0.1"])]:
        with Echod("-w2", "-v", "--model=" + model, *lists, "tcp://127.0.0.1:0",
                   "tcp://[fd00::1]:0", "tcp://*:0", "udp://127.0.0.1:0", "udp://[fd00::1]:0",
                   "udp://*:0") as echod:
            count = len(echod.lines("listening"))
            for index in range(count):
                line = echod.lines("listening")[index]
                ask = is_answered if line["endpoint"].startswith("udp") else send_through
                for source in good + bad:
                    host = echod.address(index)[0]
                    if host != "::" and (":" in host) != (":" in source):
                        continue
                    assert ask(echod, source, index) == (source in good), (lists, source, line)
            for line in echod.lines("refused"):
                assert (line.level, line["reason"]) == ("info", "deny"), line
                assert line["peer"].rsplit(":", 1)[0].strip("[]") in bad, line
            assert echod.stats()["refused_deny"] == len(echod.lines("refused")) > 0


@scenario
def ip4_at_a_socket_for_both_families(model):
    """There the kernel gives IPv4 addresses as mapped ones."""
    passed = [socket.socket(socket.AF_INET6, kind)
              for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    for one in passed:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(("::", 0))
    passed[0].listen()
    for lists in (["--deny=127.0.0.2"], ["--allow=127.0.0.3"], ["--deny=::ffff:127.0.0.2"],
                  ["--allow=::/0,127.0.0.3"]):
        with Echod("-v", "--model=" + model, *lists, passed=passed) as echod:
            for index, ask in enumerate([send_through, is_answered]):
                assert not ask(echod, "127.0.0.2", index), lists
                assert ask(echod, "127.0.0.3", index), lists
            assert echod.wait_line("refused")["peer"].startswith("127.0.0.2:")


@scenario
def tls(model):
    """Who is refused is so before a handshake."""
    needs_tls()
    with Echod("-w2", "-vv", "--model=" + model, "--deny=127.0.0.2", "--tls-self-signed",
               "tls://127.0.0.1:0") as echod:
        assert send_through(echod, "127.0.0.3", tls=careless())
        assert not send_through(echod, "127.0.0.2", tls=careless())
        assert echod.stats()["refused_deny"] == 1
        assert len(echod.lines("accepted")) == 1


@scenario
def deny_wins_and_allow_excludes_all_others(model):
    for lists, served in [
            (["--allow=127.0.0.0/8", "--deny=127.0.0.2"], {1, 3}),
            (["--deny=127.0.0.0/8", "--allow=127.0.0.2"], set()),
            (["--deny=127.0.0.2", "--deny=127.0.0.3,127.0.0.9"], {1}),
            (["--allow=127.0.0.2,10.0.0.0/8"], {2}),
            (["--allow=10.0.0.0/8"], set()),
            (["--deny=10.0.0.0/8"], {1, 2, 3}),
            (["--allow=127.0.0.99/30,127.0.0.2/31"], {2, 3})]:
        with Echod("--model=" + model, *lists) as echod:
            for number in 1, 2, 3:
                source = "127.0.0.%d" % number
                assert send_through(echod, source) == (number in served), (lists, source)


@scenario
def with_the_proxy_protocol_it_is_the_client_that_counts(model):
    def header(client):
        return b"PROXY TCP4 %s 198.51.100.1 4711 7777\r\n" % client

    local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
    for lists in ["--deny=192.0.2.7,127.0.0.0/8"], ["--allow=192.0.2.8"]:
        with Echod("-v", "-w2", "--model=" + model, "--proxy-protocol=127.0.0.1", *lists) as echod:
            assert send_through(echod, "127.0.0.1", before=header(b"192.0.2.8"))
            assert not send_through(echod, "127.0.0.1", before=header(b"192.0.2.7"))
            line = echod.wait_line("refused", peer="192.0.2.7:4711", reason="deny")
            assert line.level == "info" and line["via"].startswith("127.0.0.1:"), line
            assert send_through(echod, "127.0.0.1", before=local)
            assert send_through(echod, "127.0.0.1", before=b"PROXY UNKNOWN\r\n")
            assert not send_through(echod, "127.0.0.2", before=header(b"192.0.2.8"))
            echod.wait_line("refused", reason="untrusted-proxy")
            assert echod.stats()["refused_deny"] == 1
            # found by who it is and why, however the header names it
            mapped = b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 7777\r\n"
            assert not send_through(echod, "127.0.0.1", before=mapped)
            line = echod.wait_line("refused", 2, reason="deny")
            assert " refused peer=192.0.2.7:4711 reason=deny via=127.0.0.1:" in line.text, line


@scenario
def who_is_refused_costs_others_nothing():
    """No slot, no place of the source's, no rate."""
    with Echod("-v", "--deny=127.0.0.2", "--max-connections=1", "--accept-rate=1",
               "--max-per-source=1") as echod:
        for _ in range(30):
            assert not send_through(echod, "127.0.0.2")
        assert send_through(echod, "127.0.0.1")
        assert echod.stats()["refused_deny"] == 30  # a line that comes after all others
        assert len(echod.lines("refused", reason="deny")) == 30
        assert not echod.lines("paused")


@scenario
def unix_sockets_are_for_everybody():
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/echo"
        with Echod("--allow=192.0.2.1", "tcp://127.0.0.1:0", "unix://" + path) as echod:
            assert not send_through(echod, "127.0.0.1")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(DEADLINE)
                client.connect(path)
                echo(client, b"hello")


@scenario
def a_file_is_read_again(model):
    """Who connects after `reloaded` is decided about by what is there now, at every worker."""
    with list_file("# nobody yet\n\n") as (path, write), \
            Echod("-v", "-w3", "--model=" + model, "--deny=@" + path, "--deny=127.0.0.9",
                  "tcp://127.0.0.1:0", "udp://127.0.0.1:0") as echod:
        assert send_through(echod, "127.0.0.2")
        for text, denied in [("127.0.0.2 # him\n", {2}), ("\t127.0.0.2/31\r\n\r\n", {2, 3}),
                             ("#127.0.0.2\n127.0.0.4", {4}), ("", set())]:
            write(text)
            hang_up(echod)
            for number in list(range(2, 5)) * 6:
                served = send_through(echod, "127.0.0.%d" % number)
                assert served == (number not in denied), (text, number)
            for number in range(2, 5):
                answered = is_answered(echod, "127.0.0.%d" % number, 1)
                assert answered == (number not in denied), (text, number)
            assert not send_through(echod, "127.0.0.9")


@scenario
def an_empty_file_allows_nobody():
    with list_file("127.0.0.1\n") as (path, write), Echod("--allow=@" + path) as echod:
        assert send_through(echod, "127.0.0.1")
        write("# all gone\n")
        hang_up(echod)
        assert not send_through(echod, "127.0.0.1")


@scenario
def a_bad_file_changes_nothing(model):
    with list_file("127.0.0.2\n") as (path, write), \
            Echod("-w2", "--model=" + model, "--deny=@" + path) as echod:
        for count, (text, values) in enumerate([
                ("127.0.0.3\n127.0.0.300 # no\n",
                 {"error": "malformed prefix", "line": "2", "text": "127.0.0.300"}),
                ("127.0.0.0/33\n", {"error": "prefix length out of range", "line": "1"}),
                ("127.0.0.3\n\n\nlocal\x1bhost", {"line": "4", "text": "local\x1bhost"}),
                (None, {"error": "cannot read access list (No such file or directory)"})], 1):
            if text is None:
                os.unlink(path)
            else:
                write(text)
            echod.signal(signal.SIGHUP)
            line = echod.wait_line("reload-failed", count)
            assert line.level == "error" and line["file"] == path, line
            assert {key: line.values.get(key) for key in values} == values, line
            for _ in range(4):
                assert not send_through(echod, "127.0.0.2") and send_through(echod, "127.0.0.3")
        assert not echod.lines("reloaded")
        write("127.0.0.3\n")
        hang_up(echod)
        assert send_through(echod, "127.0.0.2") and not send_through(echod, "127.0.0.3")


@scenario
def a_file_that_is_forbidden_is_left_alone():
    """As by a user who the daemon became after the start: a warning."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise Skip("needs root, and setpriv")
    with list_file("127.0.0.2\n") as (path, _):
        os.chmod(os.path.dirname(path), 0o755)
        launcher = ["setpriv", "--reuid=65534", "--clear-groups"]
        if subprocess.run([*launcher, ECHOD, "--version"], capture_output=True,
                          env=sanitized()).returncode != 0:
            raise Skip("others cannot run the program here")
        with Echod("--deny=@" + path, "tcp://127.0.0.1:0", launcher=launcher) as echod:
            os.chmod(path, 0o600)
            echod.signal(signal.SIGHUP)
            assert echod.wait_line("reload-failed", file=path).level == "warning"
            assert not send_through(echod, "127.0.0.2") and send_through(echod, "127.0.0.1")


@scenario
def lists_and_certificates_do_not_wait_for_each_other():
    needs_tls()
    with tempfile.TemporaryDirectory() as directory, list_file("") as (path, write):
        pem = directory + "/pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                        "/CN=localhost", "-keyout", pem, "-out", pem + ".crt"],
                       check=True, capture_output=True)
        with open(pem + ".crt") as certificate, open(pem, "a") as file:
            file.write(certificate.read())
        with Echod("-w2", "--deny=@" + path, "--tls-cert=" + pem, "tls://127.0.0.1:0") as echod:
            os.rename(pem, pem + "~")
            write("127.0.0.2\n")
            hang_up(echod)
            assert echod.lines("reload-failed", file=pem)
            for _ in range(4):
                assert not send_through(echod, "127.0.0.2", tls=careless())
            os.rename(pem + "~", pem)
            write("nonsense\n")
            hang_up(echod)
            assert echod.lines("reload-failed", file=path)
            assert not send_through(echod, "127.0.0.2", tls=careless())
            assert send_through(echod, "127.0.0.3", tls=careless())


@scenario
def under_load(model):
    """Lists change while clients come; who is connected goes on, who is always allowed is always
    served, and each `reloaded` holds at once."""
    with list_file("") as (path, write), \
            Echod("-w4", "--model=" + model, "--deny=@" + path) as echod:
        wrong, count, ending = [], [0], threading.Event()

        def come(source):
            try:
                while not ending.is_set():
                    if not send_through(echod, source):
                        wrong.append(source)
                    count[0] += 1
            except BaseException as why:
                wrong.append(why)

        threads = [threading.Thread(target=come, args=("127.0.0.%d" % n,)) for n in (4, 5, 6)]
        with socket.create_connection(echod.address(), DEADLINE, ("127.0.0.2", 0)) as old:
            for thread in threads:
                thread.start()
            try:
                for round_ in range(20):
                    denied = round_ % 2 == 0
                    write("127.0.0.2\n10.0.0.%d\n" % round_ if denied else "127.0.0.3\n")
                    hang_up(echod)
                    for _ in range(8):
                        assert send_through(echod, "127.0.0.2") != denied, round_
                        assert send_through(echod, "127.0.0.3") == denied, round_
                    echo(old, b"still here")
            finally:
                ending.set()
                for thread in threads:
                    thread.join()
        assert not wrong and count[0] > 20, (wrong[:3], count)
        assert echod.stop() == 0


@scenario
def who_has_no_room_for_lists_gets_them_later():
    """A worker without descriptors goes on with the old ones, and the reload is not done before."""
    with list_file("127.0.0.2\n") as (path, write), Echod("-w2", "--deny=@" + path) as echod:
        write("127.0.0.3\n")
        reload_without_room(echod, "access-failed")
        for _ in range(12):
            assert send_through(echod, "127.0.0.2") and not send_through(echod, "127.0.0.3")


@scenario
def an_answer_that_is_old_is_no_answer_to_the_last_lists():
    """A worker that did not get them, but has yet to answer to those before, is sent them again."""
    if os.getuid() != 0:
        raise Skip("only root starts as another user")
    with list_file("127.0.0.2\n") as (path, write), \
            Echod("--user=65534:65534", "--deny=@" + path, nofile=40) as echod:
        os.chmod(os.path.dirname(path), 0o755)
        worker = echod.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        # So many descriptors may be on their way to a worker that does not take them; then no more.
        for number in range(3, 100):
            write("127.0.0.%d\n" % number)
            echod.signal(signal.SIGHUP)
            wait_until(lambda: not is_pending(echod.pid), "the signal is heard")
            if echod.lines("access-failed"):
                break
        echod.wait_line("access-failed")
        assert not echod.lines("reloaded")
        os.kill(worker, signal.SIGCONT)
        echod.wait_line("reloaded")
        assert not send_through(echod, "127.0.0.%d" % number)
        assert send_through(echod, "127.0.0.%d" % (number - 1))


@scenario
def who_replaces_a_worker_decides_as_the_others():
    """Also when the file is gone, and while lists change."""
    with list_file("127.0.0.2\n") as (path, write), Echod("-w3", "--deny=@" + path) as echod:
        for number, last in enumerate([3, 2, 3], 1):
            write("127.0.0.%d\n" % last)
            for pid in echod.workers()[:2]:
                os.kill(pid, signal.SIGKILL)
            echod.signal(signal.SIGHUP)
            for pid in echod.workers()[2:]:
                os.kill(pid, signal.SIGKILL)
            echod.wait_line("reloaded", number)
            for _ in range(12):
                assert not send_through(echod, "127.0.0.%d" % last)
                assert send_through(echod, "127.0.0.%d" % (5 - last))
            wait_until(lambda: len(echod.workers()) == 3, "workers")
        os.unlink(path)
        for pid in echod.workers():
            started = len(echod.lines("worker-started"))
            os.kill(pid, signal.SIGKILL)
            echod.wait_line("worker-started", started + 1)
        for _ in range(12):
            assert not send_through(echod, "127.0.0.3") and send_through(echod, "127.0.0.2")


@scenario
def ten_thousand_prefixes(model):
    """From a file, and from as many options."""
    prefixes = ["10.%d.%d.0/25" % (i // 200, i % 200) for i in range(9000)] + \
        ["2001:db8:%x::/48" % i for i in range(998)] + ["127.0.0.2", "127.0.0.4/31"]
    with list_file("\n".join(prefixes)) as (path, _):
        for lists in ["--deny=@" + path], ["--deny=" + one for one in prefixes]:
            with Echod("-w2", "--model=" + model, *lists) as echod:
                for number in range(1, 7):
                    served = send_through(echod, "127.0.0.%d" % number)
                    assert served == (number not in (2, 4, 5)), number


@scenario
def what_is_wrong_is_told_at_the_start():
    """One line that names it, and nothing is started."""
    with list_file("127.0.0.1\n") as (path, write), tempfile.TemporaryDirectory() as directory:
        write("# ours\n127.0.0.1\n10.0.0.0/8 10.1.0.0/16\n")
        fifo = directory + "/fifo"
        os.mkfifo(fifo)
        for arguments, status, wrong in [
                (["--allow="], 2, "malformed prefix: --allow="),
                (["--deny=localhost"], 2, "malformed prefix: --deny=localhost"),
                (["--deny=10.0.0.1,10.0.0.300,::1"], 2, "malformed prefix: --deny=10.0.0.300"),
                (["--allow=::1", "--allow=::/129"], 2,
                 "prefix length out of range: --allow=::/129"),
                (["--allow=" + "10.0.0.1," * 10000 + "x"], 2, "malformed prefix: --allow=x"),
                (["--allow=@"], 2, "no file is named: --allow=@"),
                (["--allow"], 2, "option needs a value: --allow"),
                (["--allow=::1", "unix://@echod-test"], 2, "no tcp, tls or udp endpoint: --allow"),
                (["--deny=@/nowhere", "unix://@echod-test"], 2,
                 "no tcp, tls or udp endpoint: --deny"),
                (["--deny=@" + path], 2, "malformed prefix: %s:3: 10.0.0.0/8 10.1.0.0/16" % path),
                (["--deny=@/no/where"], 1,
                 "cannot read access list (No such file or directory): /no/where"),
                (["--allow=@" + directory], 1,
                 "cannot read access list (not a regular file): " + directory),
                (["--allow=@" + fifo], 1,
                 "cannot read access list (not a regular file): " + fifo)]:
            if not arguments[-1].startswith("unix") and arguments[-1] != "--allow":
                arguments.append("tcp://127.0.0.1:0")
            run = subprocess.run([ECHOD, *arguments], stdin=subprocess.DEVNULL, timeout=DEADLINE,
                                 capture_output=True, text=True, env=sanitized())
            assert (run.returncode, run.stdout) == (status, ""), run
            assert run.stderr == "echod: %s\n" % wrong, run.stderr


main()
