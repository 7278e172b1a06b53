"""Request context: the services of a running server that handlers use, created by `server.app`.

Handlers import this type; this module imports no handler, socket or SQL.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.api.device_cookie import Devices
from server.api.login_cookie import LoginBindings
from server.api.metrics import Counting
from server.api.openapi import Published
from server.api.session_cookie import Cookies
from server.api.setup_code import SetupCode
from server.auth.access.permissions import PermissionCompiler
from server.auth.access.profiles import Profiles
from server.auth.access.roles import Roles
from server.auth.accounts.credentials import Credentials
from server.auth.accounts.step_up import StepUp
from server.auth.accounts.user_updates import UserChanges
from server.auth.accounts.users import Users
from server.auth.audit.log import AuditLog
from server.auth.audit.notifier import SecurityNotifier
from server.auth.limits.rate_limits import RateLimits
from server.auth.login.flow import LoginFlow
from server.auth.passwords.breaches import BreachCheck
from server.auth.passwords.hasher import PasswordHasher
from server.auth.search.mappings import Mappings
from server.auth.search.service import Searches
from server.auth.sessions.api_keys import ApiKeys
from server.auth.sessions.authenticator import Tokens
from server.auth.sessions.expiry_push import ExpiryNotifier
from server.auth.sessions.issuer import Issuer
from server.auth.sessions.keyring import Keyring
from server.auth.sessions.sessions import Sessions
from server.auth.strategies.registry import Strategies
from server.config.model import Config
from server.net.client_address import Addresses
from server.storage.base import Storage


@dataclass(frozen=True, slots=True)
class AppContext:
    """The services of one server. `node` is its name on the wire."""

    config: Config
    storage: Storage
    passwords: PasswordHasher
    breaches: BreachCheck | None
    strategies: Strategies
    rulebook: PermissionCompiler
    roles: Roles
    profiles: Profiles
    users: Users
    trail: AuditLog
    notifier: SecurityNotifier
    user_changes: UserChanges
    credentials: Credentials
    logins: LoginFlow
    step_up: StepUp
    keyring: Keyring
    issuer: Issuer
    tokens: Tokens
    api_keys: ApiKeys
    sessions: Sessions
    mappings: Mappings
    searches: Searches
    links: ExpiryNotifier
    first_admin: SetupCode
    addresses: Addresses
    cookies: Cookies
    browsers: LoginBindings
    devices: Devices
    limits: RateLimits
    request_ids: Iterator[str]
    clock_ms: Callable[[], int]
    node: str
    started_at_ms: int
    counting: Counting
    published: Published

    def close(self) -> None:
        """Stop the threads."""
        self.passwords.close()
        if self.breaches is not None:
            self.breaches.close()
