"""Codes of an application, and recovery codes, over every transport (security checks A11, A12).

pyotp stands for the application: its clock is the test's, as the server's is.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pyotp
import pytest

from protocol.errors import LocalError
from server.auth.strategies import totp
from server.auth.strategies.base import Parts
from server.auth.strategies.totp_settings import TotpSettings
from server.core.config_file import ConfigError
from server.storage.base import Update
from server.storage.rows import Table
from tests.server.auth.audit.test_events import ends, events
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import state_of
from tests.support.server import PASSWORD, TRANSPORTS, Running, running
from tests.support.totp import CREATE, DELETE, GET, STEP_MS, UPDATE, App, Person, mfa_config, people

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
TOO_MANY = {"id": "api.process.too_many_logins_requests", "code": 33685517, "status": 429}
BOTH = ("query", "websocket")


class World:
    """A server, and Ann with her application."""

    def __init__(self, server: Running, admin: str, ann: str, clock: Clock) -> None:
        self.server = server
        self.admin = admin
        self.ann = ann
        self.clock = clock
        self.app: App
        self.codes: list[str]

    async def reasons(self) -> list[str]:
        """Give why logins were refused, as the trail tells it."""
        found = await events(self.server, self.admin, kind="auth:login", outcome="refused")
        return [one["reason"] for one in found]

    async def sessions(self) -> int:
        return await self.server.app.services.storage.count(Table.SESSIONS)


@pytest.fixture
async def world(clock: Clock) -> AsyncIterator[World]:
    async with running(mfa_config()) as server:
        made = World(server, *await people(server), clock)
        person = Person(server, "websocket")
        made.app, made.codes = await person.enrol(made.ann, clock)
        yield made


@pytest.mark.parametrize("transport", BOTH)
async def test_enrolment(clock: Clock, transport: str) -> None:
    """A11: the seed has 160 bits and is shown once; it counts once its first code was right, which
    then is used."""
    async with running(mfa_config({"issuer": "Acme Inc"})) as server:
        _, ann = await people(server)
        person = Person(server, transport)
        asked = await person.ask(CREATE, ann, strategy="totp", body={})
        shown = asked["result"]["challenge"]
        assert (shown["next"], shown["digits"], shown["period"]) == ("code", 6, 30)
        assert re.fullmatch("[A-Z2-7]{32}", shown["secret"])
        assert shown["uri"].startswith("otpauth://totp/Acme%20Inc:ann?secret=")
        app = App(shown["uri"], clock)
        assert app.totp.secret == shown["secret"]
        body = {"state": state_of(asked), "code": app.wrong_code()}
        wrong = await person.ask(CREATE, ann, strategy="totp", body=body)
        assert wrong["result"]["challenge"] == {"next": "code", "wrong": True, "digits": 6}
        body = {"state": state_of(wrong), "code": app.code()}
        done = await person.ask(CREATE, ann, strategy="totp", body=body)
        assert done["result"]["kuid"] == "ann"
        assert len(set(done["result"]["recoveryCodes"])) == 10
        info = await person.ask(GET, ann, strategy="totp")
        assert info["result"] == {"kuid": "ann", "createdAt": clock.now_ms, "recoveryCodesLeft": 10}
        again = await person.ask(CREATE, ann, strategy="totp", body={"code": app.next_code()})
        assert again["status"] == 412
        first = await person.first()
        used = await person.login("totp", state=state_of(first), code=app.code(-1))
        assert told(used) == REFUSED


async def test_an_enrolment_ends_after_some_tries(clock: Clock) -> None:
    async with running(mfa_config()) as server:
        _, ann = await people(server)
        person = Person(server, "websocket")
        answer = await person.ask(CREATE, ann, strategy="totp", body={})
        app = App(answer["result"]["challenge"]["uri"], clock)
        for _ in range(totp.MOST_TRIES):
            body = {"state": state_of(answer), "code": app.wrong_code()}
            answer = await person.ask(CREATE, ann, strategy="totp", body=body)
        assert told(answer) == REFUSED
        exist = await person.ask("auth:credentialsExist", ann, strategy="totp")
        assert exist["result"] is False


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_login_with_a_code(world: World, transport: str) -> None:
    """A11: after the password a code is asked for, and nothing else is given; it is good once."""
    person = Person(world.server, transport)
    before = await world.sessions()
    first = await person.first()
    assert first["result"].keys() == {"challenge", "expiresAt", "state"}
    assert first["result"]["challenge"] == {
        "next": "secondFactor",
        "factors": ["totp"],
        "challenges": {"totp": {"next": "code", "digits": 6}},
    }
    assert first["result"]["expiresAt"] == world.clock.now_ms + 300_000
    assert await world.sessions() == before
    code = world.app.next_code()
    login = await person.login("totp", state=state_of(first), code=code)
    assert login["result"].keys() == {"_id", "expiresAt", "jwt", "ttl"}
    assert login["result"]["_id"] == "ann"
    again = await person.login("totp", state=state_of(first), code=code)
    assert told(again) == REFUSED
    second = await person.first()
    assert told(await person.login("totp", state=state_of(second), code=code)) == REFUSED
    assert await world.sessions() == before + 1
    assert "reused code" in await world.reasons()
    pending = await events(world.server, world.admin, kind="auth:login", outcome="pending")
    assert {one["subject"] for one in pending} == {"ann"}
    assert ends(await events(world.server, world.admin, kind="auth:login", subject="ann"))


@pytest.mark.parametrize(("steps", "is_right"), [(-2, False), (-1, True), (1, True), (2, False)])
async def test_clocks_may_differ_by_one_step(world: World, steps: int, is_right: bool) -> None:
    """A11: by the server's clock; RFC 6238 §5.2."""
    world.clock.now_ms += 10 * STEP_MS
    person = Person(world.server, "http")
    first = await person.first()
    answer = await person.login("totp", state=state_of(first), code=world.app.code(steps))
    assert (answer["status"] == 200) is is_right


