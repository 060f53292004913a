#!/usr/bin/env python3
"""The status page, as people see it: in a headless Chromium."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import tempfile

from browser import Tab
from harness import Echod, Probe, main, probe_report, scenario, suspend, wait_until

# What nobody should see.
NONSENSE = re.compile(r"NaN|undefined|null|Infinity|(?<!\d)-\d|object")

# The lowest contrast of any text with what is behind it, as WCAG 2 counts it, and which that is.
CONTRAST = """(() => {
  const channels = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => channels(color).slice(0, 3).map(c => c / 255).map(c =>
    c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  ).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if ((channels(color)[3] ?? 1) === 1)
        return color;
    }
  };
  const found = [...document.body.querySelectorAll("*")].filter(element =>
    element.checkVisibility() && element.tagName !== "SCRIPT" &&
    [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
  ).map(element => {
    const [one, other] = [getComputedStyle(element).color, behind(element)].map(light);
    return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), element.textContent];
  });
  return found.sort((a, b) => a[0] - b[0])[0];
})()"""


def page_of(echod):
    """Where the page is: (host, port) and its address."""
    endpoint = wait_until(lambda: [line["endpoint"] for line in echod.lines("listening")
                                   if line["endpoint"].startswith("http://")], "the page")[0]
    host, port = endpoint.split("://")[1].rsplit(":", 1)
    return (host, int(port)), endpoint + "/"


def wait_text(tab, identifier, pattern):
    """Waits until the element's text is as PATTERN says, all of it."""
    return wait_until(lambda: re.fullmatch(pattern, tab.text(identifier) or ""),
                      "%s: %s" % (identifier, pattern))


def number(tab, identifier):
    """What an element says, as a number; None while it says none."""
    text = (tab.text(identifier) or "").replace(",", "")
    return float(text) if re.fullmatch(r"[\d.]+", text) else None


def cells(tab, table):
    """The texts of a table, row by row."""
    return tab.ask("[...document.getElementById(%s).rows].map(row => [...row.cells].map("
                       "cell => cell.innerText.trim()))" % json.dumps(table))


def open_page(tab, url):
    """Opens it, and keeps in window.shown whatever it shows from then on."""
    tab.open(url)
    wait_until(lambda: tab.ask("location.href === %s && document.readyState === 'complete'" %
                               json.dumps(url)), "the page to load")
    tab.ask("""(() => {
        const look = () => shown.add(document.body.innerText + [...document.querySelectorAll("path")
            ].map(path => path.getAttribute("d")));
        window.shown = new Set();
        look();
        new MutationObserver(look).observe(document.body, {
            attributes: true, characterData: true, childList: true, subtree: true });
    })()""")


def assert_sense(tab):
    """Nothing that it has shown was nonsense."""
    for text in tab.ask("[...shown]"):
        found = NONSENSE.search(text)
        assert not found, text[max(0, found.start() - 80):found.end() + 20]


def get(address, path):
    """A response, and its body."""
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


@scenario
def it_loads_without_a_complaint():
    with Echod("--metrics=127.0.0.1:0", "-w2", "tcp://127.0.0.1:0", "udp://127.0.0.1:0") as echod, \
            Tab() as tab:
        open_page(tab, page_of(echod)[1])
        wait_text(tab, "state", "serving")
        wait_text(tab, "uptime", r"up (\d+ min )?\d+ s")
        names = [line["endpoint"] for line in echod.lines("listening")]
        assert [row[0] for row in cells(tab, "endpoints")] == names[:2], names
        workers = echod.workers()
        assert [row[:3] for row in cells(tab, "workers")] == [
            ["0", "ready", str(workers[0])], ["1", "ready", str(workers[1])]], workers
        assert tab.ask("document.title") == "echod"
        assert not tab.ask("document.getElementById('chat').checkVisibility()")
        assert "descriptors" in tab.text("paused") and "deny" in tab.text("refused")
        assert tab.text("closed").strip() == "none yet"
        wait_text(tab, "messages", "0")  # the second answer has come
        assert_sense(tab)
        assert not tab.errors, tab.errors
        wait_until(lambda: echod.stats()["active"] == 0, "no connection")  # the page is none


