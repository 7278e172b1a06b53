"""Client certificates in a header field set by a reverse proxy, for the kind `x509`.

Any client can send such a field: whether its sender is trusted is not decided here.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

MOST_FIELD_CHARACTERS = 65_536
MOST_CERTIFICATES = 10
"""Maximum number of certificates in one field, the client's own and intermediates."""
_CHAIN = "client-cert-chain"
_PEM = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")
_SPACE = re.compile(rb"\s+")
_ITEM = re.compile(r":([A-Za-z0-9+/=]*):")  # RFC 8941 §3.3.5
_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)')


def read_field(headers: Mapping[str, str], name: str, form: str) -> list[bytes] | None:
    """Return the DER of the certificates in a field, the client's own one first; None if it is not
    exactly in its format, one of `FORMS`. A repeated field is not."""
    value = headers[name].strip(" \t")
    if len(value) > MOST_FIELD_CHARACTERS or not value.isascii():
        return None
    own = FORMS[form](value)
    if own is None:
        return None
    chain = headers.get(_CHAIN, "") if form == "rfc9440" else ""
    return [own, *_read_chain(chain)]


def _read_chain(value: str) -> list[bytes]:
    """Return the intermediate certificates that a proxy sends (RFC 9440 §2.3); none if the list is
    malformed: without them a certificate may be rejected, never accepted."""
    if len(value) > MOST_FIELD_CHARACTERS:
        return []
    items = [_read_item(item.strip(" \t")) for item in value.split(",")]
    return [item for item in items if item is not None][: MOST_CERTIFICATES - 1]


def _read_item(value: str) -> bytes | None:
    found = _ITEM.fullmatch(value)
    return None if found is None else _read_base64(found[1])


def _read_base64(value: str | bytes) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _read_pem(value: str) -> bytes | None:
    """Parse one PEM certificate, percent-encoded as in a URL."""
    found = _PEM.fullmatch(unquote_to_bytes(value))
    return None if found is None else _read_base64(_SPACE.sub(b"", found[1]))


def _read_forwarded(value: str) -> bytes | None:
    """Parse Envoy's X-Forwarded-Client-Cert with one element: a second one would be another
    client's."""
    pairs, at = list[tuple[str, str]](), 0
    while at <= len(value):
        found = _PAIR.match(value, at)
        if found is None or (found.end() < len(value) and value[found.end()] != ";"):
            return None
        pairs.append((found[1].lower(), found[2].strip('"')))
        at = found.end() + 1
    given = [text for name, text in pairs if name == "cert"]
    return _read_pem(given[0]) if len(given) == 1 else None


FORMS: Mapping[str, Callable[[str], bytes | None]] = MappingProxyType(
    {"pem": _read_pem, "rfc9440": _read_item, "xfcc": _read_forwarded, "base64": _read_base64}
)
"""Formats of a field: percent-encoded PEM (nginx), RFC 9440, Envoy's own, or base64 of DER
(HAProxy)."""
