"""Who must give a second factor, how he enrols, and what nothing goes around (security checks A13,
A15)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from protocol.errors import LocalError
from server.app import strategies as configured
from server.auth.passwords.policies import Scope
from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    LoginAttempt,
    NewUser,
    Outcome,
    Parts,
    Proof,
    Proven,
    Refused,
)
from server.storage.base import Change, Insert, Present
from server.storage.rows import Table
from tests.server.auth.accounts.test_linking import Desk
from tests.server.auth.audit.test_events import events
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.login_steps import Steps, state_of
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running
from tests.support.totp import CREATE, DELETE, UPDATE, App, Person, mfa_config, people

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
SECOND_FACTOR = {"id": "security.rights.second_factor_required", "code": 117637136, "status": 403}
RECENT_LOGIN = {"id": "security.rights.recent_login_required", "code": 117637137, "status": 403}
ONCE = {"id": "security.rights.forbidden", "code": 117637122, "status": 403}
BY_KEY = {"id": "security.rights.api_key_forbidden", "code": 117637138, "status": 403}
INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}
BOTH = ("query", "websocket")
MINUTE_MS = 60_000
RESET = "kuzzle-plugin-auth-passport-local/password"


class World:
    """A server with an administrator and Ann, and their tokens."""

    def __init__(self, server: Running, admin: str, ann: str, clock: Clock) -> None:
        self.server = server
        self.admin = admin
        self.ann = ann
        self.clock = clock

    async def reasons(self) -> list[str]:
        """Give why logins were refused, as the trail tells it."""
        found = await events(self.server, self.admin, kind="auth:login", outcome="refused")
        return [one["reason"] for one in found]

    async def counts(self) -> tuple[int, int]:
        """Count sessions and credentials."""
        storage = self.server.app.services.storage
        return await storage.count(Table.SESSIONS), await storage.count(Table.CREDENTIALS)


@pytest.fixture
async def free(clock: Clock) -> AsyncIterator[World]:
    """Nobody has to."""
    async with running(mfa_config()) as server:
        yield World(server, *await people(server), clock)


@pytest.fixture
async def strict(clock: Clock) -> AsyncIterator[World]:
    """Whoever has the profile `default` has to; the administrator has not."""
    async with running(mfa_config(required_for={"profiles": ["default"]})) as server:
        admin = await server.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "ann", "password": PASSWORD}},
        }
        made = await server.call("query", "security:createUser", token=admin, body=body, _id="ann")
        assert made["status"] == 200
        yield World(server, admin, "", clock)


async def test_without_a_factor_nothing_changes(free: World) -> None:
    """Who has none and needs none logs in as before."""
    answer = await Person(free.server, "http").first()
    assert answer["result"].keys() == {"_id", "expiresAt", "jwt", "ttl"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_must_have_a_factor_enrols_first(strict: World, transport: str) -> None:
    """No token before; then he is logged in, with the factor."""
    before = await strict.counts()
    person = Person(strict.server, transport)
    first = await person.first()
    assert first["result"]["challenge"] == {"next": "enrol", "factors": ["totp"]}
    asked = await person.login("totp", state=state_of(first))
    app = App(asked["result"]["challenge"]["uri"], strict.clock)
    assert await strict.counts() == before
    wrong = await person.login("totp", state=state_of(asked), code=app.wrong_code())
    assert wrong["result"]["challenge"] == {"next": "code", "wrong": True, "digits": 6}
    done = await person.login("totp", state=state_of(wrong), code=app.code())
    assert done["result"].keys() == {"_id", "expiresAt", "jwt", "ttl", "credentials"}
    codes = done["result"]["credentials"]["totp"]["recoveryCodes"]
    assert len(codes) == 10
    me = await person.ask("auth:getCurrentUser", done["result"]["jwt"])
    assert me["result"]["strategies"] == ["local", "totp"]
    for code, status in ((app.code(), 401), (app.next_code(), 200), (codes[0], 200)):
        second = await person.first()
        assert second["result"]["challenge"]["next"] == "secondFactor"
        assert (await person.login("totp", state=state_of(second), code=code))["status"] == status


async def test_each_step_of_an_enrolment_is_taken_once(strict: World) -> None:
    person = Person(strict.server, "websocket")
    first = await person.first()
    asked = await person.login("totp", state=state_of(first))
    assert told(await person.login("totp", state=state_of(first))) == REFUSED
    app = App(asked["result"]["challenge"]["uri"], strict.clock)
    sent = {"controller": "auth", "action": "login", "strategy": "totp"}
    sent |= {"state": state_of(asked), "code": app.code()}
    socket = person._socket
    assert socket is not None
    await asyncio.gather(*(socket.send(sent) for _ in range(3)))
    answers = [await socket.read() for _ in range(3)]
    assert sorted(answer["status"] for answer in answers) == [200, 401, 401]


async def test_two_who_enrol_at_once_are_one(strict: World) -> None:
    """The password alone lets enrol: who is first has the factor, the other one nothing."""
    clients = [Person(strict.server, "query") for _ in range(2)]
    steps = []
    for person in clients:
        asked = await person.login("totp", state=state_of(await person.first()))
        app = App(asked["result"]["challenge"]["uri"], strict.clock)
        steps.append(person.login("totp", state=state_of(asked), code=app.code()))
    answers = await asyncio.gather(*steps)
    assert sorted(answer["status"] for answer in answers) == [200, 401]


@pytest.mark.parametrize(
    ("scope", "is_asked"),
    [
        ("*", True),
        ("nobody", False),
        ({"users": ["ann"]}, True),
        ({"users": ["bob"]}, False),
        ({"profiles": ["default"]}, True),
        ({"profiles": ["admin"]}, False),
        ({"roles": ["default"]}, True),
        ({"roles": ["admin"]}, False),
    ],
)
async def test_whom_the_policy_is_for(clock: Clock, scope: object, is_asked: bool) -> None:
    async with running(mfa_config(required_for=scope)) as server:
        body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
        await server.call("http", "security:createFirstAdmin", body=body, _id="admin")
        await server.app.services.users.create(
            kuid="ann",
            kind="",
            profile_ids=["default"],
            content={},
            credentials={"local": {"username": "ann", "password": PASSWORD}},
            author="-1",
        )
        answer = await Person(server, "http").first()
        assert ("challenge" in answer["result"]) is is_asked


@pytest.mark.parametrize("transport", BOTH)
async def test_a_reset_does_not_go_around_the_factor(free: World, transport: str) -> None:
    """A13: a new password is a first factor, no more."""
    app, _ = await Person(free.server, "websocket").enrol(free.ann, free.clock)
    person = Person(free.server, transport)
    made = await person.ask(f"{RESET}:getResetPasswordToken", free.admin, _id="ann")
    before = await free.counts()
    body = {"token": made["result"]["resetToken"], "password": "battery staple"}
    answer = await person.ask(f"{RESET}:reset", free.admin, body=body)
    assert answer["status"] == 200
    assert answer["result"].keys() == {"challenge", "expiresAt", "state"}
    (told_of,) = await events(free.server, free.admin, kind=f"{RESET}:reset")
    assert (told_of["outcome"], told_of["subject"]) == ("ok", "ann")
    assert (await free.counts())[0] == before[0] - 1  # Ann's session has ended, and none began
    code = app.next_code()
    login = await person.login("totp", state=state_of(answer), code=code)
    assert login["result"]["_id"] == "ann"


@pytest.mark.parametrize("transport", BOTH)
async def test_a_factor_changes_soon_after_a_login_only(free: World, transport: str) -> None:
    """A15: enrolling, new recovery codes, removing."""
    late = await free.server.login("ann")
    await Person(free.server, "websocket").enrol(free.ann, free.clock)
    free.clock.now_ms += 15 * MINUTE_MS + 1
    before = await free.counts()
    person = Person(free.server, transport)
    for action in (CREATE, UPDATE, DELETE):
        body = None if action == DELETE else {"code": "000000"}
        answer = await person.ask(action, late, strategy="totp", body=body)
        assert told(answer) == RECENT_LOGIN
        assert answer["error"]["reason"] == "recentLogin"
        assert "log in again" in answer["error"]["message"]
    assert await free.counts() == before
    kinds = {one["kind"] for one in await events(free.server, free.admin, outcome="refused")}
    assert {CREATE, UPDATE, DELETE} <= kinds


async def test_what_counts_as_a_recent_login(free: World) -> None:
    """A15: the beginning of a chain of refreshes; no API key, and no token made with another; a
    token for one request changes no authentication method at all."""
    person = Person(free.server, "query")
    rights = {"controllers": {"auth": {"actions": {"*": True}}}}
    await free.server.call(
        "query", "security:createRole", token=free.admin, _id="more", body=rights
    )
    policies = {"policies": [{"roleId": "more"}, {"roleId": "default"}]}
    await free.server.call(
        "query", "security:createProfile", token=free.admin, _id="more", body=policies
    )
    body = {"profileIds": ["more"]}
    await free.server.call("query", "security:updateUser", token=free.admin, _id="ann", body=body)
    free.clock.now_ms += 10 * MINUTE_MS
    refreshed = (await person.ask("auth:refreshToken", free.ann))["result"]["jwt"]
    key = await person.ask("auth:createApiKey", refreshed, body={"description": "x"})
    others = [key["result"]["_source"]["token"]]
    for is_single in (True, False):
        made = await person.ask("auth:createToken", refreshed, singleUse=is_single)
        others.append(made["result"]["token"])
    for token, refusal in zip(others, (BY_KEY, ONCE, RECENT_LOGIN), strict=True):
        answer = await person.ask(CREATE, token, strategy="totp", body={})
        assert told(answer) == refusal
    assert (await person.ask(CREATE, refreshed, strategy="totp", body={}))["status"] == 200
    free.clock.now_ms += 5 * MINUTE_MS + 1
    again = (await person.ask("auth:refreshToken", refreshed))["result"]["jwt"]
    assert told(await person.ask(CREATE, again, strategy="totp", body={})) == RECENT_LOGIN


@pytest.mark.parametrize("value", ["require", "exempt"])
async def test_api_keys_of_who_has_a_factor(clock: Clock, value: str) -> None:
    """A key is asked for nothing, so that only a session with the factor may make one."""
    async with running(mfa_config(api_keys=value)) as server:
        admin = await server.create_admin()
        await server.create_user(admin, "ann")
        old = await server.login("admin")
        person = Person(server, "query")
        before = await person.ask("auth:createApiKey", old, body={"description": "x"})
        app, _ = await person.enrol(old, clock)
        state = state_of(await person.first("admin"))
        new = await person.login("totp", state=state, code=app.next_code())
        fresh = new["result"]["jwt"]
        refreshed = (await person.ask("auth:refreshToken", fresh))["result"]["jwt"]
        key = before["result"]["_source"]["token"]
        for token, is_allowed in ((old, value == "exempt"), (refreshed, True)):
            answer = await person.ask("auth:createApiKey", token, body={"description": "x"})
            if is_allowed:
                assert answer["status"] == 200, answer
            else:
                assert told(answer) == SECOND_FACTOR
                assert answer["error"]["reason"] == "secondFactor"
        by_key = await person.ask("auth:createApiKey", key, body={"description": "x"})
        assert told(by_key) == BY_KEY
        assert by_key["error"]["reason"] == "apiKey"
        listed = await person.ask("auth:getMySessions", refreshed)
        shown = [one["_source"] for one in listed["result"]["hits"] if one["_source"]["current"]]
        assert (shown[0]["strategy"], shown[0]["secondFactor"]) == ("local", "totp")


class Enrolled(World):
    app: App


@pytest.fixture
async def enrolled(free: World) -> Enrolled:
    """Ann has a factor."""
    made = Enrolled(free.server, free.admin, free.ann, free.clock)
    made.app, _ = await Person(free.server, "websocket").enrol(free.ann, free.clock)
    return made


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_state_is_of_one_browser_and_one_user(enrolled: Enrolled, transport: str) -> None:
    """O1 for the step between two factors: a foreign browser, and another user's state."""
    bob = await enrolled.server.create_user(enrolled.admin, "bob")
    his, _ = await Person(enrolled.server, "websocket").enrol(bob, enrolled.clock)
    person = Person(enrolled.server, transport)
    state = state_of(await person.first())
    code = enrolled.app.next_code()
    before = await enrolled.counts()
    foreign = Person(enrolled.server, transport)
    assert told(await foreign.login("totp", state=state, code=code)) == REFUSED
    state_of(await foreign.first("bob"))
    assert told(await foreign.login("totp", state=state, code=code)) == REFUSED
    assert told(await foreign.login("totp", state=state, code=his.code())) == REFUSED
    assert await enrolled.counts() == before
    assert "foreign state" in await enrolled.reasons()
    assert (await person.login("totp", state=state, code=code))["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_waits_for_a_factor_is_no_token(enrolled: Enrolled, transport: str) -> None:
    """T6: nor is it a step of another strategy, nor for one that is no second factor."""
    services = enrolled.server.app.services
    await services.strategies.add("steps", Steps(services.storage))
    person = Person(enrolled.server, transport)
    state = state_of(await person.first())
    me = await person.server.call("query", "auth:getCurrentUser", token=state)
    assert told(me) == INVALID
    refreshed = await person.server.call("query", "auth:refreshToken", token=state)
    assert told(refreshed) == INVALID
    for name in ("local", "steps"):
        answer = await person.login(name, state=state, code="ann", username="ann", password="x")
        assert told(answer) == REFUSED
    missing = await person.login("nothing", state=state, code="ann")
    assert missing["error"]["id"] == "security.credentials.unknown_strategy"
    away = await person.login("steps", kind="bound")
    code = enrolled.app.next_code()
    assert told(await person.login("totp", state=state_of(away), code=code)) == REFUSED
    body = {"state": state, "code": code}
    linking = await person.ask(CREATE, enrolled.ann, strategy="totp", body=body)
    assert told(linking)["id"] == "plugin.strategy.missing_user"
    assert "not a factor of this login" in await enrolled.reasons()


async def test_a_step_has_its_time(enrolled: Enrolled) -> None:
    """Five minutes."""
    person = Person(enrolled.server, "query")
    state = state_of(await person.first())
    enrolled.clock.now_ms += 5 * MINUTE_MS
    code = enrolled.app.code()
    assert told(await person.login("totp", state=state, code=code)) == REFUSED
    assert "expired state" in await enrolled.reasons()


@pytest.mark.parametrize("what", ["disabled", "deleted", "password", "reset", "removed", "renewed"])
async def test_what_changes_between_the_steps(enrolled: Enrolled, what: str) -> None:
    """S2: a user who is disabled or gone, another password, a factor removed or made anew: the
    login begins again."""
    person = Person(enrolled.server, "query")
    state = state_of(await person.first())
    server, admin = enrolled.server, enrolled.admin
    if what == "disabled":
        await server.call("query", "security:disableUser", token=admin, _id="ann")
        await server.call("query", "security:enableUser", token=admin, _id="ann")
    elif what == "deleted":
        await server.call("query", "security:deleteUser", token=admin, _id="ann")
    elif what == "password":
        body = {"password": "battery staple"}
        update = "auth:updateMyCredentials"
        await server.call("query", update, token=enrolled.ann, strategy="local", body=body)
    elif what == "reset":
        get_token, body = f"{RESET}:getResetPasswordToken", {"password": "battery staple"}
        made = await server.call("query", get_token, token=admin, _id="ann")
        body["token"] = made["result"]["resetToken"]
        await server.call("query", f"{RESET}:reset", token=admin, body=body)
    else:
        await server.call("query", DELETE, token=enrolled.ann, strategy="totp")
    if what == "renewed":
        await Person(server, "websocket").enrol(enrolled.ann, enrolled.clock)
    before = await enrolled.counts()
    code = enrolled.app.next_code()
    assert told(await person.login("totp", state=state, code=code)) == REFUSED
    assert await enrolled.counts() == before


async def test_a_disabled_user_is_not_asked(enrolled: Enrolled) -> None:
    """A1: he is told what all others are told."""
    await enrolled.server.call("query", "security:disableUser", token=enrolled.admin, _id="ann")
    answer = await Person(enrolled.server, "query").first()
    assert (told(answer), answer["error"]["message"]) == (REFUSED, "wrong user or password")


async def test_wishes_of_the_first_step_hold(enrolled: Enrolled) -> None:
    """`expiresIn`, also over another factor's request."""
    person = Person(enrolled.server, "query")
    first = await person.login("local", username="ann", password=PASSWORD, expiresIn="10m")
    login = await person.login("totp", state=state_of(first), code=enrolled.app.next_code())
    assert login["result"]["ttl"] == 600_000


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_portable_steps(clock: Clock, transport: str) -> None:
    """For clients that keep no cookies, enrolment included."""
    async with running(mfa_config(portable=True, required_for={"users": ["ann"]})) as server:
        admin = await server.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "ann", "password": PASSWORD}},
        }
        await server.call("query", "security:createUser", token=admin, body=body, _id="ann")

        async def step(strategy: str, **args: object) -> dict:
            return await Person(server, transport).login(strategy, **args)

        state = state_of(await step("local", username="ann", password=PASSWORD))
        asked = await step("totp", state=state)
        app = App(asked["result"]["challenge"]["uri"], clock)
        done = await step("totp", state=state_of(asked), code=app.code())
        assert done["result"]["_id"] == "ann"
        state = state_of(await step("local", username="ann", password=PASSWORD))
        assert (await step("totp", state=state, code=app.next_code()))["status"] == 200


