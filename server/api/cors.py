"""CORS: which origins may call the API, and which may use the session cookie (security check
H9)."""

import re
from collections.abc import Callable, Sequence

from server.config.server import Http

_UNUSED_ORIGIN = "https://unused.invalid"  # RFC 2606 §2: no page has this origin


def make_origin_check(allowed: Sequence[str], uses_patterns: bool) -> Callable[[str], bool]:
    """Return a function that tests an Origin header against the configured list."""
    if "*" in allowed:
        return lambda origin: True
    if not uses_patterns:
        return frozenset(allowed).__contains__
    patterns = [re.compile(pattern) for pattern in allowed]
    return lambda origin: any(pattern.fullmatch(origin) for pattern in patterns)


def make_trust_check(http: Http) -> Callable[[str], bool]:
    """Return a function that tests whether an origin may use the cookie: it is listed by name, or
    by a pattern that does not match every origin. All sandboxed pages have the origin `null`."""
    named = [origin for origin in http.access_control_allow_origin if origin != "*"]
    is_listed = make_origin_check(named, http.access_control_allow_origin_use_reg_exp)
    if not http.cookie_authentication or is_listed(_UNUSED_ORIGIN):
        return lambda origin: False
    return lambda origin: origin != "null" and is_listed(origin)
