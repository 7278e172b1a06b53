"""Interface of authentication strategies, and their results (docs/strategies.md).

A strategy is one class in one file. It sees no Request, and it never writes: it prepares changes,
so that creating a user with all their credentials is one transaction. The strategies registered on
a server are in `server.auth.strategies.registry`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from server.storage.base import Change, Storage

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What a client sends to log in; `headers` have lower-case names, `address` is the client's.

    `certificate` is the DER of the certificate that the client's own TLS connection has verified,
    None without one; `intermediates` are those the client sent along to build a chain, which may be
    anything. Header fields that a proxy sets may be trusted only if `is_from_proxy`: the request
    came from one of `server.trustedProxies`.

    With `is_from_foreign_page` the browser says that a page of another origin sends this request,
    which may not use the session cookie either: what browsers add by themselves proves nothing
    then.

    `state` names the next step of this login, for a strategy that can `resume`: a client that is
    redirected must return it as the argument `state`.
    """

    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    args: Mapping[str, object] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    address: str = ""
    state: str = field(default="", repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    intermediates: tuple[bytes, ...] = field(default=(), repr=False)
    is_from_proxy: bool = False
    is_from_foreign_page: bool = False


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The login succeeded: the client is this user, as long as `guards` hold, because what proved
    it may change before the token is stored.

    Guards are applied in the transaction that stores the token, all or nothing, so they may include
    changes of credentials that a login causes, like a counter.
    """

    kuid: str
    guards: tuple[Change, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class NewUser:
    """The login succeeded, but no user has these credentials yet: a user is created (just-in-time
    provisioning).

    `credentials` are the arguments of `create` of the strategy, and `identifier` is the id of the
    row that it inserts: if another login has inserted it first, the owner of that row is logged in.
    """

    identifier: str
    credentials: Mapping[str, object] = field(repr=False)
    profile_ids: tuple[str, ...]
    content: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """The user has proved that these credentials, in the form that `create` and `update` accept,
    are theirs, as long as `guards` hold."""

    credentials: Mapping[str, object] = field(repr=False)
    guards: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The login failed; `message` is returned to the client. If one account has several names,
    `entry` is its identifier, "" if none was found: failed logins are counted for it as well."""

    message: str
    entry: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Redirect:
    """The browser must be redirected, and return with the attempt's `state`; `kept` is passed to
    `resume` then and must be JSON."""

    url: str = field(repr=False)
    status: int = 302
    kept: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A further step is required; `data` describes it, and `kept` is passed to `resume`.

    With `is_portable` any client that knows the state may complete the step, else only the same
    browser or socket: a page of another origin, and a program that keeps no cookies, could not
    complete it over HTTP.
    """

    data: Mapping[str, object] = field(repr=False)
    kept: Mapping[str, object] = field(default_factory=dict, repr=False)
    is_portable: bool = False


Outcome = Authenticated | NewUser | Refused | Redirect | Challenge
Proof = Proven | Refused | Redirect | Challenge


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result to return once `changes` are applied; `left` is how many keys of this strategy the
    user has then, if one of several is removed."""

    shown: dict[str, object] = field(repr=False)
    changes: list[Change] = field(repr=False)
    left: int = 0


class Strategy(Protocol):
    """An authentication strategy. `by` is the kuid of the user who requests a change.

    A strategy may also have any of these, which are looked up by name: `resume`, see `Resumes`, in
    which case `verify` may return a Redirect or a Challenge; `prove` and `resume_proof`, see
    `Proves`; `window_origins`, for logins that end in a browser: the origins whose windows may
    receive the result; `takes_forms`, True if a provider's page may post its response as a form,
    and `state_field`, the field of such a form that contains the state, if not `state`;
    `asks_elsewhere`, True if its steps wait for another site and contain nothing that can be
    guessed: those in progress are not counted as failed logins; `logs_in`, False if its credentials
    alone do not allow login; `get_info(kuid)`, `get_by_id(id)`, `search(query, sort, start, size)`,
    `refresh_token(kuid)`, `after_register()`, `delete_one(kuid, id)`, like `delete`, for one of
    several keys that a user may have; `validate_new(credentials, kuid, profile_ids)`, instead of
    `validate` for a user who is not stored yet, if it matters which profiles they will have; and,
    not async, `account_of(attempt)`: the string that names the account of the attempt, as it was
    sent, None if none is named. Failed logins are counted by it. `accounts_of(kuid)`: all such
    strings of a user, for known devices and to unlock them; without it, the ids of their rows in
    the table of credentials.
    """

    @property
    def name(self) -> str:
        """The name it is registered under unless the operator chooses another."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of its credentials, for clients that display forms."""

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Verify the credentials of an attempt. ApiError for a request that is not valid in
        itself."""

    async def exists(self, kuid: str) -> bool:
        """Return whether this user has credentials here."""

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """Raise ApiError if these cannot become, or with `is_update` change, the credentials of
        this user (None: of any user)."""

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare a user's first credentials here, from validated ones."""

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare changed credentials, from validated ones."""

    async def delete(self, kuid: str) -> Prepared:
        """Prepare the deletion of a user's credentials. ApiError if they have none."""


@runtime_checkable
class Resumes(Protocol):
    """A strategy whose logins may have several steps."""

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """Continue a login that was redirected or challenged. It was started by the same browser or
        socket, and each step is resumed at most once."""


@runtime_checkable
class Proves(Protocol):
    """A strategy whose users prove that credentials are theirs before they get them, instead of
    only claiming it. What an administrator says needs no proof."""

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Find out which credentials this user, who is logged in, can have."""

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Continue a proof that was redirected or challenged; see `Resumes`."""


@runtime_checkable
class SecondFactor(Protocol):
    """A strategy that can be used as a second factor, if `security.mfa.factors` lists it;
    `server.auth.login.mfa` does so."""

    async def second_factor(self, kuid: str, state: str) -> Challenge | None:
        """Challenge a user who has passed a first factor; None if they have no credentials here.
        `state` names the step in which they respond."""

    async def check_second_factor(
        self, kuid: str, attempt: LoginAttempt, kept: Mapping[str, object]
    ) -> Authenticated | Refused:
        """Verify the user's response to the challenge; `kept` is that of the challenge. Several
        tries are possible in one step: what makes a response valid for one token belongs into the
        guards."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a strategy may use of the server; `clock_ms` returns the time in ms since 1970,
    `login_ms` is how long a step of a login waits for the next one."""

    storage: Storage
    clock_ms: Callable[[], int]
    login_ms: float = 600_000


@dataclass(frozen=True, slots=True)
class Examined:
    """Result of checking settings, for the operator: `facts` to know, `lacking` to correct."""

    facts: tuple[str, ...]
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StrategyKind(Generic[S]):
    """A kind of strategy, named by `use` in `[strategies.NAME]`: its settings and how to create
    one.

    `settings` is a frozen dataclass whose fields are declared with `server.core.settings.setting`.
    `make` is called with the name, the filled settings and the parts; LocalError prevents the
    start. For `manykeys strategies` there may be `examine`, called with the name, the settings and
    whether it may use the network, `offers`, which returns what can be chosen, like providers, and
    `describe`, which returns what the other side needs to know of this one, like metadata.
    """

    settings: type[S]
    make: Callable[[str, S, Parts], Strategy]
    examine: Callable[[str, S, bool], Examined] | None = None
    offers: Callable[[], list[str]] | None = None
    describe: Callable[[S], str] | None = None
