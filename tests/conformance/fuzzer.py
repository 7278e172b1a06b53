"""Runs one case of the Autobahn suite against a server: a WebSocket client that may do wrong.

It shares no code with the server. Names in the other spelling are those the cases call.
"""

import asyncio
import base64
import os
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.suite import CloseCodes, Offer, as_bytes, case_id

_HANDSHAKE_S = 5.0
# Until it is no Close, and no end of the connection: the suite's 1 s is left to the machine.
_CLOSE_S = 10.0
_TAIL = b"\x00\x00\xff\xff"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case: the suite's words for its messages and for its closing."""

    case: str
    behavior: str
    behavior_close: str
    result: str

    @property
    def is_passed(self) -> bool:
        """Whether nothing is to be said against it."""
        good = ("OK", "INFORMATIONAL")
        return self.behavior in good and self.behavior_close in good


async def run_case(case: type, host: str, port: int, limit_s: float, messages: int) -> Verdict:
    """Run a case; `messages` bounds how many the long ones send."""
    loop = asyncio.get_running_loop()
    fuzzer = Fuzzer(host, port)
    running: Any = case(fuzzer)
    if hasattr(case, "COUNT"):
        running.COUNT = min(case.COUNT, messages)
    fuzzer.case = running
    fuzzer.takes_bytes = case.__name__.startswith(("Case12_", "Case13_"))
    try:
        await loop.create_connection(lambda: fuzzer, host, port)
        await asyncio.wait_for(fuzzer.lost.wait(), limit_s)
    except (TimeoutError, OSError) as reason:
        return Verdict(case_id(case), "FAILED", "FAILED", str(reason) or "took too long")
    finally:
        fuzzer.drop()
    running.onConnectionLost(fuzzer.failedByMe)
    return Verdict(case_id(case), running.behavior, running.behaviorClose, str(running.result))


class _Factory:
    isServer = False


