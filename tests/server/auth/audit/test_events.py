"""The audit trail over every transport: who did what, from where, and how it ended (security check
X1)."""

import asyncio
import logging
import random
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest

from server.api.actions import all_actions
from server.api.request_log import RequestLog
from server.app import background as chores
from server.app.application import create_admin
from server.auth.sessions.authenticator import REUSED
from server.auth.strategies.base import Authenticated, Challenge, LoginAttempt, Outcome
from server.storage.base import EventKind, JournalEvent, Update
from server.storage.rows import Table
from server.storage.sqlite.storage import SqliteStorage
from tests.server.cli.test_keys import manykeys
from tests.server.storage.sqlite.test_storage import start
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running
from tests.support.waiting import deadline

FORBIDDEN = {"id": "security.rights.forbidden", "code": 117637122, "status": 403}
UNAUTHORIZED = {"id": "security.rights.unauthorized", "code": 117637121, "status": 401}


async def events(
    server: Running, admin: str, transport: str = "query", size: int = 100, **wanted: object
) -> list[dict]:
    """Search the trail, newest first, once everything is in it."""
    await server.app.services.trail.flush(is_last=True)
    answer = await server.call(
        transport, "security:searchAudit", token=admin, body=wanted, size=size
    )
    assert answer["status"] == 200, answer
    assert answer["result"]["total"] == len(answer["result"]["hits"])
    return [hit["_source"] for hit in answer["result"]["hits"]]


def ends(found: list[dict]) -> list[tuple[str, str, str, str]]:
    """Give outcome, reason, subject and actor of events, oldest first."""
    names = ("outcome", "reason", "subject", "actor")
    return [tuple(one[name] for name in names) for one in reversed(found)]


async def log_in(server: Running, transport: str, status: int, **body: str) -> None:
    """Try to log in."""
    answer = await server.call(transport, "auth:login", strategy="local", body=body)
    assert answer["status"] == status, answer


async def disable(server: Running, kuid: str) -> None:
    """Disable a user."""
    change = Update(Table.USERS, {"kuid": kuid}, {"disabled": 1})
    await server.app.services.storage.apply([change, JournalEvent(EventKind.USER, kuid)])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_reason_of_a_refused_login_is_told_here_alone(
    server: Running, transport: str
) -> None:
    """X1: one line per login, while the callers were all told the same."""
    admin = await server.create_admin()
    for name in ("ann", "bob"):
        await server.create_user(admin, name)
    await disable(server, "bob")
    await log_in(server, transport, 200, username="ann", password=PASSWORD)
    await log_in(server, transport, 401, username="ann", password="wrong")
    await log_in(server, transport, 401, username="who", password=PASSWORD)
    await log_in(server, transport, 401, username="bob", password=PASSWORD)
    await log_in(server, transport, 401, username="ann")
    answer = await server.call(transport, "auth:login", strategy="badge", body={"a": "b"})
    assert answer["error"]["id"] == "security.credentials.unknown_strategy"
    found = await events(server, admin, transport, kind="auth:login")
    assert ends(found)[-6:] == [
        ("ok", "", "ann", "ann"),
        ("refused", "wrong password", "ann", "-1"),
        ("refused", "unknown user", "", "-1"),
        ("refused", "disabled user", "bob", "-1"),
        ("refused", "no username or no password", "", "-1"),
        ("refused", "security.credentials.unknown_strategy", "", "-1"),
    ]
    assert {one["address"] for one in found} == {"127.0.0.1"}
    assert [one["strategy"] for one in found[:6]] == ["", *["local"] * 5]


