"""What is measured: the loads of the table's columns."""
from collections import namedtuple

# Connections, the client's other arguments; may servers that fork for each connection take part?
Column = namedtuple("Column", "name title connections arguments forks")


def closed_loop(name, title, connections, size, in_flight, forks=False):
    return Column(name, title, connections, ["--load", "-s", size, "-p", in_flight], forks)


THROUGHPUT = [
    closed_loop("small", "100 x 64 B", 100, 64, 1, forks=True),
    closed_loop("pipelined", "100 x 64 B, 16 deep", 100, 64, 16),
    closed_loop("medium", "50 x 16 KiB, 4 deep", 50, 16384, 4, forks=True),
    closed_loop("bulk", "4 x 256 KiB", 4, 262144, 1),
]
# Open loop, at a rate that every peer but those that fork can serve.
LATENCY = Column("latency", "64 B, 20000/s on 50", 50, ["--rate=20000", "-s", 64], False)
# Without connections of the client's own: it opens them, by bench/connects.
CONNECTIONS = Column("connections", "connect, 64 B, close", None, [], True)
IDLE = Column("idle", "idle, has echoed", None, [], True)
