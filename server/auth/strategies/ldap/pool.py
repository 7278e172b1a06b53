"""LDAP servers with failover, and a connection pool (RFC 4511, through python-ldap).

Blocking: for threads only, of which there are no more than connections of a kind. Knows nothing of
users: requests are made by `server.auth.strategies.ldap.people`.
"""

import logging
import re
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import ldap
from ldap.controls.ppolicy import PasswordPolicyControl

from server.auth.strategies.ldap.channel import connect
from server.auth.strategies.ldap.settings import LdapSettings, Server, read_servers

_LOG = logging.getLogger("manykeys.ldap")
_MAX_IDLE_S = 60.0  # below the minutes after which firewalls silently drop a connection
# libldap reconnects by itself if its socket is closed: to here, which fails, so never without TLS.
_NOWHERE = "ldapi://%2Fdev%2Fnull%2Fnowhere"
_BROKEN = (
    OSError,
    ldap.SERVER_DOWN,
    ldap.CONNECT_ERROR,
    ldap.TIMEOUT,
    ldap.TIMELIMIT_EXCEEDED,
    ldap.BUSY,
    ldap.UNAVAILABLE,
)
# Results by which servers refuse a login.
_REFUSALS = (
    ldap.INVALID_CREDENTIALS,
    ldap.INAPPROPRIATE_AUTH,
    ldap.INVALID_DN_SYNTAX,
    ldap.NO_SUCH_OBJECT,
    ldap.UNWILLING_TO_PERFORM,
    ldap.CONSTRAINT_VIOLATION,
    ldap.INSUFFICIENT_ACCESS,
)
_SUB_CODE = re.compile(r"\bdata ([0-9a-f]{1,8})\b")
# Active Directory's reasons for result 49 (security check D4); 52e is also used for unknown names.
_SUB_CODES = {
    "525": "unknown user",
    "52e": "wrong password",
    "530": "not at this time",
    "531": "not from this machine",
    "532": "password expired",
    "533": "disabled account",
    "701": "expired account",
    "773": "password must be changed",
    "775": "locked account",
}
_POLICY_ERRORS = {0: "password expired", 1: "locked account", 2: "password must be changed"}
"""Errors of draft-behera-ldap-password-policy that forbid login although the password is
correct."""

T = TypeVar("T")
Values = dict[str, list[bytes]]
"""An entry's attributes by lower-case name."""


class Unreachable(Exception):
    """No server responds."""


class Misfit(Exception):
    """The directory does not behave as configured; the text is for the log."""


class Rejected(Exception):
    """A server refuses the service account; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a directory."""

    dn: str
    values: Values


class TooMany(Exception):
    """More entries than were requested."""