class Word(Desk):
    """Another second factor, which keeps something between its two steps."""

    answer: object = None
    question: object = Challenge({"next": "word"})
    guards: tuple[Change, ...] = ()
    proof: Change | None = None

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        proved = await super().resume_proof(attempt, kept, kuid)
        return replace(proved, guards=(self.proof,)) if isinstance(proved, Proven) else proved  # type: ignore[arg-type]

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        if attempt.args.get("name"):
            return NewUser("new", {"name": "new"}, ("default",))
        return Authenticated("ann", self.guards)

    async def second_factor(self, kuid: str, state: str) -> Challenge | None:
        question = self.question
        if isinstance(question, Challenge) and not question.kept:
            question = replace(question, kept={"of": state, "kuid": kuid})
        return question if kuid == "ann" else None  # type: ignore[return-value]

    async def check_second_factor(
        self, kuid: str, attempt: LoginAttempt, kept: Mapping[str, object]
    ) -> Authenticated | Refused:
        if self.answer is not None:
            return self.answer  # type: ignore[return-value]
        sent = attempt.body.get("word") or attempt.args.get("word")
        is_right = sent == "please" and kept == {"of": attempt.args["state"], "kuid": kuid}
        return Authenticated(kuid) if is_right else Refused("no")


@pytest.fixture
async def two(clock: Clock) -> AsyncIterator[Enrolled]:
    """A server with two second factors, the second of which is a way in, too."""
    config = mfa_config()
    async with running(config) as server:
        services = server.app.services
        word = Word("word", Parts(services.storage, services.clock_ms))
        policy = replace(services.step_up.policy, factors=("totp", "word"))
        services.step_up.policy = policy
        made = Enrolled(server, *await people(server), clock)
        made.app, _ = await Person(server, "websocket").enrol(made.ann, clock)
        await services.strategies.add("word", word)
        made.word = word  # type: ignore[attr-defined]
        yield made


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_one_of_several_factors(two: Enrolled, transport: str) -> None:
    """He chooses; what each keeps comes back to it."""
    person = Person(two.server, transport)
    first = await person.first()
    assert first["result"]["challenge"] == {
        "next": "secondFactor",
        "factors": ["totp", "word"],
        "challenges": {"totp": {"next": "code", "digits": 6}, "word": {"next": "word"}},
    }
    state = state_of(first)
    assert told(await person.login("word", state=state, word="no")) == REFUSED
    assert (await person.login("word", state=state, word="please"))["result"]["_id"] == "ann"


