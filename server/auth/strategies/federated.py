"""Federated login: common base of the kinds `oauth` and `saml`, each of which brings a `Source`.

Users are identified by the strategy and the provider's user id, never by an email address (security
check O6).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import orjson

from protocol.errors import error, plain_error
from server.auth.audit.events import tell
from server.auth.strategies.attributes import is_secret, pick
from server.auth.strategies.base import (
    Authenticated,
    LoginAttempt,
    NewUser,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Redirect,
    Refused,
)
from server.auth.strategies.credential_rows import CredentialRows, data_of, owner_of
from server.core.config_file import ConfigError
from server.core.ids import is_id
from server.storage.rows import Row, Table

_LOG = logging.getLogger("manykeys.providers")
_RETRY_S = 1
# Never passed on from the client: with Apple it would choose the application to log in to.
_RESERVED = frozenset({"strategy", "client_id", "expiresIn", "cookieAuth"})
_TRY_AGAIN = "the provider's response was not accepted: start the login again"
DENIED = "declined at the provider"

T = TypeVar("T")


class Declined(Exception):
    """The login failed. `reason` is for the operator; `is_unavailable` if the provider did not
    respond, `is_denied` if the user declined."""

    def __init__(
        self, reason: str, *, is_unavailable: bool = False, is_denied: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_unavailable = is_unavailable
        self.is_denied = is_denied


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's id at the provider, and the attributes it returned for them."""

    uid: str
    attributes: Mapping[str, object] = field(repr=False)


class Source(Protocol):
    """Where profiles come from. Its methods block, and are called in threads; Declined if the login
    fails."""

    @property
    def id_name(self) -> str:
        """The name of the attribute that identifies a user."""

    def begin(self, state: str, data: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Return the URL to redirect the browser to, and what to store until it returns."""

    def complete(self, state: str, data: Mapping[str, str], session: dict[str, Any]) -> Profile:
        """Return the profile of the user who has returned."""

    def close(self) -> None:
        """Close connections."""


class AccountSettings(Protocol):
    """Settings that each such kind has."""

    @property
    def persist(self) -> tuple[str, ...]:
        """Attributes to store with the credentials."""

    @property
    def attributes_mapping(self) -> Mapping[str, str]:
        """Other names to store them under."""

    @property
    def user_attributes(self) -> Mapping[str, str]:
        """Attributes for the content of a new user."""

    @property
    def default_profiles(self) -> tuple[str, ...]:
        """Profiles of a new user."""

    @property
    def window_origins(self) -> tuple[str, ...]:
        """Origins whose windows may receive the result of a login."""

    @property
    def threads(self) -> int:
        """How many steps of logins are processed at once."""

    @property
    def queue(self) -> int:
        """How many may wait for that."""


class Accounts(CredentialRows):
    """Logs in users who return from a provider; a request with one of the arguments in `comes_back`
    is such a return."""

    takes_forms = True
    asks_elsewhere = True
    comes_back: tuple[str, ...] = ()

    def __init__(self, name: str, settings: AccountSettings, source: Source, parts: Parts) -> None:
        super().__init__(name, parts)
        self._settings = settings
        self._source = source
        self._names = {
            path: settings.attributes_mapping.get(path, path) for path in settings.persist
        }
        _check_names(
            settings, [*self._names.values(), *settings.persist, *settings.user_attributes]
        )
        # Mapped as it is stored: what an administrator sets must have the same name.
        self._id_name = settings.attributes_mapping.get(source.id_name, source.id_name)
        self.fields = tuple(dict.fromkeys([self._id_name, *self._names.values()]))
        self.window_origins = settings.window_origins
        self._workers = _Workers(settings.threads, settings.queue)

    async def after_register(self) -> None:
        """Stop the threads when the strategy is removed."""
        try:
            await asyncio.Event().wait()
        finally:
            self._workers.close()
            self._source.close()

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Redirect to the provider."""
        return await self._begin(attempt)

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """Verify the provider's response, and find the user with these credentials."""
        profile = await self._complete(attempt, kept)
        if isinstance(profile, Refused):
            return profile
        row = await self.find(profile.uid)
        if row is not None:
            tell(subject=str(row["kuid"]))
            return owner_of(row)
        linked = await self.find_linked(profile)
        if linked is not None:
            return linked
        content = pick(profile.attributes, self._settings.user_attributes)
        profiles = self._settings.default_profiles
        return NewUser(profile.uid, self.credentials_of(profile), profiles, content)

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Redirect a user to the provider, to prove that an account there is theirs."""
        return await self._begin(attempt)

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Verify the provider's response."""
        profile = await self._complete(attempt, kept)
        return profile if isinstance(profile, Refused) else Proven(self.credentials_of(profile))

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`. Errors are those of Kuzzle's plugin, which have no ids."""
        identifier = self._check_form(credentials, is_update=is_update)
        row = await self.find(identifier)
        if row is not None and row["kuid"] != kuid:
            raise plain_error(400, f"the {self._id_name} belongs to another user")

    async def validate_new(
        self, credentials: Mapping[str, object], kuid: str, profile_ids: Sequence[str]
    ) -> None:
        """See `Strategy`; 412 if another login was faster, so that a first login is tried again."""
        identifier = self._check_form(credentials, is_update=False)
        if await self.find(identifier) is not None:
            raise plain_error(412, f"the {self._id_name} belongs to another user")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`. 400 if the user has credentials here already."""
        if await self.exists(kuid):
            raise plain_error(400, f"the user already has credentials of {self.name}")
        identifier, data = str(credentials[self._id_name]), self.data_of(credentials)
        shown = {self._id_name: identifier, **data, "kuid": kuid}
        return Prepared(shown, [self.inserted(identifier, kuid, data)])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; what is not given is kept."""
        row = await self.of(kuid)
        identifier = str(credentials.get(self._id_name) or row["id"])
        data = data_of(row) | self.data_of(credentials)
        shown = {self._id_name: identifier, **data, "kuid": kuid}
        return Prepared(shown, self.updated(row, identifier, data))

    async def of(self, kuid: str | None) -> Row:
        """See `CredentialRows`; 404 if they have none, as Kuzzle's plugin does."""
        row = None
        if kuid is not None:
            row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=self.name)
        if row is None:
            raise plain_error(404, f"the user has no credentials of {self.name}")
        return row

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return what is stored of a user's profile; ApiError 404 if they have none."""
        return data_of(await self.of(kuid))

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Return the credentials with the provider's user id; ApiError 400 if there are none."""
        row = await self.find(identifier)
        if row is None:
            raise plain_error(400, f"no user has this {self._id_name}")
        return {self._id_name: row["id"], **data_of(row), "kuid": row["kuid"]}

    def _check_form(self, credentials: Mapping[str, object], *, is_update: bool) -> str | None:
        """Return the identifier among credentials, None if there is none, which is valid for an
        update only."""
        if "kuid" in credentials:
            raise plain_error(400, "credentials must not contain kuid")
        for name in credentials:
            if name not in self.fields:
                raise error("api.assert.invalid_argument", name, ", ".join(self.fields))
        identifier = credentials.get(self._id_name)
        if identifier is None and is_update:
            return None
        if identifier is None:
            raise plain_error(400, f"{self._id_name} is required: the provider's id of the user")
        if not isinstance(identifier, str) or not is_id(identifier):
            raise error("api.assert.invalid_type", self._id_name, "string")
        return identifier

    async def _begin(self, attempt: LoginAttempt) -> Redirect | Refused:
        data = _data_of(attempt)
        if any(name in data for name in self.comes_back):
            return self._refused(Declined("the provider's response has no state"))
        try:
            url, session = await self._run(lambda: self._source.begin(attempt.state, data))
        except Declined as reason:
            return self._refused(reason)
        return Redirect(url, kept={"session": _packed(session, attempt.state)})

    async def _complete(
        self, attempt: LoginAttempt, kept: Mapping[str, object]
    ) -> Profile | Refused:
        data = _data_of(attempt)
        state = data.get("state", "")
        session = _unpacked(kept["session"], state)
        try:
            return await self._run(lambda: self._source.complete(state, data, session))
        except Declined as reason:
            return self._refused(reason)

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._workers.run(work)

    def _refused(self, reason: Declined) -> Refused:
        """Log what went wrong, for the operator alone; ApiError 504 if the provider is
        unavailable."""
        tell(reason=reason.reason)
        if reason.is_denied:
            _LOG.info("strategy %s: %s", self.name, reason.reason)
            return Refused(DENIED)
        _LOG.warning("strategy %s: %s", self.name, reason.reason)
        if reason.is_unavailable:
            raise error("plugin.runtime.pipe_timeout", f"{self.name}: the provider")
        return Refused(_TRY_AGAIN)

    async def find_linked(self, profile: Profile) -> Authenticated | None:
        """Return the user to whom these credentials are linked now, None if there is none."""
        return None

    def credentials_of(self, profile: Profile) -> dict[str, object]:
        kept = pick(profile.attributes, self._names)
        return {**kept, self._id_name: profile.uid}

    def data_of(self, credentials: Mapping[str, object]) -> dict[str, object]:
        return {name: value for name, value in credentials.items() if name != self._id_name}