async def test_an_older_code_is_not_taken_after_a_newer_one(world: World) -> None:
    """A11."""
    world.clock.now_ms += 10 * STEP_MS
    for steps, status in ((0, 200), (-1, 401), (1, 200), (0, 401)):
        person = Person(world.server, "http")
        first = await person.first()
        answer = await person.login("totp", state=state_of(first), code=world.app.code(steps))
        assert answer["status"] == status


async def test_one_code_at_once_gives_one_token(world: World) -> None:
    """A11: what marks a code as used is in the transaction of the token."""
    clients = [Person(world.server, "query") for _ in range(4)]
    firsts = [await person.first() for person in clients]
    code, before = world.app.next_code(), await world.sessions()
    answers = await asyncio.gather(
        *(
            person.login("totp", state=state_of(first), code=code)
            for person, first in zip(clients, firsts, strict=True)
        )
    )
    assert sorted(answer["status"] for answer in answers) == [200, 401, 401, 401]
    assert await world.sessions() == before + 1


async def test_one_step_at_once_gives_one_token(world: World) -> None:
    """The state is good for one login, whatever it is taken with."""
    person = Person(world.server, "query")
    world.clock.now_ms += 10 * STEP_MS
    state = state_of(await person.first())
    others = [Person(world.server, "query", cookie=person.cookie) for _ in range(3)]
    codes = [world.codes[0], world.codes[1], world.app.code()]
    answers = await asyncio.gather(
        *(
            other.login("totp", state=state, code=code)
            for other, code in zip(others, codes, strict=True)
        )
    )
    assert sorted(answer["status"] for answer in answers) == [200, 401, 401]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_recovery_code_is_good_once(world: World, transport: str) -> None:
    """A12: typed in any case, with or without dashes."""
    person = Person(world.server, transport)
    spelt = world.codes[0].lower().replace("-", " ")
    first = await person.first()
    assert (await person.login("totp", state=state_of(first), code=spelt))["status"] == 200
    for code in (spelt, world.codes[0]):
        second = await person.first()
        assert told(await person.login("totp", state=state_of(second), code=code)) == REFUSED
    info = await person.ask(GET, world.ann, strategy="totp")
    assert info["result"]["recoveryCodesLeft"] == 9


async def test_one_recovery_code_at_once_gives_one_token(world: World) -> None:
    """A12."""
    clients = [Person(world.server, "query") for _ in range(3)]
    firsts = [await person.first() for person in clients]
    answers = await asyncio.gather(
        *(
            person.login("totp", state=state_of(first), code=world.codes[3])
            for person, first in zip(clients, firsts, strict=True)
        )
    )
    assert sorted(answer["status"] for answer in answers) == [200, 401, 401]


async def test_the_store_holds_no_seed_and_no_code(world: World) -> None:
    """A12, T11: recovery codes have 80 random bits and are kept as hashes, seeds sealed, also
    between two steps."""
    assert all(re.fullmatch("([A-Z2-7]{4}-){3}[A-Z2-7]{4}", code) for code in world.codes)
    storage = world.server.app.services.storage
    bob = await world.server.create_user(world.admin, "bob")
    person = Person(world.server, "websocket")
    asked = await person.ask(CREATE, bob, strategy="totp", body={})
    rows = repr(
        [await storage.find(table, limit=99) for table in (Table.CREDENTIALS, Table.ONE_TIME)]
    )
    for secret in (world.app.totp.secret, asked["result"]["challenge"]["secret"], *world.codes):
        assert secret not in rows
        assert secret.replace("-", "") not in rows