async def test_a_first_factor_is_not_its_own_second(two: Enrolled) -> None:
    person = Person(two.server, "query")
    first = await person.login("word")
    assert first["result"]["challenge"]["factors"] == ["totp"]
    state = state_of(first)
    assert told(await person.login("word", state=state, word="please")) == REFUSED
    assert (await person.login("totp", state=state, code=two.app.next_code()))["status"] == 200


async def test_an_exempt_strategy_is_enough(two: Enrolled) -> None:
    """A15: what is two factors already; so it changes soon after a login only, too."""
    factors = two.server.app.services.step_up
    exempt = frozenset({"word"})
    factors.policy = replace(factors.policy, factors=("totp",), exempt=exempt)
    person = Person(two.server, "query")
    token = (await person.login("word"))["result"]["jwt"]
    asked = await person.ask(CREATE, token, strategy="word", body={"name": "x"})
    assert asked["status"] == 200
    two.clock.now_ms += 16 * MINUTE_MS
    for action in (CREATE, UPDATE, DELETE):
        answer = await person.ask(action, token, strategy="word", body={"name": "x"})
        assert told(answer) == RECENT_LOGIN


async def test_a_first_factor_holds_when_its_step_is_kept(two: Enrolled) -> None:
    """What proved it may have changed by then; and what it brings about is stored by then."""
    storage = two.server.app.services.storage
    before = await storage.count(Table.ONE_TIME)
    two.word.guards = (Present(Table.CREDENTIALS, {"kuid": "nobody"}),)  # type: ignore[attr-defined]
    person = Person(two.server, "query")
    assert told(await person.login("word")) == REFUSED
    assert await storage.count(Table.ONE_TIME) == before
    assert "changed in the meantime" in await two.reasons()
    counted = Insert(Table.SETTINGS, {"name": "counter", "value": 7})
    two.word.guards = (counted,)  # type: ignore[attr-defined]
    state = state_of(await person.login("word"))
    assert await storage.get(Table.SETTINGS, name="counter") is not None
    assert (await person.login("totp", state=state, code=two.app.next_code()))["status"] == 200


