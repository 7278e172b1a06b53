"""Adapter that social-auth-core runs in: settings, session and storage.

One `Visit` is one step of one login. It keeps nothing: its session is stored with the login in
progress, and instead of running the library's pipeline the provider's response is returned.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from types import SimpleNamespace
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

from social_core.backends.base import BaseAuth
from social_core.storage import BaseStorage
from social_core.strategy import BaseStrategy
from social_core.utils import setting_name

from server.auth.strategies.oauth.http_client import Web

_CALLBACK = "CALLBACK"  # read by backends although they are given it anyway
_NONCES, _ASSOCIATIONS = "nonces", "associations"


@dataclass(frozen=True, slots=True)
class Away:
    """The browser must be redirected to this URL."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """The browser would have to display a page, which is not supported here."""


@dataclass(frozen=True, slots=True)
class Told:
    """The provider's response after all checks of its backend: a mapping, or the message of an
    OpenID provider."""

    response: Any = field(repr=False)


Answer: TypeAlias = Away | Page | Told
Session = dict[str, Any]


class Visit(BaseStrategy[Answer]):
    """One step of a login: `values` are the settings by the library's names, `home` is the URL that
    the provider redirects to, `state` identifies the login, `data` are the arguments of the
    request, `session` is what the last step stored."""

    def __init__(
        self,
        values: Mapping[str, object],
        home: str,
        state: str,
        data: Mapping[str, str],
        session: Session,
    ) -> None:
        super().__init__()
        self.state = state
        self.session = session
        self._values = values
        self._home = home
        self._data = dict(data)
        self._store = cast("type[BaseStorage]", _Store(session))

    @property
    def storage(self) -> type[BaseStorage]:
        """Return the library's storage."""
        return self._store

    def get_setting(self, name: str) -> object:
        """Return a setting; KeyError if it is not set."""
        if name == _CALLBACK:
            return self._home
        return self._values[name]

    def setting(self, name: str, default: Any = None, backend: BaseAuth[Any] | None = None) -> Any:
        """Return a setting, or the default. It is stored under one of the names it may have, as
        each login reads dozens."""
        try:
            return self.get_setting(name)
        except KeyError:
            return default

    def redirect(self, url: str) -> Answer:
        """Redirect the browser."""
        return Away(url)

    def html(self, content: str) -> Answer:
        """Display a page."""
        return Page()

    def authenticate(self, backend: BaseAuth[Any], *args: Any, **kwargs: Any) -> Any:
        """Return the provider's response, instead of running a pipeline that stores users."""
        return Told(kwargs.get("response"))

    def get_request_data(self, merge: bool = True) -> dict[str, Any]:
        """Return the arguments of the request."""
        return self._data

    def request_get(self) -> dict[str, Any]:
        """See `get_request_data`."""
        return self._data

    def request_post(self) -> dict[str, Any]:
        """See `get_request_data`."""
        return self._data

    def random_string(self, length: int = 12, chars: str = BaseStrategy.ALLOWED_CHARS) -> str:
        """Return an unguessable string."""
        if chars == self.ALLOWED_CHARS:
            # One call instead of one per character.
            return secrets.token_hex((length + 1) // 2)[:length]
        return "".join(secrets.choice(chars) for _ in range(length))

    def session_get(self, name: str, default: Any = None) -> Any:
        """Return a value of the session."""
        return self.session.get(name, default)

    def session_set(self, name: str, value: Any) -> None:
        """Store a value, which must be JSON, in the session."""
        self.session[name] = value

    def session_pop(self, name: str) -> Any:
        """Remove a value from the session, and return it."""
        return self.session.pop(name, None)

    def openid_store(self) -> Any:
        """Return None: no shared secrets of OpenID are stored, and the provider verifies each
        response."""
        return None

    def build_absolute_uri(self, path: str | None = None) -> str:
        """Return a URL of this server."""
        if path and "://" in path:
            return path
        home = urlsplit(self._home)
        return f"{home.scheme}://{home.netloc}{path or '/'}"

    def request_host(self) -> str:
        """Return this server's host and port."""
        return urlsplit(self._home).netloc

    def request_is_secure(self) -> bool:
        """Return whether this server is reached over TLS."""
        return self._home.startswith("https:")

    def request_path(self) -> str:
        """Return the path of the callback URL."""
        return urlsplit(self._home).path

    def request_port(self) -> int:
        """Return this server's port."""
        home = urlsplit(self._home)
        return home.port or (443 if home.scheme == "https" else 80)


class OnlineVisit(Visit):
    """A step that sends requests to the provider."""

    def __init__(self, web: Web, *given: Any) -> None:
        super().__init__(*given)
        self.web = web


def settings_by_name(backend: str, given: Mapping[str, object]) -> dict[str, object]:
    """Return settings by the names the library looks up; of several forms of a name the most
    specific one wins."""
    own, shared = setting_name(backend) + "_", setting_name() + "_"
    values: dict[str, object] = {}
    for written, value in given.items():
        name = written.upper()
        name = name.removeprefix(own) if name.startswith(own) else name.removeprefix(shared)
        values[name] = value
    return values


class _Store:
    """What the library stores between two steps; both kinds are values for one use."""

    def __init__(self, session: Session) -> None:
        self.nonce = _Nonces(session)
        self.association = _Associations(session)


class _Nonces:
    def __init__(self, session: Session) -> None:
        self._session = session

    def use(self, server_url: str, timestamp: int, salt: str) -> bool:
        kept: list[list[object]] = self._session.setdefault(_NONCES, [])
        kept.append([server_url, timestamp, salt])
        return True

    def consume(self, server_url: str, timestamp: int, salt: str) -> bool:
        kept: list[list[object]] = self._session.get(_NONCES, [])
        try:
            kept.remove([server_url, timestamp, salt])
        except ValueError:
            return False
        return True


class _Associations:
    """Nonces of OpenID Connect, which the library stores as associations."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def store(self, server_url: str, association: Any) -> None:
        kept = self._session.setdefault(_ASSOCIATIONS, {})
        expires_s = association.issued + association.lifetime
        kept[association.handle] = [server_url, expires_s, association.assoc_type]

    def get(self, server_url: str | None = None, handle: str | None = None) -> list[Any]:
        known = self._session.get(_ASSOCIATIONS, {}).get(handle)
        if known is None or known[0] != server_url:
            return []
        is_over = known[1] <= time()
        return [SimpleNamespace(id=handle, assoc_type=known[2], is_expired=lambda: is_over)]

    def remove(self, ids_to_delete: list[str]) -> None:
        for handle in ids_to_delete:
            self._session.get(_ASSOCIATIONS, {}).pop(handle, None)
