"""asyncio, by a Protocol, its fast idiom; on uvloop if asked. Usage: py_asyncio.py PORT [uvloop]"""
import asyncio
import sys


class Echo(asyncio.Protocol):
    """At the peer's end asyncio itself sends what is pending, and closes."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if sys.argv[2:] == ["uvloop"]:
    import uvloop
    uvloop.install()
asyncio.run(main())
