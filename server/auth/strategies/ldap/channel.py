"""Connections to LDAP servers: TCP, StartTLS, and TLS by Python's ssl module.

TLS is not left to libldap: with GnuTLS, as Debian builds it, it waits without limit for a server
that sends nothing during the handshake, and with a timeout set it does so in a busy loop. Here
every wait has a timeout, and the same rules verify certificates everywhere. Blocking: for threads
only.
"""

import selectors
import socket
import ssl
import threading
from contextlib import suppress
from time import monotonic

from server.auth.strategies.ldap.settings import Server

_CHUNK_BYTES = 65_536
# RFC 4511 §4.14.1: message 1, an ExtendedRequest with the name of StartTLS.
_START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
# The response is short: an error may contain a few words.
_MAX_RESPONSE_BYTES = 4096
_EXTENDED_RESPONSE = 0x78


class NoTls(OSError):
    """The server does not start TLS."""


def connect(server: Server, timeout_s: float) -> socket.socket:
    """Return a socket on which LDAP is spoken with a server in clear text; behind it is TLS if that
    is configured. OSError (ssl.SSLError among them) if connecting, StartTLS or the handshake fails
    or takes longer than `timeout_s` each.

    The socket is non-blocking: libldap would wait for the rest of a message without limit, whatever
    its timeout.
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


def _start_tls(wire: socket.socket, deadline_s: float) -> None:
    """Request TLS, with a deadline. Not a byte beyond the response is read: what an attacker on the
    network has appended in clear text must not be treated as received over TLS."""
    wire.sendall(_START_TLS)
    first = _read(wire, 2, deadline_s)
    size = first[1]
    if size & 0x80:
        size = int.from_bytes(_read(wire, min(size & 0x7F, 4), deadline_s), "big")
    if first[0] != 0x30 or size > _MAX_RESPONSE_BYTES:
        raise NoTls("StartTLS: not an LDAP response")
    answer = _read(wire, size, deadline_s)
    # The message id, the type of response, its length, then the result: an ENUMERATED.
    at = 5 if answer[4:5] < b"\x80" else 5 + (answer[4] & 0x7F)
    if answer[:4] != bytes((2, 1, 1, _EXTENDED_RESPONSE)) or answer[at : at + 3] != b"\x0a\x01\x00":
        raise NoTls("StartTLS: refused by the server")


def _read(wire: socket.socket, size: int, deadline_s: float) -> bytes:
    read = b""
    while len(read) < size:
        left_s = deadline_s - monotonic()
        if left_s <= 0:  # 0 as a socket timeout would mean non-blocking
            raise TimeoutError("StartTLS: timed out")
        wire.settimeout(left_s)
        chunk = wire.recv(size - len(read))
        if not chunk:
            raise NoTls("StartTLS: the server closed the connection")
        read += chunk
    return read


def _pump(inner: ssl.SSLSocket, ours: socket.socket, timeout_s: float) -> None:
    """Copy data in both directions until either side closes the connection."""
    with inner, ours, selectors.DefaultSelector() as waiting, suppress(OSError):
        for end in (inner, ours):
            waiting.register(end, selectors.EVENT_READ)
        while True:
            # Decrypted bytes may be buffered where no selector sees them.
            ready = [inner] if inner.pending() else [key.fileobj for key, _ in waiting.select()]
            if inner in ready and not _copy_decrypted(inner, ours, timeout_s):
                return
            if ours in ready:
                chunk = ours.recv(_CHUNK_BYTES)
                if not chunk:
                    return
                inner.sendall(chunk)


def _copy_decrypted(inner: ssl.SSLSocket, ours: socket.socket, timeout_s: float) -> bool:
    """Copy what was received, and return False at the end. It may be nothing: TLS 1.3 has messages
    of its own, and a read that waited for data after them would delay what is to be sent."""
    inner.settimeout(0)
    try:
        chunk = inner.recv(_CHUNK_BYTES)
    except ssl.SSLWantReadError:
        return True
    finally:
        inner.settimeout(timeout_s)
    ours.sendall(chunk)
    return bool(chunk)