async def test_a_renewed_hash_is_not_the_login(server: Running) -> None:
    """P12: the line goes with the session, not with what is written while the password is
    checked."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    foreign = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    storage, key = server.app.services.storage, {"strategy": "local", "id": "ann"}
    await storage.apply([Update(Table.CREDENTIALS, key, {"data": {"hash": foreign}})])
    await server.login("ann")
    renewed = await storage.get(Table.CREDENTIALS, **key)
    assert renewed is not None and renewed["data"]["hash"] != foreign
    last = (await events(server, admin, kind="auth:login"))[0]
    sessions = {row["id"] for row in await storage.find(Table.SESSIONS, limit=9, kuid="ann")}
    assert last["target"] in sessions


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_must_change_his_password_is_told_of(transport: str) -> None:
    """docs/api/strategies.md#password-policies: refused, with a reset token for who knew the
    password."""
    config = cheap_config()
    policies = ({"appliesTo": "*", "mustChangePasswordIfSetByAdmin": True},)
    local = replace(config.plugins.local, password_policies=policies)
    async with running(replace(config, plugins=replace(config.plugins, local=local))) as server:
        admin = await server.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "ann", "password": PASSWORD}},
        }
        await server.call("http", "security:createUser", token=admin, body=body, _id="ann")
        await log_in(server, transport, 401, username="ann", password=PASSWORD)
        reason = "plugin.kuzzle-plugin-auth-passport-local.must_change_password"
        last = (await events(server, admin, kind="auth:login"))[:1]
        assert ends(last) == [("refused", reason, "ann", "-1")]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_being_slowed_down_is_told(transport: str) -> None:
    """X1: refusals of the same kind are one line with their number."""
    config = cheap_config()
    limits = replace(config.limits, failed_logins=2)
    async with running(replace(config, limits=limits)) as server:
        admin = await server.create_admin()
        for status in (401, 401, 429, 429, 429):
            await log_in(server, transport, status, username="ann", password="wrong")
        found = await events(server, admin, kind="auth:login", outcome="refused")
        assert sorted((one["reason"], one["count"]) for one in found) == [
            ("api.process.too_many_logins_requests", 3),
            ("unknown user", 2),
        ]


CHANGES = {
    # action of the administrator `boss`: arguments, body, (subject, target) of its line
    "security:createUser": (
        {"_id": "new"},
        {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "newt", "password": PASSWORD}},
        },
        ("new", "newt"),
    ),
    "security:createRestrictedUser": (
        {"_id": "new"},
        {"content": {}, "credentials": {"local": {"username": "newt", "password": PASSWORD}}},
        ("new", "newt"),
    ),
    "security:deleteUser": ({"_id": "ann"}, None, ("ann", "")),
    "security:createApiKey": (
        {"userId": "ann", "_id": "k"},
        {"description": "d"},
        ("ann", "k"),
    ),
    "security:deleteApiKey": ({"userId": "ann", "_id": "anns"}, None, ("ann", "anns")),
    "auth:createApiKey": ({"_id": "k"}, {"description": "d"}, ("boss", "k")),
    "auth:updateSelf": ({}, {"a": 1}, ("boss", "")),
    "auth:updateMyCredentials": ({"strategy": "local"}, {"password": "another"}, ("boss", "")),
    "auth:logout": ({}, None, ("boss", "")),
    "kuzzle-plugin-auth-passport-local/password:getResetPasswordToken": (
        {"_id": "ann"},
        None,
        ("ann", ""),
    ),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("full_name", CHANGES)
async def test_a_change_has_its_line(server: Running, transport: str, full_name: str) -> None:
    """X1: each change, with who made it and whom it is about; written with it, not after it."""
    args, body, about = CHANGES[full_name]
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    boss = await server.create_user(admin, "boss", "admin")
    made = await server.call(
        "query",
        "security:createApiKey",
        token=admin,
        userId="ann",
        _id="anns",
        body={"description": "d"},
    )
    assert made["status"] == 200, made
    answer = await server.call(transport, full_name, token=boss, body=body, **args)
    assert answer["status"] == 200, answer
    storage = server.app.services.storage
    (row,) = await storage.find(Table.AUDIT, limit=10, kind=full_name, actor="boss")
    assert (row["subject"], row["target"]) == about
    assert (row["outcome"], row["reason"], row["count"]) == ("ok", "", 1)
    assert row["address"] == "127.0.0.1"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_can_be_followed(server: Running, transport: str) -> None:
    """The target of a login is the id that the list of sessions shows."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann", "admin")
    token = await server.login("ann")
    listed = await server.call(transport, "auth:getMySessions", token=token)
    current = [hit["_id"] for hit in listed["result"]["hits"] if hit["_source"]["current"]]
    found = await events(server, admin, subject="ann", kind="auth:login")
    assert [one["target"] for one in found[:1]] == current
    made = await server.call(transport, "auth:createToken", token=token)
    assert made["status"] == 200
    last = (await events(server, admin, kind="auth:createToken"))[0]
    assert (last["subject"], last["actor"]) == ("ann", "ann")
    ended = await server.call(
        transport, "security:deleteUserSession", token=admin, _id="ann", sessionId=current[0]
    )
    assert ended["status"] == 200
    last = (await events(server, admin, kind="security:deleteUserSession"))[0]
    assert (last["subject"], last["actor"], last["outcome"]) == ("ann", "admin", "ok")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_first_administrator_has_a_line(server: Running, transport: str) -> None:
    """docs/api/differences.md#first-administrator: made by nobody who is known; a second one is
    refused."""
    body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
    statuses = []
    for kuid in ("admin", "other"):
        made = await server.call(transport, "security:createFirstAdmin", body=body, _id=kuid)
        statuses.append(made["status"])
    assert statuses == [200, 401]
    found = await events(server, await server.login("admin"), kind="security:createFirstAdmin")
    assert ends(found) == [
        ("ok", "", "admin", "-1"),
        ("refused", "security.rights.unauthorized", "", "-1"),
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_password_reset_has_its_lines(server: Running, transport: str) -> None:
    """docs/api/strategies.md#password-reset; whoever brings a reset token is nobody in
    particular."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    plugin = "kuzzle-plugin-auth-passport-local/password"
    given = await server.call(transport, f"{plugin}:getResetPasswordToken", token=admin, _id="ann")
    body = {"token": given["result"]["resetToken"], "password": "another one"}
    for status in (200, 400):
        answer = await server.call(transport, f"{plugin}:reset", token=admin, body=body)
        assert answer["status"] == status, answer
    assert ends(await events(server, admin, kind=f"{plugin}:reset")) == [
        ("ok", "", "ann", "admin"),
        ("refused", "plugin.kuzzle-plugin-auth-passport-local.invalid_token", "", "admin"),
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_has_no_right_is_told_of(server: Running, transport: str) -> None:
    """X1: a refused change is no change, and has a line; what an unknown caller names has none."""
    admin = await server.create_admin()
    ann = await server.create_user(admin, "ann")
    for token, expected in ((ann, FORBIDDEN), (None, UNAUTHORIZED)):
        answer = await server.call(transport, "security:deleteUser", token=token, _id="admin")
        assert told(answer) == expected
    found = await events(server, admin, kind="security:deleteUser")
    assert ends(found) == [
        ("refused", FORBIDDEN["id"], "admin", "ann"),
        ("refused", UNAUTHORIZED["id"], "", "-1"),
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_wrong_present_password_is_told_of(transport: str) -> None:
    """X1: of a session that was stolen, maybe."""
    config = cheap_config()
    local = replace(config.plugins.local, require_password=True)
    async with running(replace(config, plugins=replace(config.plugins, local=local))) as server:
        admin = await server.create_admin()
        body = {"password": "mine now", "currentPassword": "a guess"}
        answer = await server.call(
            transport, "auth:updateMyCredentials", token=admin, strategy="local", body=body
        )
        assert answer["status"] == 403
        found = await events(server, admin, kind="auth:updateMyCredentials")
        assert ends(found) == [("refused", "wrong password", "admin", "admin")]
        assert found[0]["strategy"] == "local"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_refreshed_token_that_comes_back_is_told_of(transport: str) -> None:
    """S8, X1: somebody stole one of the two; the line is in the transaction that ends them."""
    config = cheap_config()
    token = replace(config.security.auth_token, grace_period_ms=0)
    security = replace(config.security, auth_token=token)
    async with running(replace(config, security=security)) as server:
        admin = await server.create_admin()
        old = await server.create_user(admin, "ann")
        assert (await server.call(transport, "auth:refreshToken", token=old))["status"] == 200
        for _ in range(2):
            answer = await server.call(transport, "auth:refreshToken", token=old)
            assert answer["error"]["id"] == "security.token.invalid"
        (row,) = await server.app.services.storage.find(Table.AUDIT, limit=9, kind=REUSED)
        assert (row["outcome"], row["subject"], row["address"]) == ("refused", "ann", "127.0.0.1")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_changes_nothing_has_a_line_too(server: Running, transport: str) -> None:
    """docs/api/auth.md#logout: an API key logs out with 200 and lives on."""
    admin = await server.create_admin()
    body = {"description": "d"}
    made = await server.call("query", "auth:createApiKey", token=admin, body=body)
    key = made["result"]["_source"]["token"]
    assert (await server.call(transport, "auth:logout", token=key))["status"] == 200
    assert ends(await events(server, admin, kind="auth:logout")) == [("ok", "", "admin", "admin")]


class Badge:
    """A strategy that does not look whether its users may log in."""

    name, fields = "badge", ("number",)

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """See `Strategy`."""
        return Authenticated("bob")

    async def exists(self, kuid: str) -> bool:
        """See `Strategy`."""
        return False


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_disabled_user_is_told_of_whatever_his_strategy(
    server: Running, transport: str
) -> None:
    server.app.services.strategies.register("badge", Badge())  # type: ignore[arg-type]
    admin = await server.create_admin()
    await server.create_user(admin, "bob")
    await disable(server, "bob")
    answer = await server.call(transport, "auth:login", strategy="badge", body={})
    assert answer["status"] == 401
    last = (await events(server, admin, kind="auth:login"))[:1]
    assert ends(last) == [("refused", "disabled user", "bob", "-1")]
    assert last[0]["strategy"] == "badge"


async def test_too_many_logins_on_a_connection_are_told_of() -> None:
    """docs/api/security.md#rate-limits: refused before any strategy is asked."""
    config = cheap_config()
    limits = replace(config.limits, logins_per_second=1)
    async with running(replace(config, limits=limits)) as server:
        admin = await server.create_admin()
        socket = await server.open_socket()
        login = {"controller": "auth", "action": "login", "strategy": "local", "body": {}}
        while (await socket.ask(login))["status"] != 429:
            pass
        found = await events(server, admin, kind="auth:login", outcome="refused")
        assert "api.process.too_many_logins_requests" in [one["reason"] for one in found]


async def until_kept(server: Running, count: int) -> None:
    """Wait until so many events are stored."""
    storage = server.app.services.storage
    async with deadline():
        while await storage.count(Table.AUDIT) != count:  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.005)


