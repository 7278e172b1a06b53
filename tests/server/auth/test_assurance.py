"""Every way to administrate, to change how users log in, or to create keys, tried with tokens of
each assurance (security check F2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from server.api.actions import all_actions, find, is_reading
from server.auth.assurance import STEP_UP, Assurance, Principal, TokenKind
from server.auth.identity.user import User
from server.auth.passwords.policies import NO_USERS
from server.config.model import Config
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.sample_strategy import Badge
from tests.support.server import PASSWORD, Running, running
from tests.support.totp import mfa_config

HOUR_MS = 3_600_000
NEW = "battery staple"
RESET = "kuzzle-plugin-auth-passport-local/password"
SECOND_FACTOR, RECENT, KEY = (
    f"security.rights.{name}"
    for name in ("second_factor_required", "recent_login_required", "api_key_forbidden")
)
PASSES = "passes"
BOTH = ("query", "websocket")
TOKENS = ("fresh session", "old session", "single-use token", "API key", "session by key")


@dataclass(frozen=True)
class Way:
    """One request by an administrator. In `args` and `body`, "$me" and "$you" stand for their own
    id and another user's, "$new" for an id nobody has; `about` says what is changed:

    own method, method of another user, own key, key of another user, profiles, or None for what
    needs no recent login. `is_factor`: the method is a second factor.
    """

    name: str
    about: str | None = None
    args: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    is_factor: bool = False


def credentials(name: str, about: str, whom: str | None, strategy: str, body: object) -> Way:
    """Return a way to change credentials of a strategy."""
    args = {"strategy": strategy} | ({} if whom is None else {"_id": whom})
    return Way(name, about, args, body, strategy == "factor")


OWN, OTHER, OWN_KEY, OTHER_KEY, PROFILES = (
    *("own method", "method of another user", "own key", "key of another user"),
    "profiles",
)
_NUMBER, _PASSWORD = {"number": "$new"}, {"password": NEW}
_ROLE = {"controllers": {"auth": {"actions": {"login": True}}}}
_PROFILE = {"policies": [{"roleId": "default"}]}
_KEY = {"description": "x"}
_CONTENT = {"profileIds": ["default", "admin"]}
WAYS = [
    credentials("auth:createMyCredentials", OWN, None, "spare", _NUMBER),
    credentials("auth:createMyCredentials", OWN, None, "factor", _NUMBER),
    credentials("auth:updateMyCredentials", OWN, None, "local", _PASSWORD),
    credentials("auth:deleteMyCredentials", OWN, None, "badge", None),
    credentials("security:createCredentials", OWN, "$me", "spare", _NUMBER),
    credentials("security:createCredentials", OWN, "$me", "factor", _NUMBER),
    credentials("security:createCredentials", OTHER, "$you", "spare", _NUMBER),
    credentials("security:createCredentials", OTHER, "$you", "factor", _NUMBER),
    credentials("security:updateCredentials", OWN, "$me", "local", _PASSWORD),
    credentials("security:updateCredentials", OTHER, "$you", "local", _PASSWORD),
    credentials("security:deleteCredentials", OWN, "$me", "badge", None),
    credentials("security:deleteCredentials", OTHER, "$you", "badge", None),
    Way(f"{RESET}:getResetPasswordToken", OWN, {"_id": "$me"}),
    Way(f"{RESET}:getResetPasswordToken", OTHER, {"_id": "$you"}),
    Way("auth:createApiKey", OWN_KEY, {}, _KEY),
    Way("security:createApiKey", OWN_KEY, {"userId": "$me"}, _KEY),
    Way("security:createApiKey", OTHER_KEY, {"userId": "$you"}, _KEY),
    Way("security:createUser", PROFILES, {"_id": "$new"}, {"content": _CONTENT}),
    Way("security:updateUser", PROFILES, {"_id": "$you"}, _CONTENT),
    Way("security:updateUser", PROFILES, {"_id": "$me"}, _CONTENT),
    Way("security:replaceUser", PROFILES, {"_id": "$you"}, _CONTENT),
    Way("security:upsertUser", PROFILES, {"_id": "$you"}, {"content": _CONTENT}),
    Way("security:upsertUser", PROFILES, {"_id": "$new"}, {"content": _CONTENT}),
    Way("security:updateUser", None, {"_id": "$you"}, {"name": "x"}),
    Way("security:createRestrictedUser", None, {"_id": "$new"}, {}),
    Way("security:deleteUser", None, {"_id": "$you"}),
    Way("security:mDeleteUsers", None, {}, {"ids": ["$you"]}),
    Way("security:disableUser", None, {"_id": "$you"}),
    Way("security:enableUser", None, {"_id": "$you"}),
    Way("security:unlockUser", None, {"_id": "$you"}),
    Way("security:deleteUserSession", None, {"_id": "$you", "sessionId": "none"}),
    Way("security:deleteApiKey", None, {"userId": "$you", "_id": "none"}),
    Way("security:revokeTokens", None, {"_id": "$you"}),
    Way("security:revokeAllTokens"),
    Way("security:createRole", PROFILES, {"_id": "$new"}, _ROLE),
    Way("security:createOrReplaceRole", PROFILES, {"_id": "$new"}, _ROLE),
    Way("security:updateRole", PROFILES, {"_id": "$new"}, _ROLE),
    Way("security:deleteRole", PROFILES, {"_id": "$new"}),
    Way("security:mDeleteRoles", PROFILES, {}, {"ids": ["$new"]}),
    Way("security:restrictDefaultRights", PROFILES),
    Way("security:createProfile", PROFILES, {"_id": "$new"}, _PROFILE),
    Way("security:createOrReplaceProfile", PROFILES, {"_id": "$new"}, _PROFILE),
    Way("security:updateProfile", PROFILES, {"_id": "$new"}, _PROFILE),
    Way("security:deleteProfile", PROFILES, {"_id": "$new"}),
    Way("security:mDeleteProfiles", PROFILES, {}, {"ids": ["$new"]}),
    Way("security:updateUserMapping", None, {}, {}),
    Way("security:updateProfileMapping", None, {}, {}),
    Way("security:updateRoleMapping", None, {}, {}),
    Way("security:refresh", None, {"collection": "users"}),
    Way("security:createFirstAdmin", None, {}, {}),
    Way("auth:deleteApiKey", None, {"_id": "none"}),
    Way("auth:deleteMySession", None, {"_id": "none"}),
    Way("auth:updateSelf", None, {}, {"name": "x"}),
    Way("auth:login", None, {"strategy": "badge"}),
    Way("auth:logout"),
    Way("auth:createToken"),
    Way("auth:refreshToken"),
    Way(f"{RESET}:reset", None, {}, {"token": "none", "password": NEW}),
]


class Factor(Badge):
    """A badge that counts as a second factor, where somebody has one."""

    async def second_factor(self, kuid: str, state: str) -> None:
        """See `SecondFactor`."""

    async def check_second_factor(self, kuid: str, attempt: object, kept: object) -> None:
        """See `SecondFactor`."""


def test_every_action_that_changes_something_is_classified() -> None:
    """A new action is added to `WAYS`, with what it changes."""
    changing = {one.full_name for one in all_actions() if not is_reading(one.name)}
    changing -= {"auth:searchApiKeys"}
    assert {way.name for way in WAYS} == changing


@dataclass
class House:
    """A server where administrators must have a second factor."""

    server: Running
    clock: Clock
    numbers: int = 0

    async def admit(self) -> User:
        """Create an administrator with a password and a badge, and return them."""
        self.numbers += 1
        kuid = f"u{self.numbers}"
        return await self.server.app.services.users.create(
            kuid=kuid,
            kind="",
            profile_ids=["admin"],
            content={},
            credentials={
                "local": {"username": kuid, "password": PASSWORD},
                "badge": {"number": kuid},
            },
            author="-1",
        )

    async def token(self, kind: str, user: User, *methods: str) -> str:
        """Return a token of this kind; `methods` are what the user proved, a password and a factor
        unless said otherwise."""
        services = self.server.app.services
        now_ms, amr = self.clock.now_ms, methods or ("local", "factor")
        began_ms = now_ms - (HOUR_MS if kind == "old session" else 0)
        assurance = Assurance(amr, began_ms)
        if kind == "API key":
            by = Principal(user.kuid, TokenKind.SESSION, assurance)
            made = await services.api_keys.create(user, "x", -1, None, by)
            return str(made["_source"]["token"])
        if kind == "session by key":
            assurance = assurance.derived(by_key=True)
        elif kind == "single-use token":
            assurance = assurance.derived(by_key=False)
        is_once = kind == "single-use token"
        ttl_ms = 2 * HOUR_MS
        issued = await services.issuer.issue(user, ttl_ms, assurance=assurance, single_use=is_once)
        return issued.token

    async def ask(self, transport: str, way: Way, kind: str, *methods: str) -> str:
        """Make the request of a way with a token of an own user, and return what comes of it."""
        me, you = await self.admit(), await self.admit()
        names = {"$me": me.kuid, "$you": you.kuid, "$new": f"new-{me.kuid}"}
        args = {key: names.get(str(value), value) for key, value in way.args.items()}
        token = await self.token(kind, me, *methods)
        answer = await self.server.call(
            transport, way.name, token=token, body=_filled(way.body, names), **args
        )
        if answer["status"] == 403:
            return str(answer["error"]["id"])
        if way.about is not None:  # roles and profiles that are not there would be 404
            assert answer["status"] in (200, 206, 404), (way, answer)
        return PASSES


def _filled(value: object, names: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def with_key_setting(config: Config, allowed: str) -> Config:
    """Return a configuration where API keys may change authentication methods of `allowed`."""
    security = config.security
    api_key = replace(security.api_key, credential_changes=allowed)
    return replace(config, security=replace(security, api_key=api_key))


async def open_house(server: Running, clock: Clock) -> House:
    """Add a strategy, a spare one and a second factor."""
    services = server.app.services
    for name, kind in (("badge", Badge), ("spare", Badge), ("factor", Factor)):
        strategy = kind(services.storage)
        strategy.name = name
        await services.strategies.add(name, strategy)
    policy = replace(services.step_up.policy, factors=("factor",))
    services.step_up.policy = policy
    return House(server, clock)


def expected(way: Way, kind: str, *, covers_all: bool, keys_may: str) -> str:
    """Return what the rules say, for a token proved with a second factor."""
    if kind == "single-use token" and (way.about is not None or way.name == "auth:createToken"):
        return "security.rights.forbidden"  # security check F5
    needs_recent = way.about is not None and (covers_all or way.is_factor)
    if kind in ("API key", "session by key"):
        if way.about in (OWN, OWN_KEY) or (way.about is PROFILES and way.args.get("_id") == "$me"):
            is_asked = needs_recent or way.about is not PROFILES
            return KEY if is_asked and keys_may != "all" else PASSES
        return KEY if needs_recent and keys_may == "none" else PASSES
    return RECENT if needs_recent and kind != "fresh session" else PASSES


@pytest.mark.parametrize("transport", BOTH)
@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize(
    ("recent_login_ms", "keys_may"),
    [(None, "none"), (900_000, "none"), (900_000, "others"), (900_000, "all")],
)
async def test_each_way_asks_for_the_assurance_it_needs(
    clock: Clock, transport: str, kind: str, recent_login_ms: int | None, keys_may: str
) -> None:
    """A15: the same answer whichever action makes the change."""
    config = mfa_config(
        required_for={"profiles": ["admin"]}, factors=("totp",), recent_login_ms=recent_login_ms
    )
    async with running(with_key_setting(config, keys_may)) as server:
        house = await open_house(server, clock)
        covers_all = recent_login_ms is not None
        for way in WAYS:
            rule = expected(way, kind, covers_all=covers_all, keys_may=keys_may)
            assert await house.ask(transport, way, kind) == rule, way


@pytest.mark.parametrize("transport", BOTH)
@pytest.mark.parametrize("kind", TOKENS)
async def test_a_token_without_the_factor_may_only_step_up(
    clock: Clock, transport: str, kind: str
) -> None:
    """F3: of all actions there are, those to find out, to log in again, and to log out."""
    config = mfa_config(required_for={"profiles": ["admin"]})
    async with running(config) as server:
        house = await open_house(server, clock)
        for action in all_actions():
            names = (action.controller, action.name)
            me = await house.admit()
            if kind == "API key":
                token = await key_without_factor(house, me)
            else:
                token = await house.token(kind, me, "local")
            answer = await server.call(transport, action.full_name, token=token)
            if names in STEP_UP:
                assert answer["status"] != 403, answer
            else:
                assert told(answer, "id", "status") == {"id": SECOND_FACTOR, "status": 403}, names
                assert answer["error"]["reason"] == "secondFactor"
        token = await house.token("fresh session", await house.admit(), "local")
        rights = await server.call(transport, "auth:getMyRights", token=token)
        allowed = {(one["controller"], one["action"]) for one in rights["result"]["hits"]}
        assert allowed == STEP_UP


async def key_without_factor(house: House, user: User) -> str:
    """Return a key of a session without the factor, created before it was required."""
    step_up = house.server.app.services.step_up
    policy = step_up.policy
    step_up.policy = replace(policy, required_for=NO_USERS, keys_need_it=False)
    token = await house.token("API key", user, "local")
    step_up.policy = policy
    return token


def test_what_is_left_to_step_up_exists() -> None:
    """F3: none of it is misspelt."""
    assert all(find(*names) is not None for names in STEP_UP)
