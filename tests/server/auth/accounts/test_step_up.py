"""Second factors and recent logins where authentication methods change: what went around them
before (security checks A15, F2, F3)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.admin.operations import BY_OPERATOR
from server.app.application import operating
from server.auth.strategies.base import Parts
from server.config.model import Config
from server.storage.rows import Table
from tests.server.auth.accounts.test_linking import Desk
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import state_of
from tests.support.server import PASSWORD, Envelope, Running, Socket, cheap_config, running
from tests.support.totp import App, Person, mfa_config

TRANSPORTS = ("http", "websocket")
MINUTE_MS = 60_000
NEW = "battery staple"
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
RESET = "kuzzle-plugin-auth-passport-local/password"
SECOND_FACTOR = {"id": "security.rights.second_factor_required", "status": 403}
RECENT = {"id": "security.rights.recent_login_required", "status": 403}
BY_KEY = {"id": "security.rights.api_key_forbidden", "status": 403}


def refusal(answer: Envelope) -> object:
    """Return what an answer is refused with."""
    return told(answer, "id", "status")


def with_local(config: Config, **local: object) -> Config:
    """Return a configuration with these settings of the strategy `local`."""
    plugins = config.plugins
    return replace(config, plugins=replace(plugins, local=replace(plugins.local, **local)))


def strict_config(**sections: object) -> Config:
    """Return a configuration with `security.strict`."""
    config = cheap_config(**sections)
    return replace(config, security=replace(config.security, strict=True))


class House:
    """A server whose administrators need a second factor, its administrator "admin" with one, and
    Bob, an ordinary user."""

    def __init__(self, server: Running, clock: Clock) -> None:
        self.server = server
        self.clock = clock
        self.root, self.key, self.bob = "", "", ""
        self.app: App | None = None

    async def furnish(self) -> None:
        """Create the users, and an API key of the administrator."""
        body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
        await self.server.call("query", "security:createFirstAdmin", body=body, _id="admin")
        person = Person(self.server, "query")
        asked = await person.login("totp", state=state_of(await person.first("admin")))
        self.app = App(asked["result"]["challenge"]["uri"], self.clock)
        done = await person.login("totp", state=state_of(asked), code=self.app.code())
        self.root = done["result"]["jwt"]
        made = await self.server.call(
            "query", "auth:createApiKey", token=self.root, body={"description": "deploy"}
        )
        self.key = made["result"]["_source"]["token"]
        self.bob = await self.server.create_user(self.root, "bob")

    async def promote(self, kuid: str = "bob") -> None:
        """Give a user the profile `admin`."""
        body = {"profileIds": ["admin"]}
        made = await self.server.call(
            "query", "security:updateUser", token=self.root, _id=kuid, body=body
        )
        assert made["status"] == 200, made

    async def has_factor(self, kuid: str = "admin") -> bool:
        """Tell whether a user has codes."""
        storage = self.server.app.services.storage
        return await storage.exists(Table.CREDENTIALS, kuid=kuid, strategy="totp")

    async def password_logs_in(self, password: str) -> bool:
        """Tell whether this is the administrator's password."""
        person = Person(self.server, "query")
        answer = await person.login("local", username="admin", password=password)
        return answer["status"] == 200