class Link:
    """One connection."""

    def __init__(self, server: Server, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.used_s = monotonic()
        wire = connect(server, timeout_s)
        self._ldap = ldap.initialize(_NOWHERE, fileno=wire.detach())
        self._ldap.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        self._ldap.set_option(ldap.OPT_REFERRALS, 0)
        self._ldap.set_option(ldap.OPT_DEREF, ldap.DEREF_NEVER)

    def bind(self, name: str, password: str) -> str:
        """Bind to the directory; return "" or why it was refused."""
        if not name or not password:
            # RFC 4513 §5.1.1, §5.1.2: an anonymous bind, which succeeds for any user.
            raise ValueError("a bind needs a name and a password")
        try:
            sent = self._ldap.simple_bind(name, password, serverctrls=[PasswordPolicyControl()])
            kind, _, _, controls = self._ldap.result3(sent, timeout=self._timeout_s)
        except _REFUSALS as refused:
            return _reason_of(refused)
        if kind != ldap.RES_BIND:  # which libldap treats as success, too
            raise OSError("no response to a bind")
        errors = [getattr(control, "error", None) for control in controls]
        return next((_POLICY_ERRORS[one] for one in errors if one in _POLICY_ERRORS), "")

    def search(
        self, base: str, scope: int, wanted: str, attributes: Iterable[str], limit: int
    ) -> list[Entry]:
        """Return the entries that match a filter; `TooMany` for more than `limit`."""
        try:
            sent = self._ldap.search_ext(
                base, scope, wanted, [*attributes], timeout=self._timeout_s, sizelimit=limit
            )
            kind, found = self._ldap.result3(sent, timeout=self._timeout_s)[:2]
        except ldap.SIZELIMIT_EXCEEDED:
            raise TooMany from None
        except ldap.NO_SUCH_OBJECT:
            if scope == ldap.SCOPE_BASE:
                return []
            raise
        if kind != ldap.RES_SEARCH_RESULT:
            raise OSError("no response to a search")
        # Results without a DN are referrals, which are not followed.
        entries = [Entry(dn, _by_name(values)) for dn, values in found if dn]
        if len(entries) > limit:
            raise TooMany
        return entries

    def read(self, dn: str, wanted: str, attributes: Iterable[str]) -> Entry | None:
        """Return an entry if it matches a filter."""
        return next(iter(self.search(dn, ldap.SCOPE_BASE, wanted, attributes, 1)), None)

    def find(self, base: str, wanted: str, attributes: Iterable[str]) -> list[Entry]:
        """Return the entry found at any depth; `TooMany` for more than one."""
        return self.search(base, ldap.SCOPE_SUBTREE, wanted, attributes, 1)

    def close(self) -> None:
        """Close the connection."""
        try:
            self._ldap.unbind_ext_s()
        except ldap.LDAPError:
            return


class Servers:
    """The servers in the order to try them: those that failed recently come last."""

    def __init__(self, name: str, servers: list[Server], retry_after_s: float) -> None:
        self._name = name
        self._servers = servers
        self._retry_after_s = retry_after_s
        self._failed_until_s = dict.fromkeys(map(str, servers), 0.0)
        self._causes: dict[str, str] = {}
        self._lock = threading.Lock()

    def in_order(self) -> list[Server]:
        """Return all of them."""
        now_s = monotonic()
        with self._lock:
            until_s = dict(self._failed_until_s)
        return sorted(self._servers, key=lambda one: max(until_s[str(one)] - now_s, 0.0))

    def failed(self, server: Server, reason: Exception) -> None:
        """Try it last for a while; log why, once in that time."""
        now_s, cause, name = monotonic(), _cause(reason), str(server)
        with self._lock:
            is_news = self._causes.get(name) != cause or self._failed_until_s[name] <= now_s
            if is_news:
                self._causes[name] = cause
                self._failed_until_s[name] = now_s + self._retry_after_s
        if is_news:
            _LOG.error("strategy %s: %s is unavailable: %s", self._name, name, cause)

    def served(self, server: Server) -> None:
        """Restore its place in the order."""
        with self._lock:
            self._failed_until_s[str(server)] = 0.0


class Pool:
    """Connections opened by `open_link`, reused as long as they work."""

    def __init__(self, servers: Servers, open_link: Callable[[Server], Link]) -> None:
        self._servers = servers
        self._open_link = open_link
        self._idle: list[Link] = []
        self._lock = threading.Lock()

    def run(self, work: Callable[[Link], T]) -> T:
        """Return the result of work with a connection, with another one if the first breaks.
        `Unreachable` if none can be opened, `Misfit` if a server refuses the request, or if none
        that responds accepts the service account: a replica that lags behind still has an older
        password, so each is tried, once."""
        rejected: Rejected | None = None
        try:
            link = self._take()
            if link is not None:
                try:
                    return self._use(link, work)
                except _BROKEN:
                    self.close()  # the others are as old
            for server in self._servers.in_order():
                try:
                    outcome = self._use(self._open_link(server), work)
                except (Rejected, *_BROKEN) as reason:
                    self._servers.failed(server, reason)
                    rejected = reason if isinstance(reason, Rejected) else rejected
                    continue
                self._servers.served(server)
                return outcome
        except ldap.LDAPError as refused:
            raise Misfit(_cause(refused)) from None
        if rejected is not None:
            raise Misfit(str(rejected))
        raise Unreachable

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            links, self._idle = self._idle, []
        for link in links:
            link.close()

    def _take(self) -> Link | None:
        old = []
        link = None
        with self._lock:
            while self._idle and link is None:
                link = self._idle.pop()
                if link.used_s < monotonic() - _MAX_IDLE_S:
                    old.append(link)
                    link = None
        for one in old:
            one.close()
        return link

    def _use(self, link: Link, work: Callable[[Link], T]) -> T:
        try:
            outcome = work(link)
        except TooMany:
            self._give_back(link)
            raise
        except BaseException:
            link.close()
            raise
        self._give_back(link)
        return outcome

    def _give_back(self, link: Link) -> None:
        link.used_s = monotonic()
        with self._lock:
            self._idle.append(link)


class Directory:
    """A directory as configured: `service` are connections of the service account, `users` those on
    which users bind, one after the other."""

    def __init__(self, name: str, settings: LdapSettings) -> None:
        self._settings = settings
        self._timeout_s = settings.timeout_ms / 1000
        servers = Servers(name, read_servers(settings), settings.retry_after_ms / 1000)
        self.service = Pool(servers, self._open_service)
        self.users = Pool(servers, lambda server: Link(server, self._timeout_s))

    def close(self) -> None:
        """Close all connections that are not in use."""
        self.service.close()
        self.users.close()

    def _open_service(self, server: Server) -> Link:
        link = Link(server, self._timeout_s)
        try:
            refused = link.bind(self._settings.bind_dn, self._settings.bind_password)
        except BaseException:
            link.close()
            raise
        if refused:
            link.close()
            raise Rejected(f"bindDn, bindPassword: refused: {refused}")
        return link


def _by_name(values: dict[str, list[bytes]]) -> Values:
    """Return attributes by name without options; attributes with options, like a range of many
    values, are merged into one."""
    found: Values = {}
    for name, given in sorted(values.items()):
        found.setdefault(name.partition(";")[0].lower(), []).extend(given)
    return found


def _reason_of(refused: ldap.LDAPError) -> str:
    """Return why a bind was refused, for the audit log; the server's own text is not used."""
    details = _info_of(refused)
    found = _SUB_CODE.search(str(details.get("info", "")))
    if found is not None:
        return f"{_SUB_CODES.get(found[1], 'refused')} (AD {found[1]})"
    if isinstance(refused, ldap.INVALID_CREDENTIALS):
        return "wrong password"
    return f"refused (LDAP result {details.get('result', '?')})"


def _cause(reason: Exception) -> str:
    """Return what went wrong, for the log, in the words of local libraries."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"certificate not valid: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError):
        return f"TLS failed: {reason.reason}"
    if isinstance(reason, Rejected):
        return str(reason)
    if isinstance(reason, OSError):
        return reason.strerror or str(reason) or type(reason).__name__
    return str(_info_of(reason).get("desc", type(reason).__name__))


def _info_of(reason: Exception) -> dict[str, object]:
    first = reason.args[0] if reason.args else None
    return first if isinstance(first, dict) else {}
