#!/usr/bin/env python3
"""What is served by HTTP: --metrics, and --drain-delay; by http.client, and by those who mean
ill."""
import contextlib
import http.client
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from harness import (DEADLINE, ECHOD, Echod, Skip, cpu_seconds, echo, main, memory_kib, probe,
                     probe_report, receive_all, reset, scenario, sockets_of, suspend, wait_until)

PLACES = 64       # HTTP_CONNECTIONS
REQUEST_SECONDS = 10  # HTTP_REQUEST_MS
SANITIZED = bool(os.environ.get("ECHOD_SANITIZED"))  # then memory tells nothing
PATHS = ("/", "/status.json", "/metrics", "/healthz", "/readyz")


def metrics_address(echod, index=0):
    """(host, port) of the INDEX-th line that tells of HTTP."""
    def look():
        found = [line["endpoint"] for line in echod.lines("listening")
                 if line["endpoint"].startswith("http://")]
        return found[index] if len(found) > index else None
    host, port = wait_until(look, "the line that tells of HTTP")[len("http://"):].rsplit(":", 1)
    return host.strip("[]"), int(port)


def ask(echod, path, method="GET", headers=None, body=None, address=None):
    """(status, headers, text) of one request."""
    connection = http.client.HTTPConnection(*(address or metrics_address(echod)), timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()


def status_of(echod, path):
    return ask(echod, path)[0]


def send_raw(echod, request, shut=False):
    """Whatever comes back for REQUEST, up to the end."""
    with socket.create_connection(metrics_address(echod), DEADLINE) as client:
        with contextlib.suppress(OSError):
            client.sendall(request)
            if shut:
                client.shutdown(socket.SHUT_WR)
            return receive_all(client)
        return b""


def samples(text):
    """Values by name and labels."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in found, name
            found[name] = float(value)
    return found


def total(found, name, **labels):
    """The sum over all samples of NAME that have LABELS."""
    def fits(key):
        return re.match(re.escape(name) + r"(\{|$)", key) and all(
            '%s="%s"' % pair in key for pair in labels.items())
    return sum(value for key, value in found.items() if fits(key))


def scrape(echod):
    status, _, text = ask(echod, "/metrics")
    assert status == 200, status
    return samples(text)


def start(*arguments, **named):
    return Echod("--metrics=127.0.0.1:0", *arguments, **named)


@scenario
def each_path_has_its_answer(model):
    with start("--model=" + model) as echod:
        for path in PATHS:
            status, headers, text = ask(echod, path)
            assert status == 200 and text, (path, status)
            assert headers["Content-Length"] == str(len(text.encode())), headers
            assert headers["Cache-Control"] == "no-store" and "Date" in headers, headers
            assert headers["X-Content-Type-Options"] == "nosniff", headers
            assert headers["Referrer-Policy"] == "no-referrer", headers
            assert "default-src 'none'" in headers["Content-Security-Policy"], headers
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], headers
            assert "unsafe" not in headers["Content-Security-Policy"], headers
            assert "Access-Control-Allow-Origin" not in headers, headers
        assert ask(echod, "/healthz")[2] == ask(echod, "/readyz")[2] == "ok\n"
        assert ask(echod, "/")[1]["Content-Type"] == "text/html; charset=utf-8"
        assert ask(echod, "/status.json")[1]["Content-Type"] == "application/json"
        assert ask(echod, "/metrics")[1]["Content-Type"].startswith("text/plain; version=0.0.4")
        open_metrics = "application/openmetrics-text"
        headers, text = ask(echod, "/metrics", headers={"Accept": open_metrics})[1:]
        assert headers["Content-Type"].startswith(open_metrics), headers
        assert text.endswith("# EOF\n")


@scenario
def head_is_get_without_the_body():
    with start() as echod:
        for path in ("/healthz", "/", "/nowhere"):
            got, asked = ask(echod, path), ask(echod, path, "HEAD")
            assert asked[0] == got[0] and asked[2] == "", asked
            assert asked[1]["Content-Length"] == got[1]["Content-Length"] != "0"
        # and nothing of a body in front of the next answer
        answer = send_raw(echod, b"HEAD / HTTP/1.1\r\n\r\n"
                                 b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert re.search(rb"\r\n\r\nHTTP/1.1 200 OK\r\n.*\r\n\r\nok\n$", answer, re.S), answer


@scenario
def anything_else_is_404_or_405():
    with start() as echod:
        for path in ("/metrics/", "/Metrics", "/metrics%00", "/healthz%20", "/favicon.ico", "//",
                     "/../metrics", "/metrics;x", "//metrics", "/%2e", "*"):
            assert status_of(echod, path) == 404, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"):
            body = b"x=1" if method in ("POST", "PUT") else None
            status, headers, _ = ask(echod, "/metrics", method, body=body)
            assert (status, headers["Allow"]) == (405, "GET, HEAD"), (method, status)
        assert ask(echod, "/nowhere", "POST")[0] == 404


@scenario
def a_path_may_be_written_in_other_ways():
    with start() as echod:
        for path in ("/healthz?verbose=1", "/%68ealth%7A", "/healthz?", "/healthz#top",
                     "http://elsewhere:1/healthz?x"):
            status, _, text = ask(echod, path)
            assert (status, text) == (200, "ok\n"), (path, status)
        assert b"<html" in send_raw(echod, b"GET http://elsewhere HTTP/1.0\r\n\r\n")


@scenario
def a_connection_serves_many_requests():
    with start() as echod:
        connection = http.client.HTTPConnection(*metrics_address(echod), timeout=DEADLINE)
        with contextlib.closing(connection):
            for path in PATHS * 20:
                connection.request("GET", path)
                assert connection.getresponse().read()
                local = connection.sock.getsockname()
                assert local == connection.sock.getsockname()
        together = b"".join(b"GET %s HTTP/1.1\r\n\r\n" % path.encode() for path in PATHS * 20)
        last = b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n"
        answer = send_raw(echod, together + last)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 101, answer[-300:]


@scenario
def a_request_with_the_end_behind_it_is_answered():
    with start() as echod:
        for _ in range(50):
            answer = send_raw(echod, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"</html>\n"), answer


@scenario
def the_log_tells_where():
    with start() as echod:
        lines = [line["endpoint"] for line in echod.lines("listening")]
        assert len(lines) == 2 and lines[0].startswith("tcp://"), lines
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", lines[1]), lines
    with Echod("--metrics=0") as echod:  # a port alone is for this machine
        for line in echod.lines("listening")[1:]:
            assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]):[1-9]\d*", line["endpoint"]), line
    for everywhere in (":0", "*:0"):
        with Echod("--metrics=" + everywhere) as echod:
            places = [line["endpoint"] for line in echod.lines("listening")[1:]]
            assert "http://0.0.0.0" in {one.rsplit(":", 1)[0] for one in places}, places
            assert len({one.rsplit(":", 1)[1] for one in places}) == 1, places
            if len(places) == 2:
                port = metrics_address(echod)[1]
                assert ask(echod, "/healthz", address=("::1", port))[0] == 200
            assert ask(echod, "/healthz", address=("127.0.0.1", metrics_address(echod)[1]))[0] == 200


@scenario
def what_cannot_be_is_one_line():
    def refused(status, *arguments):
        run = subprocess.run([ECHOD, "127.0.0.1:0", *arguments], capture_output=True, text=True,
                             timeout=DEADLINE)
        assert run.returncode == status and run.stderr.count("\n") == 1, run
        return run.stderr

    for wrong, what in (("", "missing port"), ("localhost", "missing port"),
                        ("localhost:", "malformed port"), ("localhost:65536", "port out of range"),
                        ("http://localhost:1", "not HOST:PORT"),
                        ("::1:80", "IPv6 address without brackets"), ("[::1:80", "missing ]"),
                        ("localhost:1/x", "malformed port"), ("a b:1", "malformed address")):
        told = refused(2, "--metrics=" + wrong)
        assert told == "echod: %s: --metrics=%s\n" % (what, wrong), told
    assert refused(2, "--drain-delay=-1") == "echod: malformed time: --drain-delay=-1\n"
    with socket.create_server(("127.0.0.1", 0)) as other:
        at = "127.0.0.1:%d" % other.getsockname()[1]
        told = refused(1, "--metrics=" + at)
        assert told == "echod: Address already in use: http://%s\n" % at, told
    told = refused(2, "--metrics=" + at, at)
    assert told == "echod: --metrics at the address of an endpoint: %s\n" % at, told
    told = refused(1, "--metrics=no-such-host.invalid:1")
    assert told.endswith(": no-such-host.invalid:1\n"), told
    # An endpoint is none of it.
    run = subprocess.run([ECHOD, "http://127.0.0.1:0"], capture_output=True, text=True,
                         timeout=DEADLINE)
    assert (run.returncode, run.stderr) == (2, "echod: unknown transport: http://127.0.0.1:0\n")


@scenario
def a_drain_is_announced_and_delayed(model):
    with start("--model=" + model, "-w2", "--drain-delay=3s") as echod:
        assert status_of(echod, "/readyz") == 200
        began = time.monotonic()
        echod.signal(signal.SIGTERM)
        line = echod.wait_line("draining")
        assert line["delay"] == "3.000" and line["signal"] == "SIGTERM", line
        assert ask(echod, "/readyz")[0::2] == (503, "not ready\n")
        assert status_of(echod, "/healthz") == 200
        with echod.connect() as late, echod.connect() as other:
            echo(late, b"served still")
            echo(other, b"and so is this")
            late.shutdown(socket.SHUT_WR)
            assert receive_all(late) == b""
            scrape(echod)
            assert time.monotonic() - began < 3, "too slow to tell"
            assert receive_all(other) == b""  # quiet: it is drained
            assert time.monotonic() - began >= 2.9
        assert echod.wait() == 0
        assert len(echod.lines("draining")) == len(echod.lines("drained")) == 1
        assert echod.lines("drained")[0]["drained"] == "1", echod.lines("drained")


@scenario
def a_second_signal_ends_the_delay(model):
    with start("--model=" + model, "--drain-delay=1h") as echod:
        echod.signal(signal.SIGTERM)
        echod.wait_line("draining")
        echod.signal(signal.SIGHUP)  # no reload any more
        assert status_of(echod, "/readyz") == 503
        assert echod.stop() == 1


@scenario
def without_a_delay_the_drain_begins_at_once(model):
    with start("--model=" + model, "--drain-timeout=%ds" % DEADLINE) as echod:
        with echod.connect() as busy:
            echo(busy, b"hello")
            echod.signal(signal.SIGTERM)
            echod.wait_line("draining")
            sent = time.monotonic()
            while time.monotonic() - sent < 1:  # until then it is served, and so are we
                echo(busy, b"x")
                assert status_of(echod, "/readyz") == 503
                assert status_of(echod, "/healthz") == 200
                assert total(scrape(echod), "echod_connections_active") == 1
                time.sleep(0.02)
        assert echod.wait() == 0


@scenario
def no_worker_has_any_of_it():
    with start("-w3") as echod:
        address = metrics_address(echod)
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(address, DEADLINE))
            assert status_of(echod, "/healthz") == 200
            before = set(echod.workers())
            os.kill(echod.workers()[0], signal.SIGKILL)  # its replacement is forked now
            echod.wait_line("worker-started", 4)
            assert status_of(echod, "/healthz") == 200
            ports = {"%04X" % address[1]}
            with open("/proc/net/tcp") as table:
                inodes = {fields[9] for fields in map(str.split, table)
                          if fields[1].rsplit(":", 1)[-1] in ports}
            assert len(inodes) >= 6, inodes
            assert set(echod.workers()) != before
            for pid in echod.workers():
                links = {os.readlink("/proc/%d/fd/%s" % (pid, fd))
                         for fd in os.listdir("/proc/%d/fd" % pid)}
                assert not links & {"socket:[%s]" % inode for inode in inodes}, pid


@scenario
def counters_are_exact(model):
    with start("--model=" + model, "-w3", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "chat+"
               "tcp://127.0.0.1:0") as echod:
        connections, messages, size = 30, 3000, 300
        report = probe_report(echod.endpoint(0), "--load", "-c", connections, "-n", messages, "-s",
                              size)
        sent = report["bytes"]
        assert report["messages"] == messages, report
        name = echod.endpoint(0)

        def is_closed():
            return total(scrape(echod), "echod_connections_closed_total") == connections
        wait_until(is_closed, "all connections to be closed")
        found = scrape(echod)
        for metric in ("echod_received_bytes_total", "echod_sent_bytes_total"):
            assert total(found, metric, endpoint=name) == total(found, metric) == sent, metric
        for metric in ("accepted", "closed"):
            key = "echod_connections_%s_total" % metric
            assert total(found, key, endpoint=name) == total(found, key) == connections, key
        assert total(found, "echod_connections_closed_total", reason="eof") == connections
        assert total(found, "echod_connections_active", endpoint=name) == 0
        assert found["echod_workers"] == 3 and found["echod_worker_restarts_total"] == 0
        udp = echod.endpoint(1)
        probe_report(udp, "-n", 10, "-i", "10ms")
        for metric in ("received", "sent"):
            key = "echod_datagrams_%s_total" % metric
            wait_until(lambda: total(scrape(echod), key, endpoint=udp) == 10, key)
        found = scrape(echod)
        assert abs(found["echod_start_time_seconds"] - time.time()) < 5 * DEADLINE


@scenario
def counters_survive_a_crash_and_a_reload():
    with start("-w2") as echod:
        clients = [echod.connect() for _ in range(20)]
        for client in clients:
            echo(client, b"0123456789")
        wait_until(lambda: total(scrape(echod), "echod_sent_bytes_total") == 200,
                   "what was sent last to be counted")
        victim = echod.workers()[0]
        os.kill(victim, signal.SIGKILL)
        echod.wait_line("worker-died")
        echod.wait_line("worker-started", 3)
        echod.signal(signal.SIGHUP)
        found = scrape(echod)
        crashed = total(found, "echod_connections_closed_total", reason="crash")
        active = total(found, "echod_connections_active")
        assert crashed + active == 20 and found["echod_worker_restarts_total"] == 1, found
        assert total(found, "echod_received_bytes_total") == 200
        assert total(found, "echod_sent_bytes_total") == 200
        for client in clients:
            client.close()
        wait_until(lambda: total(scrape(echod), "echod_connections_active") == 0, "the end of all")
        assert total(scrape(echod), "echod_connections_closed_total") == 20


@scenario
def a_worker_that_hangs_is_no_health():
    with start("-w2") as echod:
        suspend(echod.workers()[0])
        wait_until(lambda: status_of(echod, "/healthz") == 503, "somebody to notice")
        assert status_of(echod, "/readyz") == 200  # the other one serves
        wait_until(lambda: status_of(echod, "/healthz") == 200, "a replacement")
        assert scrape(echod)["echod_worker_restarts_total"] == 1


@scenario
def promtool_finds_nothing():
    if shutil.which("promtool") is None:
        raise Skip("promtool is not installed")
    with start("-w2", "127.0.0.1:0", "udp://127.0.0.1:0") as echod:
        probe(echod.endpoint(), "-n", 3, "-i", "1ms")
        run = subprocess.run(["promtool", "check", "metrics"], input=ask(echod, "/metrics")[2],
                             capture_output=True, text=True, timeout=DEADLINE)
        assert (run.returncode, run.stdout + run.stderr) == (0, ""), run


@scenario
def a_passed_socket_serves_as_well():
    with contextlib.ExitStack() as stack:
        passed = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        places = [one.getsockname() for one in passed]
        try:
            echod = stack.enter_context(Echod(passed=passed, names="metrics:echo", ready=False))
            echod.wait_line("ready")
        except AssertionError:
            if any("built without socket activation" in line for line in echod.raw):
                raise Skip("built without libsystemd")
            raise
        lines = [line["endpoint"] for line in echod.lines("listening")]
        assert lines == ["tcp://127.0.0.1:%d" % places[1][1], "http://127.0.0.1:%d" % places[0][1]]
        assert ask(echod, "/readyz", address=places[0])[0] == 200
        with echod.connect() as client:
            echo(client, b"hello")
        # Together with --metrics; and alone it is no endpoint, so that the default is served.
        with start("tcp://127.0.0.1:0", passed=passed[:1], names="metrics") as both:
            assert len(both.lines("listening")) == 3
            assert ask(both, "/readyz", address=metrics_address(both, 0))[0] == 200


@scenario
def it_gives_up_what_it_can(model):
    with tempfile.TemporaryDirectory() as empty:
        arguments = ["--model=" + model, "-w2", "--sandbox=on"]
        if os.geteuid() == 0:
            os.chmod(empty, 0o755)
            arguments += ["--user=nobody", "--chroot=" + empty]
        with start(*arguments, ready=False) as echod:
            try:
                echod.wait_line("ready")
            except AssertionError:
                if any("--sandbox" in line for line in echod.raw):
                    raise Skip("built without libseccomp")
                raise
            for path in PATHS:
                assert status_of(echod, path) == 200, path
            with echod.connect() as client:
                echo(client, b"hello")
            answer = send_raw(echod, b"nonsense\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 400 "), answer
            echod.signal(signal.SIGHUP)
            assert status_of(echod, "/readyz") == 200
            assert echod.stop() == 0


def supervisor_sockets(echod):
    return sockets_of(echod.pid)


@scenario
def what_is_no_request_ends():
    with start() as echod:
        before = supervisor_sockets(echod)
        many = b"".join(b"x-%d: y\r\n" % i for i in range(5000))
        for nonsense in (b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                         b"GET / HTTP/9.9\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n", b"\0" * 1000,
                         b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET /" + b"a" * 100000,
                         b"GET / HTTP/1.1\r\nx: " + b"a" * 100000, b"GET / HTTP/1.1\r\n" + many,
                         b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                         b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                         b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000000,
                         b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx",
                         b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx",
                         b"GET / HTTP/1.1\r\n: \r\n" + b" \r\n" * 2000,
                         b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n",
                         b"GET / HTTP/1.1\r\nExpect: nothing\r\nContent-Length: 1\r\n\r\n"):
            answer = send_raw(echod, nonsense, shut=True)
            assert answer == b"" or re.match(rb"HTTP/1.1 (4|200)", answer), (nonsense[:60], answer)
            assert status_of(echod, "/healthz") == 200, nonsense[:60]
        wait_until(lambda: supervisor_sockets(echod) == before, "all to be closed")
        assert not echod.lines("metrics-failed") and len(echod.lines("worker-started")) == 1


@scenario
def who_resets_or_leaves_holds_nothing():
    with start() as echod:
        before = supervisor_sockets(echod)
        for end in (reset, socket.socket.close):
            for said in (b"", b"GET /", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n" * 50):
                for _ in range(PLACES + 10):
                    client = socket.create_connection(metrics_address(echod), DEADLINE)
                    client.send(said)
                    end(client)
        wait_until(lambda: supervisor_sockets(echod) == before, "all to be closed")
        assert status_of(echod, "/healthz") == 200


@scenario
def nobody_holds_a_place_by_going_slowly():
    with start() as echod:
        address = metrics_address(echod)
        silent = socket.create_connection(address, 3 * DEADLINE)
        slow = socket.create_connection(address, 3 * DEADLINE)
        body = socket.create_connection(address, 3 * DEADLINE)
        body.send(b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n")
        slow.send(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        ended = {}
        while len(ended) < 3 and time.monotonic() - began < 3 * REQUEST_SECONDS:
            for name, client in (("silent", silent), ("slow", slow), ("body", body)):
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    try:
                        if name != "silent":
                            client.send(b"x")
                        if client.recv(100) == b"":
                            ended.setdefault(name, time.monotonic() - began)
                    except ConnectionError:
                        ended.setdefault(name, time.monotonic() - began)
            time.sleep(0.2)
        assert len(ended) == 3, ended
        assert all(REQUEST_SECONDS - 1 < seconds for seconds in ended.values()), ended


def slow_reader(address):
    """Asks again and again, and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.settimeout(3 * DEADLINE)
    client.connect(address)
    client.setblocking(False)
    return client


@scenario
def who_does_not_read_costs_little():
    asking = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    for first, then in ((asking, asking * 1000),
                        (asking * 50 + b"nonsense\r\n\r\n", b"x" * 65536),  # refused, and goes on
                        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536)):
        with start() as echod, contextlib.ExitStack() as stack:
            assert status_of(echod, "/") == 200
            before, count = memory_kib([echod.pid]), PLACES // 2
            clients = [stack.enter_context(slow_reader(metrics_address(echod)))
                       for _ in range(count)]
            for client in clients:
                client.send(first)
            began = time.monotonic()
            while time.monotonic() - began < 2:
                for client in clients:
                    with contextlib.suppress(BlockingIOError, ConnectionError):
                        client.send(then)
                time.sleep(0.01)
            grown = memory_kib([echod.pid]) - before
            assert SANITIZED or grown < count * 256, (first[:10], grown)
            assert status_of(echod, "/healthz") == 200