async def test_a_server_stores_refusals_by_itself(server: Running) -> None:
    await log_in(server, "query", 401, username="who", password="wrong")
    await until_kept(server, 1)


async def test_a_server_sweeps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of two changes, which are stored at once, are too old already."""
    monkeypatch.setattr(chores, "_SWEEP_S", 0.01)
    config = cheap_config()
    audit = replace(config.security.audit, retention_ms=-60_000)
    async with running(replace(config, security=replace(config.security, audit=audit))) as server:
        await server.create_admin()
        await until_kept(server, 0)


class Code:
    """A strategy with a second step, which tells its own reasons."""

    name, fields = "code", ("number",)

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """See `Strategy`."""
        return Challenge({"next": "number"})

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """See `Resumes`."""
        return Challenge({"next": "number"})


async def test_a_login_with_a_further_step_is_pending(server: Running) -> None:
    """Nobody has logged in yet."""
    server.app.services.strategies.register("code", Code())  # type: ignore[arg-type]
    admin = await server.create_admin()
    answer = await server.call("query", "auth:login", strategy="code", body={})
    assert answer["status"] == 200
    assert ends(await events(server, admin, outcome="pending")) == [("pending", "", "", "-1")]


async def test_where_a_request_came_from_is_cut_and_safe() -> None:
    """X1, H8: the client's address as trusted proxies tell it, and 256 characters of his name."""
    config = cheap_config()
    trusting = replace(config.server, trusted_proxies=("127.0.0.1",))
    async with running(replace(config, server=trusting)) as server:
        admin = await server.create_admin()
        http = await server.connect()
        headers = {"User-Agent": "x" * 300, "X-Forwarded-For": "203.0.113.9"}
        body = {"username": "who", "password": "p"}
        answer = await http.ask("POST", "/_login/local", body, headers=headers)
        assert answer.status == 401
        (found,) = await events(server, admin, address="203.0.113.9")
        assert found["userAgent"] == "x" * 256


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_only_administrators_may_search(server: Running, transport: str) -> None:
    """The trail tells what everybody else must not learn."""
    admin = await server.create_admin()
    ann = await server.create_user(admin, "ann")
    for token, expected in ((ann, FORBIDDEN), (None, UNAUTHORIZED)):
        answer = await server.call(transport, "security:searchAudit", token=token)
        assert told(answer) == expected


