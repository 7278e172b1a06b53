"""The WebSocket opening handshake (RFC 6455 §4)."""

import base64
import binascii
import hashlib
import re

from protocol.errors import ProtocolError
from protocol.http11.head import TOKEN, Head, field_tokens
from protocol.websocket.deflate import Agreement, choose_offer

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SUBPROTOCOL = re.compile(TOKEN.decode())


def is_upgrade(head: Head) -> bool:
    """Return whether a request is a WebSocket handshake.

    Other upgrades, and any in HTTP/1.0, are ignored (RFC 9110 §7.8).
    """
    offered = head.headers.get("upgrade")
    if offered is None or head.is_http10:
        return False
    options = field_tokens(head.headers.get("connection", ""))
    return "upgrade" in options and "websocket" in field_tokens(offered)


def accept_handshake(
    head: Head, *, compresses: bool = False
) -> tuple[list[tuple[str, str]], Agreement | None]:
    """Validate a handshake (RFC 6455 §4.2.1) and return the fields of the 101 response, and the
    negotiated compression if enabled.

    An invalid one is a ProtocolError 400, another version than 13 a 426: the connection is closed,
    so that nothing can be smuggled through a proxy that assumes the upgrade.
    """
    if head.method != "GET" or head.has_body:
        raise ProtocolError("a WebSocket handshake must be a GET without a body")
    if head.headers.get("sec-websocket-version") != "13":
        raise ProtocolError("only WebSocket version 13 is supported", status=426)
    key = head.headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise ProtocolError("Sec-WebSocket-Key must be 16 bytes in base64")
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
    ]
    offered = head.headers.get("sec-websocket-protocol")
    if offered is not None:
        # Browsers close a connection without an accepted subprotocol: the first one is accepted.
        first = offered.partition(",")[0].strip(" \t")
        if not _SUBPROTOCOL.fullmatch(first):
            raise ProtocolError("malformed Sec-WebSocket-Protocol")
        fields.append(("Sec-WebSocket-Protocol", first))
    extensions = head.headers.get("sec-websocket-extensions") if compresses else None
    agreement = None if extensions is None else choose_offer(extensions)
    if agreement is not None:
        fields.append(("Sec-WebSocket-Extensions", str(agreement)))
    return fields, agreement


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
