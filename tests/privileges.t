#!/usr/bin/env python3
"""Another user, another root directory, and a filter of system calls: what is given up is gone, in
every process and thread, and what has to work afterwards does."""
import contextlib
import ctypes
import functools
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile

from harness import (DEADLINE, ECHOD, SANITIZERS, Echod, Skip, echo, in_namespace, main, needs_tls,
                     sanitized, scenario)

# Where there is no /proc leaks are not looked for.
NO_PROC = {"ASAN_OPTIONS": SANITIZERS["ASAN_OPTIONS"] + ":detect_leaks=0"}
TSAN = os.environ.get("ECHOD_SANITIZED") == "thread"  # it has threads of its own
UID, GID = 54321, 54322  # nobody's
USER = "--user=%d:%d" % (UID, GID)


def needs_root():
    if os.geteuid() != 0:
        raise Skip("not root")


@functools.lru_cache(None)
def has_filter():
    """Was the program built with a filter of system calls?"""
    run = subprocess.run([ECHOD, "--sandbox=on", "--help"], capture_output=True, text=True,
                         env=sanitized())
    assert run.returncode == 0 or "built without libseccomp" in run.stderr, run
    return run.returncode == 0


def statuses(echod):
    """/proc's status of every thread of every process, as dictionaries."""
    for pid in echod.processes():
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/status" % (pid, task)) as status:
                yield dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


def expect_filtered(status):
    """The supervisor has its filter, and a worker its own on top of that."""
    is_supervisor = status["Pid"] == status["Tgid"] and status["PPid"] == str(os.getpid())
    assert status["Seccomp"] == ("2" if has_filter() else "0"), status
    if has_filter() and "Seccomp_filters" in status:
        assert status["Seccomp_filters"] == ("1" if is_supervisor else "2"), status


def expect_given_up(echod, threads):
    """Each is the user, has nothing else, and can have nothing else."""
    count = 0
    for status in statuses(echod):
        assert status["Uid"].split() == [str(UID)] * 4, status
        assert status["Gid"].split() == [str(GID)] * 4, status
        assert status["Groups"].split() == [str(GID)], status
        for name in "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
            assert int(status[name], 16) == 0, (name, status)
        assert status["NoNewPrivs"] == "1", status
        expect_filtered(status)
        count += 1
    assert count == threads or count > threads and TSAN, count


@contextlib.contextmanager
def directory_of_user():
    """A directory of the user's; and in it `root`, an empty one that can be the root directory."""
    with tempfile.TemporaryDirectory(prefix="echod-priv.", dir="/tmp") as directory:
        os.mkdir(os.path.join(directory, "root"))
        os.chown(directory, UID, GID)
        yield directory


def says(*arguments, prefix=(), status=1):
    """What a daemon says that does not start: one line."""
    run = subprocess.run([*prefix, ECHOD, *arguments], capture_output=True, text=True,
                         timeout=DEADLINE, env=sanitized())
    assert (run.returncode, run.stderr.count("\n")) == (status, 1), run
    return run.stderr


def make_certificate(directory, name):
    """A self-signed certificate with its key in one file, whose subject is NAME."""
    path = os.path.join(directory, "new.pem")
    run = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
           "-nodes", "-subj", "/CN=" + name, "-days", "9", "-out", path, "-keyout", path + ".key"]
    subprocess.run(run, check=True, capture_output=True)
    with open(path, "ab") as file, open(path + ".key", "rb") as key:
        file.write(key.read())
    os.unlink(path + ".key")
    return path


