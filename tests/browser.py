"""Drives a headless Chromium by its DevTools protocol, over a pair of pipes: nothing to install but
the browser, which is started once for all scenarios of a file.
"""
import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

from harness import DEADLINE, Skip

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
           "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--no-default-browser-check",
           "--hide-scrollbars")


def find_browser():
    """The path of one; skips the scenario where there is none."""
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise Skip("no Chromium")


class Browser:
    """A running browser: .call asks it, and what it tells of a session goes to .tabs."""

    def __init__(self, path):
        self.home = tempfile.mkdtemp(prefix="echod-browser-")
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def prepare():
            aside = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(aside[0], 3)
            os.dup2(aside[1], 4)

        arguments = [path, *OPTIONS, "--user-data-dir=" + self.home]
        if os.geteuid() == 0:  # whom its sandbox refuses
            arguments.append("--no-sandbox")
        self.process = subprocess.Popen(
            [*arguments, "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=prepare, close_fds=False,
            env={**os.environ, "HOME": self.home})
        os.close(theirs_in)
        os.close(theirs_out)
        self.reader, self.writer = os.fdopen(ours_in, "rb", 0), os.fdopen(ours_out, "wb", 0)
        self.number = 0
        self.answers = queue.Queue()
        self.tabs = {}
        threading.Thread(target=self._collect, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.writer.close()  # it ends, with all its processes
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def _collect(self):
        rest = b""
        with self.reader:
            while True:
                piece = self.reader.read(1 << 16)
                if not piece:
                    self.answers.put(None)
                    return
                *messages, rest = (rest + piece).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self.answers.put(message)
                    elif message.get("sessionId") in self.tabs:
                        self.tabs[message["sessionId"]].hear(message["method"], message["params"])

    def call(self, method, session=None, **parameters):
        """What the browser answers to METHOD."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.writer.write(json.dumps(message).encode() + b"\0")
        answer = self.answers.get(timeout=3 * DEADLINE)
        assert answer, "the browser has ended"
        assert "result" in answer, answer
        return answer["result"]


@functools.lru_cache(None)
def the_browser():
    browser = Browser(find_browser())
    atexit.register(browser.close)
    return browser


class Tab:
    """A page, in a `with` block: what the browser complained about is in .errors."""

    def __enter__(self):
        self.browser, self.errors = the_browser(), []
        self.target = self.browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.browser.call("Target.attachToTarget", targetId=self.target,
                                         flatten=True)["sessionId"]
        self.browser.tabs[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Audits"):
            self.call(domain + ".enable")
        return self

    def __exit__(self, *_):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def hear(self, method, parameters):
        """Takes note of an event that is a complaint."""
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] != "log":
            self.errors.append(json.dumps(parameters["args"]))
        elif method == "Log.entryAdded":
            self.errors.append(parameters["entry"]["text"])
        elif method == "Audits.issueAdded":
            self.errors.append(json.dumps(parameters["issue"]))

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def open(self, url):
        self.call("Page.navigate", url=url)

    def ask(self, expression):
        """The value of a JavaScript EXPRESSION in the page; of a promise what becomes of it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, identifier):
        """What stands in the element of this id; None: there is none yet."""
        return self.ask("document.getElementById(%s)?.innerText" % json.dumps(identifier))

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)

    def prefer(self, scheme):
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])
