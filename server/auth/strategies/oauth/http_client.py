"""Asks providers: kept connections, an end to every wait, a bound on every answer.

Called from the threads of a strategy. Knows no backend; what fails is raised as `requests` does.
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
_MOST_REDIRECTS = 3
_PIECE_BYTES = 64 * 1024
_MOST_PLACES = 64  # whose proxy is remembered


class Web:
    """Sends requests, each of which is over after `timeout_s`; `connections` to one host are
    kept."""

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.max_redirects = _MOST_REDIRECTS
        # Looked up here instead, once for each host. A `.netrc` must never add credentials.
        self._session.trust_env = False
        # One user's must not reach another, who may be on his way at the same time.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._proxies: dict[str, Mapping[str, str]] = {}
        self._authorities = os.environ.get("REQUESTS_CA_BUNDLE") or True
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections))

    def close(self) -> None:
        """Close the connections nobody uses."""
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
        """Give the whole answer, whatever its status. RequestException for none within the time,
        and for one that is too large."""
        ends_s = monotonic() + self._timeout_s
        # What `Session.request` would do besides is nothing without cookies and an environment.
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
            # As if it had been read at once: nothing of `requests` must wait for the rest.
            response._content = b"".join(_pieces_of(response, ends_s))
            response._content_consumed = True
        return response

    def _proxies_for(self, url: str) -> Mapping[str, str]:
        place = urlsplit(url).netloc
        known = self._proxies.get(place)
        if known is None:
            known = get_environ_proxies(url)
            if len(self._proxies) < _MOST_PLACES:
                self._proxies[place] = known
        return known


def _pieces_of(response: requests.Response, ends_s: float) -> Iterator[bytes]:
    """Read an answer as it comes: each piece may be late by itself, all of them together not."""
    size = 0
    while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
        size += len(piece)
        if size > MOST_ANSWER_BYTES:
            raise requests.exceptions.ContentDecodingError("too large")
        if monotonic() > ends_s:
            raise requests.exceptions.ReadTimeout("too slow")
        yield piece


_ALLOWED: ContextVar[tuple[Web, str] | None] = ContextVar("openid_allowed", default=None)


@contextmanager
def openid_by(web: Web, host: str) -> Iterator[None]:
    """Have the OpenID library ask this host and those below it, and nobody else.

    An answer names the address that identifies its user, and the library fetches that before it
    has verified anything: without this, anybody could have any address fetched from here.
    """
    token = _ALLOWED.set((web, host))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


class _Fetcher(HTTPFetcher):  # type: ignore[misc]
    """Fetches for the OpenID library, whose own way knows no end of waiting."""

    def fetch(
        self, url: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        """Give an answer of the host that is allowed."""
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


# The library knows one for the whole process; nobody else here uses it.
setDefaultFetcher(_Fetcher())