@pytest.fixture
async def filled(server: Running) -> AsyncIterator[tuple[Running, str]]:
    """A server with seven logins in its trail, and its administrator's token."""
    admin = await server.create_admin()
    await server.create_user(admin, "ann")
    for _ in range(4):
        await server.login("ann")
    await log_in(server, "query", 401, username="ann", password="wrong")
    await server.app.services.trail.flush(is_last=True)
    yield server, admin


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_search_gives_pages(filled: tuple[Running, str], transport: str) -> None:
    """Newest first; by place, and by the event after which to go on."""
    server, admin = filled

    async def page(**args: object) -> tuple[list[str], int]:
        answer = await server.call(
            transport, "security:searchAudit", token=admin, body={"subject": "ann"}, **args
        )
        assert answer["status"] == 200, answer
        return [hit["_id"] for hit in answer["result"]["hits"]], answer["result"]["total"]

    everything, total = await page()
    assert len(everything) == total == 7
    assert everything == sorted(everything, reverse=True)
    assert await page(size=2) == (everything[:2], 7)
    assert await page(size=2, **{"from": 6}) == (everything[6:], 7)
    assert await page(size=0) == ([], 7)
    assert await page(search_after=everything[2], size=2) == (everything[3:5], 4)
    assert await page(search_after="0") == ([], 0)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 9),
        ({"actor": "admin"}, 2),
        ({"subject": "ann", "outcome": "ok"}, 6),
        ({"subject": "ann", "outcome": "refused"}, 1),
        ({"kind": "auth:login", "subject": "ann", "actor": "ann"}, 5),
        ({"address": "127.0.0.1", "kind": "security:createUser"}, 1),
        ({"address": "::1"}, 0),
        ({"since": 0}, 9),
        ({"until": 1}, 0),
        ({"since": 2**47 - 1}, 0),
        ({"subject": None, "since": None}, 9),
        ({"subject": "\u0000' OR 1=1 --"}, 0),
    ],
)
async def test_a_search_names_what_it_wants(
    filled: tuple[Running, str], wanted: dict[str, object], count: int
) -> None:
    server, admin = filled
    assert len(await events(server, admin, **wanted)) == count


