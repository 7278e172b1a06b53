"""Sockets: bytes in and out of connections, tasks for what has to wait, deadlines, back-pressure.

Knows nothing of tokens, actions or storage: requests go to `answer`, and what comes back is sent.
All peers together are `server.listener`.
"""

import asyncio
import logging
import socket
import types
from collections.abc import Coroutine, Generator
from functools import partial
from math import inf
from typing import TYPE_CHECKING, TypeVar, cast

from protocol.connection import Connection
from protocol.errors import LocalError, error
from protocol.messages import Request, Response
from protocol.phases import Phase
from server.limit_counters import Limit
from server.refusals import RefusalBudget, is_refusal
from server.settings import UNIX_PEERS
from server.tls import client_certificates

if TYPE_CHECKING:
    from server.listener import Listener

_LOG = logging.getLogger("manykeys.net")
LINGER_S = 2.0
"""How long a peer may take to close his side once ours is closed."""
# What a refused connection gets, without a look at what it asks (RFC 9110 §15.6.4).
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Connection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
)
_HEAD, _SOCKET = Phase.HEAD, Phase.SOCKET  # found sooner than in their enum
_REQUEST_PHASES = (Phase.HEAD, Phase.BODY, Phase.CHUNKS)

Answering = Coroutine[object, object, Response]
T = TypeVar("T")


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Give the address of the other side: `UNIX_PEERS` for a Unix socket's, "" for what is gone."""
    named = transport.get_extra_info("peername")
    if isinstance(named, tuple):
        return str(named[0])
    opened = transport.get_extra_info("socket")
    return UNIX_PEERS if opened is not None and opened.family == socket.AF_UNIX else ""


# Why a peer is not simply read from; several may hold at a time, none is the rule.
FULL = 1  # as many requests as may be are in progress
BLOCKED = 2  # what was written has not left
LEAVING = 4  # to be ended once the answers in progress are sent
ENDING = 8  # our side is closed, the peer's not yet
BEHIND = 16  # what has arrived is understood first, in a turn of its own
PINGED = 32  # silent for long; still read from
PAUSED = 64  # nothing but refusals, see `server.refusals`
_NOT_READING = FULL | BLOCKED | LEAVING | BEHIND | PAUSED