@pytest.mark.parametrize("holds", [True, False])
async def test_what_proved_a_factor_holds_when_it_is_entered(two: Enrolled, holds: bool) -> None:
    """S2: in the enrolment that ends a login as in any other: no token, and no credentials."""
    storage = two.server.app.services.storage
    two.word.proof = Present(Table.CREDENTIALS, {"kuid": "ann" if holds else "nobody"})  # type: ignore[attr-defined]
    policy = replace(
        two.server.app.services.step_up.policy,
        factors=("word",),
        required_for=Scope(includes_all=True),
    )
    two.server.app.services.step_up.policy = policy
    two.word.question = None  # type: ignore[attr-defined]
    person = Person(two.server, "query")
    first = await person.first()
    assert first["result"]["challenge"] == {"next": "enrol", "factors": ["word"]}
    asked = await person.login("word", state=state_of(first), body={"name": "card"})
    done = await person.login("word", state=state_of(asked), word="really")
    kept = await storage.get(Table.CREDENTIALS, kuid="ann", strategy="word")
    assert (kept is not None, done["status"]) == ((True, 200) if holds else (False, 401))


async def test_who_comes_for_the_first_time_enrols(two: Enrolled) -> None:
    """A user that a strategy makes is asked as everybody is."""
    factors = two.server.app.services.step_up
    factors.policy = replace(factors.policy, required_for=Scope(includes_all=True))
    person = Person(two.server, "query")
    first = await person.login("word", name="new")
    assert first["result"]["challenge"] == {"next": "enrol", "factors": ["totp"]}
    asked = await person.login("totp", state=state_of(first))
    app = App(asked["result"]["challenge"]["uri"], two.clock)
    done = await person.login("totp", state=state_of(asked), code=app.code())
    assert done["result"]["_id"].startswith("kuid-")