def expect_served(echod, name):
    """The certificate that is served, by way of an echo, has NAME in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with echod.connect() as plain, context.wrap_socket(plain) as client:
        echo(client, b"by TLS")
        assert name.encode() in client.getpeercert(binary_form=True), name


@scenario
@in_namespace()
def a_port_of_roots_and_nothing_else_of_roots(model):
    needs_root()
    with Echod("-w2", "--model=" + model, USER, "tcp://127.0.0.1:7", "udp://127.0.0.1:7") as echod:
        with echod.connect() as client:
            echo(client, b"hello")
        assert echod.address() == ("127.0.0.1", 7)
        expect_given_up(echod, 3)
        assert echod.stop() == 0


@scenario
def all_groups_of_a_user(model):
    """Without a group they are the user's: as id(1) has them."""
    needs_root()
    try:
        wanted = subprocess.run(["id", "-G", "nobody"], check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise Skip("no user nobody")
    with Echod("--user=nobody", "--model=" + model) as echod:
        for status in statuses(echod):
            assert sorted(status["Groups"].split()) == sorted(wanted.decode().split()), status
            assert status["Gid"].split()[0] == wanted.decode().split()[0], status


@scenario
def without_a_user_only_programs_gain_nothing(model):
    with Echod("--model=" + model) as echod:
        for status in statuses(echod):
            assert status["NoNewPrivs"] == "1", status
            assert status["Uid"].split() == [str(os.geteuid())] * 4, status
            expect_filtered(status)
        with echod.connect() as client:
            echo(client, b"hello")
        assert echod.stop() == 0


@scenario
def a_filter_can_be_left_out(model):
    with Echod("--sandbox=off", "--model=" + model) as echod:
        assert {(status["Seccomp"], status["NoNewPrivs"]) for status in statuses(echod)} == \
            {("0", "1")}
        assert echod.stop() == 0


def refuse_filters():
    """From now on the kernel takes no filter, by either call; as one does that was built without.
    It is itself a filter: of x86-64's numbers."""
    load, jump_if, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7fff0000, 0x00050000 | 22  # EINVAL
    code = [(load, 0, 0, 0), (jump_if, 4, 0, 317),   # seccomp
            (jump_if, 0, 2, 157), (load, 0, 0, 16),  # prctl, its first argument
            (jump_if, 1, 0, 22),                     # PR_SET_SECCOMP
            (give, 0, 0, allow), (give, 0, 0, refuse)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(filters)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0


@scenario
def a_kernel_without_filters(model):
    """It is served without, which is told; unless the filter was asked for."""
    if os.uname().machine != "x86_64" or not has_filter():
        raise Skip("no filter that could refuse filters")
    launcher = [sys.executable, __file__, "--refuse-filters"]
    with Echod("--model=" + model, "tcp://127.0.0.1:0", launcher=launcher) as echod:
        assert echod.lines("sandbox-failed")[0].level == "warning"
        assert {status["Seccomp_filters"] for status in statuses(echod)} == {"1"}
        with echod.connect() as client:
            echo(client, b"hello")
        assert echod.stop() == 0
    assert says("--sandbox=on", "--model=" + model, "127.0.0.1:0", prefix=launcher) == \
        "echod: Invalid argument: --sandbox=on\n"


@scenario
def each_backend_behind_the_filter(model):
    backends = subprocess.run([ECHOD, "--list-backends"], capture_output=True, text=True).stdout
    for backend in backends.split():
        with Echod("--backend=" + backend, "--model=" + model) as echod, echod.connect() as client:
            echo(client, os.urandom(1 << 20))
            assert echod.stop() == 0


@scenario
def files_are_removed_from_another_root(model):
    """The pid file and a unix socket, by the user: they are its own, as the directory is."""
    needs_root()
    with directory_of_user() as directory:
        pid_file, path = (os.path.join(directory, name) for name in ("pid", "socket"))
        with Echod(USER, "--chroot=" + os.path.join(directory, "root"), "--model=" + model,
                   "--pid-file=" + pid_file, "unix://" + path + "?mode=600",
                   environment=NO_PROC) as echod:
            with open(pid_file) as file:
                assert file.read() == "%d\n" % echod.pid
            for file in pid_file, path:
                assert (os.stat(file).st_uid, os.stat(file).st_gid) == (UID, GID), os.stat(file)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                echo(client, b"hello")
            for pid in echod.processes():
                assert os.readlink("/proc/%d/root" % pid) == os.path.join(directory, "root")
                assert os.readlink("/proc/%d/cwd" % pid) == os.path.join(directory, "root")
            assert echod.stop() == 0
        assert os.listdir(directory) == ["root"]


@scenario
def certificates_are_read_from_another_root(model):
    """And one that the user may not read is a warning: the old one stays."""
    needs_root()
    needs_tls()
    with directory_of_user() as directory:
        served = os.path.join(directory, "served.pem")
        os.rename(make_certificate(directory, "first"), served)  # root's alone, at the start
        os.chmod(served, 0o600)
        with Echod(USER, "--chroot=" + os.path.join(directory, "root"), "--model=" + model, "-w2",
                   "--tls-cert=" + served, "tls://127.0.0.1:0", environment=NO_PROC) as echod:
            expect_served(echod, "first")
            os.rename(make_certificate(directory, "second"), served)
            os.chmod(served, 0o600)
            echod.signal(signal.SIGHUP)
            line = echod.wait_line("reload-failed")
            assert line.level == "warning" and "Permission denied" in line["error"], line
            assert line["file"] == served, line
            expect_served(echod, "first")
            os.chown(served, UID, GID)
            echod.signal(signal.SIGHUP)
            echod.wait_line("reloaded")
            expect_served(echod, "second")
            with open("/proc/%d/limits" % echod.pid) as limits:  # it would have the key in it
                assert re.search(r"Max core file size +1 +1 ", limits.read())
            assert echod.stop() == 0


@scenario
def a_worker_is_replaced_from_another_root():
    needs_root()
    with directory_of_user() as directory:
        with Echod(USER, "--chroot=" + os.path.join(directory, "root"), "-w2",
                   environment=NO_PROC) as echod:
            os.kill(echod.workers()[0], signal.SIGKILL)
            echod.wait_line("worker-started", 3)
            for _ in range(8):
                with echod.connect() as client:
                    echo(client, b"hello")
            expect_given_up(echod, 3)
            assert echod.stop() == 0


@scenario
def the_system_log_hears_from_another_root(model):
    """From the supervisor and from a worker, and where neither has a /dev."""
    needs_root()
    with directory_of_user() as directory:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(os.path.join(directory, "log"))
        os.chmod(os.path.join(directory, "log"), 0o666)
        server.settimeout(DEADLINE)
        script = 'mount --bind "$1" /dev && shift && exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
                   directory, ECHOD, "--syslog", "-v", "--model=" + model, USER,
                   "--chroot=" + os.path.join(directory, "root"), "tcp://127.0.0.1:0"]
        echod = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=sanitized(NO_PROC))
        try:
            text = server.recv(4096).decode()
            port = int(re.search(r"listening endpoint=tcp://127\.0\.0\.1:(\d+)$", text)[1])
            while " ready " not in text:
                text = server.recv(4096).decode()
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
                echo(client, b"hello")
            text = server.recv(4096).decode()
            assert re.match(r"<30>.* echod\[\d+\]: info closed conn=1 ", text), text
            echod.terminate()
            assert echod.wait(DEADLINE) == 0
        except socket.timeout:
            raise AssertionError("no line: %s" % echod.poll())
        finally:
            if echod.poll() is None:
                echod.kill()
                echod.wait()
            server.close()


