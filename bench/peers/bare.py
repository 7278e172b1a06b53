"""The floor: a bare uvloop Protocol that writes one constant per read and understands nothing.

As a WebSocket server it answers the first read with the handshake that belongs to the bench's fixed
key, and every further read with a constant frame. Both constants are our server's own answers.
"""

import asyncio
import sys
from typing import cast

import uvloop

from bench.subject.sample import read_sample

_SAMPLE = read_sample()
_HTTP_ANSWER = _SAMPLE.http_answer
_FRAME = (
    (b"\x81\x7e" + len(_SAMPLE.websocket_answer).to_bytes(2, "big"))
    if len(_SAMPLE.websocket_answer) > 125
    else bytes([0x81, len(_SAMPLE.websocket_answer)])
) + _SAMPLE.websocket_answer
_UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class Http(asyncio.Protocol):
    """Answers every read with the constant response."""

    __slots__ = ("write",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the one method that is needed."""
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        """Write, without a look at what came."""
        self.write(_HTTP_ANSWER)


class WebSocket(asyncio.Protocol):
    """Answers the first read with the handshake and every other with the constant frame."""

    __slots__ = ("answer", "write")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the one method that is needed."""
        self.write = cast(asyncio.Transport, transport).write
        self.answer = _UPGRADED

    def data_received(self, data: bytes) -> None:
        """Write, without a look at what came."""
        self.write(self.answer)
        self.answer = _FRAME


async def serve(port: int, protocol: type[asyncio.Protocol]) -> None:
    """Listen until the process is ended."""
    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), WebSocket if sys.argv[2:] == ["websocket"] else Http))
