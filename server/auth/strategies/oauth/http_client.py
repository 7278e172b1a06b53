"""HTTP client for identity providers: connection pool, a timeout for every request, a size limit
for every response.

Called in threads of a strategy. Knows no backend; errors are those of `requests`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import requests
from openid.fetchers import (  # type: ignore[import-untyped]
    HTTPFetcher,
    HTTPResponse,
    setDefaultFetcher,
)
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

MOST_ANSWER_BYTES = 1024 * 1024
_MAX_REDIRECTS = 3
_CHUNK_BYTES = 64 * 1024
_MAX_HOSTS = 64  # whose proxy is cached


class Web:
    """Sends requests, each of which times out after `timeout_s`; `connections` to one host are kept
    open."""

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.max_redirects = _MAX_REDIRECTS
        # Proxies are looked up here instead, once per host. A `.netrc` must never add credentials.
        self._session.trust_env = False
        # Cookies of one user's login must not be sent in another's, which may run at the same time.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._proxies: dict[str, Mapping[str, str]] = {}
        self._authorities = os.environ.get("REQUESTS_CA_BUNDLE") or True
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections))

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        allows_redirects: bool = True,
        **parts: Any,
    ) -> requests.Response:
        """Return the complete response, whatever its status. RequestException if there is none
        within the timeout, or if it is too large."""
        deadline_s = monotonic() + self._timeout_s
        # What else `Session.request` does only matters with cookies and environment settings.
        parts["headers"] = {**self._session.headers, **(parts.get("headers") or {})}
        request = requests.Request(method, url, **parts).prepare()
        with self._session.send(
            request,
            timeout=self._timeout_s,
            proxies=dict(self._proxies_for(url) if proxies is None else proxies),
            verify=self._authorities if verify is True else verify,
            allow_redirects=allows_redirects,
            stream=True,
        ) as response:
            # As if `requests` had read it: nothing in it must wait for more.
            response._content = b"".join(_chunks_of(response, deadline_s))
            response._content_consumed = True
        return response

    def _proxies_for(self, url: str) -> Mapping[str, str]:
        host = urlsplit(url).netloc
        known = self._proxies.get(host)
        if known is None:
            known = get_environ_proxies(url)
            if len(self._proxies) < _MAX_HOSTS:
                self._proxies[host] = known
        return known


def _chunks_of(response: requests.Response, deadline_s: float) -> Iterator[bytes]:
    """Read a response as it arrives: the timeout is for all chunks together, not for each."""
    size = 0
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > MOST_ANSWER_BYTES:
            raise requests.exceptions.ContentDecodingError("too large")
        if monotonic() > deadline_s:
            raise requests.exceptions.ReadTimeout("too slow")
        yield chunk


_ALLOWED: ContextVar[tuple[Web, str] | None] = ContextVar("openid_allowed", default=None)


@contextmanager
def openid_by(web: Web, host: str) -> Iterator[None]:
    """Restrict the OpenID library to requests to this host and its subdomains.

    A response contains the URL that identifies its user, and the library fetches that before it has
    verified anything: without this, an attacker could have any URL fetched from here (SSRF).
    """
    token = _ALLOWED.set((web, host))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


class _Fetcher(HTTPFetcher):  # type: ignore[misc]
    """Fetcher of the OpenID library; its own has no timeout."""

    def fetch(
        self, url: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        """Return a response of the allowed host."""
        allowed, parts = _ALLOWED.get(), urlsplit(url)
        host = parts.hostname or ""
        if allowed is None or parts.scheme != "https":
            raise requests.exceptions.InvalidSchema("not allowed")
        web, root = allowed
        if host != root and not host.endswith("." + root):
            raise requests.exceptions.InvalidURL("not allowed")
        method = "GET" if body is None else "POST"
        answer = web.send(
            method, url, data=body, headers=dict(headers or {}), allows_redirects=False
        )
        lines = {name.lower(): value for name, value in answer.headers.items()}
        return HTTPResponse(answer.url, answer.status_code, lines, answer.content)


# The library has one fetcher per process; nothing else in this server uses it.
setDefaultFetcher(_Fetcher())
