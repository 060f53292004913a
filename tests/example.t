#!/usr/bin/env python3
"""The example of HACKING, as a server: a service in place of the echo, and all else as it was."""
import os
import signal
import socket

import harness
from harness import Echod, main, receive_all, receive_exactly, scenario

harness.ECHOD = os.path.join(os.path.dirname(harness.ECHOD), os.pardir, "tests", "example")


@scenario
def it_counts(model):
    """Lines in any pieces, and the bytes at the end of each connection for itself."""
    with Echod("-w2", "--model=" + model) as example:
        for _ in range(4):
            with example.connect() as client:
                for text, answer in ((b"one\n", b"1\n"), (b"two\nthree\nfo", b"2\n3\n"),
                                     (b"ur\n", b"4\n")):
                    client.sendall(text)
                    assert receive_exactly(client, len(answer)) == answer
                client.sendall(b"x" * 100000)
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b"100019 bytes\n"
        assert example.stop() == 0


@scenario
def a_drain_has_the_last_word(model):
    with Echod("--model=" + model) as example, example.connect() as client:
        client.sendall(b"a line\n")
        assert receive_exactly(client, 2) == b"1\n"
        example.signal(signal.SIGTERM)
        assert receive_all(client) == b"7 bytes\n"
        client.close()
        assert example.wait() == 0
        assert example.lines("drained", drained=1, forced=0), example.raw


if __name__ == "__main__":
    main()
