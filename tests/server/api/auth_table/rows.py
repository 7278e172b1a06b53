"""A row of the table: who asks for which action with what, and what comes; and how one is run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import jwt

from server.config.model import Config
from server.storage.rows import Row as Stored
from server.storage.rows import Table
from tests.support.clock import START_MS, Clock
from tests.support.server import TRANSPORTS, Envelope, Running, cheap_config, running

TYPED = ("query", "websocket")
"""The ways whose arguments have types; a HTTP route's are text."""
SOCKET = ("websocket",)
HTTP = ("http",)


@dataclass(frozen=True)
class Setting:
    """A server that rows run on."""

    config: Config = field(default_factory=cheap_config)
    is_open: bool = False


CLOSED = Setting()
OPEN = Setting(is_open=True)
"""Anonymous has every right: only the actions themselves refuse him."""


_SECURITY = cheap_config().security
_KEYS_MAY = replace(_SECURITY.api_key, credential_changes="all")
KEYS_MAY = Setting(cheap_config(security=replace(_SECURITY, api_key=_KEYS_MAY)))
"""API keys may change how their users log in."""


def token_setting(**values: object) -> Setting:
    """Give a setting with other values in `security.authToken`."""
    config = cheap_config()
    security = replace(config.security, auth_token=replace(config.security.auth_token, **values))
    return Setting(replace(config, security=security))


@dataclass
class World:
    """A server with what one row needs on it, each thing made when it is first asked for."""

    server: Running
    clock: Clock
    _made: dict["Maker", object] = field(default_factory=dict)

    async def get(self, value: object) -> object:
        """Give a value in which every maker is replaced by what it makes."""
        if callable(value):
            if value not in self._made:
                self._made[value] = await value(self)
            return self._made[value]
        if isinstance(value, Mapping):
            return {name: await self.get(member) for name, member in value.items()}
        if isinstance(value, list):
            return [await self.get(member) for member in value]
        return value

    async def ask(
        self,
        way: str,
        action: str,
        token: object = None,
        body: object = None,
        args: Mapping[str, object] | None = None,
    ) -> Envelope:
        """Ask for an action of `auth`. On `/_query` the token stands in the payload: the header is
        shown by the routes."""
        sent = dict(args or {})
        if way == "query" and token is not None:
            sent["jwt"], token = token, None
        return await self.server.call(way, f"auth:{action}", token=token, body=body, **sent)

    async def is_good(self, way: str, token: object) -> bool:
        """Tell whether a token still stands for somebody."""
        return (await self.ask(way, "getCurrentUser", token))["status"] == 200

    async def kept(self) -> list[list[Stored]]:
        """Give what the store has of users, besides their sessions."""
        storage = self.server.app.services.storage
        tables = (Table.USERS, Table.USER_PROFILES, Table.CREDENTIALS, Table.API_KEYS)
        return [await storage.find(table, limit=100) for table in tables]


Maker = Callable[[World], Awaitable[object]]
"""Makes what a row needs; the rows name it in the place of what it makes."""


class Expected(Protocol):
    """What comes of a row."""

    def check(self, answer: Envelope) -> None:
        """Compare an answer with it."""


@dataclass(frozen=True)
class Refusal:
    """An error of docs/api/errors.md, with what it names; without an id, one of the plain ones."""

    id: str | None
    code: int | None
    status: int
    props: tuple[object, ...] = ()

    def of(self, *props: object) -> "Refusal":
        """Give this error about something."""
        return replace(self, props=props)

    def check(self, answer: Envelope) -> None:
        """See `Expected`."""
        told = answer["error"]
        assert told is not None, answer
        if self.id is None:
            assert (list(told), told["status"]) == (["message", "status"], self.status)
        else:
            seen = {name: told.get(name) for name in ("id", "code", "status", "props")}
            assert seen == {
                "id": self.id,
                "code": self.code,
                "status": self.status,
                "props": list(self.props),
            }
            assert told["message"]
        assert (answer["status"], answer["result"]) == (self.status, None)


