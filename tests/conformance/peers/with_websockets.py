"""The `websockets` library, echoing every message."""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Serve until killed."""
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=1 << 25):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
