"""A server for conformance suites over our own `protocol/` and shell: a program for tests.

Every message comes back as it was sent, text as text and binary as binary; every HTTP request is
answered with success. Prints its port.
"""

import asyncio

import uvloop

from protocol.api.request import Request, Response
from protocol.config import ConnectionConfig, Match
from protocol.connection import Connection
from protocol.websocket.deflate import deflate
from protocol.websocket.frames import Opcode, write_frame
from protocol.websocket.messages import Message, MessageLimits
from server.net.bind import Place
from server.net.connection import Peer
from server.net.listener import Listener
from server.net.timeouts import Timeouts

# The suite sends messages of 16 MiB, in up to 65,536 fragments, that compress a thousand times.
LIMITS = MessageLimits(message_bytes=16 * 1024 * 1024, frames=1 << 18, ratio=1100)


class EchoConnection(Connection):
    """A connection that answers messages with themselves instead of reading them."""

    __slots__ = ()

    def _take_alone(self, data: bytes) -> None:
        """There are no requests to be read in a shorter way."""

    def _take_message(self, message: Message, requests: list[Request]) -> None:
        agreement = None if self._websocket is None else self._websocket.agreement
        opcode = Opcode.TEXT if message.is_text else Opcode.BINARY
        payload = message.payload if agreement is None else deflate(message.payload, agreement)
        self._out.append(write_frame(opcode, payload, is_compressed=agreement is not None))


class EchoPeer(Peer):
    """A socket with such a connection."""

    __slots__ = ()

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._connection = EchoConnection(listener.wire, self)


def no_answer(request: Request) -> None:
    """No request is answered at once."""


class EveryRoute:
    """Every path leads somewhere."""

    def match(self, verb: str, path: str) -> Match:
        """See `protocol.config.Routes`."""
        return Match("echo", "echo", {})


async def answer(request: Request) -> Response:
    """Answer what is no message, as long as it is sound HTTP, whatever its body says."""
    refused = request.refused if request.controller is None else None
    status = 200 if refused is None else refused.status
    return Response("id", status=status, error=refused, result={})


async def main() -> None:
    """Listen until killed."""
    wire = ConnectionConfig(EveryRoute(), "echo", message_limits=LIMITS, compresses_messages=True)
    wire.set_date("Thu, 01 Jan 1970 00:00:00 GMT")
    listener = Listener(wire, answer, no_answer, Timeouts(), connections=1000, make_peer=EchoPeer)
    bound = await listener.listen(Place())
    print(bound[1] if isinstance(bound, tuple) else bound, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