@pytest.mark.parametrize("transport", BOTH)
async def test_new_recovery_codes(world: World, transport: str) -> None:
    """A12: for a code of the application; the older ones are good no more."""
    person = Person(world.server, transport)
    for code in (world.app.wrong_code(), world.codes[0], world.app.code()):
        answer = await person.ask(UPDATE, world.ann, strategy="totp", body={"code": code})
        assert told(answer) == REFUSED
    answer = await person.ask(
        UPDATE, world.ann, strategy="totp", body={"code": world.app.next_code()}
    )
    new = answer["result"]["recoveryCodes"]
    assert len(new) == 10
    for code, status in ((world.codes[0], 401), (new[0], 200), (world.app.code(), 401)):
        first = await person.first()
        assert (await person.login("totp", state=state_of(first), code=code))["status"] == status


async def test_new_recovery_codes_at_once(world: World) -> None:
    """One code gives them once."""
    clients = [Person(world.server, "query") for _ in range(3)]
    body = {"code": world.app.next_code()}
    answers = await asyncio.gather(
        *(person.ask(UPDATE, world.ann, strategy="totp", body=body) for person in clients)
    )
    assert sorted(answer["status"] for answer in answers) == [200, 401, 401]


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        (123456, {"id": "api.assert.invalid_type", "code": 33619969, "status": 400}),
        (["123456"], {"id": "api.assert.invalid_type", "code": 33619969, "status": 400}),
        ({"a": 1}, {"id": "api.assert.invalid_type", "code": 33619969, "status": 400}),
        (True, {"id": "api.assert.invalid_type", "code": 33619969, "status": 400}),
        (None, {"id": "api.assert.missing_argument", "code": 33619971, "status": 400}),
        ("", {"id": "api.assert.missing_argument", "code": 33619971, "status": 400}),
        ("12345", REFUSED),
        ("1234567", REFUSED),
        ("\u0661\u0662\u0663\u0664\u0665\u0666", REFUSED),
        ("1" * 100_000, REFUSED),
        ("A" * 16, REFUSED),
        ("\0", REFUSED),
    ],
)
async def test_what_is_no_code(world: World, code: object, refused: dict) -> None:
    before = await world.sessions()
    person = Person(world.server, "websocket")
    state = state_of(await person.first())
    answer = await person.login("totp", body={"state": state, "code": code})
    assert told(answer) == refused
    assert await world.sessions() == before
    assert "auth:login" in {
        one["kind"] for one in await events(world.server, world.admin, outcome="refused")
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_code_alone_lets_nobody_in(world: World, transport: str) -> None:
    """A11: nor does any other state."""
    person = Person(world.server, transport)
    for state in ({}, {"state": "x"}, {"state": "2.x"}, {"state": "2." + "x" * 5000}):
        answer = await person.login("totp", username="ann", code=world.app.next_code(), **state)
        assert told(answer) == REFUSED
    assert {"no first factor", "unknown state"} <= set(await world.reasons())


async def test_guessing_is_slowed_down(clock: Clock) -> None:
    """A11: counted by user, whatever password logins come between, and a right code is refused
    then, too."""
    config = mfa_config()
    limits = replace(config.limits, failed_logins=4)
    async with running(replace(config, limits=limits)) as server:
        admin, ann = await people(server)
        app, codes = await Person(server, "websocket").enrol(ann, clock)
        for _ in range(4):
            person = Person(server, "query")
            first = await person.first()
            wrong = await person.login("totp", state=state_of(first), code=app.wrong_code())
            assert told(wrong) == REFUSED
        for code in (app.next_code(), codes[0]):
            first = await person.first()
            answer = await person.login("totp", state=state_of(first), code=code)
            assert told(answer) == TOO_MANY
        update = await person.ask(UPDATE, ann, strategy="totp", body={"code": app.next_code()})
        assert told(update) == TOO_MANY
        reasons = [one["reason"] for one in await events(server, admin, outcome="refused")]
        assert "api.process.too_many_logins_requests" in reasons


async def test_known_device_passes_the_wait_for_second_factors(clock: Clock) -> None:
    """A5: who knows the password, and guesses codes, keeps no device of its owner out."""
    config = mfa_config()
    limits = replace(config.limits, failed_logins=4)
    async with running(replace(config, limits=limits)) as server:
        admin, ann = await people(server)
        app, _ = await Person(server, "websocket").enrol(ann, clock)
        for _ in range(4):
            person = Person(server, "query")
            state = state_of(await person.first())
            wrong = await person.login("totp", state=state, code=app.wrong_code())
            assert told(wrong) == REFUSED
        for token, status in ((None, 429), (admin, 429), (ann, 200)):
            person = Person(server, "query")
            state = state_of(await person.first())
            proof = {} if token is None else {"previousToken": token}
            answer = await person.login("totp", state=state, code=app.next_code(), **proof)
            assert answer["status"] == status


async def test_a_step_has_its_tries(world: World) -> None:
    """A11: five, and then even a right code is refused."""
    person = Person(world.server, "query")
    state = state_of(await person.first())
    for code in [world.app.wrong_code()] * 5 + [world.app.next_code()]:
        assert told(await person.login("totp", state=state, code=code)) == REFUSED
    assert "too many tries" in await world.reasons()


async def test_a_wrong_code_may_be_corrected(world: World) -> None:
    person = Person(world.server, "http")
    state = state_of(await person.first())
    wrong = await person.login("totp", state=state, code=world.app.wrong_code())
    assert (told(wrong), wrong["error"]["message"]) == (REFUSED, "wrong code")
    assert (await person.login("totp", state=state, code=world.app.next_code()))["status"] == 200


async def test_a_code_of_somebody_else(world: World) -> None:
    """A11."""
    bob = await world.server.create_user(world.admin, "bob")
    app, codes = await Person(world.server, "websocket").enrol(bob, world.clock)
    person = Person(world.server, "query")
    for code in (app.next_code(), codes[0]):
        state = state_of(await person.first())
        assert told(await person.login("totp", state=state, code=code)) == REFUSED


async def test_a_sealed_seed_is_its_users(world: World) -> None:
    """Who can write into the store can not give his own application to somebody else."""
    bob = await world.server.create_user(world.admin, "bob")
    app, _ = await Person(world.server, "websocket").enrol(bob, world.clock)
    storage = world.server.app.services.storage
    row = await storage.get(Table.CREDENTIALS, kuid="bob", strategy="totp")
    key = {"strategy": "totp", "id": "ann"}
    await storage.apply([Update(Table.CREDENTIALS, key, {"data": row["data"]})])
    person = Person(world.server, "query")
    state = state_of(await person.first())
    assert told(await person.login("totp", state=state, code=app.next_code())) == REFUSED
    assert "wrong code" in await world.reasons()


async def test_the_operators_key(clock: Clock, tmp_path: object) -> None:
    """With another key, codes are wrong; a recovery code still lets in."""
    data, one, other = f"{tmp_path}/keys.db", "k" * 32, "l" * 32
    async with running(mfa_config({"key": one}), data=data) as server:
        _, ann = await people(server)
        app, codes = await Person(server, "websocket").enrol(ann, clock)
        assert await server.app.services.storage.get(Table.SETTINGS, name="sealingKey") is None
    for key, code, status in (
        (other, app.next_code(), 401),
        (other, codes[0], 200),
        (one, "", 200),
    ):
        async with running(mfa_config({"key": key}), data=data) as server:
            person = Person(server, "query")
            state = state_of(await person.first())
            answer = await person.login("totp", state=state, code=code or app.next_code())
            assert answer["status"] == status


@pytest.mark.parametrize(
    "steps",
    [
        # Each a key or several, whether the database's opens, too, and whether a code is right.
        [("a", False, True), (["b", "a"], False, True), ("b", False, True), ("a", False, False)],
        [("a", False, True), (["b", "c", "a"], False, True), (["c", "b"], False, True)],
        [("a", False, True), ("b", False, False), (["b", "a"], False, True)],
        [("", False, True), ("a", False, False), ("a", True, True), ("a", False, True)],
    ],
)
async def test_keys_follow_each_other(
    clock: Clock, tmp_path: Path, steps: list[tuple[str | list[str], bool, bool]]
) -> None:
    """An older key decrypts, and is not needed any more by who has logged in since."""
    data, app = f"{tmp_path}/keys.db", None
    for keys, opens_stored, is_right in steps:
        table: dict[str, object] = {"storedKey": opens_stored}
        if keys:
            table["key"] = [one * 32 for one in keys] if isinstance(keys, list) else keys * 32
        async with running(mfa_config(table), data=data) as server:
            if app is None:
                _, ann = await people(server)
                app, _ = await Person(server, "websocket").enrol(ann, clock)
            person = Person(server, "query")
            state = state_of(await person.first())
            code = app.next_code()
            answer = await person.login("totp", state=state, code=code)
            assert answer["status"] == (200 if is_right else 401), keys
            if is_right:
                # However it is encrypted anew, a code is good once.
                state = state_of(await person.first())
                assert told(await person.login("totp", state=state, code=code)) == REFUSED


async def test_a_recovery_code_encrypts_anew_as_well(clock: Clock, tmp_path: Path) -> None:
    data, old, new = f"{tmp_path}/keys.db", "a" * 32, "b" * 32
    async with running(mfa_config({"key": old}), data=data) as server:
        _, ann = await people(server)
        app, codes = await Person(server, "websocket").enrol(ann, clock)
    for keys, code in (([new, old], codes[0]), ([new], "")):
        async with running(mfa_config({"key": keys}), data=data) as server:
            person = Person(server, "query")
            state = state_of(await person.first())
            login = await person.login("totp", state=state, code=code or app.next_code())
            assert login["result"]["_id"] == "ann"


@pytest.mark.parametrize("key", [[], ["a" * 32, "short"], ["a" * 32, 5], "a" * 31, {}])
async def test_keys_that_are_none(key: object) -> None:
    """Named, but not shown."""
    with pytest.raises(ConfigError, match=r"strategies\.totp\.key: .*32 bytes") as refused:
        async with running(mfa_config({"key": key})):
            pass
    assert "aaa" not in str(refused.value)


async def test_an_administrator_brings_a_seed_along(world: World) -> None:
    """`security:createCredentials`, `createUser`: who moves here needs no new QR code."""
    secret = pyotp.random_base32()
    body = {
        "content": {"profileIds": ["default"]},
        "credentials": {
            "local": {"username": "carl", "password": PASSWORD},
            "totp": {"secret": secret},
        },
    }
    made = await world.server.call(
        "query", "security:createUser", token=world.admin, body=body, _id="carl"
    )
    assert made["status"] == 200, made
    person = Person(world.server, "query")
    state = state_of(await person.first("carl"))
    code = pyotp.TOTP(secret).at(world.clock.now_ms // 1000)
    assert (await person.login("totp", state=state, code=code))["status"] == 200
    new = await world.server.call(
        "query",
        "security:updateCredentials",
        token=world.admin,
        body={"secret": pyotp.random_base32()},
        strategy="totp",
        _id="carl",
    )
    assert len(new["result"]["recoveryCodes"]) == 10
    state = state_of(await person.first("carl"))
    world.clock.now_ms += STEP_MS
    code = pyotp.TOTP(secret).at(world.clock.now_ms // 1000)
    assert told(await person.login("totp", state=state, code=code)) == REFUSED


@pytest.mark.parametrize(
    "body",
    [{}, {"secret": 7}, {"secret": "JBSWY3DPEHPK3PXP"}, {"secret": "1" * 32}, {"other": 1}]
    + [{"secret": "A" * 27}, {"secret": "A" * 32, "step": True}, {"secret": "A" * 129}],
)
async def test_what_is_no_seed(world: World, body: dict) -> None:
    await world.server.create_user(world.admin, "bob")
    answer = await world.server.call(
        "query",
        "security:createCredentials",
        token=world.admin,
        body=body,
        strategy="totp",
        _id="bob",
    )
    assert answer["status"] == 400
    assert answer["error"]["id"].startswith("api.assert.")


async def test_a_factor_is_removed_by_an_administrator(world: World) -> None:
    """A15: audited; then nobody is asked for it any more, and what waited for it is over."""
    person = Person(world.server, "query")
    state = state_of(await person.first())
    removed = await world.server.call(
        "query", "security:deleteCredentials", token=world.admin, strategy="totp", _id="ann"
    )
    assert removed["status"] == 200
    assert told(await person.login("totp", state=state, code=world.app.next_code())) == REFUSED
    assert (await person.first())["result"]["_id"] == "ann"
    (event,) = await events(world.server, world.admin, kind="security:deleteCredentials")
    assert (event["subject"], event["strategy"], event["actor"]) == ("ann", "totp", "admin")


async def test_a_code_is_no_way_in(world: World) -> None:
    """A15: the password stays, the factor may go."""
    person = Person(world.server, "query")
    kept = await person.ask(DELETE, world.ann, strategy="local")
    assert kept["status"] == 412
    assert (await person.ask(DELETE, world.ann, strategy="totp"))["status"] == 200


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totp, "pyotp", None)
    with pytest.raises(LocalError, match=r"pip install 'manykeys\[totp\]'"):
        totp.Totp("totp", TotpSettings(), Parts(None, None))  # type: ignore[arg-type]