@scenario
def nothing_from_elsewhere_is_loaded_or_run():
    with Echod("--metrics=127.0.0.1:0") as echod, Tab() as tab:
        address, url = page_of(echod)
        policies = set()
        for _ in range(2):
            response, body = get(address, "/")
            policy = response.headers["Content-Security-Policy"]
            directives = dict(part.split(" ", 1) for part in policy.split("; "))
            assert directives["default-src"] == "'none'", policy
            assert directives["connect-src"] == "'self'", policy
            assert directives["frame-ancestors"] == directives["base-uri"] == "'none'", policy
            assert directives["script-src"] == directives["style-src"], policy
            nonce = re.fullmatch("'nonce-([0-9a-f]{32})'", directives["script-src"])[1]
            assert body.count('nonce="%s"' % nonce) == 2 and "NONCE" not in body
            assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", body)
            policies.add(policy)
        assert len(policies) == 2, "the number is used once"
        tab.open(url)
        wait_text(tab, "state", "serving")
        assert tab.ask("""(() => {
            const script = document.createElement("script");
            script.textContent = "window.didRun = true";
            document.body.append(script);
            return window.didRun;
        })()""") is None
        wait_until(lambda: any("Content Security Policy" in e for e in tab.errors),
                   "a complaint about the script")


@scenario
def numbers_move_while_clients_do():
    with Echod("--metrics=127.0.0.1:0", "-w2", "--max-per-source=5",
               "tcp://127.0.0.1:0", "chat+tcp://127.0.0.1:0") as echod, Tab() as tab:
        host, port = echod.address()
        open_page(tab, page_of(echod)[1])
        with Probe("--rate=200", "-c3", "-d60", "%s:%d" % (host, port)):
            wait_text(tab, "connections", "3")
            wait_until(lambda: (number(tab, "messages") or 0) > 20, "messages a second")
            wait_text(tab, "received", r"[\d.]+ kB")
            wait_text(tab, "sent", r"[\d.]+ kB")
            row = wait_until(lambda: [r for r in cells(tab, "endpoints") if r[1] == "3"],
                             "the endpoint's row")[0]
            assert row[0] == "tcp://%s:%d" % (host, port) and float(row[4].replace("/s", "")) > 0
            assert sum(int(r[3]) for r in cells(tab, "workers")) == 3
            before = tab.ask("document.querySelector('#c-messages .line').getAttribute('d')")
            wait_until(lambda: tab.ask(
                "document.querySelector('#c-messages .line').getAttribute('d')") != before,
                "the chart to move")
        wait_text(tab, "connections", "0")
        with socket.create_connection(echod.address(1)) as member:
            member.sendall(b"hello\n")
            wait_text(tab, "members", "1")
            wait_text(tab, "lines", "1")
        wait_text(tab, "members", "0")
        with Probe("-c9", "-d1", "%s:%d" % (host, port)) as probe:
            probe.wait()
        wait_until(lambda: "in the last minute" in tab.text("refused"), "refusals")
        assert_sense(tab)
        assert not tab.errors, tab.errors


@scenario
def messages_are_counted(model):
    """A ping is a read; the counts are exact, over all workers."""
    with Echod("--metrics=127.0.0.1:0", "-w3", "--model=" + model, "tcp://127.0.0.1:0",
               "udp://127.0.0.1:0") as echod:
        address = page_of(echod)[0]
        for line in echod.lines("listening")[:2]:
            report = probe_report("-c4", "-n200", "-i1ms", "-s100", line["endpoint"])
            assert report["messages"] == 200, report
        status = wait_until(lambda: [s for s in [json.loads(get(address, "/status.json")[1])]
                                     if s["totals"]["sent_bytes"] == 40000], "the counts")[0]
        assert [e["messages"] for e in status["endpoints"]] == [200, 200], status
        assert status["totals"]["messages"] == 400
        assert status["totals"]["received_bytes"] == 40000
        assert status["totals"]["datagrams_sent"] == 200
        assert sum(w["received_bytes"] for w in status["workers"]) == 40000
        assert not status["draining"] and all(w["ready"] for w in status["workers"])