async def test_times_bound_a_search(filled: tuple[Running, str]) -> None:
    """`since` is included, `until` is not."""
    server, admin = filled
    everything = await events(server, admin)
    at = everything[0]["at"]
    newest = [one for one in everything if one["at"] == at]
    assert await events(server, admin, since=at) == newest
    assert await events(server, admin, until=at) == everything[len(newest) :]
    assert await events(server, admin, since=at, until=at + 1) == newest


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("body", "args", "error_id"),
    [
        ({"user": "ann"}, {}, "api.assert.invalid_argument"),
        ({"subject": 7}, {}, "api.assert.invalid_type"),
        ({"subject": ["ann"]}, {}, "api.assert.invalid_type"),
        ({"outcome": "fine"}, {}, "api.assert.invalid_argument"),
        ({"since": "yesterday"}, {}, "api.assert.invalid_argument"),
        ({"since": True}, {}, "api.assert.invalid_argument"),
        ({"until": -1}, {}, "api.assert.invalid_argument"),
        ({"until": 2**63}, {}, "api.assert.invalid_argument"),
        (None, {"size": -1}, "api.assert.invalid_argument"),
        (None, {"from": -1}, "api.assert.invalid_argument"),
        (None, {"size": 10_001}, "services.storage.get_limit_exceeded"),
        (None, {"size": 1, "from": 2**53 - 1}, "services.storage.get_limit_exceeded"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(
    server: Running, transport: str, body: object, args: dict, error_id: str
) -> None:
    admin = await server.create_admin()
    answer = await server.call(transport, "security:searchAudit", token=admin, body=body, **args)
    assert answer["error"]["id"] == error_id
    assert answer["status"] < 500


async def test_it_can_be_turned_off() -> None:
    """security.audit.enabled"""
    config = cheap_config()
    audit = replace(config.security.audit, enabled=False)
    security = replace(config.security, audit=audit)
    async with running(replace(config, security=security)) as server:
        admin = await server.create_admin()
        await log_in(server, "query", 401, username="who", password="wrong")
        assert await events(server, admin) == []


@pytest.mark.parametrize("is_on", [False, True])
async def test_the_log_has_the_events_too_when_asked(
    is_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A16: with `logs.audit`, whatever reads the log hears of them."""
    config = cheap_config()
    config = replace(config, logs=replace(config.logs, audit=is_on))
    with caplog.at_level(logging.INFO, "manykeys.audit"):
        async with running(config) as server:
            await server.create_admin()
            await log_in(server, "query", 401, username="who", password="wrong")
            await log_in(server, "query", 401, username="who", password="wrong")
    found = [
        (record.message, record.facts["outcome"], record.facts["reason"], record.facts["count"])
        for record in caplog.records
        if record.name == "manykeys.audit"
    ]
    assert found == (
        [
            ("security:createFirstAdmin", "ok", "", 1),
            ("auth:login", "ok", "", 1),
            ("auth:login", "refused", "unknown user", 2),
        ]
        if is_on
        else []
    )


async def test_commands_leave_lines_as_well(tmp_path: Path) -> None:
    """X1: the first administrator, and signing keys."""
    data = tmp_path / "keys.db"
    config = cheap_config()
    config = replace(config, server=replace(config.server, data=str(data)))
    await create_admin(config, name="admin", password=PASSWORD)
    for arguments in (("list",), ("rotate",)):
        code, text = await manykeys("keys", *arguments, "--data", str(data))
        assert code == 0, text
    storage = SqliteStorage(str(data), clock_ms=lambda: 0)
    await storage.open()
    rows = await storage.find(Table.AUDIT, limit=9)
    keys = await storage.find(Table.SIGNING_KEYS, limit=9)
    await storage.close()
    assert [(row["kind"], row["outcome"], row["actor"]) for row in rows] == [
        ("command:create-admin", "ok", ""),
        ("command:keys rotate", "ok", ""),
    ]
    assert rows[1]["target"] in [key["kid"] for key in keys]


def test_what_gives_access_or_changes_it_is_audited() -> None:
    """X1: what the log of requests takes for more than reading is audited."""
    log = RequestLog("notable")
    unaudited = {
        entry.full_name
        for entry in all_actions()
        if log.is_logged(entry.name, 200) and not entry.is_audited
    }
    assert unaudited == {
        "auth:refreshToken",  # it goes on with a session that has its line
        "security:refresh",  # it changes nothing
    }


WRITER = """
import asyncio, sys
from server.auth.audit.events import Line, carry
from server.auth.audit.storage import AuditedStorage
from server.storage.base import Insert, Table
from server.storage.sqlite.storage import SqliteStorage

async def main(path, first):
    storage = AuditedStorage(SqliteStorage(path, clock_ms=lambda: 1_000))
    await storage.open()
    async def caller(number):
        while True:
            row = {"kuid": str(number), "profile_id": "p"}
            change = storage.apply([Insert(Table.USER_PROFILES, row)])
            await carry(Line(1_000, "made"), change)
            print(number, flush=True)
            number += 8
    await asyncio.gather(*(caller(first + n) for n in range(8)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_kill_9_parts_no_change_from_its_line(tmp_path: Path) -> None:
    """No change lacks its line, no line lacks its change, and nothing acknowledged is lost."""
    path = tmp_path / "keys.db"
    chance = random.Random(11)
    acknowledged: set[str] = set()
    for round_ in range(3):
        with start(WRITER, path, round_ * 1_000_000) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(1, 300)):
                acknowledged.add(child.stdout.readline().strip())
            child.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in child.stdout if line.endswith("\n"))
    storage = SqliteStorage(str(path), clock_ms=lambda: 1_000)
    await storage.open()
    changed = await storage.find(Table.USER_PROFILES, limit=1_000_000)
    lines = await storage.find(Table.AUDIT, limit=1_000_000)
    await storage.close()
    assert sorted(row["kuid"] for row in changed) == sorted(row["subject"] for row in lines)
    assert acknowledged <= {row["subject"] for row in lines}
