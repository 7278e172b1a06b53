"""Connection: one client socket, with its tasks, deadlines and back-pressure (asyncio protocol).

Independent of tokens, actions and storage: requests go to `answer`, and its responses are sent.
`server.net.listener` holds all connections.
"""

import asyncio
import logging
import socket
import types
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from math import inf
from typing import Protocol, TypeVar, cast

from protocol.api.envelope import PreparedJson
from protocol.api.request import Request, Response
from protocol.config import ConnectionConfig
from protocol.connection import Connection
from protocol.errors import LocalError, error
from protocol.state import State
from server.core.limit_counters import Limit
from server.core.settings import UNIX_PEERS
from server.net.client_connections import ClientKeys
from server.net.refusals import RefusalBudget, is_refusal
from server.net.timeouts import Timeouts
from server.net.tls import client_certificates
from server.net.unsent_answers import COUNTED_FROM_BYTES, UnsentAnswers

_LOG = logging.getLogger("manykeys.net")
LINGER_S = 2.0
"""How long a peer may take to close its side once ours is closed."""
# Sent to a refused connection, whose request is not read (RFC 9110 §15.6.4).
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Connection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
)
_HEAD, _SOCKET = State.HEAD, State.SOCKET  # faster than an enum lookup
_MESSAGE_PHASES = (State.HEAD, State.BODY, State.CHUNKS, State.SOCKET)

Answering = Coroutine[object, object, Response]
T = TypeVar("T")


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address of the peer: `UNIX_PEERS` for a Unix socket, "" if it has disconnected."""
    named = transport.get_extra_info("peername")
    if isinstance(named, tuple):
        return str(named[0])
    opened = transport.get_extra_info("socket")
    return UNIX_PEERS if opened is not None and opened.family == socket.AF_UNIX else ""


# Reasons why reading from a peer is suspended; several may apply at a time, usually none.
FULL = 1  # the limit of requests in progress is reached
BLOCKED = 2  # the write buffer is full
LEAVING = 4  # closed once the answers in progress are sent
ENDING = 8  # our side is closed, the peer's not yet
BEHIND = 16  # received bytes are parsed first, in a later turn of the loop
PINGED = 32  # idle; still read from
PAUSED = 64  # too many refusals, see `server.net.refusals`
_NOT_READING = FULL | BLOCKED | LEAVING | BEHIND | PAUSED


class ConnectionOwner(Protocol):
    """The interface of the listener that a connection uses."""

    wire: ConnectionConfig
    timeouts: Timeouts
    loop: asyncio.AbstractEventLoop
    tasks: set[asyncio.Task[None]]
    now_s: float
    unsent_bytes: int
    unsent_bytes_per_connection: int
    unsent: "UnsentAnswers[Peer]"
    client_keys: ClientKeys
    paused: set["Peer"]

    @property
    def clock_s(self) -> Callable[[], float]:
        """The clock of deadlines."""

    @property
    def is_proxy(self) -> Callable[[str], bool]:
        """Whether an address is a trusted proxy's."""

    @property
    def on_limit(self) -> Callable[[Limit], None]:
        """The counter of refusals."""

    def count_client(self, peer: "Peer", client: bytes | None) -> bool:
        """Count a connection of a client; False if it has too many."""

    @property
    def answer(self) -> Callable[[Request], Answering]:
        """The function that answers a request."""

    @property
    def try_cached(self) -> Callable[[Request], tuple[str, PreparedJson] | None]:
        """The function that answers a request without waiting; it returns None for `answer`."""

    @property
    def unlink(self) -> Callable[["Peer"], None]:
        """The function that is called when a linked WebSocket has disconnected."""

    def admit(self, peer: "Peer") -> bool:
        """Count a new connection, unless there are too many."""

    def forget(self, peer: "Peer") -> None:
        """Stop counting a connection."""


