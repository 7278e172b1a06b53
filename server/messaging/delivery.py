"""Delivery of messages to an external command (JSON on its standard input) or a webhook (JSON in a
POST).

Messages wait in a bounded queue, so that requests never wait for their delivery. Errors contain no
text of the receiver and no part of a message or URL: both may contain secrets.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

import orjson

from server.core.config_file import ConfigError

Message = Mapping[str, object]
T = TypeVar("T")
MOST_HEAD_BYTES = 8192
"""Maximum size of a webhook's response head, of which only the status line is read."""
_MAX_URL_CHARACTERS = 2048


class Undelivered(Exception):
    """A message was not accepted by its receiver; the text says why, and may be logged."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that is run, without a shell, for each message."""

    command: tuple[str, ...]
    timeout_s: float

    async def deliver(self, message: Message) -> None:
        """Run the command. The message is never among its arguments, which every local user can
        read. Raise `Undelivered` if it cannot be started, fails or times out."""
        devnull = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE, stdout=devnull, stderr=devnull
            )
        except OSError as reason:
            raise Undelivered(type(reason).__name__) from None
        try:
            async with asyncio.timeout(self.timeout_s):
                await process.communicate(orjson.dumps(message))
        except (OSError, TimeoutError) as reason:
            raise Undelivered(type(reason).__name__) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise Undelivered(f"the command exited with status {process.returncode}")


@dataclass(frozen=True, slots=True)
class Post:
    """A webhook that receives each message in a POST request of its own, over TLS unless it is on
    this machine."""

    url: SplitResult = field(repr=False)
    timeout_s: float

    async def deliver(self, message: Message) -> None:
        """Send a message. Raise `Undelivered` unless the webhook responds with a status of 200 to
        299 in time; redirects are not followed."""
        try:
            async with asyncio.timeout(self.timeout_s):
                status = await self._exchange(orjson.dumps(message))
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError) as reason:
            raise Undelivered(type(reason).__name__) from None
        if status is None:
            raise Undelivered("the response is not HTTP")
        if not 200 <= status <= 299:
            raise Undelivered(f"the webhook responded with status {status}")

    async def _exchange(self, body: bytes) -> int | None:
        is_safe = self.url.scheme == "https"
        # In a thread: it reads all CA certificates.
        tls = await asyncio.to_thread(ssl.create_default_context) if is_safe else None
        reader, writer = await asyncio.open_connection(
            self.url.hostname,
            self.url.port or (443 if is_safe else 80),
            ssl=tls,
            limit=MOST_HEAD_BYTES,
        )
        try:
            writer.write(self._head(len(body)) + body)
            await writer.drain()
            return _status_of(await reader.readuntil(b"\n"))
        finally:
            # Not `close`, which with TLS waits for a peer that may have disconnected.
            writer.transport.abort()

    def _head(self, size_bytes: int) -> bytes:
        query = f"?{self.url.query}" if self.url.query else ""
        lines = (
            f"POST {self.url.path or '/'}{query} HTTP/1.1",
            f"Host: {self.url.netloc.rpartition('@')[2]}",
            "Content-Type: application/json",
            f"Content-Length: {size_bytes}",
            "User-Agent: manykeys",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode()


def _status_of(line: bytes) -> int | None:
    """Return the status code of a status line (RFC 9112 §4), None for any other line."""
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    is_status = version in (b"HTTP/1.1", b"HTTP/1.0") and len(status) == 3 and status.isdigit()
    return int(status) if is_status else None


Way = Command | Post


def read_url(name: str, text: str) -> SplitResult:
    """Parse the URL of a webhook; raise ConfigError, which does not contain it, if it is not
    valid."""
    accepted = (
        "expected https://…, or http://… on this machine, in printable ASCII, without user info"
    )
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ConfigError(f"{name}: {accepted}") from None
    is_clean = len(text) <= _MAX_URL_CHARACTERS and all("!" <= one <= "~" for one in text)
    is_known = url.scheme == "https" or (url.scheme == "http" and is_here(host))
    if not is_clean or not is_known or not host or "@" in url.netloc:
        raise ConfigError(f"{name}: {accepted}")
    return url


def is_here(host: str | None) -> bool:
    """Return whether a host is this machine."""
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


class Outbox(Generic[T]):
    """Bounded queue of at most `most_waiting` messages, sent by `workers` at a time. `what` names
    its contents in the log."""

    def __init__(
        self,
        what: str,
        send: Callable[[T], Awaitable[None]],
        log: logging.Logger,
        *,
        workers: int,
        most_waiting: int,
    ) -> None:
        self._what = what
        self._send = send
        self._log = log
        self._workers = workers
        self._waiting: asyncio.Queue[T] = asyncio.Queue(most_waiting)

    def put(self, message: T) -> None:
        """Queue a message, or drop it if the queue is full; return at once."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._log.error("%s: delivery queue full, message dropped", self._what)

    async def run(self) -> None:
        """Send queued messages until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._workers):
                workers.create_task(self._send_all())

    async def finish(self, patience_s: float) -> None:
        """Wait until all queued messages are sent, for `patience_s` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._waiting.join()

    async def _send_all(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                await self._send(message)
            except Undelivered as reason:
                self._log.error("%s: delivery failed: %s", self._what, reason)
            finally:
                self._waiting.task_done()
