"""Python's selectors: a loop over sockets that are ready. Usage: py_selectors.py PORT"""
import selectors
import socket
import sys

SIZE = 65536
selector = selectors.DefaultSelector()
pending = {}  # what the kernel did not take, by socket


def accept(listener):
    connection, _ = listener.accept()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(connection, selectors.EVENT_READ, echo)


def close(connection):
    pending.pop(connection, None)
    selector.unregister(connection)
    connection.close()


def send(connection, data):
    """Returns what the kernel did not take."""
    try:
        return data[connection.send(data):]
    except BlockingIOError:
        return data


def echo(connection):
    try:
        data = connection.recv(SIZE)
        rest = send(connection, data) if data else b""
    except BlockingIOError:
        return
    except OSError:
        data = b""
    if not data:
        close(connection)
    elif rest:
        pending[connection] = rest
        selector.modify(connection, selectors.EVENT_WRITE, flush)


def flush(connection):
    try:
        rest = pending[connection] = send(connection, pending[connection])
    except OSError:
        close(connection)
        return
    if not rest:
        del pending[connection]
        selector.modify(connection, selectors.EVENT_READ, echo)


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
listener.setblocking(False)
selector.register(listener, selectors.EVENT_READ, accept)
while True:
    for key, _ in selector.select():
        key.data(key.fileobj)
