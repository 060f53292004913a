"""Twisted, a chat after its LineReceiver example. Usage: chat_twisted.py PORT"""
import re
import sys

from twisted.internet import protocol, reactor
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer


@implementer(IPushProducer)
class Backlog:
    """Told by a member's transport when over 64 KiB wait for it, and when nothing does."""

    def __init__(self, member):
        self.member = member

    def pauseProducing(self):
        self.member.factory.slow.add(self.member)

    def resumeProducing(self):
        self.member.factory.forgive(self.member)

    def stopProducing(self):
        pass


class Chat(LineReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 4096

    def connectionMade(self):
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(Backlog(self), True)
        self.name = self.factory.new_name()
        self.members = self.factory.members
        self.members[self.name] = self
        self.sendLine(b"* you are %s, %d here" % (self.name, len(self.members)))
        self.tellOthers(b"* %s joined" % self.name)

    def connectionLost(self, reason):
        del self.members[self.name]
        self.factory.held.discard(self)
        self.factory.forgive(self)
        self.tellOthers(b"* %s left" % self.name)

    def lineReceived(self, line):
        if not line.startswith(b"/"):
            self.tellOthers(b"%s: %s" % (self.name, line.rstrip(b"\r")))
            return
        command, _, name = line.strip().partition(b" ")
        if command == b"/nick" and re.fullmatch(rb"[\w-]{1,32}", name) and name not in self.members:
            self.rename(name)
        elif command == b"/who":
            self.sendLine(b"* here: " + b" ".join(self.members))
        elif command == b"/quit":
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        else:
            self.sendLine(b"* no")

    def rename(self, name):
        was, self.name = self.name, name
        self.members[name] = self.members.pop(was)
        self.sendLine(b"* you are " + name)
        self.tellOthers(b"* %s is now %s" % (was, name))

    def tellOthers(self, line):
        for member in self.members.values():
            if member is not self:
                member.sendLine(line)
        if self.factory.slow and self.name in self.members:
            self.factory.held.add(self)
            self.pauseProducing()


class ChatFactory(protocol.Factory):
    protocol = Chat

    def __init__(self):
        self.members = {}  # by name
        self.slow = set()  # members with much waiting: while there are any ...
        self.held = set()  # ... these authors are not read from
        self.guests = 0

    def new_name(self):
        self.guests += 1
        return b"guest%d" % self.guests

    def forgive(self, member):
        self.slow.discard(member)
        while self.held and not self.slow:
            self.held.pop().resumeProducing()


reactor.listenTCP(int(sys.argv[1]), ChatFactory(), backlog=4096, interface="127.0.0.1")
reactor.run()
