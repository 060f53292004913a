#!/usr/bin/env python3
"""contrib/container: what its Containerfile says is done by hand, without a container engine: the
programs are built as it says, and run as an engine would: as process 1 of namespaces of their own,
of no user, with no capability, in a root directory that has nothing else and is read-only."""
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

from harness import DEADLINE, Echod, Skip, main, scenario, suspend, wait_until

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
CONTAINERFILE = os.path.join(TOP, "contrib", "container", "Containerfile")

# ROOT USER:GROUP ENTRYPOINT ECHOD ARGUMENT...: becomes ENTRYPOINT of ROOT; ECHOD is what the
# harness adds.
ENGINE = """
set -e
root=$1
user=$2
entrypoint=$3
shift 4
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec unshare --user --map-user="${user%:*}" --map-group="${user#*:}" --root="$root" --wd=/ \\
    "$entrypoint" "$@"
"""


def instructions():
    """The Containerfile: (instruction, what follows), in order."""
    with open(CONTAINERFILE) as file:
        text = "".join(line for line in file if not line.startswith("#"))
    return [line.split(None, 1) for line in text.replace("\\\n", " ").splitlines() if line]


def all_of(name):
    return [rest for instruction, rest in instructions() if instruction == name]


def only(name):
    rest, = all_of(name)
    return rest


def command(name):
    """An instruction that has a command in the form without a shell."""
    return json.loads(only(name)[only(name).index("["):])


def needs(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise Skip(tool + " is not installed")


class Image:
    """What the first stage makes: a directory with all that the second copies."""

    def __init__(self):
        needs("make", "pkg-config", "unshare", "nsenter", "ip")
        self.directory = tempfile.TemporaryDirectory(prefix="echod-container.")
        self.root = os.path.join(self.directory.name, "image")
        self.source = os.path.join(self.directory.name, "source")

    def build(self):
        """As RUN says, but that the sources are a tarball's, which has configure; and without
        optimization, for which nobody wants to wait here."""
        self._run("make --silent distdir distdir=" + self.source, ".")
        recipe, = (run for run in all_of("RUN") if "./configure" in run)
        recipe = recipe.replace("autoreconf --install &&", "").replace("/image",
                                                                       shlex.quote(self.root))
        self._run(recipe, self.source)
        os.mkdir(os.path.join(self.root, "proc"))  # an engine does so

    def _run(self, recipe, where):
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith("MAKE") and key != "MFLAGS"}
        run = subprocess.run(["sh", "-c", recipe], cwd=where, stdin=subprocess.DEVNULL, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env={**environment, "CFLAGS": "-O0"})
        if re.search("cannot find -l|were not found|is needed", run.stdout):
            raise Skip("not all static libraries are installed: " + run.stdout.splitlines()[-1])
        assert run.returncode == 0, run.stdout[-3000:]


@functools.lru_cache(None)
def image_or_reason():
    """Made once; or why it cannot be."""
    try:
        made = Image()
        made.build()
        return made, None
    except Skip as why:
        return None, why


def image():
    made, why = image_or_reason()
    if why:
        raise why
    return made


class Container(Echod):
    """The image, running; ARGUMENTS in place of CMD. The process that Echod starts is an engine's;
    .init is process 1."""

    def __init__(self, *arguments):
        self.init = None
        namespaces = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
        if os.getuid() != 0:
            namespaces += ["--user", "--map-root-user"]
        super().__init__(*(arguments or command("CMD")), ready=False, launcher=[
            *namespaces, "sh", "-c", ENGINE, "sh", image().root, only("USER"),
            *command("ENTRYPOINT")])
        try:
            self.wait_line("ready")
            self.init, = children(self.process.pid)
        except BaseException:
            self.kill()
            if any(line.startswith(("unshare:", "mount:")) for line in self.raw):
                raise Skip("namespaces are not permitted: " + self.raw[0])
            raise

    def workers(self):
        return children(self.init)

    def zombies(self):
        return [pid for pid in self.workers() if status(pid)["State"].startswith("Z")]

    def signal(self, number):
        os.kill(self.init, number)

    def kill(self):
        self.process.kill()  # with it process 1, and with that all others
        self.process.wait()

    def enter(self, *command_, files="its"):
        """Runs a command inside, as `podman exec` does; or with the files of here."""
        return subprocess.run(
            ["nsenter", "--target=%d" % self.init, "--user", "--preserve-credentials", "--net",
             "--pid", *(["--mount", "--root", "--wd"] if files == "its" else []), *command_],
            text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=3 * DEADLINE)

    def python(self, code):
        run = self.enter(sys.executable, "-c", code, files="ours")
        assert run.returncode == 0, run
        return run.stdout


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
        return list(map(int, file.read().split()))


def status(pid):
    with open("/proc/%d/status" % pid) as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


