"""Cookies: one out of a request's Cookie field, one into an answer's Set-Cookie (RFC 6265).

Knows nothing of what a cookie is for. Every program on a host sends its cookies to all others
there, so whatever does not bear the name that is asked for is passed over; what does is read
strictly.
"""

import re
from urllib.parse import unquote

from protocol.errors import ApiError, LocalError, error

# RFC 6265 §4.1.1: a value without blanks, quotes, commas, semicolons and backslashes, perhaps
# between two quotes.
_OCTETS = r"[!#-+\--:<-\[\]-~]*"
_VALUE = re.compile(rf'({_OCTETS})|"({_OCTETS})"')
_WRITABLE = re.compile(_OCTETS)


def read_cookie(header: str, name: str) -> str | None:
    """Give the value of the cookie with this name, percent escapes undone; None if there is none.

    401 `security.cookie.invalid` for one that is malformed, and for two of them: stricter than
    contract/02 §2, where the first one counts, because a page of a sibling host can plant another
    one before ours.
    """
    pairs = (pair.partition("=") for pair in header.split(";"))
    values = [value for named, equals, value in pairs if equals and named.strip(" \t") == name]
    if not values:
        return None
    found = _VALUE.fullmatch(values[0].strip(" \t"))
    if len(values) > 1 or found is None:
        raise _invalid()
    try:
        return unquote(found[1] or found[2] or "", errors="strict")
    except UnicodeDecodeError:
        raise _invalid() from None


def write_cookie(
    name: str, value: str, *, expires: str | None, is_secure: bool, same_site: str = "Strict"
) -> str:
    """Give the Set-Cookie of a cookie for the whole host that scripts can't read and other sites'
    pages can't send (contract/02 §2.1); with `same_site` Lax, links on them can.

    `expires` is an IMF-fixdate; with None the browser forgets the cookie when it ends.
    """
    if not _WRITABLE.fullmatch(value):
        raise LocalError("a value that no cookie can hold")
    ends = "" if expires is None else f"; Expires={expires}"
    secure = "; Secure" if is_secure else ""
    return f"{name}={value}; Path=/{ends}; HttpOnly; SameSite={same_site}{secure}"


def _invalid() -> ApiError:
    return error("security.cookie.invalid")