@scenario
def it_survives_a_restart():
    with Tab() as tab:
        with Echod("--metrics=127.0.0.1:0") as echod:
            (host, port), url = page_of(echod)
            open_page(tab, url)
            with Probe("--rate=100", "-c2", "-d60", "%s:%d" % echod.address()):
                wait_until(lambda: (number(tab, "messages") or 0) > 5, "messages a second")
            assert echod.stop() == 0
            wait_text(tab, "state", "unreachable")
            assert tab.ask("document.title") == "echod: unreachable"
            wait_text(tab, "messages", "–")
            assert_sense(tab)
        with Echod("--metrics=%s:%d" % (host, port), "-w2") as echod:
            wait_text(tab, "state", "serving")
            assert len(cells(tab, "workers")) == 2
            wait_text(tab, "messages", "0")  # not less, though the counts began anew
            with Probe("--rate=100", "-c2", "-d60", "%s:%d" % echod.address()):
                wait_until(lambda: (number(tab, "messages") or 0) > 5, "messages a second")
            assert_sense(tab)
        others = [e for e in tab.errors if "ERR_" not in e]  # that it was away
        assert not others, others


@scenario
def it_shows_a_drain(model):
    with Echod("--metrics=127.0.0.1:0", "--model=" + model, "--drain-timeout=60") as echod, \
            Tab() as tab:
        open_page(tab, page_of(echod)[1])
        wait_text(tab, "state", "serving")
        with Probe("--rate=100", "-d60", "%s:%d" % echod.address()):
            wait_text(tab, "connections", "1")
            echod.signal(signal.SIGTERM)
            wait_text(tab, "state", "draining")
            assert not tab.errors, tab.errors
            echod.stop(signal.SIGINT)


@scenario
def a_worker_that_hangs_is_shown():
    with Echod("--metrics=127.0.0.1:0", "-w2") as echod, Tab() as tab:
        open_page(tab, page_of(echod)[1])
        wait_text(tab, "restarts", "0 replaced")
        suspend(echod.workers()[1])
        wait_text(tab, "state", "degraded")
        wait_text(tab, "trouble", r"1 of 2 workers do not serve now\.")
        wait_text(tab, "restarts", "1 replaced")
        wait_text(tab, "state", "serving")
        wait_text(tab, "trouble", "")
        assert not tab.errors, tab.errors


@scenario
def it_is_readable_on_a_phone_and_in_the_dark():
    directory = tempfile.mkdtemp()
    path = os.path.join(directory, "a-path-without-a-break".ljust(100 - len(directory), "x"))
    try:
        with Echod("--metrics=127.0.0.1:0", "-w2", "tcp://127.0.0.1:0", "udp://127.0.0.1:0",
                   "chat+unix://" + path) as echod, Tab() as tab:
            open_page(tab, page_of(echod)[1])
            with Probe("--rate=50", "-c2", "-d60", "%s:%d" % echod.address()):
                wait_text(tab, "connections", "2")
                grounds = set()
                for scheme in ("light", "dark"):
                    tab.prefer(scheme)
                    grounds.add(tab.ask("getComputedStyle(document.body).backgroundColor"))
                    for width in (320, 414, 900, 1280):
                        tab.resize(width, 700)
                        assert tab.ask("innerWidth") == width
                        assert tab.ask("document.documentElement.scrollWidth") == width, width
                        ratio, text = tab.ask(CONTRAST)
                        assert ratio >= 4.5, "%s: %g: %s" % (scheme, ratio, text)
                assert len(grounds) == 2, grounds
                assert path in tab.text("endpoints")
            assert not tab.errors, tab.errors
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(around=True)