@scenario
def it_is_built_from_what_bootstrap_installs():
    with open(os.path.join(TOP, "bootstrap")) as bootstrap:
        known = re.findall(r"^build=[\"'](?:\$build )?(.*)[\"']$", bootstrap.read(), re.M)
    install, = (run for run in all_of("RUN") if "apt-get install" in run)
    packages = {word for word in install.split("install", 1)[1].split() if word[0] != "-"}
    assert packages == set(" ".join(known).split()) - {"libsystemd-dev"}, (packages, known)
    assert [rest.split()[0] for rest in all_of("FROM")] == [
        "docker.io/library/debian:bookworm-slim", "scratch"]


@scenario
def the_programs_are_static():
    for name in "echod", "echoprobe":
        with open(os.path.join(image().root, name), "rb") as program:
            data = program.read()
        assert data.startswith(b"\x7fELF") and b"/ld-linux" not in data, name
    assert sorted(os.listdir(image().root)) == ["echod", "echoprobe", "proc"]
    version = subprocess.run([os.path.join(image().root, "echod"), "--version"], text=True,
                             capture_output=True).stdout
    assert "with TLS" in version, version


@scenario
def it_is_nobody_and_may_nothing():
    with Container() as container:
        assert container.wait_line("ready")["pid"] == "1"
        for pid in container.init, *container.workers():
            facts = status(pid)
            assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {
                0}, facts
        user, group = container.python("import os; print(os.getuid(), os.getgid())").split()
        assert only("USER") == user + ":" + group and user != "0", (user, group)
        # It has no file to write, no system log, no terminal, and misses none of them.
        assert not [line for line in container.lines() if line.level in ("warning", "error")]
        assert container.stop() == 0


@scenario
def it_serves_what_is_exposed():
    with Container() as container:
        listening = {(line["endpoint"].split("://")[0], line["endpoint"].rsplit(":", 1)[1])
                     for line in container.lines("listening")}
        ports = {"%s/%s" % (port.rstrip("/"), "udp" if scheme == "udp" else "tcp")
                 for scheme, port in listening}
        assert ports == set(only("EXPOSE").split()), listening
        assert any(line["endpoint"].startswith("http://0.0.0.0:9777")
                   for line in container.lines("listening"))
        for path in "healthz", "readyz", "metrics", "":
            container.python("import urllib.request; "
                             "urllib.request.urlopen('http://127.0.0.1:9777/%s').read()" % path)
        run = container.enter("/echoprobe", "-n1", "udp://127.0.0.1:7777")
        assert run.returncode == 0, run


@scenario
def the_health_check_tells_who_hangs():
    with Container() as container:
        check = command("HEALTHCHECK")
        run = container.enter(*check)
        assert run.returncode == 0, run
        worker, = container.workers()
        suspend(worker)
        run = container.enter(*check)
        assert run.returncode == 1, run
        os.kill(worker, signal.SIGCONT)


CLIENT = """
import socket, sys
client = socket.create_connection(("127.0.0.1", 7777))
client.sendall(b"hello")
assert client.recv(5) == b"hello"
print("open", flush=True)
assert client.recv(1) == b""
print("end of file", flush=True)
"""


@scenario
def as_process_1_it_drains_at_its_stop_signal():
    """Process 1 gets no signal that it has no handler for: TERM and INT have to have one."""
    for name in only("STOPSIGNAL"), "SIGINT":
        with Container() as container:
            client = subprocess.Popen(
                ["nsenter", "--target=%d" % container.init, "--user", "--preserve-credentials",
                 "--net", sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, text=True)
            assert client.stdout.readline() == "open\n"
            assert container.stop(getattr(signal, name)) == 0
            assert client.communicate(timeout=DEADLINE)[0] == "end of file\n"
            assert client.returncode == 0
            drained, = container.lines("drained")
            assert (drained["drained"], drained["forced"]) == ("1", "0"), drained


@scenario
def as_process_1_it_lives_on_otherwise():
    """HUP, USR1, signals that would end others, a worker's death: it serves, and has no zombies."""
    with Container("--workers=2", *command("CMD")) as container:
        for number in signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGALRM:
            container.signal(number)
        assert container.stats()["accepted"] == 0
        os.kill(container.workers()[0], signal.SIGKILL)
        container.wait_line("worker-started", 3)
        wait_until(lambda: len(container.workers()) == 2 and not container.zombies(), "two workers")
        assert container.enter(*command("HEALTHCHECK")).returncode == 0
        assert container.stop() == 0


ORPHANS = """
import os
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            while os.getppid() not in (0, 1):
                pass
        os._exit(0)
    os.wait()
"""


@scenario
def as_process_1_it_takes_in_orphans():
    """What somebody started inside and left behind becomes its child."""
    with Container() as container:
        container.python(ORPHANS)
        wait_until(lambda: len(container.workers()) == 1, "the orphans to be reaped")
        assert container.enter(*command("HEALTHCHECK")).returncode == 0
        assert container.stop() == 0


main(around=True)