async def test_a_session_in_a_cookie(enrolled: Enrolled) -> None:
    """`cookieAuth` of the first step: the token is in the cookie of the last one only."""
    http = await enrolled.server.connect()
    body = {"username": "ann", "password": PASSWORD}
    origin = {"Sec-Fetch-Site": "same-origin"}
    first = await http.ask("POST", "/_login/local?cookieAuth=true", body, headers=origin)
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("loginState=")
    body = {"state": first.json["result"]["state"], "code": enrolled.app.next_code()}
    done = await http.ask("POST", "/_login/totp", body, headers={**origin, "Cookie": cookie})
    assert done.status == 200
    assert done.headers["set-cookie"].startswith("authToken=")
    assert "jwt" not in done.json["result"]


@pytest.mark.parametrize("answer", [Authenticated("admin"), Challenge({}), "ann", True])
async def test_a_factor_that_gives_nonsense(two: Enrolled, answer: object) -> None:
    """Another user's id, above all."""
    two.word.answer = answer  # type: ignore[attr-defined]
    person = Person(two.server, "query")
    state = state_of(await person.first())
    wrong = await person.login("word", state=state, word="please")
    assert told(wrong)["id"] == "plugin.strategy.invalid_verify_resolve"


@pytest.mark.parametrize(
    "question",
    [
        "ann",
        Refused("no"),
        Challenge("data"),  # type: ignore[arg-type]
        Challenge({"data": object()}),
        Challenge({}, "kept"),  # type: ignore[arg-type]
        Challenge({}, {"kept": "x" * 20_000}),
    ],
)
async def test_a_factor_that_asks_nonsense(two: Enrolled, question: object) -> None:
    """The login fails, and nobody slips in without the factor."""
    two.word.question = question  # type: ignore[attr-defined]
    answer = await Person(two.server, "query").first()
    assert told(answer)["id"] == "plugin.strategy.invalid_verify_resolve"


