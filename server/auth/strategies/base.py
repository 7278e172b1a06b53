"""What a way to log in promises, and what its answers are (contract/05 §2; docs/strategies.md).

A strategy is one class in one file. It sees no Request, and it never writes: it prepares changes,
so that a user and all his credentials become one transaction. The ones this server knows by name
are in `server.auth.strategies.registry`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from server.storage.base import Change, Storage

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What somebody who wants to log in has sent; `headers` have lower-case names, `address` is the
    client's.

    `certificate` is the DER of the one his own TLS connection has verified, None without;
    `intermediates` are those he sent along to lead to an authority, which may be anything. Header
    fields that a proxy sets may be believed with `is_from_proxy` only: one of
    `server.trustedProxies` sent this.

    With `is_from_foreign_page` a browser says that a page of another origin sends this, which may
    not use the session cookie either: what browsers add by themselves proves nothing then.

    `state` names the next step of this login, for a strategy that can `resume`: whoever is sent
    elsewhere must bring it back as the argument `state`.
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
    """He is this user, as long as `guards` hold: what proved it may change before his token is
    stored.

    They are made in the transaction that stores it, all or nothing, so changes of credentials that
    a login brings about, like a counter, may be among them.
    """

    kuid: str
    guards: tuple[Change, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """He has proved who he is, and nobody has such credentials yet: he becomes a user.

    `credentials` are what `create` of the strategy takes, and `identifier` is the id of the row
    that it enters: where somebody was faster, the owner of that row logs in.
    """

    identifier: str
    credentials: Mapping[str, object] = field(repr=False)
    profile_ids: tuple[str, ...]
    content: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """These credentials, in the form that `create` and `update` take, are his own, as long as
    `guards` hold."""

    credentials: Mapping[str, object] = field(repr=False)
    guards: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """He has not proved who he is; `message` is what he is told. Where one entry goes by several
    names, `entry` is what identifies it, "" where none was found: failures count for it as well."""

    message: str
    entry: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Redirect:
    """He must go elsewhere first, and come back from there with the attempt's `state`; `kept` is
    what `resume` is given again then, as JSON knows it."""

    url: str = field(repr=False)
    status: int = 302
    kept: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """He must take a further step; `data` says which, and `kept` is what `resume` is given again.

    With `is_portable` whoever knows the state may take it, else only the same browser or socket: a
    page of another origin, and a program that keeps no cookies, could not finish over HTTP.
    """

    data: Mapping[str, object] = field(repr=False)
    kept: Mapping[str, object] = field(default_factory=dict, repr=False)
    is_portable: bool = False


Outcome = Authenticated | Newcomer | Refused | Redirect | Challenge
Proof = Proven | Refused | Redirect | Challenge


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to show the caller once `changes` are made; `left` is how many keys of this strategy he
    has then, where one of several is removed."""

    shown: dict[str, object] = field(repr=False)
    changes: list[Change] = field(repr=False)
    left: int = 0


class Strategy(Protocol):
    """One way to log in. `by` is the kuid of who asks for a change.

    Any of these may be there as well, and is looked for by name: `resume`, see `Resumes`, in which
    case `verify` may give a Redirect or a Challenge; `prove` and `resume_proof`, see `Proves`;
    `window_origins`, for logins that end in a browser: the origins whose windows may have the
    result; `takes_forms`, which is True where a provider's page may post what it says, and
    `state_field`, which names the field of such a form that holds the state, if not `state`;
    `asks_elsewhere`, which is True where its steps wait for another site, and hold nothing that can
    be guessed: those in progress are not counted as failed logins;
    `logs_in`, which is False where its credentials alone let nobody in; `get_info(kuid)`,
    `get_by_id(id)`, `search(query, sort, start, size)`, `refresh_token(kuid)`, `after_register()`,
    `delete_one(kuid, id)`, like `delete`: the end of one of several keys that a user may have;
    `validate_new(credentials, kuid, profile_ids)`: in the place of `validate` for a user who is not
    stored yet, where it matters which profiles he will have; and, not async,
    `account_of(attempt)`: the text that names the account somebody wants to log in to, as it was
    given, None where none is named. Failed logins are counted by it. `accounts_of(kuid)`: all such
    texts of a user, for known devices and to unlock him; without it, the ids of his rows in the
    store's credentials.
    """

    @property
    def name(self) -> str:
        """The name it is registered under unless the operator chooses another."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What its credentials consist of, for clients that draw forms."""

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Find out who it is. ApiError for a request that is wrong in itself."""

    async def exists(self, kuid: str) -> bool:
        """Tell whether this user has credentials here."""

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """Raise ApiError if these can't become, or with `is_update` change, the credentials of this
        user (None: of anybody)."""

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare a user's first credentials here, out of validated ones."""

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """Prepare changed credentials, out of validated ones."""

    async def delete(self, kuid: str) -> Prepared:
        """Prepare the end of a user's credentials. ApiError if he has none."""


@runtime_checkable
class Resumes(Protocol):
    """A strategy whose logins may take several steps."""

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """Go on with a login that was sent elsewhere or challenged; it is the one that was begun,
        by the same browser or socket, and comes here once."""


@runtime_checkable
class Proves(Protocol):
    """A strategy whose users prove that credentials are theirs before they get them: it is asked
    instead of being given what a user claims. An administrator's word is good enough."""

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Find out what credentials this user, who is logged in, can have."""

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Go on with a proof that was sent elsewhere or challenged; see `Resumes`."""


@runtime_checkable
class SecondFactor(Protocol):
    """A strategy that can be asked for after another one, where `security.mfa.factors` names it;
    `server.auth.login.mfa` does."""

    async def second_factor(self, kuid: str, state: str) -> Challenge | None:
        """Ask a user, who has shown a first factor, for what he has here; None if he has nothing.
        `state` names the step in which he gives it."""

    async def check_second_factor(
        self, kuid: str, attempt: LoginAttempt, kept: Mapping[str, object]
    ) -> Authenticated | Refused:
        """Take what this user was asked for; `kept` is the challenge's. He may try several times
        in one step: what makes his answer good for one token belongs into the guards."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a strategy may use of the server; `clock_ms` gives the time in ms since 1970, `login_ms`
    is how long a step of a login waits for the next one."""

    storage: Storage
    clock_ms: Callable[[], int]
    login_ms: float = 600_000


@dataclass(frozen=True, slots=True)
class Examined:
    """What settings come to, for the operator: `facts` to know, `lacking` to correct."""

    facts: tuple[str, ...]
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StrategyKind(Generic[S]):
    """What `use` in `[strategies.NAME]` names: how such a strategy is configured and made.

    `settings` is a frozen dataclass whose fields are declared with `server.core.settings.setting`.
    `make` is given the name, the filled settings and the parts; LocalError refuses to start. For
    `manykeys strategies` there may be `examine`, which is given the name, the settings and whether
    it may ask anybody, `offers`, which names what can be chosen, like providers, and `describe`,
    which gives what the other side wants to know of this one.
    """

    settings: type[S]
    make: Callable[[str, S, Parts], Strategy]
    examine: Callable[[str, S, bool], Examined] | None = None
    offers: Callable[[], list[str]] | None = None
    describe: Callable[[S], str] | None = None
