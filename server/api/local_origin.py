"""Local request check: whether a request comes from this machine and not from a foreign web page.

A browser on this machine has a loopback address and runs foreign pages, so an address alone proves
nothing. `Origin` and `Sec-Fetch-Site` show which page sends the request (cross-site request
forgery); `Host` shows by which name the page found this server (DNS rebinding).
"""

import re
from collections.abc import Mapping

from server.core.addresses import is_loopback

# What proxies, content delivery networks and tunnels usually add. No such list is complete.
_FORWARDING = frozenset(
    {
        *("cdn-loop", "cf-connecting-ip", "cf-connecting-ipv6", "cf-ray", "cf-visitor"),
        *("client-ip", "fastly-client-ip", "fly-client-ip", "forwarded", "forwarded-for"),
        *("proxy-client-ip", "true-client-ip", "via", "wl-proxy-client-ip"),
        *("x-appengine-user-ip", "x-azure-clientip", "x-client-ip", "x-cluster-client-ip"),
        *("x-envoy-external-address", "x-original-forwarded-for", "x-original-host"),
        *("x-proxyuser-ip", "x-real-ip", "x-remote-addr", "x-remote-ip", "x-varnish"),
    }
)
_FORWARDED_PREFIX = "x-forwarded"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/:@\[\]]+)(?::[0-9]{1,5})?")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/:@\[\]]+)(?::[0-9]{1,5})?")
_OWN_SITE = ("none", "same-origin")


def find_foreign(headers: Mapping[str, str]) -> str | None:
    """Return the name of the field that shows a foreign page, or a name of this server that is not
    loopback; None for a local request. `headers` have lower-case names."""
    if not is_local_page(headers):
        return "Origin" if "origin" in headers else "Sec-Fetch-Site"
    return None if is_local_host(headers) else "Host"


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Return whether a proxy has added a field that names itself or its client."""
    return any(name in _FORWARDING or name.startswith(_FORWARDED_PREFIX) for name in headers)


def is_local_page(headers: Mapping[str, str]) -> bool:
    """Return whether no foreign page sends this request: its `Origin`, if present, decides; without
    one, `Sec-Fetch-Site` must be absent, `none` or `same-origin`. The origin `null` is foreign."""
    origin = headers.get("origin")
    if origin is not None:
        return is_local_origin(origin)
    return headers.get("sec-fetch-site", "none").strip().lower() in _OWN_SITE


def is_local_origin(origin: str) -> bool:
    """Return whether an `Origin` header names exactly one origin, whose host is loopback."""
    found = _ORIGIN.fullmatch(origin.strip().lower())
    return found is not None and _is_local_name(found[1])


def is_local_host(headers: Mapping[str, str]) -> bool:
    """Return whether the `Host` header names this machine's loopback; False if it is missing."""
    found = _HOST.fullmatch(headers.get("host", "").strip().lower())
    return found is not None and _is_local_name(found[1])


def _is_local_name(name: str) -> bool:
    """Return whether a host of a URL is `localhost`, a name below it or a loopback address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return is_loopback(name[1:-1] if name.startswith("[") else name)