class Peer(asyncio.Protocol):
    """One socket. `deadline_s` is the loop's time at which the peer has taken too long."""

    __slots__ = (
        "__weakref__",
        "_address",
        "_connection",
        "_holds",
        "_listener",
        "_partial",
        "_refusals",
        "_transport",
        "deadline_s",
        "linked",
        "paused_until_s",
    )

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._connection = Connection(listener.wire, self)
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._holds = 0
        self._partial: Phase | None = None  # the phase whose message is not whole
        self._refusals: RefusalBudget | None = None  # since the last success
        self.deadline_s = inf
        self.paused_until_s = 0.0
        self.linked = b""

    @property
    def address(self) -> str:
        """See `protocol.messages.Connected`."""
        return self._address

    @property
    def is_encrypted(self) -> bool:
        """See `protocol.messages.Connected`."""
        transport = self._transport
        return transport is not None and transport.get_extra_info("ssl_object") is not None

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """See `protocol.messages.Connected`."""
        transport = self._transport
        secured = None if transport is None else transport.get_extra_info("ssl_object")
        return () if secured is None else client_certificates(secured)

    @property
    def is_socket(self) -> bool:
        """Whether this is an open WebSocket by now."""
        return self._connection.phase is _SOCKET

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)
        listener = self._listener
        if not listener.admit(self):
            self._transport.write(_TOO_MANY)
            self._transport.close()
            return
        self._address = peer_address(transport)
        self._wait(listener.timeouts.head_s)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived: answer what they complete, in one write where that is possible."""
        connection, transport = self._connection, self._transport
        requests = connection.receive(data)
        for request in requests:
            self._answer(request)
        if self._holds or transport is None or not connection.is_settled:
            self._holds &= ~PINGED
            self._flush(bool(requests))
            return
        # All that arrived is understood and answered, as nearly always.
        if data := connection.bytes_to_send():
            transport.write(data)
        self._partial = None
        listener = self._listener
        self.deadline_s = listener.now_s + (
            listener.timeouts.idle_s if connection.phase is _HEAD else listener.timeouts.socket_s
        )

    def _answer(self, request: Request) -> None:
        """Step the answer once; only one that has to wait costs a task."""
        ready = self._listener.answer_now(request)
        if ready is not None:
            self._refusals = None
            self._connection.send_kept(request, *ready)
            return
        answering = self._listener.answer(request)
        try:
            awaited = answering.send(None)
        except StopIteration as done:
            self._send(request, done.value)
            return
        tasks = self._listener.tasks
        task = self._listener.loop.create_task(self._finish_answer(request, answering, awaited))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _finish_answer(self, request: Request, answering: Answering, awaited: object) -> None:
        response = await go_on_with(answering, awaited)
        if self._transport is not None:
            self._send(request, response)
            self._flush(True)

    def _send(self, request: Request, response: Response) -> None:
        if response.status < 400:
            self._refusals = None
        elif is_refusal(response.status):
            self._count_refusal()
        try:
            self._connection.send(request, response)
        except LocalError:
            _LOG.exception("an answer could not be written")
            failed = error("plugin.runtime.unexpected_error", "see the server's log")
            instead = Response(response.request_id, status=failed.status, error=failed)
            self._connection.send(request, instead)

    def _count_refusal(self) -> None:
        """Count an answer that refuses, and read nothing for a moment where there are too many in a
        row; requests that are understood already are still answered."""
        listener = self._listener
        now_s = listener.clock_s()
        if self._refusals is None:
            self._refusals = RefusalBudget(now_s)
        pause_s = self._refusals.spend(now_s)
        # A HTTP connection of a proxy is that of many clients.
        if not pause_s or not self.is_socket and listener.is_proxy(self._address):
            return
        listener.on_limit(Limit.REFUSED_CONNECTION)
        self.paused_until_s = now_s + pause_s
        listener.paused.add(self)
        self._hold(PAUSED)

    def read_again(self) -> None:
        """Go on after a pause."""
        self._release(PAUSED)
        self._flush(True)

    def _flush(self, has_progress: bool) -> None:
        """Write what is ready, then see how the connection goes on."""
        transport, connection = self._transport, self._connection
        if transport is None:
            return
        if self._holds & LEAVING and not connection.awaits_answers:
            connection.finish()
            self._release(LEAVING)
        if data := connection.bytes_to_send():
            transport.write(data)
        if connection.is_finished:
            self._end(transport)
            return
        if connection.is_full:
            self._hold(FULL)
        else:
            self._release(FULL)
        if connection.is_behind and not self._holds & _NOT_READING:
            # In a turn of its own, so that one busy peer does not keep the others waiting. Until
            # then nothing is read: what is held would grow as fast as he can send.
            self._hold(BEHIND)
            self._listener.loop.call_soon(self._go_on)
        self._set_deadline(has_progress)

    def _go_on(self) -> None:
        """Understand what is held and was not looked at, unless there is no room for answers."""
        self._release(BEHIND)
        if self._transport is not None and not self._holds & _NOT_READING:
            self.data_received(b"")

    def _hold(self, reason: int) -> None:
        if not self._holds & _NOT_READING and self._transport is not None:
            self._transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        if self._holds & reason:
            self._holds &= ~reason
            if not self._holds & _NOT_READING and self._transport is not None:
                self._transport.resume_reading()

    def _set_deadline(self, has_progress: bool) -> None:
        """Renew the deadline, except while the same message is still coming in: one byte a second
        gains nothing."""
        connection, timeouts = self._connection, self._listener.timeouts
        phase = connection.phase
        if self._holds & BLOCKED:
            return
        if connection.awaits_answers or self._holds & PAUSED:
            self._partial = None
            self.deadline_s = inf
        elif phase is Phase.SOCKET or connection.is_settled:
            self._partial = None
            self._wait(timeouts.socket_s if phase is Phase.SOCKET else timeouts.idle_s)
        elif has_progress or phase is not self._partial:
            self._partial = phase
            if phase is Phase.LEAVING:
                self._wait(LINGER_S)
            else:
                self._wait(timeouts.head_s if phase is Phase.HEAD else timeouts.body_s)

    def _wait(self, limit_s: float) -> None:
        self.deadline_s = self._listener.now_s + limit_s

    def push(self, text: bytes) -> None:
        """Send a text message nobody asked for to an open WebSocket; one that takes none, though
        much is waiting for it, is dropped."""
        transport = self._transport
        if transport is None:
            return
        self._connection.push(text)
        # A socket that is closing takes nothing, not even no bytes, once our side is ended.
        if data := self._connection.bytes_to_send():
            transport.write(data)
        if self._holds & BLOCKED:
            if transport.get_write_buffer_size() > self._listener.unsent_bytes:
                self.abort()
        elif self._listener.timeouts.renews_on_push and self.deadline_s < inf:
            self._holds &= ~PINGED
            self._wait(self._listener.timeouts.socket_s)

    def finish(self) -> None:
        """Take no further request and end once the ones in progress are answered."""
        self._hold(LEAVING)
        self._release(PAUSED)  # its end must be seen
        if self._connection.phase is not Phase.SOCKET:
            self._connection.finish()
        self._flush(False)

    def _end(self, transport: asyncio.Transport) -> None:
        """Close our side and wait a moment for the peer's: closing at once could destroy the answer
        on its way (RFC 9112 §9.6)."""
        if self._holds & ENDING:
            return
        self._release(_NOT_READING)
        self._holds |= ENDING
        self._wait(LINGER_S)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """Drop the socket with all that is in it."""
        if self._transport is not None:
            self._transport.abort()

    def miss_deadline(self) -> None:
        """The peer took too long: a request begun is answered 408, a silent or unreading peer is
        dropped."""
        self.deadline_s = inf
        if self.is_socket and self._listener.timeouts.pong_s and not self._holds:
            self._ask_for_life()
            return
        if self._holds & (BLOCKED | ENDING) or self._partial not in _REQUEST_PHASES:
            self.abort()
            return
        for request in self._connection.time_out():
            self._answer(request)
        self._flush(True)

    def _ask_for_life(self) -> None:
        """Ping a silent WebSocket, whose Pong counts like anything else it says."""
        self._holds |= PINGED
        self._connection.ping()
        self._wait(self._listener.timeouts.pong_s)
        if self._transport is not None:
            self._transport.write(self._connection.bytes_to_send())

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write: read no more of his until he does."""
        self._hold(BLOCKED)
        self._wait(self._listener.timeouts.write_s)

    def resume_writing(self) -> None:
        """What was written has left."""
        self._release(BLOCKED)
        self._flush(True)

    def eof_received(self) -> bool:
        """The peer sends no more; answers in progress still go out."""
        self._connection.eof()
        if self._holds & ENDING or self._connection.is_finished:
            return False
        self._flush(False)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; answers in progress are made, then forgotten."""
        self._transport = None
        self.deadline_s = inf
        self._listener.forget(self)
        if self.linked:
            self._listener.unlink(self)


@types.coroutine
def go_on_with(
    begun: Coroutine[object, object, T], awaited: object
) -> Generator[object, object, T]:
    """Go on with a coroutine that was stepped once, outside of a task: first wait for what it waits
    for."""
    while True:
        try:
            value = yield awaited
        except BaseException as reason:
            resume = partial(begun.throw, reason)
        else:
            resume = partial(begun.send, value)
        try:
            awaited = resume()
        except StopIteration as done:
            return cast(T, done.value)