@pytest.fixture
async def house(clock: Clock) -> AsyncIterator[House]:
    """As the settings were when the ways around were found."""
    mfa = mfa_config(required_for={"profiles": ["admin"]}, recent_login_ms=MINUTE_MS)
    async with running(with_local(mfa, require_password=True)) as server:
        made = House(server, clock)
        await made.furnish()
        yield made


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_session_older_than_its_users_profile_creates_no_administrator(
    house: House, transport: str
) -> None:
    """F3: nor is it refreshed; it may find out what it lacks."""
    await house.promote()
    args = {"token": house.bob, "_id": "eve", "body": {"content": {"profileIds": ["admin"]}}}
    answer = await house.server.call(transport, "security:createUser", **args)
    assert refusal(answer) == SECOND_FACTOR
    assert answer["error"]["reason"] == "secondFactor"
    assert await house.server.app.services.users.get("eve") is None
    refreshed = await house.server.call(transport, "auth:refreshToken", token=house.bob)
    assert refusal(refreshed) == SECOND_FACTOR
    me = await house.server.call(transport, "auth:getCurrentUser", token=house.bob)
    assert me["result"]["_source"]["profileIds"] == ["admin"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_session_older_than_its_users_profile_gets_no_key_by_either_action(
    house: House, transport: str
) -> None:
    """F2: `security:createApiKey` for oneself is no other way than `auth:createApiKey`."""
    await house.promote()
    for name, args in (("auth:createApiKey", {}), ("security:createApiKey", {"userId": "bob"})):
        body = {"description": "x"}
        answer = await house.server.call(transport, name, token=house.bob, body=body, **args)
        assert refusal(answer) == SECOND_FACTOR
    assert not await house.server.app.services.storage.exists(Table.API_KEYS, kuid="bob")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_session_older_than_its_users_profile_removes_no_factor(
    house: House, transport: str
) -> None:
    """F2: that of another administrator."""
    await house.promote()
    args = {"token": house.bob, "strategy": "totp", "_id": "admin"}
    answer = await house.server.call(transport, "security:deleteCredentials", **args)
    assert refusal(answer) == SECOND_FACTOR
    assert await house.has_factor()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_api_key_removes_no_factor(house: House, transport: str) -> None:
    """F2, A15: where the session's login is too long ago, its user's key is no way around."""
    house.clock.now_ms += MINUTE_MS + 1
    own = {"token": house.root, "strategy": "totp"}
    assert refusal(await house.server.call(transport, "auth:deleteMyCredentials", **own)) == RECENT
    args = {"strategy": "totp", "_id": "admin"}
    for token, expected in ((house.root, RECENT), (house.key, BY_KEY)):
        answer = await house.server.call(
            transport, "security:deleteCredentials", token=token, **args
        )
        assert refusal(answer) == expected
    assert await house.has_factor()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_api_key_changes_no_password(house: House, transport: str) -> None:
    """F2, P9: and a session changes its own user's with the present one only, by either action."""
    args = {"strategy": "local", "_id": "admin"}
    name = "security:updateCredentials"
    body = {"password": NEW}
    answer = await house.server.call(transport, name, token=house.key, body=body, **args)
    assert refusal(answer) == BY_KEY
    answer = await house.server.call(transport, name, token=house.root, body=body, **args)
    assert answer["status"] == 400
    assert "currentPassword" in answer["error"]["message"]
    wrong = {**body, "currentPassword": "wrong"}
    answer = await house.server.call(transport, name, token=house.root, body=wrong, **args)
    assert answer["status"] == 403
    assert await house.password_logs_in(PASSWORD)
    right = {**body, "currentPassword": PASSWORD}
    answer = await house.server.call(transport, name, token=house.root, body=right, **args)
    assert answer["status"] == 200, answer
    assert await house.password_logs_in(NEW)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_api_key_adds_no_factor(house: House, transport: str) -> None:
    """F2: a seed of a thief's, after which both factors would be theirs."""
    args = {"strategy": "totp", "_id": "bob", "body": {"secret": SEED}}
    for token, expected in ((house.key, BY_KEY), (house.root, None)):
        answer = await house.server.call(
            transport, "security:createCredentials", token=token, **args
        )
        assert (None if answer["status"] == 200 else refusal(answer)) == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_reset_token_needs_what_a_new_password_needs(house: House, transport: str) -> None:
    """F2, A13: whoever has it sets the password; for oneself the present one is asked for."""
    name = f"{RESET}:getResetPasswordToken"
    assert refusal(await house.server.call(transport, name, token=house.key, _id="bob")) == BY_KEY
    own = await house.server.call(transport, name, token=house.root, _id="admin")
    assert own["status"] == 400
    assert (await house.server.call(transport, name, token=house.root, _id="bob"))["status"] == 200
    house.clock.now_ms += MINUTE_MS + 1
    assert refusal(await house.server.call(transport, name, token=house.root, _id="bob")) == RECENT


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_was_kept_of_a_session_ends_when_a_factor_is_required(
    house: House, transport: str
) -> None:
    """F3, S9: permitted actions and kept answers of a socket that goes on, too."""
    rights = {
        "controllers": {"security": {"actions": {"*": True}}, "auth": {"actions": {"*": True}}}
    }
    await house.server.call("query", "security:createRole", token=house.root, _id="r", body=rights)
    policies = {"policies": [{"roleId": "r"}]}
    for name in ("staff", "free"):
        await house.server.call(
            "query", "security:createProfile", token=house.root, _id=name, body=policies
        )
    await house.server.app.services.user_changes.update("bob", {}, BY_OPERATOR, ["free"])
    asked = ("auth:getMyRights", "auth:getCurrentUser", "security:searchUsers")
    for _ in range(2):
        for name in asked:
            answer = await house.server.call(transport, name, token=house.bob)
            assert answer["status"] == 200
    await house.promote()
    listed = await house.server.call(transport, "auth:getMyRights", token=house.bob)
    assert {one["controller"] for one in listed["result"]["hits"]} == {"auth"}
    me = await house.server.call(transport, "auth:getCurrentUser", token=house.bob)
    assert me["result"]["_source"]["profileIds"] == ["admin"]
    for _ in range(2):
        answer = await house.server.call(transport, "security:searchUsers", token=house.bob)
        assert refusal(answer) == SECOND_FACTOR
    await house.server.app.services.user_changes.update("bob", {}, BY_OPERATOR, ["free"])
    answer = await house.server.call(transport, "security:searchUsers", token=house.bob)
    assert answer["status"] == 200


async def test_session_that_logs_in_again_with_a_factor_has_its_rights(house: House) -> None:
    """F3: by the login, or by adding the factor first; the old session stays as it is."""
    await house.promote()
    person = Person(house.server, "websocket")
    app, _ = await person.enrol(house.bob, house.clock)
    args = {"token": house.bob, "strategy": "totp", "body": {}}
    again = await house.server.call("query", "auth:createMyCredentials", **args)
    assert refusal(again) == SECOND_FACTOR  # a password alone adds no further factor
    answer = await house.server.call("query", "security:searchUsers", token=house.bob)
    assert refusal(answer) == SECOND_FACTOR
    state = state_of(await person.first("bob"))
    done = await person.login("totp", state=state, code=app.next_code())
    token = done["result"]["jwt"]
    answer = await house.server.call("query", "security:searchUsers", token=token)
    assert answer["status"] == 200
    refreshed = await house.server.call("query", "auth:refreshToken", token=token)
    token = refreshed["result"]["jwt"]
    answer = await house.server.call("query", "security:searchUsers", token=token)
    assert answer["status"] == 200
    listed = await house.server.call("query", "auth:getMySessions", token=token)
    (own,) = [one["_source"] for one in listed["result"]["hits"] if one["_source"]["current"]]
    assert own["amr"] == ["local", "totp"]
    assert own["authenticatedAt"] == house.clock.now_ms


@pytest.mark.parametrize("name", ["auth:createMyCredentials", "security:createCredentials"])
async def test_session_without_the_factor_adds_no_other_method(house: House, name: str) -> None:
    """F3: what may be added to step up is a second factor."""
    await house.promote()
    services = house.server.app.services
    await services.strategies.add("desk", Desk("desk", Parts(services.storage, services.clock_ms)))
    args = {"token": house.bob, "strategy": "desk", "_id": "bob", "body": {"name": "card"}}
    assert refusal(await house.server.call("query", name, **args)) == SECOND_FACTOR


async def test_requirement_by_role_holds_when_the_profile_gets_the_role(clock: Clock) -> None:
    """F3, S9."""
    async with running(mfa_config(required_for={"roles": ["careful"]})) as server:
        admin = await server.create_admin()
        rights = {"controllers": {"security": {"actions": {"*": True}}}}
        call = {"token": admin, "_id": "careful", "body": rights}
        await server.call("query", "security:createRole", **call)
        profile = {"token": admin, "_id": "staff", "body": {"policies": [{"roleId": "default"}]}}
        await server.call("query", "security:createProfile", **profile)
        ann = await server.create_user(admin, "ann", "staff")
        assert (await server.call("query", "auth:getMySessions", token=ann))["status"] == 200
        policies = [{"roleId": "default"}, {"roleId": "careful"}]
        profile["body"] = {"policies": policies}
        await server.call("query", "security:updateProfile", **profile)
        for name in ("auth:getMySessions", "security:searchUsers"):
            answer = await server.call("query", name, token=ann)
            assert refusal(answer) == SECOND_FACTOR
        assert (await server.call("query", "auth:getCurrentUser", token=ann))["status"] == 200


async def test_requirement_holds_for_older_sessions_and_keys_after_a_restart(
    clock: Clock, tmp_path: Path
) -> None:
    """F3: when the configuration begins to require a factor; keys are free where it says so."""
    data = str(tmp_path / "keys.db")
    async with running(mfa_config(), data=data) as server:
        admin = await server.create_admin()
        made = await server.call(
            "query", "auth:createApiKey", token=admin, body={"description": "x"}
        )
        key = made["result"]["_source"]["token"]
    whom = {"profiles": ["admin"]}
    for api_keys, of_key in (("require", 403), ("exempt", 200)):
        async with running(mfa_config(required_for=whom, api_keys=api_keys), data=data) as server:
            for token, status in ((admin, 403), (key, of_key)):
                answer = await server.call("query", "security:searchUsers", token=token)
                assert answer["status"] == status, answer


async def test_requirement_holds_when_an_operator_gives_the_profile(
    clock: Clock, tmp_path: Path
) -> None:
    """F3: by a command beside the server."""
    data = str(tmp_path / "keys.db")
    config = mfa_config(required_for={"profiles": ["admin"]})
    config = replace(config, server=replace(config.server, data=data))
    async with running(config, data=data) as server:
        ann = await server.app.services.users.create(
            kuid="ann",
            kind="",
            profile_ids=["default"],
            content={},
            credentials={"local": {"username": "ann", "password": PASSWORD}},
            author="-1",
        )
        token = await server.login(ann.kuid)
        assert (await server.call("query", "auth:getMySessions", token=token))["status"] == 200
        async with operating(config) as operations:
            change = operations.user_changes.update("ann", {}, BY_OPERATOR, ["admin"])
            await operations.change("user update", "ann", change)
        answer = await server.call("query", "auth:getMySessions", token=token)
        assert refusal(answer) == SECOND_FACTOR


class StrictDesk:
    """A strict server with a strategy whose credentials are proved, and Ann."""

    def __init__(self, server: Running, clock: Clock) -> None:
        self.server, self.clock = server, clock
        self.admin, self.ann = "", ""

    async def begin(self, socket: Socket, **body: object) -> Envelope:
        """Begin to link, where a provider is to be asked."""
        payload = {"controller": "auth", "action": "createMyCredentials", "strategy": "desk"}
        return await socket.ask(
            {**payload, "jwt": self.ann, "body": {"name": "card", "away": True, **body}}
        )

    async def finish(self, socket: Socket, begun: Envelope) -> Envelope:
        """Come back from the provider, without a token."""
        state = begun["result"]["headers"]["Location"].partition("state=")[2]
        payload = {"controller": "auth", "action": "login", "strategy": "desk"}
        return await socket.ask({**payload, "state": state, "word": "really"})


@pytest.fixture
async def strict(clock: Clock) -> AsyncIterator[StrictDesk]:
    """A strict server."""
    async with running(strict_config()) as server:
        services = server.app.services
        parts = Parts(services.storage, services.clock_ms)
        await services.strategies.add("desk", Desk("desk", parts))
        made = StrictDesk(server, clock)
        made.admin = await server.create_admin()
        made.ann = await server.create_user(made.admin, "ann")
        yield made


async def test_stolen_session_adds_no_method_of_its_own_in_strict_mode(strict: StrictDesk) -> None:
    """A15: however often it was refreshed; the present password is as good as a recent login."""
    strict.clock.now_ms += 16 * MINUTE_MS
    refreshed = await strict.server.call("query", "auth:refreshToken", token=strict.ann)
    strict.ann = refreshed["result"]["jwt"]
    socket = await strict.server.open_socket()
    answer = await strict.begin(socket)
    assert refusal(answer) == RECENT
    assert answer["error"]["reason"] == "recentLogin"
    wrong = await strict.begin(socket, currentPassword="wrong")  # noqa: S106 (not the password)
    assert wrong["status"] == 403
    begun = await strict.begin(socket, currentPassword=PASSWORD)
    strict.clock.now_ms += MINUTE_MS
    assert (await strict.finish(socket, begun))["status"] == 200
    removal = {"token": strict.ann, "strategy": "desk"}
    answer = await strict.server.call("query", "auth:deleteMyCredentials", **removal)
    assert refusal(answer) == RECENT
    answer = await strict.server.call(
        "query", "auth:deleteMyCredentials", password=PASSWORD, **removal
    )
    assert answer["status"] == 200


async def test_wrong_present_passwords_are_throttled_as_logins_are(strict: StrictDesk) -> None:
    """A8: a stolen session is no place to guess the password."""
    strict.clock.now_ms += 16 * MINUTE_MS
    socket, statuses = await strict.server.open_socket(), []
    while 429 not in statuses:
        answer = await strict.begin(socket, currentPassword="wrong")  # noqa: S106 (a guess)
        statuses.append(answer["status"])
        assert len(statuses) < 100
    assert set(statuses) == {403, 429}


async def test_linking_is_completed_with_the_assurance_it_was_begun_with(
    strict: StrictDesk,
) -> None:
    """A15, O1: a provider may take a while, in which the login gets too old."""
    strict.clock.now_ms += 14 * MINUTE_MS
    socket = await strict.server.open_socket()
    begun = await strict.begin(socket)
    strict.clock.now_ms += 2 * MINUTE_MS
    assert refusal(await strict.begin(socket)) == RECENT
    assert (await strict.finish(socket, begun))["status"] == 200


async def test_linking_ends_when_a_factor_is_required_meanwhile(house: House) -> None:
    """F3: what a session has begun before, its provider completes no more."""
    services = house.server.app.services
    await services.strategies.add("desk", Desk("desk", Parts(services.storage, services.clock_ms)))
    desk = StrictDesk(house.server, house.clock)
    desk.ann = house.bob
    socket = await house.server.open_socket()
    begun = await desk.begin(socket)
    await house.promote()
    assert refusal(await desk.finish(socket, begun)) == SECOND_FACTOR
    assert not await services.storage.exists(Table.CREDENTIALS, strategy="desk")


async def test_present_password_is_not_enough_where_a_login_asks_for_more(clock: Clock) -> None:
    """A15: neither to remove a factor, nor to add a method for a user who has one."""
    config = mfa_config(recent_login_ms=15 * MINUTE_MS)
    async with running(config) as server:
        admin = await server.create_admin()
        ann = await server.create_user(admin, "ann")
        await Person(server, "websocket").enrol(ann, clock)
        clock.now_ms += 16 * MINUTE_MS
        for strategy in ("totp", "local"):
            answer = await server.call(
                "query",
                "auth:deleteMyCredentials",
                token=ann,
                strategy=strategy,
                password=PASSWORD,
            )
            assert refusal(answer) == RECENT


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_revoking_the_other_sessions_names_what_stays(
    strict: StrictDesk, transport: str
) -> None:
    """S3: the user sees the methods and keys that a thief may have added."""
    socket = await strict.server.open_socket()
    assert (await strict.finish(socket, await strict.begin(socket)))["status"] == 200
    made = {"token": strict.admin, "userId": "ann", "body": {"description": "x"}}
    assert (await strict.server.call("query", "security:createApiKey", **made))["status"] == 200
    body = {"password": NEW, "currentPassword": PASSWORD}
    answer = await strict.server.call(
        transport,
        "auth:updateMyCredentials",
        token=strict.ann,
        strategy="local",
        body=body,
        revokeTokens=True,
    )
    assert answer["result"] == {
        "username": "ann",
        "kuid": "ann",
        "strategies": ["local", "desk"],
        "apiKeys": 1,
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_anonymous_clients_keep_their_rights_where_all_users_need_a_factor(
    clock: Clock, transport: str
) -> None:
    async with running(mfa_config(required_for="*")) as server:
        answer = await server.call(transport, "server:publicApi")
        assert answer["status"] == 200


async def test_open_server_asks_for_no_assurance(clock: Clock) -> None:
    """There everyone may do everything, without a token, too."""
    config = mfa_config(required_for="*", recent_login_ms=1000)
    async with running(config, open_mode=True) as server:
        body = {"content": {"profileIds": ["admin"]}}
        made = await server.call("query", "security:createUser", _id="ann", body=body)
        assert made["status"] == 200
        args = {"strategy": "totp", "_id": "ann", "body": {"secret": SEED}}
        answer = await server.call("query", "security:createCredentials", **args)
        assert answer["status"] == 200, answer