@dataclass(frozen=True)
class Gives:
    """A result, with its members in this order."""

    result: object
    status: int = 200

    def check(self, answer: Envelope) -> None:
        """See `Expected`."""
        assert (answer["status"], answer["error"]) == (self.status, None)
        assert answer["result"] == self.result
        _check_order(answer["result"], self.result)


def _check_order(seen: object, expected: object) -> None:
    """See that equal values have their members in the same order, as far as they are spelled
    out."""
    if isinstance(expected, Mapping) and isinstance(seen, Mapping):
        assert list(seen) == list(expected)
        for name, member in expected.items():
            _check_order(seen[name], member)
    elif isinstance(expected, list) and isinstance(seen, list):
        for one, other in zip(seen, expected, strict=True):
            _check_order(one, other)


class Such:
    """Stands in an expected result for any value of which something holds."""

    def __init__(self, text: str, holds: Callable[[object], bool]) -> None:
        self._text = text
        self._holds = holds

    def __eq__(self, other: object) -> bool:
        return self._holds(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._text}>"


ANYTHING = Such("anything", lambda value: True)
TEXT = Such("some text", lambda value: isinstance(value, str) and value != "")


def token_of(kuid: str, ttl_ms: int = 3_600_000, prefix: str = "") -> Such:
    """Give what a new token is like: docs/api/auth.md#token-format, with the random claim of
    docs/api/differences.md#claims."""

    def holds(value: object) -> bool:
        assert isinstance(value, str) and value.startswith(f"{prefix}eyJ")
        claims = jwt.decode(value.removeprefix(prefix), options={"verify_signature": False})
        expected = {"_id": kuid, "iat": START_MS // 1000}
        if ttl_ms != -1:
            expected["exp"] = START_MS // 1000 + ttl_ms // 1000
        assert list(claims) == [*expected, "jti"]
        return {name: claims[name] for name in expected} == expected

    return Such(f"token of {kuid} for {ttl_ms} ms", holds)


@dataclass(frozen=True)
class Row:
    """One line of the table. `by` makes the token of who asks, `before` runs first; afterwards the
    tokens in `ends` are worth nothing and those in `lives` still are."""

    line: str
    action: str
    by: Maker | None
    comes: Expected
    args: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    before: tuple[Maker, ...] = ()
    ends: tuple[Maker, ...] = ()
    lives: tuple[Maker, ...] = ()
    ways: tuple[str, ...] = TRANSPORTS
    on: Setting = CLOSED


@asynccontextmanager
async def opened(setting: Setting, clock: Clock) -> AsyncIterator[World]:
    """Run a server for one row."""
    async with running(setting.config, open_mode=setting.is_open) as server:
        yield World(server, clock)


async def drive(row: Row, way: str, clock: Clock) -> None:
    """Run a row over one way, and see that all comes as it says."""
    async with opened(row.on, clock) as world:
        await prepare(world, row)
        token, body = await world.get(row.by), await world.get(row.body)
        args = cast("dict[str, object]", await world.get(row.args))
        kept = await world.kept()
        answer = await world.ask(way, row.action, token, body, args)
        assert (answer["controller"], answer["action"]) == ("auth", row.action)
        row.comes.check(answer)
        if answer["error"] is not None:
            assert await world.kept() == kept, "a refusal changes nothing"
        for maker in row.ends:
            assert not await world.is_good(way, await world.get(maker)), maker.__doc__
        for maker in row.lives:
            assert await world.is_good(way, await world.get(maker)), maker.__doc__


async def drive_route(row: Row, route: str, clock: Clock) -> None:
    """Run a row over one of its routes, written "VERB /path/:param"."""
    verb, _, path = route.partition(" ")
    async with opened(row.on, clock) as world:
        await prepare(world, row)
        for name, value in row.args.items():
            path = path.replace(f":{name}", str(value))
        token, http = cast("str | None", await world.get(row.by)), await world.server.connect()
        answer = await http.ask(verb, path, await world.get(row.body), token=token)
        assert (answer.json["controller"], answer.json["action"]) == ("auth", row.action)
        row.comes.check(answer.json)


async def prepare(world: World, row: Row) -> None:
    """Make what a row starts from."""
    for maker in (*row.before, *row.ends, *row.lives):
        await world.get(maker)
