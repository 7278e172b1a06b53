"""Users made by their first login, and credentials proved by who is logged in
(docs/architecture.md; security checks O1, O6)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from server.auth.strategies.base import (
    Challenge,
    LoginAttempt,
    NewUser,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Redirect,
    Refused,
)
from server.auth.strategies.credential_rows import CredentialRows, owner_of
from server.storage.base import Present
from server.storage.rows import Table
from tests.server.auth.audit.test_events import ends, events
from tests.support.errors import told
from tests.support.login_steps import AWAY
from tests.support.server import TRANSPORTS, Running, Socket, cheap_config, running

CREATE, UPDATE = "auth:createMyCredentials", "auth:updateMyCredentials"
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
ENDED = {"id": "security.token.invalid", "code": 117506049, "status": 401}


class Desk(CredentialRows):
    """Believes any `name`, but asks for the word `really` before it is linked; with `away` that is
    asked elsewhere."""

    fields = ("name",)
    profile_ids = ("default",)

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        name = str(attempt.body["name"])
        row = await self.find(name)
        content = {"called": name}
        return owner_of(row) if row else NewUser(name, {"name": name}, self.profile_ids, content)

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        kept = {"name": attempt.body["name"]}
        if attempt.body.get("away"):
            return Redirect(f"{AWAY}?state={attempt.state}", kept=kept)
        return Challenge({"next": "really"}, kept=kept)

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        word = attempt.body.get("word") or attempt.args.get("word")
        return Proven({"name": kept["name"]}) if word == "really" else Refused("really?")

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        await self.check_free(credentials.get("name"), kuid, "name")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        name = str(credentials["name"])
        return Prepared({"name": name, "by": by}, [self.inserted(name, kuid, {})])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        name = str(credentials["name"])
        return Prepared({"name": name, "by": by}, self.updated(await self.of(kuid), name, {}))


@pytest.fixture
async def desk() -> AsyncIterator[Running]:
    """A server with such a strategy, an administrator and Ann; API keys may link, too."""
    security = cheap_config().security
    api_key = replace(security.api_key, credential_changes="all")
    async with running(cheap_config(security=replace(security, api_key=api_key))) as server:
        services = server.app.services
        parts = Parts(services.storage, services.clock_ms)
        await services.strategies.add("desk", Desk("desk", parts))
        server.admin = await server.create_admin()  # type: ignore[attr-defined]
        server.ann = await server.create_user(server.admin, "ann")  # type: ignore[attr-defined]
        yield server


async def log_in(server: Running, transport: str, name: str) -> dict:
    """Log in at the desk."""
    return await server.call(transport, "auth:login", strategy="desk", body={"name": name})


async def ask(socket: Socket, full_name: str, token: str | None = None, **args: object) -> dict:
    """Send a message on a socket that stays open, so that steps belong together."""
    controller, action = full_name.split(":")
    sent = {"controller": controller, "action": action, "strategy": "desk", **args}
    return await socket.ask({**sent, "jwt": token} if token else sent)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_first_login_makes_a_user(desk: Running, transport: str) -> None:
    """docs/api/strategies.md#provider-logins: with the strategy's profiles, content and
    credentials; then he is known."""
    first, second = [await log_in(desk, transport, "new") for _ in range(2)]
    assert (first["status"], second["status"]) == (200, 200)
    assert first["result"]["_id"] == second["result"]["_id"]
    me = await desk.call(transport, "auth:getCurrentUser", token=second["result"]["jwt"])
    source = me["result"]["_source"]
    assert (source["profileIds"], source["called"]) == (["default"], "new")
    assert source["_kuzzle_info"]["author"] == "-1"
    assert me["result"]["strategies"] == ["desk"]


async def test_who_comes_for_the_first_time_twice_at_once_is_one_user(desk: Running) -> None:
    before = await desk.app.services.storage.count(Table.USERS)
    came = await asyncio.gather(*(log_in(desk, "query", "new") for _ in range(8)))
    assert [answer["status"] for answer in came] == [200] * 8
    assert len({answer["result"]["_id"] for answer in came}) == 1
    assert await desk.app.services.storage.count(Table.USERS) == before + 1


async def test_a_profile_that_is_not_there_makes_nobody(
    desk: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator is told, and nobody else."""
    monkeypatch.setattr(Desk, "profile_ids", ("default", "lost"))
    before = await desk.app.services.storage.count(Table.USERS)
    assert told(await log_in(desk, "query", "new")) == REFUSED
    assert "lost" in caplog.text
    assert await desk.app.services.storage.count(Table.USERS) == before
    assert ends(await events(desk, desk.admin, kind="auth:login"))[-1][:2] == (
        "refused",
        "unknown profile",
    )


