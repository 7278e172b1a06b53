"""Users who are known to another site: who has come back from there, and whose credentials these
are. What the kinds `oauth` and `saml` have in common; each brings a `Source`.

Identity is the strategy and the provider's id of a user, never an address (security check O6).
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
    Newcomer,
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
# Never from who logs in: with Apple it would choose which application he logs in to.
_OURS = frozenset({"strategy", "client_id", "expiresIn", "cookieAuth"})
_BEGIN_AGAIN = "the provider's answer was not accepted: begin again"
DENIED = "declined at the provider"

T = TypeVar("T")


class Declined(Exception):
    """Nobody is logged in. `reason` is for the operator; `is_unavailable` when the provider gave no
    answer, `is_denied` when it was the user's own wish."""

    def __init__(
        self, reason: str, *, is_unavailable: bool = False, is_denied: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_unavailable = is_unavailable
        self.is_denied = is_denied


@dataclass(frozen=True, slots=True)
class Profile:
    """Who somebody is to the provider, and what it tells of him."""

    uid: str
    attributes: Mapping[str, object] = field(repr=False)


class Source(Protocol):
    """Where profiles come from. What it does blocks, and is for threads; Declined for nobody."""

    @property
    def id_name(self) -> str:
        """The name of the attribute that identifies a user."""

    def begin(self, state: str, data: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Give the address to send somebody to, and what to keep until he comes back."""

    def complete(self, state: str, data: Mapping[str, str], session: dict[str, Any]) -> Profile:
        """Give who has come back."""

    def close(self) -> None:
        """Let go of connections."""


class AccountSettings(Protocol):
    """What the settings of each such kind say."""

    @property
    def persist(self) -> tuple[str, ...]:
        """Attributes to keep."""

    @property
    def attributes_mapping(self) -> Mapping[str, str]:
        """Other names to keep them under."""

    @property
    def user_attributes(self) -> Mapping[str, str]:
        """Attributes for the content of a new user."""

    @property
    def default_profiles(self) -> tuple[str, ...]:
        """His profiles."""

    @property
    def window_origins(self) -> tuple[str, ...]:
        """Whose windows may have the result of a login."""

    @property
    def threads(self) -> int:
        """How many steps of logins are worked on at once."""

    @property
    def queue(self) -> int:
        """How many may wait for that."""


class Accounts(CredentialRows):
    """Logs in who comes back from a provider; with one of `comes_back` somebody does."""

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
        # Mapped as it is kept: what an administrator gives must read alike.
        self._id_name = settings.attributes_mapping.get(source.id_name, source.id_name)
        self.fields = tuple(dict.fromkeys([self._id_name, *self._names.values()]))
        self.window_origins = settings.window_origins
        self._workers = _Workers(settings.threads, settings.queue)

    async def after_register(self) -> None:
        """Let the threads end with the strategy."""
        try:
            await asyncio.Event().wait()
        finally:
            self._workers.close()
            self._source.close()

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Send somebody to the provider."""
        return await self._begin(attempt)

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """Find out who comes back, and whose these credentials are."""
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
        return Newcomer(profile.uid, self.credentials_of(profile), profiles, content)

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Send a user to the provider, to show what is his there."""
        return await self._begin(attempt)

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Find out who comes back."""
        profile = await self._complete(attempt, kept)
        return profile if isinstance(profile, Refused) else Proven(self.credentials_of(profile))

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`; errors without an id are the reference's (contract/05 §5)."""
        identifier = self._check_form(credentials, is_update=is_update)
        row = await self.find(identifier)
        if row is not None and row["kuid"] != kuid:
            raise plain_error(400, f"the {self._id_name} is another user's")

    async def validate_new(
        self, credentials: Mapping[str, object], kuid: str, profile_ids: Sequence[str]
    ) -> None:
        """See `Strategy`; 412 where somebody was faster, so that a first login is tried again."""
        identifier = self._check_form(credentials, is_update=False)
        if await self.find(identifier) is not None:
            raise plain_error(412, f"the {self._id_name} is another user's")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`. 400 for who has credentials here already."""
        if await self.exists(kuid):
            raise plain_error(400, f"the user has credentials of {self.name} already")
        identifier, data = str(credentials[self._id_name]), self.data_of(credentials)
        shown = {self._id_name: identifier, **data, "kuid": kuid}
        return Prepared(shown, [self.inserted(identifier, kuid, data)])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; what is not given stays."""
        row = await self.of(kuid)
        identifier = str(credentials.get(self._id_name) or row["id"])
        data = data_of(row) | self.data_of(credentials)
        shown = {self._id_name: identifier, **data, "kuid": kuid}
        return Prepared(shown, self.updated(row, identifier, data))

    async def of(self, kuid: str | None) -> Row:
        """See `CredentialRows`; 404 if he has none, as in the reference."""
        row = None
        if kuid is not None:
            row = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=self.name)
        if row is None:
            raise plain_error(404, f"the user has no credentials of {self.name}")
        return row

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Give what is kept of a user's profile; ApiError 404 if he has none."""
        return data_of(await self.of(kuid))

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Give the credentials with the provider's id; ApiError 400 for none."""
        row = await self.find(identifier)
        if row is None:
            raise plain_error(400, f"nobody has this {self._id_name}")
        return {self._id_name: row["id"], **data_of(row), "kuid": row["kuid"]}

    def _check_form(self, credentials: Mapping[str, object], *, is_update: bool) -> str | None:
        """Give the identifier among credentials, None for none, which only an update may have."""
        if "kuid" in credentials:
            raise plain_error(400, "kuid can't be among the credentials")
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
            return self._refused(Declined("it comes back without a state"))
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
        """Say what went wrong, to the operator alone; ApiError 504 where the provider is away."""
        tell(reason=reason.reason)
        if reason.is_denied:
            _LOG.info("strategy %s: %s", self.name, reason.reason)
            return Refused(DENIED)
        _LOG.warning("strategy %s: %s", self.name, reason.reason)
        if reason.is_unavailable:
            raise error("plugin.runtime.pipe_timeout", f"{self.name}: the provider")
        return Refused(_BEGIN_AGAIN)

    async def find_linked(self, profile: Profile) -> Authenticated | None:
        """Give a user whose credentials these become now, None for nobody."""
        return None

    def credentials_of(self, profile: Profile) -> dict[str, object]:
        kept = pick(profile.attributes, self._names)
        return {**kept, self._id_name: profile.uid}

    def data_of(self, credentials: Mapping[str, object]) -> dict[str, object]:
        return {name: value for name, value in credentials.items() if name != self._id_name}


class _Workers:
    """A few threads for what blocks; `queue` is how many may wait while all are busy."""

    def __init__(self, threads: int, queue: int) -> None:
        self._places = threads + queue
        self._taken = 0
        self._pool = ThreadPoolExecutor(threads, "provider")

    async def run(self, work: Callable[[], T]) -> T:
        """Give what the work gives; ApiError 503 at once when too much waits."""
        if self._taken >= self._places:
            raise error("api.process.overloaded", retry_after_s=_RETRY_S)
        begun = asyncio.wrap_future(self._pool.submit(work))
        self._taken += 1
        begun.add_done_callback(self._release)
        try:
            return await asyncio.shield(begun)
        finally:
            del begun  # its error's traceback keeps this frame

    def close(self) -> None:
        """Let the threads end; who still waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self, done: asyncio.Future[T]) -> None:
        self._taken -= 1
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits any more


def _check_names(settings: AccountSettings, names: Sequence[str]) -> None:
    """Refuse what must not be kept, and what could not be told apart."""
    for name in names:
        if is_secret(name) or name == "kuid":
            raise ConfigError(f"persist: {name} must not be kept")
    for name in settings.user_attributes.values():
        if name in ("profileIds", "_kuzzle_info", "_id"):
            raise ConfigError(f"userAttributes: {name} is not a provider's to set")


def _data_of(attempt: LoginAttempt) -> dict[str, str]:
    """Give the texts of a request; those of its body win."""
    return {
        name: value for name, value in _texts_of(attempt.args, attempt.body) if name not in _OURS
    }


def _texts_of(*given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for values in given:
        for name, value in values.items():
            if isinstance(value, str):
                yield name, value


def _packed(session: Mapping[str, object], state: str) -> object:
    """Give what is kept of a session: not the state, which is never stored but as a hash (T11)."""
    return orjson.loads(orjson.dumps(session).decode().replace(state, "\\u001e"))


def _unpacked(session: object, state: str) -> dict[str, object]:
    text = orjson.dumps(session).decode().replace("\\u001e", state)
    return cast("dict[str, object]", orjson.loads(text))
