"""Connections to directories: TCP, TLS by Python's ssl, and a socket on which LDAP is spoken.

TLS is not left to libldap: with GnuTLS, as Debian builds it, it waits without end for a server that
says nothing during the handshake, and with a timeout set it does so at full speed. Here every wait
has an end, and one set of rules verifies certificates everywhere. Blocks: for threads only.
"""

import selectors
import socket
import ssl
import threading
from contextlib import suppress
from time import monotonic

from server.auth.strategies.ldap.settings import Server

_PIECE_BYTES = 65_536
# RFC 4511 §4.14.1: message 1, an ExtendedRequest with the name of StartTLS.
_START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
# Its answer is short: an error may carry a few words.
_MOST_ANSWER_BYTES = 4096
_EXTENDED_RESPONSE = 0x78


class NoTls(OSError):
    """A server that does not turn TLS on."""


def connect(server: Server, timeout_s: float) -> socket.socket:
    """Give a socket on which LDAP is spoken with a server, in clear: behind it is TLS where that is
    configured. OSError (ssl.SSLError among them) where there is none within `timeout_s` for each of
    connecting, StartTLS and the handshake.

    It never blocks: libldap would wait for the rest of a message without end, whatever timeout it
    is given.
    """
    wire = socket.create_connection((server.host, server.port), timeout=timeout_s)
    try:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.context is None:
            wire.setblocking(False)
            return wire
        if server.starts_tls:
            _start_tls(wire, monotonic() + timeout_s)
            wire.settimeout(timeout_s)
        inner = server.context.wrap_socket(wire, server_hostname=server.host)
    except BaseException:
        wire.close()
        raise
    ours, theirs = socket.socketpair()
    given = (inner, ours, timeout_s)
    pump = threading.Thread(target=_pump, args=given, name=f"ldap {server}", daemon=True)
    pump.start()
    theirs.setblocking(False)
    return theirs


def _start_tls(wire: socket.socket, ends_s: float) -> None:
    """Ask for TLS, until then at most. Not a byte beyond the answer is read: what somebody in
    between has put behind it must not be taken for what was said inside of TLS."""
    wire.sendall(_START_TLS)
    first = _read(wire, 2, ends_s)
    size = first[1]
    if size & 0x80:
        size = int.from_bytes(_read(wire, min(size & 0x7F, 4), ends_s), "big")
    if first[0] != 0x30 or size > _MOST_ANSWER_BYTES:
        raise NoTls("StartTLS: no answer of LDAP")
    answer = _read(wire, size, ends_s)
    # The message's number, the kind of answer, its length, then the result: an ENUMERATED.
    at = 5 if answer[4:5] < b"\x80" else 5 + (answer[4] & 0x7F)
    if answer[:4] != bytes((2, 1, 1, _EXTENDED_RESPONSE)) or answer[at : at + 3] != b"\x0a\x01\x00":
        raise NoTls("StartTLS: the server refuses")


def _read(wire: socket.socket, size: int, ends_s: float) -> bytes:
    read = b""
    while len(read) < size:
        left_s = ends_s - monotonic()
        if left_s <= 0:  # which as a timeout would mean something else
            raise TimeoutError("StartTLS: timed out")
        wire.settimeout(left_s)
        piece = wire.recv(size - len(read))
        if not piece:
            raise NoTls("StartTLS: the server hangs up")
        read += piece
    return read


def _pump(inner: ssl.SSLSocket, ours: socket.socket, timeout_s: float) -> None:
    """Carry what is said from one to the other until either hangs up."""
    with inner, ours, selectors.DefaultSelector() as waiting, suppress(OSError):
        for end in (inner, ours):
            waiting.register(end, selectors.EVENT_READ)
        while True:
            # Decrypted bytes may wait where no selector sees them.
            ready = [inner] if inner.pending() else [key.fileobj for key, _ in waiting.select()]
            if inner in ready and not _carry_in(inner, ours, timeout_s):
                return
            if ours in ready:
                piece = ours.recv(_PIECE_BYTES)
                if not piece:
                    return
                inner.sendall(piece)


def _carry_in(inner: ssl.SSLSocket, ours: socket.socket, timeout_s: float) -> bool:
    """Carry what has come, False at the end. It may be nothing: TLS 1.3 has messages of its own,
    and a read that waited for others behind them would keep back what is to be sent."""
    inner.settimeout(0)
    try:
        piece = inner.recv(_PIECE_BYTES)
    except ssl.SSLWantReadError:
        return True
    finally:
        inner.settimeout(timeout_s)
    ours.sendall(piece)
    return bool(piece)
