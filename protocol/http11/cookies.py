"""Cookies: Cookie header parser and Set-Cookie writer (RFC 6265).

Independent of the purpose of a cookie. All programs on a host share its cookies, so cookies of
other names are ignored; the requested one is parsed strictly.
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
    """Return the value of the cookie with this name, percent-decoded; None if there is none.

    401 `security.cookie.invalid` for one that is malformed, and for two of them: stricter than
    Kuzzle, which uses the first one, because a page of a sibling host can set another one before
    ours.
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
    """Return the Set-Cookie of a cookie for the whole host that scripts cannot read and other
    sites' pages cannot send; with `same_site` Lax, links on them can.

    `expires` is an IMF-fixdate; with None it is a session cookie of the browser.
    """
    if not _WRITABLE.fullmatch(value):
        raise LocalError("not a valid cookie value")
    ends = "" if expires is None else f"; Expires={expires}"
    secure = "; Secure" if is_secure else ""
    return f"{name}={value}; Path=/{ends}; HttpOnly; SameSite={same_site}{secure}"


def _invalid() -> ApiError:
    return error("security.cookie.invalid")
