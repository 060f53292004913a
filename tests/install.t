#!/usr/bin/env python3
"""What `make install` puts where, and what configure says on a machine that lacks something."""
import os
import re
import shutil
import subprocess
import tempfile

from harness import DEADLINE, ECHOD, Skip, main, sanitized, scenario

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
BUILD = os.path.abspath(os.path.join(os.path.dirname(ECHOD), ".."))
NOBODY = 65534
LIBRARIES = {"libevent": "2.1.12", "openssl": "3.0.0", "libsystemd": "252", "hiredis": "0.14.1",
             "libseccomp": "2.5.4", "check": "0.15.2"}
PACKAGES = {"OpenSSL": ("libssl-dev", "tls://"), "libsystemd": ("libsystemd-dev", "activation"),
            "hiredis": ("libhiredis-dev", "--chat-bus"),
            "libseccomp": ("libseccomp-dev", "--sandbox=on"), "check": ("check", "unit tests")}


def make(*arguments, **named):
    """Runs make as a user would: not as a part of the make that runs this test."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}
    run = subprocess.run(["make", "-C", BUILD, *arguments], capture_output=True, text=True,
                         timeout=3 * DEADLINE, env=environment, **named)
    assert run.returncode == 0, (arguments, run.stdout, run.stderr)


def files_below(directory):
    return sorted(os.path.relpath(os.path.join(path, name), directory)
                  for path, _, names in os.walk(directory) for name in names)


def examples():
    """Folders of contrib/ and what is in them, as it is installed."""
    for folder in os.listdir(os.path.join(TOP, "contrib")):
        path = os.path.join(TOP, "contrib", folder)
        if folder not in ("completion", "systemd") and os.path.isdir(path):
            for _, _, names in os.walk(path):
                for name in names:
                    if name != "local.mk" and not name.endswith((".in", ".pyc")):
                        yield os.path.join("share/doc/echod/examples", folder, name)


def expected():
    """All files, below prefix."""
    units = ["echod@.service"]
    with open(os.path.join(BUILD, "config.h")) as config:
        if "#define HAVE_LIBSYSTEMD 1" in config.read():
            units += ["echod.service", "echod.socket"]
    return sorted(["bin/echoprobe", "sbin/echod", "share/bash-completion/completions/echod",
                   "share/bash-completion/completions/echoprobe", "share/doc/echod/systemd/README",
                   "share/man/man1/echoprobe.1", "share/man/man8/echod.8", *examples(),
                   *("lib/systemd/system/" + unit for unit in units)])


def commands_of_units(prefix):
    for unit in os.listdir(os.path.join(prefix, "lib/systemd/system")):
        with open(os.path.join(prefix, "lib/systemd/system", unit)) as text:
            yield from re.findall(r"^ExecStart=(\S+)", text.read(), re.M)


@scenario
def below_destdir_and_away_again():
    with tempfile.TemporaryDirectory(prefix="echod-install.") as directory:
        where = ["DESTDIR=" + directory, "prefix=/opt/e"]
        make("install", *where)
        assert files_below(directory) == ["opt/e/" + name for name in expected()]
        assert set(commands_of_units(directory + "/opt/e")) == {"/opt/e/sbin/echod"}
        for program in ("bin/echoprobe", "sbin/echod"):
            run = subprocess.run([os.path.join(directory, "opt/e", program), "--version"],
                                 capture_output=True, text=True, env=sanitized(), check=True)
            assert run.stdout.startswith(os.path.basename(program)), run
        make("uninstall", *where)
        assert files_below(directory) == []
        assert not os.path.exists(directory + "/opt/e/share/doc/echod")


def another_user(path):
    """Arguments that make a program somebody else's, who may read PATH, if we can be that."""
    other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if os.getuid() != 0:
        return {}
    run = subprocess.run(["test", "-r", path], stderr=subprocess.DEVNULL, **other)
    return other if run.returncode == 0 else {}


@scenario
def below_somebody_elses_home():
    """Who may not write anywhere else, not even where it was built, says where only now."""
    other = another_user(os.path.join(BUILD, "Makefile"))
    with tempfile.TemporaryDirectory(prefix="echod-install.") as home:
        os.chmod(home, 0o777)
        prefix = os.path.join(home, "x")
        make("install", "prefix=" + prefix, **other)
        assert files_below(home) == ["x/" + name for name in expected()]
        assert set(commands_of_units(prefix)) == {prefix + "/sbin/echod"}
        assert os.path.realpath(prefix + "/share/bash-completion/completions/echoprobe") == \
            os.path.realpath(prefix + "/share/bash-completion/completions/echod")
        make("uninstall", "prefix=" + prefix, **other)
        assert files_below(home) == []


def rendered(page):
    """The manual PAGE as text, 80 columns wide, by what is here of the two that render it."""
    for command in (["mandoc", "-T", "ascii", "-W", "warning"], ["man", "-l"]):
        if shutil.which(command[0]):
            run = subprocess.run([*command, page], capture_output=True, text=True,
                                 env={**os.environ, "LC_ALL": "C", "MANWIDTH": "80",
                                      "MANPAGER": "cat", "PAGER": "cat"})
            assert (run.returncode, run.stderr) == (0, ""), run
            yield re.sub(".\b", "", run.stdout)


