"""What handlers may use: the parts of a running server, put together by `app.py`.

Handlers import this module's type; it imports no handler, no socket and no SQL.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.addresses import Addresses
from server.auth.apikeys import ApiKeys
from server.auth.breaches import BreachCheck
from server.auth.credentials import Credentials
from server.auth.issuing import Issuer
from server.auth.keyring import Keyring
from server.auth.limits import RequestLimits
from server.auth.links import Links
from server.auth.logins import Logins
from server.auth.mappings import Mappings
from server.auth.passwords import Passwords
from server.auth.profiles import Profiles
from server.auth.rights import Rulebook
from server.auth.roles import Roles
from server.auth.searching import Searches
from server.auth.sessions import Sessions
from server.auth.stepup import StepUp
from server.auth.strategies.registry import Strategies
from server.auth.tokens import Tokens
from server.auth.trail import Trail
from server.auth.userchanges import UserChanges
from server.auth.users import Users
from server.browsers import Browsers
from server.config import Config
from server.cookies import Cookies
from server.counting import Counting
from server.devices import Devices
from server.firstadmin import FirstAdmin
from server.notifier import Notifier
from server.openapi import Published
from server.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one server. `node` is its name on the wire."""

    config: Config
    storage: Storage
    passwords: Passwords
    breaches: BreachCheck | None
    strategies: Strategies
    rulebook: Rulebook
    roles: Roles
    profiles: Profiles
    users: Users
    trail: Trail
    notifier: Notifier
    user_changes: UserChanges
    credentials: Credentials
    logins: Logins
    step_up: StepUp
    keyring: Keyring
    issuer: Issuer
    tokens: Tokens
    api_keys: ApiKeys
    sessions: Sessions
    mappings: Mappings
    searches: Searches
    links: Links
    first_admin: FirstAdmin
    addresses: Addresses
    cookies: Cookies
    browsers: Browsers
    devices: Devices
    limits: RequestLimits
    request_ids: Iterator[str]
    clock_ms: Callable[[], int]
    node: str
    started_at_ms: int
    counting: Counting
    published: Published

    def close(self) -> None:
        """Let go of the threads."""
        self.passwords.close()
        if self.breaches is not None:
            self.breaches.close()