class _Workers:
    """A thread pool for blocking calls; `queue` is how many may wait while all threads are busy."""

    def __init__(self, threads: int, queue: int) -> None:
        self._places = threads + queue
        self._taken = 0
        self._pool = ThreadPoolExecutor(threads, "provider")

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`; ApiError 503 at once if the queue is full."""
        if self._taken >= self._places:
            raise error("api.process.overloaded", retry_after_s=_RETRY_S)
        begun = asyncio.wrap_future(self._pool.submit(work))
        self._taken += 1
        begun.add_done_callback(self._release)
        try:
            return await asyncio.shield(begun)
        finally:
            del begun  # its error's traceback keeps this frame alive

    def close(self) -> None:
        """Stop the threads; what is queued is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self, done: asyncio.Future[T]) -> None:
        self._taken -= 1
        if not done.cancelled():
            done.exception()  # marked as retrieved, even if nothing waits any more


def _check_names(settings: AccountSettings, names: Sequence[str]) -> None:
    """Reject attributes that must not be stored, and names that would be ambiguous."""
    for name in names:
        if is_secret(name) or name == "kuid":
            raise ConfigError(f"persist: {name} must not be stored")
    for name in settings.user_attributes.values():
        if name in ("profileIds", "_kuzzle_info", "_id"):
            raise ConfigError(f"userAttributes: {name} must not be set by a provider")


def _data_of(attempt: LoginAttempt) -> dict[str, str]:
    """Return the string arguments of a request; those of its body take precedence."""
    return {
        name: value
        for name, value in _strings_of(attempt.args, attempt.body)
        if name not in _RESERVED
    }


def _strings_of(*given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for values in given:
        for name, value in values.items():
            if isinstance(value, str):
                yield name, value


def _packed(session: Mapping[str, object], state: str) -> object:
    """Return a session in the form that is stored: without the state, which is only ever stored as
    a hash (security check T11)."""
    return orjson.loads(orjson.dumps(session).decode().replace(state, "\\u001e"))


def _unpacked(session: object, state: str) -> dict[str, object]:
    text = orjson.dumps(session).decode().replace("\\u001e", state)
    return cast("dict[str, object]", orjson.loads(text))
