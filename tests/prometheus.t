#!/usr/bin/env python3
"""contrib/prometheus: its files are right, and a real Prometheus gets what they are about."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
import urllib.request

from harness import DEADLINE, Echod, Skip, echo, main, scenario, wait_until

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "contrib", "prometheus")
TARGET = "127.0.0.1:9777"  # as prometheus.yml has it
EVERYTHING = ("--metrics=127.0.0.1:0", "tcp://127.0.0.1:0", "udp://127.0.0.1:0",
              "chat+tcp://127.0.0.1:0")


def read(name):
    with open(os.path.join(EXAMPLE, name)) as file:
        return file.read()


def promtool(*arguments):
    if shutil.which("promtool") is None:
        raise Skip("promtool is not installed (Debian: prometheus)")
    return subprocess.run(["promtool", *arguments], cwd=EXAMPLE, capture_output=True, text=True,
                          timeout=3 * DEADLINE)


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return answer.read().decode()


def metrics_of(echod):
    """HOST:PORT of --metrics."""
    line = wait_until(lambda: [line for line in echod.lines("listening")
                               if line["endpoint"].startswith("http://")], "the metrics' address")
    return line[0]["endpoint"].removeprefix("http://").rstrip("/")


class Prometheus:
    """It, with the example's files, asking ECHOD instead of what they name."""

    def __init__(self, echod):
        if shutil.which("prometheus") is None:
            raise Skip("prometheus is not installed")
        self.directory = tempfile.TemporaryDirectory(prefix="echod-prometheus.")
        config = read("prometheus.yml")
        assert config.count(TARGET) == 1
        self._write("prometheus.yml", config.replace(TARGET, metrics_of(echod)))
        self._write("echod.rules.yml", read("echod.rules.yml"))
        self.process, self.address, self.said = None, None, []

    def _write(self, name, text):
        with open(os.path.join(self.directory.name, name), "w") as file:
            file.write(text)

    def __enter__(self):
        self.process = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             "--web.listen-address=127.0.0.1:0"], cwd=self.directory.name, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        threading.Thread(target=self._collect, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()

    def _collect(self):
        for line in self.process.stderr:
            self.said.append(line)
            match = re.search(r'msg="Listening on" address=(\S+)', line)
            if match:
                self.address = match[1]

    def api(self, what, **parameters):
        """The data of an answer of its API; None while it cannot be asked."""
        wait_until(lambda: self.address or self.process.poll() is not None, "its address")
        assert self.address, self.said[-5:]
        with contextlib.suppress(OSError):
            answer = json.loads(get("http://%s/api/v1/%s?%s" % (
                self.address, what, urllib.parse.urlencode(parameters))))
            assert answer["status"] == "success", answer
            return answer["data"]
        return None

    def ask(self, query):
        """The samples that QUERY gives now: (labels, value)."""
        data = self.api("query", query=query)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]] if data else []

    def value(self, query):
        """The only one, or None."""
        samples = self.ask(query)
        return samples[0][1] if len(samples) == 1 else None


@scenario
def promtool_finds_nothing_wrong():
    for arguments in (("check", "config", "prometheus.yml"), ("check", "rules", "echod.rules.yml"),
                      ("test", "rules", "rules_test.yml")):
        run = promtool(*arguments)
        assert run.returncode == 0 and "SUCCESS" in run.stdout, run


@scenario
def each_alert_is_tried_and_explained():
    """It has a test in which it is silent and one in which it fires, and a line in the README."""
    names = re.findall(r"^ +- alert: (\w+)$", read("echod.rules.yml"), re.M)
    assert len(names) > 10 and len(set(names)) == len(names), names
    tests = dict(re.findall(r"^  - name: (\w+)\n((?:    .*\n)+)", read("rules_test.yml"), re.M))
    assert list(tests) == names, tests.keys()
    for name, text in tests.items():
        assert re.findall(r"alertname: (\w+)", text) == [name, name], text
        assert re.findall(r"exp_alerts:(.*)", text) == [" []", ""], text
    assert re.findall(r"^    (Echod\w+) ", read("README"), re.M) == names


@scenario
def what_the_rules_ask_for_is_there():
    rules = "\n".join(line for line in read("echod.rules.yml").splitlines() if "#" not in line)
    names = set(re.findall(r"\bechod_[a-z_]+", rules))
    assert len(names) > 8, names
    with Echod(*EVERYTHING) as echod:
        text = get("http://%s/metrics" % metrics_of(echod))
    there = set(re.findall(r"^(echod_\w+)[ {]", text, re.M))
    assert names <= there, names - there
    for metric, reasons in re.findall(r'\b(echod_\w+){reason=~?"([^"]+)"}', rules):
        for reason in reasons.split("|"):
            sample = r'^%s{.*\breason="%s"' % (metric, reason)
            assert re.search(sample, text, re.M), sample


@scenario
def a_real_prometheus_watches_echod():
    with Echod(*EVERYTHING) as echod, Prometheus(echod) as prometheus:
        endpoint = echod.lines("listening")[0]["endpoint"]
        for _ in range(3):
            with echod.connect(0) as client:
                echo(client, b"hello")
        wait_until(lambda: prometheus.value('up{job="echod"}') == 1, "a scrape", 2 * DEADLINE)
        tcp = '{job="echod",endpoint="%s"}' % endpoint
        wait_until(lambda: prometheus.value("echod_connections_accepted_total" + tcp) == 3,
                   "three connections")
        assert prometheus.value("echod_received_bytes_total" + tcp) == 15
        there = {labels["__name__"] for labels, _ in prometheus.ask('{__name__=~"echod_.+"}')}
        assert {"echod_build_info", "echod_workers", "echod_datagrams_dropped_total",
                "echod_chat_members", "echod_start_time_seconds"} <= there, there

        def rules():
            return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]

        wait_until(lambda: {(rule["health"], rule["state"]) for rule in rules()} ==
                   {("ok", "inactive")}, "the rules to find nothing")
        assert echod.stop() == 0
        wait_until(lambda: [rule["name"] for rule in rules() if rule["state"] == "pending"] ==
                   ["EchodDown"], "the alert", 2 * DEADLINE)


main(around=True)