class Fuzzer(asyncio.Protocol, CloseCodes):
    """The protocol object of one case."""

    factory = _Factory

    def __init__(self, host: str, port: int) -> None:
        self._host = f"{host}:{port}"
        self.case: Any = None
        self.takes_bytes = False
        self.lost = asyncio.Event()
        self.state = self.STATE_CLOSED
        self.connectionWasOpen = self.closedByMe = self.failedByMe = False
        self.droppedByMe = self.wasClean = False
        self.remoteCloseCode: int | None = None
        self.localCloseReason: str | None = None
        self.autoFragmentSize = 0
        self.createWirelog = True
        self.txFrameStats: Counter[int] = Counter()
        self.trafficStats = None
        self.perMessageCompressionOffers: list[Offer] = []
        self.perMessageCompressionAccept: object = None
        self._perMessageCompress: _Compression | None = None
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._message = bytearray()
        self._message_opcode: int | None = None
        self._is_compressed = False
        self._frame_mask = b""
        self._frame_sent = 0
        self._is_first_frame = True

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        offers = ", ".join(map(str, self.perMessageCompressionOffers))
        extensions = f"Sec-WebSocket-Extensions: {offers}\r\n" if offers else ""
        self._write(
            f"GET / HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{extensions}\r\n".encode()
        )
        self._later(_HANDSHAKE_S, lambda: self.connectionWasOpen or self.drop())

    def data_received(self, data: bytes) -> None:
        """Take the handshake's answer, then frames."""
        self._received += data
        if not self.connectionWasOpen:
            at = self._received.find(b"\r\n\r\n")
            if at < 0:
                return
            head = bytes(self._received[:at]).decode("latin-1").lower()
            del self._received[: at + 4]
            if not head.startswith("http/1.1 101"):
                self.drop()
                return
            self._open(head)
        while self._take_frame():
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        """All is over."""
        self.state = self.STATE_CLOSED
        self.lost.set()

    def drop(self) -> None:
        """End the connection from this side."""
        if self._transport is not None and not self.lost.is_set():
            self.droppedByMe = True
            self._transport.abort()

    # What cases call.

    def sendFrame(
        self,
        opcode: int,
        payload: str | bytes = "",
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        """Send a frame as it is described, right or wrong; `payload` is repeated up to
        `payload_len`."""
        data = as_bytes(payload)
        if payload_len is not None:
            data = (data * (payload_len // max(len(data), 1) + 1))[:payload_len]
        self.txFrameStats[opcode] += 1
        wire = _head(opcode, len(data), fin, rsv) + (key := random.randbytes(4)) + _mask(data, key)
        step = chopsize or len(wire)
        for at in range(0, len(wire), step):
            self._write(wire[at : at + step])

    def sendMessage(
        self,
        payload: str | bytes,
        isBinary: bool = False,
        fragmentSize: int | None = None,
        sync: bool = False,
    ) -> None:
        """Send a message, compressed if that was agreed, in frames of `fragmentSize`."""
        data, rsv = as_bytes(payload), 0
        if self._perMessageCompress is not None:
            data, rsv = self._perMessageCompress.deflate(data), 4
        step = fragmentSize or self.autoFragmentSize or max(len(data), 1)
        pieces = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
        opcode = 2 if isBinary else 1
        for number, piece in enumerate(pieces):
            is_last = number == len(pieces) - 1
            self.sendFrame(0 if number else opcode, piece, is_last, 0 if number else rsv)

    def beginMessage(self, isBinary: bool = False) -> None:
        """Begin a message whose frames are sent in pieces."""
        self._is_first_frame = True

    def beginMessageFrame(self, length: int) -> None:
        """Begin a frame of this length, not the last one."""
        self._frame_mask, self._frame_sent = random.randbytes(4), 0
        opcode = 1 if self._is_first_frame else 0
        self._is_first_frame = False
        self._write(_head(opcode, length, False, 0) + self._frame_mask)

    def sendMessageFrameData(self, payload: str, sync: bool = False) -> None:
        """Send some of the frame's payload."""
        data, at = as_bytes(payload), self._frame_sent % 4
        self._frame_sent += len(data)
        self._write(_mask(data, self._frame_mask[at:] + self._frame_mask[:at]))

    def endMessage(self) -> None:
        """End the message with an empty frame."""
        self.sendFrame(0)

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        """Begin to close."""
        self.sendCloseFrame(code, None if reason is None else reason)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: str | None = None, isReply: bool = False
    ) -> None:
        """Send a Close, right or wrong, unless one was sent."""
        if self.state != self.STATE_OPEN:
            return
        self.state, self.closedByMe = self.STATE_CLOSING, not isReply
        self.localCloseReason = reasonUtf8
        payload = b"" if code is None else struct.pack("!H", code)
        self.sendFrame(8, payload + as_bytes(reasonUtf8 or ""))
        self._later(_CLOSE_S, self.drop)

    def continueLater(self, delay: float, fun: Callable[[], None], tag: str | None = None) -> None:
        """Go on with a case after some time, unless the connection is gone."""
        self._later(delay, fun)

    def killAfter(self, delay: float) -> None:
        """Fail the connection after some time."""
        self._later(delay, self._fail)

    def closeAfter(self, delay: float) -> None:
        """Close after some time."""
        self._later(delay, self.sendClose)

    def enableWirelog(self, enable: bool) -> None:
        """No log is kept."""

    # The rest is this client's own.

    def _open(self, head: str) -> None:
        if "sec-websocket-extensions: permessage-deflate" in head:
            self._perMessageCompress = _Compression(head)
        self.state, self.connectionWasOpen = self.STATE_OPEN, True
        self.case.onOpen()

    def _fail(self) -> None:
        self.failedByMe = True
        self.sendCloseFrame(self.CLOSE_STATUS_CODE_GOING_AWAY)

    def _later(self, delay_s: float, work: Callable[[], object]) -> None:
        def run() -> None:
            if not self.lost.is_set():
                work()

        asyncio.get_running_loop().call_later(delay_s, run)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _take_frame(self) -> bool:
        data = self._received
        if len(data) < 2:
            return False
        first, second = data[0], data[1]
        size, short = 2, second & 0x7F
        length = short
        if short >= 126:
            size = 4 if short == 126 else 10
            if len(data) < size:
                return False
            length = int.from_bytes(data[2:size], "big")
        if len(data) < size + length:
            return False
        payload = bytes(data[size : size + length])
        del data[: size + length]
        is_allowed = not first & 0x30 and (not first & 0x40 or self._perMessageCompress is not None)
        if second & 0x80 or not is_allowed:
            self._fail()
            return False
        self._take(first & 0x0F, payload, bool(first & 0x80), bool(first & 0x40))
        return True

    def _take(self, opcode: int, payload: bytes, is_final: bool, is_compressed: bool) -> None:
        if opcode == 8:
            self._take_close(payload)
        elif opcode == 9:
            self.case.onPing(payload.decode("latin-1"))
        elif opcode == 10:
            self.case.onPong(payload.decode("latin-1"))
        else:
            if opcode:
                self._message_opcode, self._is_compressed = opcode, is_compressed
            self._message += payload
            if is_final:
                self._take_message()

    def _take_message(self) -> None:
        message, self._message = bytes(self._message), bytearray()
        if self._is_compressed and self._perMessageCompress is not None:
            message = self._perMessageCompress.inflate(message)
        shown = message if self.takes_bytes else message.decode("latin-1")
        self.case.onMessage(shown, self._message_opcode == 2)

    def _take_close(self, payload: bytes) -> None:
        self.remoteCloseCode = int.from_bytes(payload[:2], "big") if payload else None
        self.sendCloseFrame(self.remoteCloseCode, isReply=True)
        self.wasClean = True
        self._later(_CLOSE_S, self.drop)


class _Compression:
    """Both directions of permessage-deflate, as the server agreed."""

    def __init__(self, head: str) -> None:
        self._server_keeps = "server_no_context_takeover" not in head
        self._client_keeps = "client_no_context_takeover" not in head
        bits = re.search(r"client_max_window_bits=\"?([0-9]+)", head)
        self._bits = 15 if bits is None else max(int(bits[1]), 9)
        self._deflate: Any = None
        self._inflate: Any = None

    def deflate(self, data: bytes) -> bytes:
        if self._deflate is None or not self._client_keeps:
            self._deflate = zlib.compressobj(wbits=-self._bits)
        packed: bytes = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(_TAIL)

    def inflate(self, data: bytes) -> bytes:
        if self._inflate is None or not self._server_keeps:
            self._inflate = zlib.decompressobj(-15)
        inflated: bytes = self._inflate.decompress(data + _TAIL)
        return inflated


def _head(opcode: int, length: int, fin: bool, rsv: int) -> bytes:
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if length < 126:
        return bytes((first, 0x80 | length))
    if length < 65536:
        return struct.pack("!BBH", first, 0xFE, length)
    return struct.pack("!BBQ", first, 0xFF, length)


def _mask(data: bytes, key: bytes) -> bytes:
    size = len(data)
    repeated = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
    return masked.to_bytes(size, "big")