@scenario
def manuals_have_all_options():
    found = 0
    for program, page in (("sbin/echod", "man8/echod.8"), ("bin/echoprobe", "man1/echoprobe.1")):
        path = os.path.join(os.path.dirname(ECHOD), os.path.basename(program))
        text = subprocess.run([path, "--help"], capture_output=True, text=True, check=True,
                              env=sanitized()).stdout
        for manual in rendered(os.path.join(TOP, "man", os.path.basename(page))):
            found += 1
            for option in re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.M):
                assert re.search(r"(?<!\S)%s\b" % option, manual), option
    if found == 0:
        raise Skip("neither mandoc nor man is installed")


class Configure:
    """A copy of what configure needs, and a world in which the libraries are those of MODULES."""

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="echod-configure.")
        for name in ("build-aux", "src"):
            os.mkdir(os.path.join(self.directory, name))
        for name in ("configure", "Makefile.in", "config.h.in",
                     *(os.path.join("build-aux", name)
                       for name in os.listdir(os.path.join(TOP, "build-aux")))):
            shutil.copy(os.path.join(TOP, name), os.path.join(self.directory, name))
        open(self.directory + "/src/main.c", "w").close()
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory)

    def path_without(self, *names):
        """A directory with all that PATH has, but for programs of these NAMES."""
        directory = tempfile.mkdtemp(dir=self.directory)
        for path in os.environ["PATH"].split(":"):
            for name in os.listdir(path) if os.path.isdir(path) else ():
                if not re.fullmatch(r"(.*-)?(%s)(-[0-9.]+)?" % "|".join(names), name):
                    link = os.path.join(directory, name)
                    os.path.lexists(link) or os.symlink(os.path.join(path, name), link)
        return directory

    def cache(self):
        """What configure found out here about all that is no library, as its option: compiling
        takes most of its time."""
        with open(os.path.join(BUILD, "config.log")) as log:
            found = re.findall(r"^a[cm]_cv_(?!env_)\w+=.*\n", log.read(), re.M)
        path = tempfile.mkstemp(dir=self.directory)[1]
        with open(path, "w") as cache:
            cache.writelines(line for line in found if "PKG_CONFIG" not in line)
        return "--cache-file=" + path

    def run(self, *options, modules=None, has_compiler=True, **environment):
        modules = LIBRARIES if modules is None else modules
        libraries = tempfile.mkdtemp(dir=self.directory)
        for module, version in modules.items():
            with open(os.path.join(libraries, module + ".pc"), "w") as file:
                file.write("Name: %s\nDescription: -\nVersion: %s\n" % (module, version))
        options = ["--no-create", *options, *([self.cache()] if has_compiler else [])]
        inherited = {name: value for name, value in os.environ.items() if name not in (
            "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LIBS", "PKG_CONFIG", "PKG_CONFIG_PATH")}
        return subprocess.run(["./configure", *options], cwd=self.directory, capture_output=True,
                              text=True, timeout=3 * DEADLINE,
                              env={**inherited, "PKG_CONFIG_LIBDIR": libraries, **environment})

    def complaint(self, *options, **named):
        """The one line of a configure that fails."""
        run = self.run("--quiet", *options, **named)
        assert run.returncode == 1 and run.stdout == "", run
        prefix, complaint = run.stderr[:18], run.stderr[18:]
        assert prefix == "configure: error: " and complaint.count("\n") == 1, run
        return complaint.rstrip("\n")


@scenario
def what_is_missing_is_named_in_one_line():
    with Configure() as configure:
        pkg_config = configure.path_without("pkg-config", "pkgconf")
        compiler = configure.path_without("gcc", "cc", "clang")
        for complaint, options, named in (
                ("libevent is missing: apt-get install libevent-dev", (), {"modules": {}}),
                ("OpenSSL is missing: apt-get install libssl-dev", ("--with-tls",),
                 {"modules": {"libevent": "2.1.12"}}),
                ("pkg-config is missing: apt-get install pkg-config", (), {"PATH": pkg_config}),
                ("a C compiler is missing: apt-get install gcc libc6-dev", (),
                 {"PATH": compiler, "has_compiler": False}),
                ("false makes no programs: apt-get install gcc libc6-dev (config.log says why)", (),
                 {"CC": "false", "has_compiler": False})):
            assert configure.complaint(*options, **named) == complaint


@scenario
def a_compiler_may_need_its_flags():
    """As one for other machines does."""
    with Configure() as configure:
        compiler = os.path.join(configure.directory, "picky")
        with open(compiler, "w") as script:
            script.write("""#!/bin/sh
                case "$* " in *-DSYSROOT*-L/sysroot\\ * | *-[cE]\\ *) exec gcc "$@" ;; esac
                exit 1""")
        os.chmod(compiler, 0o755)
        complaint = configure.complaint(modules={}, has_compiler=False, CC=compiler,
                                        CFLAGS="-DSYSROOT", LDFLAGS="-L/sysroot")
        assert complaint == "libevent is missing: apt-get install libevent-dev", complaint


@scenario
def what_is_left_out_is_named_too():
    """A warning for each library, and a summary."""
    with Configure() as configure:
        run = configure.run(modules={"libevent": "2.1.12", "hiredis": "0.13"})
        assert run.returncode == 0, run
        warnings = [line for line in run.stderr.split("\n") if "WARNING" in line]
        assert len(warnings) == len(PACKAGES), run.stderr
        for (name, (package, feature)), warning in zip(PACKAGES.items(), warnings):
            problem = "0.13 is too old: 0.14 or later is needed" if name == "hiredis" else \
                "is missing"
            assert warning.startswith("configure: WARNING: %s %s: apt-get install %s (no " %
                                      (name, problem, package)), warning
            assert re.search(r"^ +(\w+ )?%s +no$" % feature, run.stdout, re.M), run.stdout


main(around=True)
