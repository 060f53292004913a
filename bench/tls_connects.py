#!/usr/bin/env python3
"""What connects.c is for plain connections: opens TLS connections to an echo server; on each, one
message goes out and must come back exact. Each is then closed, or with -k kept until our input
ends; with -s all go on with the session of one before them. Prints one line of JSON.

A ring of connections is under way at a time: the oldest is waited for while the server works on
the others.
"""
import argparse
import collections
import json
import socket
import ssl
import sys
import time

PATIENCE = 10  # seconds; a server that takes longer has failed
MESSAGE = 64   # bytes


class Failure(Exception):
    """Another echo than the message, or no session to go on with."""


def new_context():
    """TLS 1.3, with whomever it may be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def start(context, address, session=None):
    """A connection that has said hello, and has not waited for the answer."""
    plain = socket.create_connection(address, timeout=PATIENCE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain, do_handshake_on_connect=False, session=session)
    connection.setblocking(False)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    connection.settimeout(PATIENCE)
    return connection


def echo(connection, number):
    """The rest of the handshake, and a message that only this connection sends."""
    message, answer = (b"%d." % number).ljust(MESSAGE, b"-"), b""
    connection.do_handshake()
    connection.sendall(message)
    while len(answer) < MESSAGE:
        piece = connection.recv(MESSAGE - len(answer))
        if not piece:
            break
        answer += piece
    if answer != message:
        raise Failure("%r came back" % answer)


def session_of(context, address):
    with start(context, address) as connection:
        echo(connection, 0)
        return connection.session


def open_all(options, address, kept):
    """Adds to KEPT all that have echoed, closed or not."""
    context = new_context()
    session = session_of(context, address) if options.resume else None
    ring = collections.deque()
    for number in range(options.count + options.ring):
        if number >= options.ring:
            oldest = ring.popleft()
            echo(oldest, number)
            if options.resume and not oldest.session_reused:
                raise Failure("a session was not resumed")
            if not options.keep:
                oldest.close()
            kept.append(oldest)
        if number < options.count:
            ring.append(start(context, address, session))


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", dest="keep", action="store_true", help="keep them")
    parser.add_argument("-s", dest="resume", action="store_true", help="resume a session")
    parser.add_argument("-n", dest="count", type=int, default=1000, help="how many")
    parser.add_argument("-r", dest="ring", type=int, default=16, help="how many at a time")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    return parser.parse_args()


def main():
    options, kept = parse(), []
    began = time.monotonic()
    try:
        open_all(options, (options.address, options.port), kept)
    except (Failure, OSError) as failure:
        print("tls_connects.py: %s" % failure, file=sys.stderr)
    print(json.dumps({"verified": len(kept), "failed": options.count - len(kept),
                      "rate": len(kept) / (time.monotonic() - began)}), flush=True)
    if options.keep:
        sys.stdin.read()


if __name__ == "__main__":
    main()
