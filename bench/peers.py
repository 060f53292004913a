"""The servers that echod is compared with: how each is built, if it must be, and started."""
import os
import pwd
import shutil
import subprocess
import sys

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
FORKING = {"inetd", "xinetd", "ncat", "socat"}  # a process for each connection
AT_ONCE = {"ncat": 8}                  # its queue takes ten; those beyond wait for seconds
# The system's packages belong to the system's interpreter and compilers.
PYTHONS = ["/usr/bin/python3", sys.executable]
SYSTEM_FIRST = "/usr/bin:/usr/sbin:" + os.environ.get("PATH", "")

XINETD = """
service echo-cat
{
    type = UNLISTED
    flags = NODELAY
    socket_type = stream
    protocol = tcp
    wait = no
    bind = 127.0.0.1
    port = %s
    user = %d
    server = %s
    instances = UNLIMITED
    per_source = UNLIMITED
    cps = 100000 1
}
"""


class Missing(Exception):
    """What has to be installed first."""


def find(program):
    path = shutil.which(program, path=SYSTEM_FIRST)
    if path is None:
        raise Missing(program)
    return path


def run(command, what, **more):
    """Runs a build step; WHAT is missing if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **more)
    if done.returncode != 0:
        raise Missing("%s (%s)" % (what, (done.stdout.strip() or "failed").splitlines()[-1]))
    return done.stdout


def textbook(build):
    return [os.path.join(build, "textbook"), "{port}"]  # by make, as it needs what echod needs


def libuv(build):
    program = os.path.join(build, "uv")
    flags = run([find("pkg-config"), "--cflags", "--libs", "libuv"], "libuv").split()
    compiler = os.environ.get("CC", "cc").split()
    run(compiler + ["-O2", os.path.join(SOURCES, "uv.c"), "-o", program] + flags, "libuv")
    return [program, "{port}"]


def tokio(build):
    """From Debian's crates, by Debian's compiler, without a network."""
    crate = os.path.join(build, "tokio")
    shutil.copytree(os.path.join(SOURCES, "tokio"), crate, dirs_exist_ok=True,
                    copy_function=shutil.copyfile)
    run([find("cargo"), "build", "--release", "--offline",
         "--config", 'source.crates-io.replace-with="debian"',
         "--config", 'source.debian.directory="/usr/share/cargo/registry"'],
        "tokio", cwd=crate, env={**os.environ, "PATH": SYSTEM_FIRST})
    return [os.path.join(crate, "target", "release", "tokio-echo"), "{port}"]


def go(build, source="go.go"):
    program = os.path.join(build, os.path.splitext(source)[0])
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": os.path.join(build, "go-cache")}
    run([find("go"), "build", "-o", program, os.path.join(SOURCES, source)], "go",
        env=environment)
    return ["env", "GOMAXPROCS=1", program, "{port}"]


def node(_, script="echo.js"):
    return [find("node"), os.path.join(SOURCES, script), "{port}"]


def python(script, module):
    """A peer whose SCRIPT needs MODULE."""
    for interpreter in PYTHONS:
        if os.path.exists(interpreter) and subprocess.run(
                [interpreter, "-c", "import " + module], stderr=subprocess.DEVNULL).returncode == 0:
            return [interpreter, os.path.join(SOURCES, script), "{port}"]
    raise Missing("python3's module " + module)


def xinetd(build):
    """Its port stands in a configuration file, so the command is made when the port is known."""
    program, cat = find("xinetd"), find("cat")

    def command(port):
        configuration = os.path.join(build, "xinetd.conf")
        with open(configuration, "w") as file:
            file.write(XINETD % (port, os.getuid(), cat))
        return [program, "-dontfork", "-f", configuration, "-filelog", "/dev/null"]

    return command


def inetd(build):
    """OpenBSD's, as Debian has it; of its port the same is true."""
    program, cat, user = find("inetd"), find("cat"), pwd.getpwuid(os.getuid()).pw_name

    def command(port):
        configuration = os.path.join(build, "inetd.conf")
        with open(configuration, "w") as file:
            file.write("127.0.0.1:%s stream tcp4 nowait.1000000 %s %s cat\n" % (port, user, cat))
        return [program, "-i", configuration]

    return command


def ncat(_):
    return [find("ncat"), "-l", "-k", "-m", "1000", "-e", find("cat"), "127.0.0.1", "{port}"]


def socat(_):
    return [find("socat"), "TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096",
            "EXEC:cat"]


# By name: given the build directory, the command that starts the peer (see measure.Server).
PEERS = {
    "textbook": textbook,
    "libuv": libuv,
    "tokio": tokio,
    "go": go,
    "node": node,
    "selectors": lambda _: python("py_selectors.py", "selectors"),
    "asyncio": lambda _: python("py_asyncio.py", "asyncio"),
    "uvloop": lambda _: python("py_asyncio.py", "uvloop") + ["uvloop"],
    "twisted": lambda _: python("py_twisted.py", "twisted.internet"),
    "tornado": lambda _: python("py_tornado.py", "tornado"),
    "inetd": inetd,
    "xinetd": xinetd,
    "ncat": ncat,
    "socat": socat,
}

# The same for those with which the chat is compared.
CHATS = {
    "asyncio": lambda _: python("chat_asyncio.py", "asyncio"),
    "uvloop": lambda _: python("chat_asyncio.py", "uvloop") + ["uvloop"],
    "twisted": lambda _: python("chat_twisted.py", "twisted.internet"),
    "node": lambda build: node(build, "chat.js"),
    "go": lambda build: go(build, "chat.go"),
}
