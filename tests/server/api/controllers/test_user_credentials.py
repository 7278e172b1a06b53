"""An administrator and the credentials of others, over every transport
(docs/api/security.md#credential-actions, docs/api/strategies.md#local-errors)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.storage.base import Delete
from server.storage.rows import Table
from tests.server.auth.accounts.test_credentials import status_of_login
from tests.support.errors import told
from tests.support.sample_strategy import Badge
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

NEW = "battery staple"
CREATE, UPDATE = "security:createCredentials", "security:updateCredentials"
VALIDATE, DELETE = "security:validateCredentials", "security:deleteCredentials"
HAS, GET, BY_ID = (
    "security:hasCredentials",
    "security:getCredentials",
    "security:getCredentialsById",
)
FIELDS, ALL_FIELDS = "security:getCredentialFields", "security:getAllCredentialFields"
FULL = {"username": "annie", "password": NEW}
NOT_FOUND = {"id": "security.user.not_found", "code": 117702658, "status": 404}


@pytest.fixture
async def badged() -> AsyncIterator[Running]:
    """A server with a second strategy."""
    async with running() as server:
        services = server.app.services
        services.strategies.register("badge", Badge(services.storage))
        yield server


async def make(server: Running, admin: str, kuid: str = "ann") -> None:
    """Make a user without credentials."""
    await server.call("query", "security:createRestrictedUser", token=admin, _id=kuid)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_credentials_come_change_and_go(server: Running, transport: str) -> None:
    """docs/api/security.md#credential-actions, docs/api/strategies.md#local-credentials: the
    strategy's answers, keys in this order; the last way in may go."""
    admin = await server.create_admin()
    await make(server, admin)

    async def ask(name: str, kuid: str = "ann", body: object = None) -> object:
        answer = await server.call(
            transport, name, token=admin, strategy="local", _id=kuid, body=body
        )
        assert answer["status"] == 200, answer
        return answer["result"]

    assert await ask(HAS) is False
    assert await ask(VALIDATE, body=FULL) is True
    assert await ask(HAS) is False
    made = await ask(CREATE, body=FULL)
    assert list(made.items()) == [("username", "annie"), ("kuid", "ann")]
    assert await ask(HAS) is True
    assert await ask(GET) == await ask(BY_ID, "annie") == made
    assert await status_of_login(server, "annie", NEW) == 200
    assert await ask(UPDATE, body={"username": "ann"}) == {"username": "ann", "kuid": "ann"}
    assert await ask(UPDATE, body={"password": PASSWORD}) == {"username": "ann", "kuid": "ann"}
    assert await status_of_login(server, "annie", NEW) == 401
    assert await status_of_login(server, "ann", PASSWORD) == 200
    assert await ask(DELETE) == {"acknowledged": True}
    assert await ask(HAS) is False
    assert await status_of_login(server, "ann", PASSWORD) == 401


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_credentials_consist_of(badged: Running, transport: str) -> None:
    """docs/api/security.md#credential-actions getCredentialFields, getAllCredentialFields."""
    admin = await badged.create_admin()
    answer = await badged.call(transport, FIELDS, token=admin, strategy="local")
    assert answer["result"] == ["username", "password"]
    answer = await badged.call(transport, ALL_FIELDS, token=admin)
    assert answer["result"] == {"local": ["username", "password"], "badge": ["number"]}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_strategies_that_show_nothing(badged: Running, transport: str) -> None:
    """docs/api/security.md#credential-actions: `{}` without getInfo and getById."""
    admin = await badged.create_admin()
    args = {"token": admin, "strategy": "badge", "_id": "admin"}
    answer = await badged.call(transport, CREATE, body={"number": "b-7"}, **args)
    assert answer["result"] == {"number": "b-7"}
    for name in (GET, BY_ID):
        assert (await badged.call(transport, name, **args))["result"] == {}
    answer = await badged.call(transport, "security:getUserStrategies", token=admin, _id="admin")
    assert answer["result"] == {"strategies": ["local", "badge"], "total": 2}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_sees_the_change_at_once(badged: Running, transport: str) -> None:
    """docs/api/auth.md#getcurrentuser: what is kept of an answer ends with the change."""
    admin = await badged.create_admin()
    user = await badged.create_user(admin, "ann")
    args = {"token": admin, "strategy": "badge", "_id": "ann"}
    for name, body, names in (
        (CREATE, {"number": "b-7"}, ["local", "badge"]),
        (DELETE, None, ["local"]),
    ):
        await badged.call(transport, name, body=body, **args)
        answer = await badged.call(transport, "auth:getCurrentUser", token=user)
        assert answer["result"]["strategies"] == names


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_change_can_end_the_users_sessions(server: Running, transport: str) -> None:
    """docs/api/differences.md#revoking-other-sessions, credentials change; security check S3: his
    sessions, API keys stay; the caller's own session survives a change of his own."""
    admin = await server.create_admin()
    user, other = await server.create_user(admin, "ann"), await server.login("admin")
    made = await server.call(
        "query", "security:createApiKey", token=admin, userId="ann", body={"description": "x"}
    )
    key = made["result"]["_source"]["token"]

    async def statuses() -> list[object]:
        answers = [
            await server.call("query", "auth:getCurrentUser", token=token)
            for token in (user, key, other, admin)
        ]
        return [answer["status"] for answer in answers]

    args = {"token": admin, "strategy": "local", "body": {"password": PASSWORD}}
    await server.call(transport, UPDATE, _id="ann", **args)
    assert await statuses() == [200, 200, 200, 200]
    answer = await server.call(transport, UPDATE, _id="ann", revokeTokens=True, **args)
    others = {"strategies": ["local"], "apiKeys": 1}
    assert answer["result"] == {"username": "ann", "kuid": "ann", **others}
    assert await statuses() == [401, 200, 200, 200]
    await server.call(transport, UPDATE, _id="admin", revokeTokens=True, **args)
    assert await statuses() == [401, 200, 401, 200]