@scenario
def the_service_manager_hears_from_another_root():
    needs_root()
    with directory_of_user() as directory:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(os.path.join(directory, "notify"))
        manager.settimeout(DEADLINE)
        with Echod(USER, "--chroot=" + os.path.join(directory, "root"),
                   environment={"NOTIFY_SOCKET": os.path.join(directory, "notify"),
                                **NO_PROC}) as echod:
            assert manager.recv(4096).startswith(b"READY=1\n")
            assert echod.stop() == 0
            told = manager.recv(4096)
            assert told.startswith(b"STOPPING=1\n"), told
        manager.close()


@scenario
def who_is_not_there_is_told():
    assert says("--user=no-such-user") == "echod: no such user: no-such-user\n"
    assert says("--user=root:no-such-group") == "echod: no such group: no-such-group\n"
    assert says("--user=54321") == \
        "echod: no such user, and so no group: give USER:GROUP: 54321\n"
    for wrong in "", ":", "root:", ":root":
        assert says("--user=" + wrong, status=2).endswith(": --user=%s\n" % wrong)
    assert says("--sandbox=maybe", status=2) == "echod: neither on nor off: --sandbox=maybe\n"


@scenario
def who_may_not_change_is_told():
    """And nothing is left behind."""
    with tempfile.TemporaryDirectory(prefix="echod-priv.", dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        files = ["--pid-file=" + os.path.join(directory, "pid"),
                 "unix://" + os.path.join(directory, "socket")]
        prefix = []
        if os.geteuid() == 0:
            prefix = ["setpriv", "--reuid=%d" % UID, "--regid=%d" % GID, "--clear-groups"]
            if subprocess.run([*prefix, ECHOD, "--version"], capture_output=True,
                              env=sanitized()).returncode != 0:
                raise Skip("others cannot run the program here")
        for change, what in (("--user=root", "cannot change user"),
                             ("--chroot=/tmp", "cannot change root directory")):
            assert says(change, *files, prefix=prefix) == \
                "echod: %s (Operation not permitted): %s\n" % (what, change.split("=")[1])
            assert os.listdir(directory) == []


@scenario
def a_root_directory_that_is_not_there():
    needs_root()
    assert says("--chroot=/nowhere", "127.0.0.1:0") == \
        "echod: cannot change root directory (No such file or directory): /nowhere\n"


@scenario
def a_pid_file_where_the_user_may_not_write(model):
    """As in /run: it can be written, and at the end, as it cannot be removed, holds no number."""
    needs_root()
    with tempfile.TemporaryDirectory(prefix="echod-priv.", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, "pid")
        for _ in range(2):  # the second time it is there
            with Echod(USER, "--model=" + model, "--pid-file=" + path, "127.0.0.1:0") as echod:
                with open(path) as file:
                    assert file.read() == "%d\n" % echod.pid
                assert echod.stop() == 0
            assert os.listdir(directory) == ["pid"] and os.path.getsize(path) == 0
        assert says(USER, "--pid-file=" + path, "--chroot=/nowhere", "127.0.0.1:0")
        assert os.listdir(directory) == []  # nothing had been given up yet


@scenario
def a_pid_file_that_root_has_left_in_a_directory_for_all():
    """As in /tmp: there nobody but root may replace it."""
    needs_root()
    with tempfile.TemporaryDirectory(prefix="echod-priv.", dir="/tmp") as directory:
        os.chmod(directory, 0o1777)
        path = os.path.join(directory, "pid")
        with open(path, "w") as file:
            file.write("1\n")
        with Echod(USER, "--pid-file=" + path, "127.0.0.1:0") as echod:
            with open(path) as file:
                assert file.read() == "%d\n" % echod.pid
            assert echod.stop() == 0
        assert os.listdir(directory) == []


if __name__ == "__main__":
    if sys.argv[1:2] == ["--refuse-filters"]:
        refuse_filters()
        os.execv(sys.argv[2], sys.argv[2:])
    main()