class Peer(asyncio.Protocol):
    """One client socket. `deadline_s` is the loop time at which the peer has timed out."""

    __slots__ = (
        "__weakref__",
        "_address",
        "_connection",
        "_has_unsent",
        "_holds",
        "_listener",
        "_partial",
        "_refusals",
        "_transport",
        "_waiting",
        "client",
        "deadline_s",
        "linked",
        "paused_until_s",
    )

    def __init__(self, listener: ConnectionOwner) -> None:
        self._listener = listener
        self._connection = Connection(listener.wire, self)
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._holds = 0
        self._partial: State | None = None  # the phase of an incomplete message
        self._waiting: Sequence[Request] = ()  # until there is room for their answers
        self._has_unsent = False  # whether unsent bytes are counted
        self.client: bytes | None = None  # the key this connection is counted under
        self._refusals: RefusalBudget | None = None  # since the last success
        self.deadline_s = inf
        self.paused_until_s = 0.0
        self.linked = b""

    @property
    def address(self) -> str:
        """See `protocol.api.request.Connected`."""
        return self._address

    @property
    def is_encrypted(self) -> bool:
        """See `protocol.api.request.Connected`."""
        transport = self._transport
        return transport is not None and transport.get_extra_info("ssl_object") is not None

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """See `protocol.api.request.Connected`."""
        transport = self._transport
        secured = None if transport is None else transport.get_extra_info("ssl_object")
        return () if secured is None else client_certificates(secured)

    def client_of(self, headers: Mapping[str, str]) -> bytes | None:
        """See `protocol.api.request.Connected`."""
        if self.client is not None:
            return self.client
        return self._listener.client_keys.of_request(self._address, headers)

    def is_socket_allowed(self, headers: Mapping[str, str]) -> bool:
        """See `protocol.api.request.Connected`."""
        return self.client is not None or self._listener.count_client(self, self.client_of(headers))

    @property
    def is_socket(self) -> bool:
        """Whether this is an open WebSocket."""
        return self._connection.phase is _SOCKET

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new connection."""
        self._transport = cast(asyncio.Transport, transport)
        listener = self._listener
        self._address = peer_address(transport)
        if not listener.admit(self):
            self._turn_away()
            return
        self._transport.set_write_buffer_limits(COUNTED_FROM_BYTES)
        self._wait(listener.timeouts.head_s)

    def _turn_away(self) -> None:
        """Refuse the connection, without reading its request."""
        if self._transport is not None:
            self._transport.write(_TOO_MANY)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes: answer the requests they complete, in one write if possible."""
        connection, transport = self._connection, self._transport
        requests = connection.receive(data)
        if self._waiting or len(requests) > 1:
            self._answer_in_turn(requests)
        else:
            for request in requests:
                self._answer(request)
        if self._holds or transport is None or not connection.is_settled:
            self._holds &= ~PINGED
            self._flush(bool(requests))
            return
        # Everything received is parsed and answered, as in nearly all cases.
        self._partial = None
        if data := connection.bytes_to_send():
            transport.write(data)
            if self._holds:
                return  # not everything could be sent, and there is a deadline for that
        listener = self._listener
        self.deadline_s = listener.now_s + (
            listener.timeouts.idle_s if connection.phase is _HEAD else listener.timeouts.socket_s
        )

    def _answer_in_turn(self, requests: list[Request]) -> None:
        """Answer several requests, after those that wait, as long as there is room for answers; the
        rest waits for room, or for a later turn of the loop."""
        waiting = [*self._waiting, *requests]
        done = 0
        if not self._connection.awaits_answers:  # the client has disconnected
            self._waiting = waiting
            self._drop_waiting()
            return
        for request in waiting:
            if not self._has_room():
                break
            self._answer(request)
            done += 1
        self._waiting = waiting[done:] or ()

    def _drop_waiting(self) -> None:
        for request in self._waiting:
            self._connection.drop(request)
        self._waiting = ()

    def _has_room(self) -> bool:
        """Return whether another request may be run: not while the client does not read, or while
        many bytes wait for an earlier answer, or for the end of this turn."""
        most_bytes = self._listener.unsent_bytes_per_connection
        return not self._holds & BLOCKED and self._connection.unsent_bytes <= most_bytes

    def _answer(self, request: Request) -> None:
        """Run the answer's first step; only an answer that has to wait needs a task."""
        ready = self._listener.try_cached(request)
        if ready is not None:
            self._refusals = None
            self._connection.send_prepared(request, *ready)
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
        connection = self._connection
        response = await resume_coroutine(answering, awaited)
        if self._transport is not None:
            self._send(request, response)
            self._flush(True)
        else:
            connection.drop(request)

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
        """Count a refusal, and pause reading after too many in a row; requests that are parsed
        already are still answered."""
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
        """Continue after a pause."""
        self._release(PAUSED)
        self._flush(True)

    def _flush(self, has_progress: bool) -> None:
        """Write what is ready, then decide how the connection continues."""
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
        if self._can_continue():
            # In a later turn, so that one busy peer does not delay the others. Until then nothing
            # is read: the buffer would grow as fast as the peer can send.
            self._hold(BEHIND)
            self._listener.loop.call_soon(self._continue)
        self._set_deadline(has_progress)
        self._count_unsent()

    def _can_continue(self) -> bool:
        """Return whether deferred requests can be run, or deferred bytes parsed."""
        if self._waiting:
            return not self._holds & BEHIND and self._has_room()
        return self._connection.has_unread_input and not self._holds & _NOT_READING

    def _count_unsent(self) -> None:
        """Count the unsent bytes, if there are many."""
        unsent_bytes = self._connection.unsent_bytes
        if self._transport is None or not (
            self._has_unsent or self._holds & BLOCKED or unsent_bytes
        ):
            return
        unsent_bytes += self._transport.get_write_buffer_size()
        self._has_unsent = self._listener.unsent.resize(self, self.client, unsent_bytes)

    def _continue(self) -> None:
        """Run the waiting requests, or parse the deferred bytes, unless there is no room for
        answers."""
        self._release(BEHIND)
        if self._transport is None:
            return
        if self._waiting:
            self._answer_in_turn([])
            self._flush(True)
        elif not self._holds & _NOT_READING:
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
        """Renew the deadline, except while the same message is still being received: one byte a
        second, or a ping between two fragments, does not extend it."""
        connection, timeouts = self._connection, self._listener.timeouts
        phase = connection.phase
        if self._holds & BLOCKED:
            return
        if connection.awaits_answers or self._holds & PAUSED:
            self._partial = None
            self.deadline_s = inf
        elif connection.is_settled:
            self._partial = None
            self._wait(timeouts.socket_s if phase is State.SOCKET else timeouts.idle_s)
        elif has_progress or phase is not self._partial:
            self._partial = phase
            if phase is State.LEAVING:
                self._wait(LINGER_S)
            else:
                self._wait(timeouts.head_s if phase is State.HEAD else timeouts.body_s)

    def _wait(self, limit_s: float) -> None:
        self.deadline_s = self._listener.now_s + limit_s

    def push(self, text: bytes) -> None:
        """Send a notification to an open WebSocket; one that does not read, while many bytes wait,
        is disconnected."""
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
            else:
                self._count_unsent()
        elif self._listener.timeouts.renews_on_push and self.deadline_s < inf:
            self._holds &= ~PINGED
            self._wait(self._listener.timeouts.socket_s)

    def finish(self) -> None:
        """Accept no further request and close once the ones in progress are answered."""
        self._hold(LEAVING)
        self._release(PAUSED)  # the peer's close must be seen
        if self._connection.phase is not State.SOCKET:
            self._connection.finish()
        self._flush(False)

    def _end(self, transport: asyncio.Transport) -> None:
        """Close our side and wait a moment for the peer's: closing both at once could destroy the
        answer in transit (RFC 9112 §9.6)."""
        if self._holds & ENDING:
            return
        self._release(_NOT_READING & ~BLOCKED)
        self._holds |= ENDING
        if not self._holds & BLOCKED:
            self._wait(LINGER_S)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """Drop the connection with all its buffers."""
        if self._transport is not None:
            self._transport.abort()

    def on_timeout(self) -> None:
        """Handle a timeout: a partial request is answered 408, an idle peer, or one that does not
        read, is disconnected."""
        self.deadline_s = inf
        if self._holds & (BLOCKED | ENDING):
            self.abort()
            return
        if self._partial not in _MESSAGE_PHASES:
            if self.is_socket and self._listener.timeouts.pong_s and not self._holds:
                self._ping_idle()
            else:
                self.abort()
            return
        if self.is_socket:
            self._listener.on_limit(Limit.MESSAGE_TIME)
        for request in self._connection.time_out():
            self._answer(request)
        self._flush(True)

    def _ping_idle(self) -> None:
        """Ping an idle WebSocket, whose pong counts like any other frame."""
        self._holds |= PINGED
        self._connection.ping()
        self._wait(self._listener.timeouts.pong_s)
        if self._transport is not None:
            self._transport.write(self._connection.bytes_to_send())

    def pause_writing(self) -> None:
        """Suspend reading: the peer does not read as fast as the server writes."""
        self._hold(BLOCKED)
        self._wait(self._listener.timeouts.write_s)
        self._count_unsent()

    def resume_writing(self) -> None:
        """Resume: the write buffer was sent."""
        self._release(BLOCKED)
        if self._holds & ENDING:
            self._wait(LINGER_S)
        self._flush(True)
        self._count_unsent()

    def eof_received(self) -> bool:
        """Handle the peer's end of stream; answers in progress are still sent."""
        self._connection.eof()
        if self._holds & ENDING or self._connection.is_finished:
            return False
        self._flush(False)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle a disconnect; answers in progress are finished, then dropped."""
        self._transport = None
        self.deadline_s = inf
        self._drop_waiting()
        self._connection.forget()
        self._listener.forget(self)
        if self.linked:
            self._listener.unlink(self)


@types.coroutine
def resume_coroutine(
    begun: Coroutine[object, object, T], awaited: object
) -> Generator[object, object, T]:
    """Continue a coroutine that was stepped once outside of a task: first await what it awaits."""
    try:
        while True:
            try:
                value = yield awaited
            except BaseException as reason:
                # Not kept under any other name: its traceback will keep this frame.
                awaited = begun.throw(reason)
            else:
                awaited = begun.send(value)
    except StopIteration as done:
        return cast(T, done.value)
