"""The TLS servers that echod is compared with: how each is built, if it must be, and started. All
are given one file, with a certificate and its key."""
import os

import measure
import peers
from peers import SOURCES, XINETD, find, run

FORKING = {"stunnel"}  # a thread for each connection, and a process in xinetd
AT_ONCE = {"s_server": 1}

HAPROXY = """
global
    nbthread 1
    maxconn 8000
defaults
    mode tcp
    timeout connect 1h
    timeout client 1h
    timeout server 1h
listen echo
    bind 127.0.0.1:%d ssl crt %s backlog 4096
    server echo 127.0.0.1:%d
"""

STUNNEL = """
foreground = yes
pid =
syslog = no
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[echo]
accept = 127.0.0.1:%d
connect = 127.0.0.1:%d
cert = %s
"""

# What is compared is servers, not ciphers: all that are started from now on, and their clients,
# have but one to choose from.
OPENSSL = """
openssl_conf = default
[default]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_256_GCM_SHA384
Groups = X25519
"""


def write(build, name, text):
    path = os.path.join(build, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def agree_on_a_cipher(build):
    os.environ["OPENSSL_CONF"] = write(build, "openssl.cnf", OPENSSL)


def certificate(build):
    """A key on P-256 and a certificate that it signs, in one file."""
    path = os.path.join(build, "tls.pem")
    run([find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", path, "-out", path],
        "openssl")
    return path


def textbook(build, pem):
    program = os.path.join(build, "textbook_tls")
    flags = run([find("pkg-config"), "--cflags", "--libs", "libevent_openssl", "libssl"],
                "libevent_openssl").split()
    compiler = os.environ.get("CC", "cc").split()
    run(compiler + ["-O2", os.path.join(SOURCES, "textbook_tls.c"), "-o", program] + flags,
        "libevent_openssl")
    return [program, "{port}", pem]


def behind(inner, outer):
    """INNER runs beside OUTER, as its child, and so is of the same tree."""
    return ["sh", "-c", "%s & exec %s" % (" ".join(inner), " ".join(outer))]


def haproxy(build, pem, echod):
    """Terminates TLS in front of echod, which is spoken to in the clear."""
    program = find("haproxy")

    def command(port):
        inner = measure.free_port()
        path = write(build, "haproxy.cfg", HAPROXY % (port, pem, inner))
        return behind([echod, "--quiet", "127.0.0.1:%d" % inner],
                      [program, "-db", "-q", "-f", path])

    return command


def stunnel(build, pem, _):
    """In front of xinetd, which runs a `cat` for each connection."""
    program, server, cat = find("stunnel"), find("xinetd"), find("cat")

    def command(port):
        inner = measure.free_port()
        services = write(build, "xinetd-tls.conf", XINETD % (inner, os.getuid(), cat))
        path = write(build, "stunnel.conf", STUNNEL % (port, inner, pem))
        return behind([server, "-dontfork", "-f", services, "-filelog", "/dev/null"],
                      [program, path])

    return command


def s_server(build, pem, _):
    """It prints what comes and sends what it reads; a pipe leads from the one to the other."""
    program, pipe = find("openssl"), os.path.join(build, "s_server.pipe")
    if not os.path.exists(pipe):
        os.mkfifo(pipe)
    return ["sh", "-c", "exec %s s_server -quiet -accept 127.0.0.1:{port} -cert %s <>%s >&0" % (
        program, pem, pipe)]


# By name: given the build directory, the file and echod, the command that starts the peer.
PEERS = {
    "s_server": s_server,
    "stunnel": stunnel,
    "haproxy": haproxy,
    "textbook": lambda build, pem, _: textbook(build, pem),
    "go": lambda build, pem, _: peers.go(build) + [pem],
    "node": lambda build, pem, _: peers.node(build) + [pem],
}