async def test_a_factor_that_is_gone(two: Enrolled) -> None:
    """Removed between the steps: the other one still does."""
    person = Person(two.server, "query")
    state = state_of(await person.first())
    await two.server.app.services.strategies.remove("word")
    gone = await person.login("word", state=state, word="please")
    assert gone["error"]["id"] == "security.credentials.unknown_strategy"
    assert (await person.login("totp", state=state, code=two.app.next_code()))["status"] == 200


async def test_who_must_and_can_not_is_refused(strict: World) -> None:
    """Where the strategy is gone nobody slips in without it."""
    await strict.server.app.services.strategies.remove("totp")
    assert told(await Person(strict.server, "query").first()) == REFUSED
    assert "no second factor, and none to enrol" in await strict.reasons()


async def test_who_can_not_be_let_in_sets_no_password(strict: World) -> None:
    """A13: a reset that ends in a refusal leaves the old password and the token."""
    server, storage = strict.server, strict.server.app.services.storage
    issue = f"{RESET}:getResetPasswordToken"
    made = await server.call("query", issue, token=strict.admin, _id="ann")
    body = {"token": made["result"]["resetToken"], "password": "battery staple"}
    before = await storage.get(Table.CREDENTIALS, strategy="local", id="ann")
    await server.app.services.strategies.remove("totp")
    answer = await server.call("query", f"{RESET}:reset", token=strict.admin, body=body)
    assert told(answer) == REFUSED
    assert await storage.get(Table.CREDENTIALS, strategy="local", id="ann") == before
    assert await storage.count(Table.ONE_TIME) == 1


@pytest.mark.parametrize(
    ("strategies", "mfa", "said"),
    [
        ({}, {"required_for": "*"}, "unknown strategy totp"),
        ({}, {"factors": ("passkey",)}, "unknown strategy passkey"),
        ({}, {"factors": ("local",)}, "local is not a second factor"),
        ({"codes": {"use": "totp"}}, {}, 'must list "codes"'),
    ],
)
async def test_policies_that_can_not_be(
    strategies: dict[str, dict[str, object]], mfa: dict[str, object], said: str
) -> None:
    config = cheap_config(strategies=strategies)
    security = replace(config.security, mfa=replace(config.security.mfa, **mfa))
    config = replace(config, security=security)
    with pytest.raises(LocalError, match=f"security.mfa.factors: .*{said}"):
        async with running(config):
            pass
    if "is not a second factor" not in said:  # which shows once it is made
        with pytest.raises(LocalError, match=said):
            configured.check(config)