@pytest.mark.parametrize("is_update", [False, True], ids=("create", "update"))
async def test_credentials_are_linked_once_they_are_proved(desk: Running, is_update: bool) -> None:
    """By his own words, without an administrator; the login with them is his."""
    socket = await desk.open_socket()
    if is_update:
        body = {"name": "old"}
        made = await desk.call(
            "query", "security:createCredentials", token=desk.admin, strategy="desk", _id="ann",
            body=body,
        )  # fmt: skip
        assert made["result"] == {"name": "old", "by": "admin"}
    full_name = UPDATE if is_update else CREATE
    asked = await ask(socket, full_name, desk.ann, body={"name": "card"})
    assert asked["result"]["challenge"] == {"next": "really"}
    assert (await desk.app.services.strategies.get("desk").exists("ann")) is is_update
    body = {"word": "really", "state": asked["result"]["state"]}
    linked = await ask(socket, full_name, desk.ann, body=body)
    assert linked["result"] == {"name": "card", "by": "ann"}
    assert (await log_in(desk, "query", "card"))["result"]["_id"] == "ann"


async def test_a_wrong_proof_links_nothing_and_is_over(desk: Running) -> None:
    socket = await desk.open_socket()
    state = (await ask(socket, CREATE, desk.ann, body={"name": "card"}))["result"]["state"]
    for word in ("no", "really"):
        body = {"word": word, "state": state}
        assert told(await ask(socket, CREATE, desk.ann, body=body)) == REFUSED
    assert not await desk.app.services.strategies.get("desk").exists("ann")
    assert ends(await events(desk, desk.admin, kind=CREATE))[-1][0] == "refused"


async def test_a_proof_is_good_for_its_user_and_socket_only(desk: Running) -> None:
    """O1: not for somebody else on the same socket, nor for the same user on another one."""
    socket, other = await desk.open_socket(), await desk.open_socket()
    bob = await desk.create_user(desk.admin, "bob")
    state = (await ask(socket, CREATE, desk.ann, body={"name": "card"}))["result"]["state"]
    body = {"word": "really", "state": state}
    assert told(await ask(socket, CREATE, bob, body=body)) == REFUSED
    assert told(await ask(other, CREATE, desk.ann, body=body)) == REFUSED
    assert told(await ask(other, "auth:login", body=body)) == REFUSED
    assert (await ask(socket, CREATE, desk.ann, body=body))["status"] == 200


