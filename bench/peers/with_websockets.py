"""The `websockets` library on uvloop, without compression, which our clients do not ask for."""

import asyncio
import logging
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.peers.answers import me_over_websocket


async def talk(connection: ServerConnection) -> None:
    """Answer each message in turn, bytes both ways: the library would decode and encode each."""
    try:
        while True:
            message = await connection.recv(decode=False)
            await connection.send(me_over_websocket(message), text=True)
    except ConnectionClosed:
        pass


async def main(port: int) -> None:
    """Listen until the process is ended."""
    async with serve(
        talk, "127.0.0.1", port, compression=None, ping_interval=None, backlog=1024
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