async def test_an_administrator_need_not_know_the_password() -> None:
    """docs/api/strategies.md#local-errors `requirePassword`: the `security` controller is
    exempt."""
    config = cheap_config()
    local = replace(config.plugins.local, require_password=True)
    async with running(replace(config, plugins=replace(config.plugins, local=local))) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        for name, body in ((UPDATE, {"password": NEW}), (DELETE, None)):
            answer = await server.call(
                "query", name, token=admin, strategy="local", _id="ann", body=body
            )
            assert answer["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_credentials_of_anybody(server: Running, transport: str) -> None:
    """docs/api/security.md#credential-actions validateCredentials: `_id` is optional; a name that
    is taken is 412."""
    admin = await server.create_admin()
    ways = ("query", "websocket") if transport == "http" else (transport,)
    for way in ways:  # over HTTP every route names a user
        args = {"token": admin, "strategy": "local"}
        answer = await server.call(way, VALIDATE, body=FULL, **args)
        assert answer["result"] is True
        taken = {"username": "admin", "password": NEW}
        answer = await server.call(way, VALIDATE, body=taken, **args)
        assert (answer["status"], answer["error"].get("id")) == (412, None)
    answer = await server.call(
        transport, VALIDATE, token=admin, strategy="local", _id="nobody", body=FULL
    )
    assert answer["result"] is True


# What is refused

WITH_STRATEGY = (CREATE, UPDATE, VALIDATE, HAS, GET, BY_ID, DELETE, FIELDS)
WITH_BODY = (CREATE, UPDATE, VALIDATE)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", WITH_STRATEGY)
async def test_unknown_strategies(server: Running, transport: str, name: str) -> None:
    """docs/api/security.md#credential-actions: 400, before body and user are looked at."""
    admin = await server.create_admin()
    answer = await server.call(transport, name, token=admin, strategy="pigeon", _id="nobody")
    assert told(answer) == {
        "id": "security.credentials.unknown_strategy",
        "code": 117571585,
        "status": 400,
    }
    assert answer["error"]["props"] == ["pigeon"]


@pytest.mark.parametrize("name", WITH_STRATEGY)
async def test_strategy_and_id_are_required(server: Running, name: str) -> None:
    """docs/api/security.md#credential-actions."""
    admin = await server.create_admin()
    cases: list[tuple[dict, str]] = [({"_id": "admin"}, "strategy")]
    if name not in (VALIDATE, FIELDS):
        cases += [({"strategy": "local"}, "_id"), ({"strategy": "local", "_id": ""}, "_id")]
    for args, missing in cases:
        answer = await server.call("websocket", name, token=admin, body={}, **args)
        assert told(answer, "id", "status", "props") == {
            "id": "api.assert.missing_argument",
            "status": 400,
            "props": [missing],
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", WITH_BODY)
async def test_a_body_is_required(server: Running, transport: str, name: str) -> None:
    """docs/api/security.md#credential-actions."""
    admin = await server.create_admin()
    answer = await server.call(transport, name, token=admin, strategy="local", _id="admin")
    assert told(answer, "id", "status") == {"id": "api.assert.body_required", "status": 400}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kuid", ["nobody", "-1", "anonymous", "x" * 600])
async def test_who_is_not_there(server: Running, transport: str, kuid: str) -> None:
    """docs/api/security.md#credential-actions: 404 `security.user.not_found`; the anonymous user
    gets no credentials; hasCredentials does not look for the user."""
    admin = await server.create_admin()
    for name in (CREATE, UPDATE):
        answer = await server.call(
            transport, name, token=admin, strategy="local", _id=kuid, body=FULL
        )
        assert told(answer) == NOT_FOUND
    answer = await server.call(transport, HAS, token=admin, strategy="local", _id=kuid)
    assert answer["result"] is False
    assert await status_of_login(server, "annie", NEW) == 401


REFUSED = [  # action, id, body, status: all without an id of the error
    (CREATE, "ann", {"kuid": "ann", **FULL}, 400),
    (CREATE, "ann", {"username": "x"}, 400),
    (CREATE, "ann", {"password": "x"}, 400),
    (CREATE, "ann", {"username": "admin", "password": "x"}, 412),
    (CREATE, "admin", FULL, 412),
    (UPDATE, "ann", {"password": NEW}, 412),
    (UPDATE, "admin", {}, 400),
    (UPDATE, "admin", {"kuid": "admin", "password": "x"}, 400),
    (VALIDATE, "ann", {"username": "admin", "password": "x"}, 412),
    (GET, "ann", None, 412),
    (GET, "nobody", None, 412),
    (BY_ID, "nobody", None, 412),
    (BY_ID, "x" * 600, None, 412),
    (DELETE, "ann", None, 412),
    (DELETE, "nobody", None, 412),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "kuid", "body", "status"), REFUSED)
async def test_what_the_strategy_refuses(
    server: Running, transport: str, name: str, kuid: str, body: object, status: int
) -> None:
    """docs/api/strategies.md#local-errors: 400 and 412 without an id; nothing is changed."""
    admin = await server.create_admin()
    await make(server, admin)
    answer = await server.call(transport, name, token=admin, strategy="local", _id=kuid, body=body)
    assert (answer["status"], answer["error"].get("id")) == (status, None)
    assert await status_of_login(server, "admin", PASSWORD) == 200
    rows = await server.app.services.storage.find(Table.CREDENTIALS, limit=9)
    assert [row["kuid"] for row in rows] == ["admin"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", WITH_BODY)
async def test_passwords_that_are_no_text(server: Running, transport: str, name: str) -> None:
    """docs/api/differences.md#wrong-types: 400 with an id, never 500."""
    admin = await server.create_admin()
    kuid = "admin" if name == UPDATE else "ann"
    await make(server, admin)
    for password in (5, ["x"], {"x": 1}, True):
        body = {"username": "new", "password": password}
        answer = await server.call(
            transport, name, token=admin, strategy="local", _id=kuid, body=body
        )
        assert told(answer, "id", "status") == {"id": "api.assert.invalid_type", "status": 400}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_has_no_rights_learns_nothing(server: Running, transport: str) -> None:
    """docs/api/transport.md#request-pipeline, docs/api/security.md#default-rights: none of these is
    in the default rights."""
    user = await server.create_user(await server.create_admin(), "ann")
    for name in (*WITH_STRATEGY, ALL_FIELDS):
        args = {"strategy": "local", "_id": "admin"}
        answer = await server.call(transport, name, token=user, **args)
        assert told(answer, "id", "status") == {"id": "security.rights.forbidden", "status": 403}
        answer = await server.call(transport, name, **args)
        assert told(answer, "id", "status") == {"id": "security.rights.unauthorized", "status": 401}


# Who comes at the same time


@pytest.mark.parametrize("strategy", ["local", "badge"])
async def test_nobody_who_is_gone_gets_credentials(badged: Running, strategy: str) -> None:
    """docs/architecture.md: whoever is first, no credentials stay without their user."""
    admin = await badged.create_admin()
    storage = badged.app.services.storage
    for number in range(10):
        kuid = f"u{number}"
        await make(badged, admin, kuid)
        body = {"username": kuid, "password": NEW} if strategy == "local" else {"number": kuid}
        made, gone = await asyncio.gather(
            badged.call("query", CREATE, token=admin, strategy=strategy, _id=kuid, body=body),
            badged.call("query", "security:deleteUser", token=admin, _id=kuid),
        )
        assert (made["status"], gone["status"]) in ((200, 200), (404, 200))
        assert not await storage.exists(Table.CREDENTIALS, kuid=kuid, strategy=strategy)


async def test_who_goes_after_the_look_gets_no_credentials(
    badged: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/architecture.md: the worst moment, whatever the strategy itself guards against."""
    admin = await badged.create_admin()
    await make(badged, admin)
    storage, apply = badged.app.services.storage, badged.app.services.storage.apply

    async def come_second(changes: object) -> None:
        monkeypatch.setattr(storage, "apply", apply)
        await apply([Delete(Table.USERS, {"kuid": "ann"})])
        await apply(changes)

    monkeypatch.setattr(storage, "apply", come_second)
    answer = await badged.call(
        "query", CREATE, token=admin, strategy="badge", _id="ann", body={"number": "b-7"}
    )
    assert told(answer) == NOT_FOUND
    assert not await storage.exists(Table.CREDENTIALS, kuid="ann", strategy="badge")


async def test_of_two_users_who_get_one_name_one_has_it(server: Running) -> None:
    """docs/api/strategies.md#local-credentials: names are unique; the other one is told 412, never
    500."""
    admin = await server.create_admin()
    for kuid in ("ann", "bob"):
        await make(server, admin, kuid)
    both = [
        server.call("query", CREATE, token=admin, strategy="local", _id=kuid, body=FULL)
        for kuid in ("ann", "bob")
    ]
    assert sorted(answer["status"] for answer in await asyncio.gather(*both)) == [200, 412]


NAMES = st.text(min_size=1, max_size=30) | st.sampled_from(
    ["a/b", "a#b", "%2f", "..", "_byId", "_exists", "x" * 512, "x" * 513, "İ" * 300]
)


@settings(max_examples=25)
@given(kuids=st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_any_name_means_its_own_credentials(kuids: list[str]) -> None:
    """Identifiers: handled or refused by name, and never another user's."""

    async def check() -> None:
        async with running() as server:
            admin = await server.create_admin()
            for kuid in kuids:
                body = {
                    "content": {"profileIds": ["default"]},
                    "credentials": {"local": {"username": kuid, "password": PASSWORD}},
                }
                made = await server.call(
                    "query", "security:createUser", token=admin, _id=kuid, body=body
                )
                for way in TRANSPORTS:
                    for name in (GET, BY_ID, HAS):
                        if way == "http" and not _is_a_segment(kuid):
                            continue
                        answer = await server.call(
                            way, name, token=admin, strategy="local", _id=kuid
                        )
                        if made["status"] != 200:
                            assert answer["status"] in (404, 412) or answer["result"] is False
                        elif name == HAS:
                            assert answer["result"] is True
                        else:
                            assert answer["result"] == {"username": kuid, "kuid": kuid}

    asyncio.run(check())


def _is_a_segment(kuid: str) -> bool:
    """Tell whether a path can hold this id: `_me` and the like are routes of their own."""
    return not kuid.startswith("_")
