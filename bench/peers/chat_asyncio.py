"""asyncio, a chat by a Protocol; on uvloop if asked. Usage: chat_asyncio.py PORT [uvloop]"""
import asyncio
import re
import sys

LONGEST = 4096
members = {}   # by name
slow = set()   # members that have more than 64 KiB waiting: while there are any ...
held = set()   # ... these authors are not read from


class Member(asyncio.Protocol):
    guests = 0

    def connection_made(self, transport):
        Member.guests += 1
        self.transport, self.rest, self.name = transport, b"", b"guest%d" % Member.guests
        members[self.name] = self
        transport.write(b"* you are %s, %d here\n" % (self.name, len(members)))
        self.tell_others(b"* %s joined\n" % self.name)

    def connection_lost(self, _):
        del members[self.name]
        held.discard(self)
        self.resume_writing()
        self.tell_others(b"* %s left\n" % self.name)

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > LONGEST:
            self.transport.abort()
        self.tell_others(b"".join(map(self.take, lines)))

    def take(self, line):
        """Obeys a command; returns what the others are to read."""
        if not line.startswith(b"/"):
            return b"%s: %s\n" % (self.name, line.rstrip(b"\r"))
        command, _, name = line.strip().partition(b" ")
        if command == b"/nick" and re.fullmatch(rb"[\w-]{1,32}", name) and name not in members:
            return self.rename(name)
        if command == b"/who":
            self.transport.write(b"* here: %s\n" % b" ".join(members))
        elif command == b"/quit":
            self.transport.close()
        else:
            self.transport.write(b"* no\n")
        return b""

    def rename(self, name):
        was, self.name = self.name, name
        members[name] = members.pop(was)
        self.transport.write(b"* you are %s\n" % name)
        return b"* %s is now %s\n" % (was, name)

    def tell_others(self, text):
        if not text:
            return
        for member in members.values():
            if member is not self:
                member.transport.write(text)
        if slow and self.name in members:
            held.add(self)
            self.transport.pause_reading()

    def pause_writing(self):
        slow.add(self)

    def resume_writing(self):
        slow.discard(self)
        while held and not slow:
            held.pop().transport.resume_reading()


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Member, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if sys.argv[2:] == ["uvloop"]:
    import uvloop
    uvloop.install()
asyncio.run(main())