@scenario
def a_thousand_at_once_do_not_keep_others_out(model):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 2000:
        raise Skip("a thousand descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with start("--model=" + model) as echod, contextlib.ExitStack() as stack:
        before, memory = supervisor_sockets(echod), memory_kib([echod.pid])
        for i in range(1000):
            client = stack.enter_context(socket.create_connection(metrics_address(echod), DEADLINE))
            if i % 2:
                client.send(b"GET / HTTP/1.1\r\nx: y\r\n")
        began = time.monotonic()
        scrape(echod)
        assert time.monotonic() - began < 10, "a scrape took as long as Prometheus waits"
        assert supervisor_sockets(echod) <= before + PLACES
        grown = memory_kib([echod.pid]) - memory
        assert SANITIZED or grown < PLACES * 64, grown
        with echod.connect() as client:
            echo(client, b"hello")
        busy = cpu_seconds([echod.pid])
        time.sleep(1)
        assert cpu_seconds([echod.pid]) - busy < 0.5, "it spins"


@scenario
def idle_ones_make_room_the_first_first():
    with start() as echod, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(PLACES + 10):
            client = stack.enter_context(socket.create_connection(metrics_address(echod), DEADLINE))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
            clients.append(client)
        for client in clients[:10]:
            assert client.recv(1) == b""
        for client in clients[-PLACES // 2:]:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


@scenario
def a_thousand_that_ask_are_all_answered():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 2000:
        raise Skip("a thousand descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with start() as echod, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(1000):
            client = stack.enter_context(socket.create_connection(metrics_address(echod), DEADLINE))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            clients.append(client)
        for client in clients:
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer


@scenario
def few_descriptors_are_shared():
    with start(nofile=32) as echod, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(metrics_address(echod), DEADLINE))
        began = time.monotonic()
        scrape(echod)
        assert time.monotonic() - began < 10, "a scrape took as long as Prometheus waits"
        for _ in range(100):
            stack.enter_context(socket.create_connection(metrics_address(echod), DEADLINE))
        os.kill(int(echod.lines("worker-started")[0]["pid"]), signal.SIGKILL)
        echod.wait_line("worker-died")
        wait_until(lambda: len(echod.lines("worker-started")) == 2, "a new worker")
        assert not echod.lines("worker-failed")


@scenario
def who_took_all_descriptors_keeps_no_probe_out(model):
    """Of threads, which have them in common, the clients of the echo may."""
    with start("--model=" + model, nofile=64) as echod, contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection(echod.address(), DEADLINE))
        echod.wait_line("paused")
        for _ in range(5):
            assert status_of(echod, "/healthz") == 200
            assert total(scrape(echod), "echod_accept_pauses_total") >= 1


@scenario
def out_of_descriptors_it_goes_on():
    with start() as echod, contextlib.ExitStack() as stack:
        busy = cpu_seconds([echod.pid])
        few = len(os.listdir("/proc/%d/fd" % echod.pid)) + 4
        resource.prlimit(echod.pid, resource.RLIMIT_NOFILE, (few, few))
        clients = [stack.enter_context(socket.create_connection(metrics_address(echod), DEADLINE))
                   for _ in range(40)]
        line = echod.wait_line("metrics-failed")
        assert line.level == "warning" and line["error"] == "Too many open files", line
        assert status_of(echod, "/healthz") == 200
        time.sleep(2)
        assert cpu_seconds([echod.pid]) - busy < 0.5, "it spins"
        assert len(echod.lines("metrics-failed")) < 6
        with echod.connect() as client:
            echo(client, b"hello")
        for client in clients:
            client.close()
        assert status_of(echod, "/healthz") == 200


if __name__ == "__main__":
    main()
