"""HTTP/1.1 request head parser, and status lines (RFC 9112, RFC 9110).

Independent of connections, bodies and routes. Anything that two parsers could read differently is
refused (request smuggling).
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

from protocol.errors import ProtocolError

HEAD_END = b"\r\n\r\n"

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9112 §3: one space between the parts, nothing around them. The target is any run of visible
# ASCII without a fragment: laxer than RFC 3986, since no parser splits a request there.
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-\"$-~]+) HTTP/([0-9])\.([0-9])")
# RFC 9112 §5.1: no space before the colon; RFC 9110 §5.5: no control characters in a value.
_FIELD = re.compile(rb"(" + TOKEN + rb"):([\t -~\x80-\xff]*)")
# RFC 9112 §2.2 allows a server to accept a bare LF as a line end; it is refused here, and so is a
# bare CR or NUL, anywhere.
BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|\x00")
_LENGTH = re.compile(r"[0-9]{1,15}")
# RFC 9110 §7.2: uri-host, then an optional port. A client without a name for the server sends an
# empty host (RFC 9112 §3.2); an empty one with a port is refused.
_HOST_NAME = (
    r"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+\]"
    r"|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)"
)
_HOST = re.compile(rf"(?:{_HOST_NAME}(?::[0-9]{{0,5}})?)?")
_AUTHORITY = re.compile(rf"{_HOST_NAME}:[0-9]{{1,5}}")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)", re.DOTALL)

# With a second copy of one of these, two parsers could disagree (RFC 9110 §5.3).
_SINGLE = frozenset(
    {
        "authorization",
        "content-length",
        "content-type",
        "expect",
        "host",
        "origin",
        "sec-websocket-key",
        "sec-websocket-version",
        "transfer-encoding",
        "x-kuzzle-request-id",
        "x-kuzzle-volatile",
    }
)


# Length of a request line besides its target, with room for the longest method in use.
_LINE_EXTRA_BYTES = 32


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Limits of a request's head."""

    target_bytes: int = 8 * 1024
    head_bytes: int = 16 * 1024
    fields: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A parsed request line and header fields.

    `headers` has lower-case names; fields sent more than once are joined with ", ", cookies with
    "; ". `content_length` is None when the body is chunked, 0 when there is none. `is_plain` means
    that nothing here changes the head of the response, `needs_check` that the request may come from
    a page, or with a cookie: its origin must be checked. `size_bytes` is its size as sent.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    content_length: int | None
    keep_alive: bool
    is_http10: bool
    expects_continue: bool
    is_plain: bool
    needs_check: bool
    size_bytes: int = 0

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow the head."""
        return self.content_length != 0


# Placeholder for the head of a request whose own cannot be trusted.
NO_HEAD = Head(
    method="",
    path="",
    query="",
    headers={},
    content_length=0,
    keep_alive=False,
    is_http10=False,
    expects_continue=False,
    is_plain=False,
    needs_check=False,
)


def check_head_size(size: int, line_end: int, limits: HeadLimits) -> None:
    """Refuse a head that is too large, also before it is complete; `line_end` may be -1 then."""
    line_bytes = size - 1 if line_end < 0 else line_end  # the last byte may be the CR
    if line_bytes > limits.target_bytes + _LINE_EXTRA_BYTES:
        raise ProtocolError("request target too long", status=414)
    if size > limits.head_bytes:
        raise ProtocolError("head too large", status=431)


def parse_head(raw: bytes, limits: HeadLimits) -> Head:
    """Parse a complete head, from the method to the empty line; ProtocolError if it is invalid."""
    lines = raw[: -len(HEAD_END)].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise ProtocolError("malformed request line")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise ProtocolError("only HTTP/1.1 and HTTP/1.0 are supported", status=505)
    if len(target) > limits.target_bytes:
        raise ProtocolError("request target too long", status=414)
    if len(lines) - 1 > limits.fields:
        raise ProtocolError("too many header fields", status=431)
    is_http10 = minor == b"0"
    headers = parse_fields(lines[1:])
    check_host(headers, is_http10)
    name = method.decode()
    path, query = split_target(name, target.decode(), headers.get("host"))
    keep_alive = is_kept_alive(headers, is_http10)
    return Head(
        method=name,
        path=path,
        query=query,
        headers=headers,
        content_length=body_length(headers, is_http10),
        keep_alive=keep_alive,
        is_http10=is_http10,
        expects_continue=expects_continue(headers, is_http10),
        is_plain=keep_alive
        and not is_http10
        and name != "HEAD"
        and not headers.keys() & {"origin", "accept-encoding"},
        needs_check="origin" in headers or "cookie" in headers,
        size_bytes=len(raw),
    )


def parse_fields(lines: list[bytes]) -> dict[str, str]:
    """Parse header or trailer lines; folded, nameless and malformed ones are refused (§5)."""
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise ProtocolError("malformed header field")
        name, value = field[1].decode().lower(), field[2].strip(b" \t").decode("latin-1")
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            raise ProtocolError(f"repeated {name}")
        else:
            headers[name] += ("; " if name == "cookie" else ", ") + value
    return headers


def check_host(headers: dict[str, str], is_http10: bool) -> None:
    """Refuse an HTTP/1.1 request without exactly one valid Host (RFC 9112 §3.2)."""
    host = headers.get("host")
    if host is None:
        if is_http10:
            return
        raise ProtocolError("missing Host")
    if not _HOST.fullmatch(host):
        raise ProtocolError("malformed Host")


def split_target(method: str, target: str, host: str | None) -> tuple[str, str]:
    """Return path and query of an origin, absolute, asterisk or authority form (RFC 9112 §3.2).

    Stricter: an absolute form must name the same host as the Host field, so that no component is
    misled by the field that RFC 9112 §3.2.2 says to ignore.
    """
    if method == "CONNECT":
        if not _AUTHORITY.fullmatch(target):
            raise ProtocolError("CONNECT requires a host and a port")
        return target, ""
    if target == "*" and method == "OPTIONS":
        return "*", ""
    if not target.startswith("/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not absolute[1] or not _HOST.fullmatch(absolute[1]):
            raise ProtocolError("malformed request target")
        if host is not None and host.lower() != absolute[1].lower():
            raise ProtocolError("request target and Host name different hosts")
        target = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    path, _, query = target.partition("?")
    return path, query


def body_length(headers: dict[str, str], is_http10: bool) -> int | None:
    """Return the body's length in bytes, None for a chunked one (RFC 9112 §6.3).

    Stricter: no list of lengths, at most 15 digits, never a length beside a transfer coding.
    """
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if is_http10 or length is not None:
            raise ProtocolError("Transfer-Encoding beside Content-Length or in HTTP/1.0")
        if coding.lower() == "chunked":
            return None
        names = [name.strip() for name in coding.lower().split(",")]
        if names[-1] == "chunked" and names.count("chunked") == 1:
            raise ProtocolError("unknown transfer coding", status=501)
        raise ProtocolError("chunked must be the one and last transfer coding")
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise ProtocolError("malformed Content-Length")
    return int(length)


def is_kept_alive(headers: dict[str, str], is_http10: bool) -> bool:
    """Return whether the connection persists (RFC 9112 §9.3): by default with HTTP/1.1, with
    HTTP/1.0 only on request."""
    options = field_tokens(headers.get("connection", ""))
    return "close" not in options and (not is_http10 or "keep-alive" in options)


def expects_continue(headers: dict[str, str], is_http10: bool) -> bool:
    """Return whether a 100 response is expected (RFC 9110 §10.1.1); never by HTTP/1.0 clients."""
    expectation = headers.get("expect")
    if expectation is None or is_http10:
        return False
    if expectation.lower() != "100-continue":
        raise ProtocolError("unknown expectation", status=417)
    return True


def field_tokens(value: str) -> list[str]:
    """Split a comma-separated field value into its lower-case members."""
    return [member.strip(" \t").lower() for member in value.split(",")]


REASONS: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
"""Status lines with the standard phrases."""

CONTINUE = REASONS[100] + b"\r\n"


def status_line(status: int) -> bytes:
    """Return the status line, also for a status without a standard phrase."""
    return REASONS.get(status) or b"HTTP/1.1 %d \r\n" % status
