"""Strategy `ldap`: login with usernames and passwords of an LDAP directory, OpenLDAP or Active
Directory (docs/strategies/ldap.md).

A user is created at the first login. They are identified by a stable attribute of their entry,
never by a name. A failed login gets the same response, whatever the directory returned; the audit
log contains the reason. Requests to the directory run in a few threads of their own, and each wait
has a timeout.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from protocol.errors import LocalError, error, plain_error

try:
    import ldap  # noqa: F401  (needed by the modules below)
except ImportError:
    raise LocalError("needs python-ldap: pip install 'manykeys[ldap]'") from None

from server.auth.audit.events import tell
from server.auth.identity.user import profile_rows_of, read_user
from server.auth.passwords.hasher import check_password
from server.auth.strategies.base import (
    Authenticated,
    LoginAttempt,
    NewUser,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Refused,
    StrategyKind,
)
from server.auth.strategies.credential_rows import CredentialRows, data_of
from server.auth.strategies.ldap.filters import account_key, dn_key, is_identifier
from server.auth.strategies.ldap.people import Denied, People, Person
from server.auth.strategies.ldap.pool import Misfit, Unreachable
from server.auth.strategies.ldap.settings import MOST_WAITING, LdapSettings
from server.core.ids import is_id
from server.core.outcomes import WRONG
from server.storage.base import Change, DeleteAll, EventKind, JournalEvent, Present, Update
from server.storage.rows import Row, Table

_LOG = logging.getLogger("manykeys.ldap")
_RETRY_AFTER_S = 1
_WRONG = Refused(WRONG)
_ASKED_FOR = ("identifier", "username", "dn")

T = TypeVar("T")


class Ldap(CredentialRows):
    """Logs in with the username and the password of a directory. Credentials are the `identifier`
    of an entry; its `dn`, `username` and `attributes` are stored as they were at the last login."""

    fields = ("username", "password")

    def __init__(self, name: str, settings: LdapSettings, parts: Parts) -> None:
        super().__init__(name, parts)
        settings.check()
        self._settings = settings
        self._people = People(name, settings)
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="ldap")
        self._in_progress = 0

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Bind with the username and the password of the body, else of the arguments."""
        found = await self._authenticate(attempt)
        if isinstance(found, Refused):
            return found
        row = await self.find(found.identifier)
        if row is None:
            return NewUser(
                found.identifier, _credentials_of(found), found.profile_ids, found.attributes
            )
        kuid = cast(str, row["kuid"])
        tell(subject=kuid)
        changes = self._refreshed(row, found)
        if self._settings.sync_profiles:
            synced = await self._synced(kuid, found.profile_ids)
            if synced is None:
                return _WRONG
            changes += synced
        return Authenticated(kuid, tuple(changes))

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Bind as for a login, which proves that the entry is the user's own."""
        found = await self._authenticate(attempt)
        return found if isinstance(found, Refused) else Proven(_credentials_of(found))

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """See `Proves`; there is no second step here."""
        return _WRONG

    def account_of(self, attempt: LoginAttempt) -> str | None:
        """Return the username of the attempt, the same for all spellings of it."""
        username = _given(attempt, "username")
        if not isinstance(username, str) or not _given(attempt, "password"):
            return None
        return account_key(username, self._settings)

    async def accounts_of(self, kuid: str) -> list[str]:
        """Return the username of a user's entry at the last login, as `account_of` writes it."""
        row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=self.name)
        if row is None:
            return []
        return [account_key(str(data_of(row).get("username", "")), self._settings)]

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`. An `identifier`, or, with a service account, the `username` or the `dn`
        of an entry, which is looked up when the credentials are created."""
        given = [name for name in _ASKED_FOR if credentials.get(name) is not None]
        if not given:
            raise plain_error(400, "an identifier, a username or a dn is required")
        for name in given:
            value = credentials[name]
            if not isinstance(value, str) or not is_id(value):
                raise error("api.assert.invalid_type", name, "string")
        if "identifier" in given:
            identifier = str(credentials["identifier"])
            if not is_identifier(identifier, self._settings):
                expected = f"{self._settings.identifier} as a string"
                raise error("api.assert.invalid_argument", "identifier", expected)
            await self.check_free(identifier, kuid, "identifier")
        elif dn_key(str(credentials.get("dn") or "")) is None:
            raise error("api.assert.invalid_argument", "dn", "a distinguished name")
        elif not self._settings.has_service:
            raise plain_error(
                400, "identifier is required: users cannot be looked up without bindDn"
            )
        if not isinstance(credentials.get("attributes", {}), dict):
            raise error("api.assert.invalid_type", "attributes", "object")
        if not is_update and kuid is not None and await self.exists(kuid):
            raise plain_error(412, f"the user already has credentials of {self.name}")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        identifier, data = await self._read(credentials, kuid)
        shown = {"identifier": identifier, **data, "kuid": kuid}
        return Prepared(shown, [self.inserted(identifier, kuid, data)])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        row = await self.of(kuid)
        identifier, data = await self._read(credentials, kuid)
        shown = {"identifier": identifier, **data, "kuid": kuid}
        return Prepared(shown, self.updated(row, identifier, data))

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return what is stored of a user's entry; ApiError 412 if they have none."""
        return _shown(await self.of(kuid))

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Return what is stored under an identifier; ApiError 412 if there is none."""
        row = await self.find(identifier)
        if row is None:
            raise plain_error(412, f"no user has these credentials of {self.name}")
        return _shown(row)

    async def refresh_token(self, kuid: str) -> None:
        """Allow the refresh of a session if its user's entry still exists and is found as for a
        login. 401 if it is not, and if there is no service account to search it."""
        identifier = str((await self.of(kuid))["id"])
        found = None
        if self._settings.has_service:
            found = await self._ask(lambda: self._people.find_identifier(identifier))
        if found is None:
            raise error("security.token.refresh_forbidden", "the directory has no such user")

    async def after_register(self) -> None:
        """Close the connections when the strategy is removed."""
        try:
            await asyncio.Event().wait()
        finally:
            self._threads.submit(self._people.close)
            self._threads.shutdown(wait=False)

    async def _authenticate(self, attempt: LoginAttempt) -> Person | Refused:
        username, password = _given(attempt, "username"), _given(attempt, "password")
        if not username or not password:
            # RFC 4513 §5.1.2: a bind without a password is a success that proves nothing.
            tell(reason="no username or no password")
            return Refused("username and password are required")
        if not isinstance(username, str):
            raise error("api.assert.invalid_type", "username", "string")
        password = check_password(password, "password")
        if not is_id(username) or not username.strip() or "\0" in password:
            tell(reason="username or password not valid in any directory")
            return _WRONG
        found = await self._ask(lambda: self._people.authenticate(username, password))
        if isinstance(found, Denied):
            row = await self.find(found.identifier)
            tell(subject="" if row is None else str(row["kuid"]), reason=found.reason)
            return Refused(WRONG, found.identifier)
        return found

    async def _ask(self, question: Callable[[], T]) -> T:
        """Call the directory in a thread. ApiError 503 if too many calls wait, and 500
        `core.fatal.service_unavailable` if it does not respond; the log says why."""
        if self._in_progress >= MOST_WAITING:
            raise error("api.process.overloaded", retry_after_s=_RETRY_AFTER_S)
        self._in_progress += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, question)
        except Unreachable:
            tell(reason="directory unavailable")
            _LOG.error("strategy %s: no LDAP server is available", self.name)
        except Misfit as reason:
            tell(reason="request refused by the directory")
            _LOG.error("strategy %s: %s", self.name, reason)
        finally:
            self._in_progress -= 1
        raise error("core.fatal.service_unavailable", self.name)

    async def _read(
        self, credentials: Mapping[str, object], kuid: str
    ) -> tuple[str, dict[str, object]]:
        """Return the identifier of validated credentials and what is stored with it."""
        if "identifier" not in credentials:
            found = await self._look_up(credentials)
            await self.check_free(found.identifier, kuid, "identifier")
            credentials = _credentials_of(found)
        kept = {name: credentials.get(name) or "" for name in ("dn", "username")}
        attributes = credentials.get("attributes") or {}
        return str(credentials["identifier"]), {**kept, "attributes": attributes}

    async def _look_up(self, credentials: Mapping[str, object]) -> Person:
        username, dn = credentials.get("username"), credentials.get("dn")
        if username:
            found = await self._ask(lambda: self._people.find(str(username)))
        else:
            found = await self._ask(lambda: self._people.find_dn(str(dn)))
        if found is None:
            raise plain_error(400, "the directory has no such entry, or more than one")
        return found

    def _refreshed(self, row: Row, found: Person) -> list[Change]:
        """Return the changes that store what the directory says now. Concurrent logins may both
        apply them: none of it identifies the user."""
        key: Row = {"strategy": self.name, "id": row["id"]}
        changes: list[Change] = [Present(Table.CREDENTIALS, {**key, "kuid": row["kuid"]})]
        data = _data_of(found)
        if data != data_of(row):
            values: Row = {"data": data, "updated_at": self._clock_ms()}
            changes.append(Update(Table.CREDENTIALS, key, values))
        return changes

    async def _synced(self, kuid: str, profile_ids: tuple[str, ...]) -> list[Change] | None:
        """Return the changes that set a user's profiles, None if one of them does not exist."""
        row = await self._storage.get(Table.USERS, kuid=kuid)
        if row is None or tuple(cast("list[str]", row["profile_ids"])) == profile_ids:
            return []
        for profile_id in profile_ids:
            if not is_id(profile_id) or not await self._storage.exists(
                Table.PROFILES, id=profile_id
            ):
                _LOG.error(
                    "strategy %s: defaultProfiles, groupProfiles: profile %s does not exist",
                    self.name,
                    profile_id,
                )
                tell(reason="unknown profile")
                return None
        # Only this column of the row is written: concurrent logins do not undo each other.
        user = read_user({**row, "profile_ids": list(profile_ids)})
        return [
            Update(Table.USERS, {"kuid": kuid}, {"profile_ids": list(profile_ids)}),
            DeleteAll(Table.USER_PROFILES, {"kuid": kuid}),
            *profile_rows_of(user),
            JournalEvent(EventKind.USER, kuid),
        ]


def _given(attempt: LoginAttempt, name: str) -> object:
    return attempt.body.get(name) or attempt.args.get(name)


def _credentials_of(found: Person) -> dict[str, object]:
    return {"identifier": found.identifier, **_data_of(found)}


def _data_of(found: Person) -> dict[str, object]:
    return {"dn": found.dn, "username": found.username, "attributes": found.attributes}


def _shown(row: Row) -> dict[str, object]:
    return {"identifier": row["id"], **data_of(row), "kuid": row["kuid"]}


KIND = StrategyKind(LdapSettings, Ldap)