async def test_a_login_is_no_proof(desk: Running) -> None:
    """What was begun without a user can't be finished as one's own."""
    socket = await desk.open_socket()

    async def challenged(self: Desk, attempt: LoginAttempt) -> Outcome:
        return Challenge({}, kept={"name": "card"})

    async def resumed(self: Desk, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        return Refused("never")

    desk_class = type("Both", (Desk,), {"verify": challenged, "resume": resumed})
    services = desk.app.services
    parts = Parts(services.storage, services.clock_ms)
    await services.strategies.add("desk", desk_class("desk", parts))
    state = (await ask(socket, "auth:login"))["result"]["state"]
    body = {"word": "really", "state": state}
    assert told(await ask(socket, CREATE, desk.ann, body=body)) == REFUSED


@pytest.mark.parametrize("ending", ["logout", "disable", "delete"])
async def test_a_proof_ends_with_what_it_was_begun_by(desk: Running, ending: str) -> None:
    """Nothing is linked for who has logged out, or may not log in, since: by the page he comes back
    to, which needs no token."""
    socket = await desk.open_socket()
    asked = await ask(socket, CREATE, desk.ann, body={"name": "card", "away": True})
    assert asked["status"] == 302
    state = asked["result"]["headers"]["Location"].partition("state=")[2]
    if ending == "logout":
        await desk.call("query", "auth:logout", token=desk.ann)
    elif ending == "delete":
        await desk.call("query", "security:deleteUser", token=desk.admin, _id="ann")
    else:
        await desk.call("query", "security:disableUser", token=desk.admin, _id="ann")
    answer = await ask(socket, "auth:login", state=state, word="really")
    assert told(answer) == (ENDED if ending == "logout" else REFUSED)
    assert not await desk.app.services.strategies.get("desk").exists("ann")


@pytest.mark.parametrize("what", ["disabled", "proof"])
async def test_what_ends_while_a_proof_is_looked_at(
    desk: Running, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """S2: a provider may take seconds, in which a user may be disabled, and what proved it may
    change."""

    async def slow(
        self: Desk, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        if what == "disabled":
            await desk.call("query", "security:disableUser", token=desk.admin, _id="ann")
            return Proven({"name": "card"})
        return Proven({"name": "card"}, (Present(Table.CREDENTIALS, {"id": "nobody"}),))

    services = desk.app.services
    slow_desk = type("Slow", (Desk,), {"resume_proof": slow})
    parts = Parts(services.storage, services.clock_ms)
    await services.strategies.add("desk", slow_desk("desk", parts))
    body = {"description": "x"}
    made = await desk.call(
        "query", "security:createApiKey", token=desk.admin, userId="ann", body=body
    )
    socket, key = await desk.open_socket(), made["result"]["_source"]["token"]
    asked = await ask(socket, CREATE, key, body={"name": "card", "away": True})
    state = asked["result"]["headers"]["Location"].partition("state=")[2]
    answer = await ask(socket, "auth:login", state=state)
    assert answer["error"] is not None
    assert not await services.strategies.get("desk").exists("ann")


async def test_a_proof_ends_with_the_key_it_was_begun_by(desk: Running) -> None:
    """Whoever had an API key that was not his adds no way in for himself once it is gone."""
    body = {"description": "stolen"}
    action = "security:createApiKey"
    made = await desk.call("query", action, token=desk.admin, userId="ann", body=body)
    socket, key = await desk.open_socket(), made["result"]["_source"]["token"]
    asked = await ask(socket, CREATE, key, body={"name": "card", "away": True})
    state = asked["result"]["headers"]["Location"].partition("state=")[2]
    gone = {"token": desk.admin, "userId": "ann", "_id": made["result"]["_id"]}
    assert (await desk.call("query", "security:deleteApiKey", **gone))["status"] == 200
    answer = await ask(socket, "auth:login", state=state, word="really")
    assert told(answer) == ENDED
    assert not await desk.app.services.strategies.get("desk").exists("ann")


async def test_a_key_links_as_long_as_it_is_good(desk: Running) -> None:
    made = await desk.call(
        "query", "security:createApiKey", token=desk.admin, userId="ann", body={"description": "x"}
    )
    socket, key = await desk.open_socket(), made["result"]["_source"]["token"]
    asked = await ask(socket, CREATE, key, body={"name": "card", "away": True})
    state = asked["result"]["headers"]["Location"].partition("state=")[2]
    linked = await ask(socket, "auth:login", state=state, word="really")
    assert linked["result"] == {"name": "card", "by": "ann"}


async def test_who_comes_back_from_elsewhere_is_linked_without_his_token(desk: Running) -> None:
    """As a browser that is sent to a page of the server's; the trail knows who it was."""
    socket = await desk.open_socket()
    asked = await ask(socket, CREATE, desk.ann, body={"name": "card", "away": True})
    state = asked["result"]["headers"]["Location"].partition("state=")[2]
    linked = await ask(socket, "auth:login", state=state, word="really")
    assert linked["result"] == {"name": "card", "by": "ann"}
    last = ends(await events(desk, desk.admin, kind="auth:login"))[-1]
    assert last == ("ok", "", "ann", "ann")


def state_of(away: dict) -> str:
    """Give the state of who is sent elsewhere."""
    state: str = away["result"]["headers"]["Location"].partition("state=")[2]
    return state


async def test_a_refreshed_session_goes_on_linking(desk: Running) -> None:
    """What was begun belongs to the session, whichever of its tokens lives; and ends with it."""
    socket, token = await desk.open_socket(), desk.ann
    asked = [await ask(socket, CREATE, token, body={"name": x, "away": True}) for x in "ab"]
    for _ in range(2):
        token = (await desk.call("query", "auth:refreshToken", token=token))["result"]["jwt"]
    linked = await ask(socket, "auth:login", state=state_of(asked[0]), word="really")
    assert linked["result"] == {"name": "a", "by": "ann"}
    gone = await desk.call("query", "auth:deleteMyCredentials", token=token, strategy="desk")
    assert gone["status"] == 200
    # Begun with a token that has followed another one, and ended with its successor.
    late = await ask(socket, CREATE, token, body={"name": "c", "away": True})
    token = (await desk.call("query", "auth:refreshToken", token=token))["result"]["jwt"]
    await desk.call("query", "auth:logout", token=token)
    for state in (state_of(asked[1]), state_of(late)):
        assert told(await ask(socket, "auth:login", state=state, word="really")) == ENDED
    assert not await desk.app.services.strategies.get("desk").exists("ann")


@pytest.mark.parametrize("by", ["nobody", "an administrator", "nobody, refreshed"])
async def test_who_asks_stays_when_a_provider_changes_his_credentials(
    desk: Running, by: str
) -> None:
    """`revokeTokens` ends the other sessions, whoever's token the browser brings back."""
    made = {"token": desk.admin, "strategy": "desk", "_id": "ann", "body": {"name": "old"}}
    assert (await desk.call("query", "security:createCredentials", **made))["status"] == 200
    socket, own = await desk.open_socket(), desk.ann
    other = await desk.login("ann")
    body = {"name": "new", "away": True}
    asked = await ask(socket, UPDATE, own, body=body, revokeTokens=True)
    token = desk.admin if by == "an administrator" else None
    if by == "nobody, refreshed":
        own = (await desk.call("query", "auth:refreshToken", token=own))["result"]["jwt"]
    linked = await ask(socket, "auth:login", token, state=state_of(asked), word="really")
    others = {"strategies": ["local", "desk"], "apiKeys": 0}
    assert linked["result"] == {"name": "new", "by": "ann", **others}
    living = {own: 200, other: 401, desk.admin: 200}
    for one, status in living.items():
        assert (await desk.call("query", "auth:getCurrentUser", token=one))["status"] == status


async def test_who_asks_with_a_key_keeps_no_session(desk: Running) -> None:
    """The same as for a change that takes no step."""
    made = {"token": desk.admin, "strategy": "desk", "_id": "ann", "body": {"name": "old"}}
    await desk.call("query", "security:createCredentials", **made)
    key = await desk.call(
        "query", "security:createApiKey", token=desk.admin, userId="ann", body={"description": "x"}
    )
    socket, token = await desk.open_socket(), key["result"]["_source"]["token"]
    body = {"name": "new", "away": True}
    asked = await ask(socket, UPDATE, token, body=body, revokeTokens=True)
    linked = await ask(socket, "auth:login", state=state_of(asked), word="really")
    assert linked["status"] == 200, linked
    for one, status in ((desk.ann, 401), (token, 200)):
        assert (await desk.call("query", "auth:getCurrentUser", token=one))["status"] == status


async def test_the_last_credentials_that_let_somebody_in_stay(
    desk: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is only a further factor is no way in."""
    asserted = {"token": desk.admin, "strategy": "desk", "_id": "ann", "body": {"name": "card"}}
    await desk.call("query", "security:createCredentials", **asserted)
    strategy = desk.app.services.strategies.get("desk")
    monkeypatch.setattr(strategy, "logs_in", False)
    removed = await desk.call("query", "auth:deleteMyCredentials", token=desk.ann, strategy="local")
    assert removed["status"] == 412
    monkeypatch.setattr(strategy, "logs_in", True)
    removed = await desk.call("query", "auth:deleteMyCredentials", token=desk.ann, strategy="local")
    assert removed["status"] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_registration_with_unproved_credentials_is_refused(
    desk: Running, transport: str
) -> None:
    """F4: of all callers only those who may create credentials of others vouch for them."""
    services = desk.app.services
    body = {"credentials": {"desk": {"name": "victim"}}}
    await services.roles.create(
        "registers",
        {"controllers": {"security": {"actions": {"createRestrictedUser": True}}}},
        "-1",
        force=False,
    )
    await services.profiles.create(
        "registers", {"policies": [{"roleId": "registers"}]}, "-1", strict=False
    )
    user = await services.users.create(
        kuid="clerk", kind="", profile_ids=["registers"], content={}, credentials={}, author="-1"
    )
    token = (await services.issuer.issue(user, 60_000)).token
    answer = await desk.call(transport, "security:createRestrictedUser", token=token, body=body)
    assert told(answer, "id", "props") == {
        "id": "api.assert.forbidden_argument",
        "props": ["body.credentials.desk"],
    }
