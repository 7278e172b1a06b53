"""Passkeys over both transports: made, used, listed, renamed, removed (security check A14)."""

import asyncio
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import cbor2
import pytest

from protocol.errors import LocalError
from server.app.strategies import check
from server.auth.strategies.base import Authenticated, Challenge, LoginAttempt, Refused
from server.auth.strategies.passkey.settings import PasskeySettings, check_settings
from server.storage.rows import Table
from tests.server.auth.audit.test_events import ends, events
from tests.support.authenticator import (
    BACKED_UP,
    ELIGIBLE,
    GOOD,
    PRESENT,
    RP_ID,
    Answers,
    Authenticator,
    EdDsa,
    Es256,
    Rs256,
    encode,
)
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.passkeys import CREATE, DELETE, GET, PAGES, TABLE, UPDATE, Page, Place, place_of
from tests.support.server import cheap_config, running

ROOT = Path(__file__).parents[5]
REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
MISSING = {"id": "api.assert.missing_argument", "code": 33619971, "status": 400}
INVALID = {"id": "api.assert.invalid_argument", "code": 33619970, "status": 400}


@pytest.fixture
async def place(clock: Clock) -> AsyncIterator[Place]:
    async with place_of() as made:
        yield made


@pytest.mark.parametrize("transport", PAGES)
@pytest.mark.parametrize("kind", [Es256, EdDsa, Rs256])
async def test_a_key_lets_its_user_in(
    place: Place, transport: str, kind: Callable[[], Es256 | EdDsa | Rs256]
) -> None:
    """A14: by a signature over a question that was never asked before."""
    key = Authenticator(kind, count=7)
    made = await place.page(transport, place.ann).register(key, "phone")
    assert made["status"] == 200, made
    login = await place.page(transport).log_in(key)
    assert login["result"]["_id"] == "ann"
    me = await place.server.call(transport, "auth:getCurrentUser", token=login["result"]["jwt"])
    assert me["result"]["strategies"] == ["local", "passkey"]
    assert (await place.page(transport).log_in(key))["status"] == 200


async def test_over_the_route_of_a_login(place: Place) -> None:
    """With a POST, as by `curl`."""
    http = await place.server.connect()
    asked = await http.ask("POST", "/_login/passkey")
    cookie = {"Cookie": asked.headers["set-cookie"].partition(";")[0]}
    result = asked.json["result"]
    credential = place.key.get(result["challenge"])
    path = f"/_login/passkey?state={result['state']}"
    login = await http.ask("POST", path, {"credential": credential}, headers=cookie)
    assert login.json["result"]["_id"] == "ann"


async def test_what_a_new_key_is_asked_for(place: Place) -> None:
    """A14: 256 random bits; the handle is random, the same for all keys of a user, and says nothing
    of him; keys he has are excluded."""
    page = place.page(token=place.ann)
    asked, _ = await page.begin(CREATE)
    again, _ = await page.begin(CREATE)
    assert asked["challenge"] != again["challenge"]
    assert len(asked["challenge"]) == len(asked["user"]["id"]) == 43
    assert asked["user"]["id"] == place.key.handle
    assert asked["user"] == {"id": place.key.handle, "name": "ann", "displayName": "ann"}
    assert asked["rp"] == {"id": RP_ID, "name": "Keys"}
    assert [one["alg"] for one in asked["pubKeyCredParams"]] == [-7, -8, -257]
    own = {"type": "public-key", "id": encode(place.key.id), "transports": ["hybrid", "internal"]}
    assert asked["excludeCredentials"] == [own]
    assert asked["attestation"] == "none"
    assert asked["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "required",
    }


async def test_a_login_tells_nothing_of_anybody(place: Place) -> None:
    """A3: whoever is named, known or not, the question is the same."""
    for username in (None, "ann", "nobody"):
        asked = await place.page().ask("auth:login", {"username": username})
        challenge = asked["result"]["challenge"]
        assert challenge.pop("challenge")
        assert challenge == {
            "timeout": 300_000,
            "rpId": RP_ID,
            "allowCredentials": [],
            "userVerification": "required",
        }


async def test_several_keys_with_names(place: Place, clock: Clock) -> None:
    """Listed with what is known of their use; each can be given another name."""
    second = Authenticator(count=1)
    page = place.page(token=place.ann)
    clock.now_ms += 1000
    made = await page.register(second, "phone", Answers(flags=GOOD | ELIGIBLE | BACKED_UP))
    shown = made["result"]
    assert shown == {
        "id": encode(second.id),
        "name": "phone",
        "createdAt": clock.now_ms,
        "lastUsedAt": None,
        "backedUp": True,
        "transports": ["hybrid", "internal"],
    }
    clock.now_ms += 1000
    wrong = Answers(flags=GOOD | ELIGIBLE)
    assert (await place.page().log_in(second, wrong))["status"] == 200
    named = await page.ask(UPDATE, {"id": encode(second.id), "name": "old phone"})
    assert named["result"]["name"] == "old phone"
    keys = (await page.ask(GET))["result"]["keys"]
    assert [key["name"] for key in keys] == ["laptop", "old phone"]
    assert keys[1] == {
        **shown,
        "name": "old phone",
        "lastUsedAt": clock.now_ms,
        "backedUp": False,
    }


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", 7, None])
async def test_a_name_that_can_not_be(place: Place, name: object) -> None:
    page = place.page(token=place.ann)
    body = {"id": encode(place.key.id), "name": name}
    assert told(await page.ask(UPDATE, body)) == INVALID
    asked, state = await page.begin(CREATE)
    credential = Authenticator().create(asked)
    body = {"state": state, "credential": credential, "name": name}
    assert told(await page.ask(CREATE, body)) == INVALID
    assert len((await page.ask(GET))["result"]["keys"]) == 1


@pytest.mark.parametrize("transport", PAGES)
async def test_one_of_several_keys_is_removed(place: Place, transport: str) -> None:
    """It lets nobody in any more; the other one does."""
    second = Authenticator()
    page = place.page(transport, place.ann)
    await page.register(second)
    gone = await page.ask(DELETE, credentialId=encode(place.key.id))
    assert gone["result"] == {"acknowledged": True}
    assert told(await place.page(transport).log_in(place.key)) == REFUSED
    assert (await place.page(transport).log_in(second))["status"] == 200
    asked, _ = await page.begin(CREATE)
    assert asked["user"]["id"] == place.key.handle


async def test_over_the_route_of_a_removal(place: Place) -> None:
    """The key stands in the query string; one that is none removes nothing."""
    http = await place.server.connect()
    path = "/_me/credentials/passkey?credentialId="
    for key_id, status in (("", 412), ("AAAA", 412), (encode(place.key.id), 200)):
        answer = await http.ask("DELETE", path + key_id, token=place.ann)
        assert answer.status == status, answer
    answer = await http.ask("DELETE", "/_me/credentials/local?credentialId=a", token=place.ann)
    assert answer.status == 400


async def test_the_last_way_in_stays(place: Place) -> None:
    """A15: keys count as one way in, until the last of them goes."""
    second = Authenticator()
    page = place.page(token=place.ann)
    await page.register(second)
    page.strategy = "local"
    assert (await page.ask(DELETE))["status"] == 200
    page.strategy = "passkey"
    assert (await page.ask(DELETE))["status"] == 412
    assert (await page.ask(DELETE, credentialId=encode(second.id)))["status"] == 200
    assert (await page.ask(DELETE, credentialId=encode(place.key.id)))["status"] == 412
    assert (await place.page().log_in(place.key))["status"] == 200


async def test_two_removals_at_once_leave_a_way_in(place: Place) -> None:
    """A15."""
    second = Authenticator()
    page = place.page(token=place.ann)
    await page.register(second)
    page.strategy = "local"
    assert (await page.ask(DELETE))["status"] == 200
    pages = [place.page(token=place.ann) for _ in range(2)]
    asked = zip(pages, (place.key, second), strict=True)
    done = await asyncio.gather(
        *(page.ask(DELETE, credentialId=encode(key.id)) for page, key in asked)
    )
    assert sorted(answer["status"] for answer in done) == [200, 412]


async def test_all_keys_are_removed_with_their_user_or_together(place: Place) -> None:
    """Nothing of them stays, and others may have them then."""
    storage = place.server.app.services.storage
    page = place.page(token=place.ann)
    await page.register(Authenticator())
    assert (await page.ask(DELETE))["status"] == 200
    assert await storage.count(Table.PASSKEYS) == 0
    assert (await page.ask(GET))["status"] == 412
    assert told(await place.page().log_in(place.key)) == REFUSED
    await page.register(place.key)
    await place.server.call("query", "security:deleteUser", token=place.admin, _id="ann")
    assert await storage.count(Table.PASSKEYS) == 0
    assert (await place.page(token=place.admin).register(place.key))["status"] == 200


async def test_only_so_many_keys() -> None:
    """Also if they are asked for before there are so many."""
    async with place_of(mostKeys=2) as place:
        pages = [place.page(token=place.ann) for _ in range(2)]
        steps = [await page.begin(CREATE) for page in pages]
        done = []
        for page, (asked, state) in zip(pages, steps, strict=True):
            body = {"state": state, "credential": Authenticator().create(asked)}
            done.append((await page.ask(CREATE, body))["status"])
        assert done == [200, 412]
        assert (await pages[0].ask(CREATE, {}))["status"] == 412


async def test_two_first_keys_at_once_are_of_one_handle(place: Place) -> None:
    """The one that was made for another handle would never let anybody in."""
    bob = await place.server.create_user(place.admin, "bob")
    pages = [place.page(token=bob) for _ in range(2)]
    steps = [await page.begin(CREATE) for page in pages]
    bodies = [
        {"state": state, "credential": Authenticator().create(asked)} for asked, state in steps
    ]
    done = [await page.ask(CREATE, body) for page, body in zip(pages, bodies, strict=True)]
    assert [answer["status"] for answer in done] == [200, 412]


async def test_a_key_of_somebody_else_is_not_taken_over(place: Place) -> None:
    """Neither by himself again, nor by anybody else."""
    for name in ("ann", "bob"):
        token = place.ann if name == "ann" else await place.server.create_user(place.admin, name)
        copy = Authenticator()
        copy.id = place.key.id
        before = await place.counts()
        assert (await place.page(token=token).register(copy))["status"] == 412
        assert (await place.counts())[1:] == before[1:]
    keys = (await place.page(token=place.ann).ask(GET))["result"]["keys"]
    assert [key["name"] for key in keys] == ["laptop"]


async def test_keys_of_others_are_out_of_reach(place: Place) -> None:
    """To be renamed or removed."""
    token = await place.server.create_user(place.admin, "bob")
    page = place.page(token=token)
    assert (await page.register(Authenticator()))["status"] == 200
    own = encode(place.key.id)
    assert (await page.ask(UPDATE, {"id": own, "name": "mine"}))["status"] == 412
    assert (await page.ask(DELETE, credentialId=own))["status"] == 412


async def test_a_counter_that_goes_back_is_an_alarm(place: Place) -> None:
    """A14: equal, or lower, or 0 after it counted; the trail calls it a possible clone. A key that
    does not count is none."""
    key = Authenticator(count=5)
    await place.page(token=place.ann).register(key)
    assert (await place.page().log_in(key, Answers(count=9)))["status"] == 200
    before = await place.counts()
    for count in (9, 8, 0):
        assert told(await place.page().log_in(key, Answers(count=count))) == REFUSED
    assert await place.counts() == before
    found = await events(place.server, place.admin, kind="auth:login")
    reason = "possible clone of the key: its counter went back"
    assert ends(found)[-1] == ("refused", reason, "ann", "-1")
    assert sum(one["count"] for one in found if one["reason"] == reason) == 3
    assert (await place.page().log_in(key, Answers(count=10)))["status"] == 200


async def test_of_two_with_one_counter_one_gets_in(place: Place) -> None:
    """A14: both signatures are good, but the counter is written with the token."""
    key = Authenticator(count=5)
    await place.page(token=place.ann).register(key)
    pages = [place.page() for _ in range(2)]
    steps = [await page.begin() for page in pages]
    signed = [key.get(asked, Answers(count=6)) for asked, _ in steps]
    done = await asyncio.gather(
        *(
            page.finish(state, credential)
            for page, (_, state), credential in zip(pages, steps, signed, strict=True)
        )
    )
    assert sorted(answer["status"] for answer in done) == [200, 401]


async def test_a_disabled_user_stays_out(place: Place) -> None:
    await place.server.call("query", "security:disableUser", token=place.admin, _id="ann")
    answer = await place.page().log_in(place.key)
    assert told(answer) == REFUSED
    found = await events(place.server, place.admin, kind="auth:login")
    assert ends(found)[-1] == ("refused", "disabled user", "ann", "-1")


async def test_an_answer_is_good_once(place: Place) -> None:
    """A14: for its own question, in the browser that asked."""
    page = place.page()
    asked, state = await page.begin()
    credential = place.key.get(asked)
    assert told(await place.page().finish(state, credential)) == REFUSED
    assert (await page.finish(state, credential))["status"] == 200
    assert told(await page.finish(state, credential)) == REFUSED
    _, later = await page.begin()
    assert told(await page.finish(later, credential)) == REFUSED


async def test_a_question_has_its_time(place: Place, clock: Clock) -> None:
    """A14: `timeouts.login`."""
    page = place.page()
    asked, state = await page.begin()
    clock.now_ms += 600_000
    assert told(await page.finish(state, place.key.get(asked))) == REFUSED


async def test_a_refused_answer_uses_up_its_question(place: Place) -> None:
    page = place.page()
    asked, state = await page.begin()
    assert told(await page.finish(state, {})) == REFUSED
    assert told(await page.finish(state, place.key.get(asked))) == REFUSED


async def test_without_cookies_where_that_is_allowed() -> None:
    """A page of another site, or a program, brings the state alone."""
    async with place_of(portable=True) as place:
        asked, state = await place.page().begin()
        assert (await place.page().finish(state, place.key.get(asked)))["status"] == 200
        asked, state = await place.page(token=place.ann).begin(CREATE)
        body = {"state": state, "credential": Authenticator().create(asked)}
        bob = await place.server.create_user(place.admin, "bob")
        assert told(await place.page(token=bob).ask(CREATE, body)) == REFUSED
        assert (await place.page(token=place.ann).ask(CREATE, body))["status"] == 200


async def test_what_is_missing_is_named(place: Place) -> None:
    stranger, ann = place.page(), place.page(token=place.ann)
    credential = place.key.get((await stranger.begin())[0])
    for page, full_name in ((stranger, "auth:login"), (ann, CREATE)):
        assert told(await page.ask(full_name, {"credential": credential})) == MISSING
        _, state = await page.begin(full_name)
        assert told(await page.ask(full_name, {"state": state})) == MISSING


async def test_nothing_is_linked_by_claiming_it(place: Place) -> None:
    """What only an administrator may say of a key is no proof of anybody else's."""
    claimed = _claim(Authenticator()) | {"userHandle": place.key.handle}
    page = place.page(token=place.ann)
    for full_name in (CREATE, UPDATE):
        assert (await page.ask(full_name, claimed))["status"] in (400, 412)
    del claimed["id"]
    asked = await page.ask(CREATE, claimed)
    assert asked["result"].keys() == {"challenge", "expiresAt", "state"}
    assert len((await page.ask(GET))["result"]["keys"]) == 1


async def test_keys_brought_along_by_an_administrator(place: Place) -> None:
    """From another server of the same domain, with their users' handles."""
    key = Authenticator(count=3)
    key.handle = encode(b"bob of the other server")
    claimed = _claim(key) | {"name": "old", "backedUp": True, "transports": ["usb", "radio", 7]}
    body = {"content": {"profileIds": ["default"]}, "credentials": {"passkey": claimed}}
    asked = {"token": place.admin, "_id": "bob"}
    made = await place.server.call("query", "security:createUser", body=body, **asked)
    assert made["status"] == 200, made
    asked["strategy"] = "passkey"
    shown = await place.server.call("query", "security:getCredentials", **asked)
    (only,) = shown["result"]["keys"]
    assert (only["name"], only["backedUp"], only["transports"]) == ("old", True, ["usb"])
    by_id = asked | {"_id": encode(key.id)}
    found = await place.server.call("query", "security:getCredentialsById", **by_id)
    assert (found["result"]["kuid"], found["result"]["name"]) == ("bob", "old")
    by_id["_id"] = "none"
    assert (await place.server.call("query", "security:getCredentialsById", **by_id))[
        "status"
    ] == 412
    assert (await place.page().log_in(key))["result"]["_id"] == "bob"
    asked["credentialId"] = encode(key.id)
    gone = await place.server.call("query", "security:deleteCredentials", **asked)
    assert gone["status"] == 200
    assert told(await place.page().log_in(key)) == REFUSED


async def test_a_handle_is_one_users(place: Place) -> None:
    """A key brought along for Ann's handle would be Ann's: nobody else is given it."""
    key = Authenticator()
    key.handle = place.key.handle
    await place.server.create_user(place.admin, "carl")
    before = await place.counts()
    for action, body in (
        ("createCredentials", _claim(key)),
        (
            "createUser",
            {"content": {"profileIds": ["default"]}, "credentials": {"passkey": _claim(key)}},
        ),
    ):
        kuid = "carl" if action == "createCredentials" else "bob"
        asked = {"token": place.admin, "_id": kuid, "strategy": "passkey"}
        refused = await place.server.call("query", f"security:{action}", body=body, **asked)
        assert refused["status"] == 412, refused
        assert refused["error"]["message"] == "the userHandle is already taken"
    assert await place.counts() == before


def _claim(key: Authenticator) -> dict[str, object]:
    public_key = encode(cbor2.dumps(key.key.cose()))
    handle = key.handle or encode(b"some handle")
    claimed = {"id": encode(key.id), "publicKey": public_key, "userHandle": handle}
    return {**claimed, "signCount": key.count}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("id", value) for value in (None, "", "=", 7, "A", encode(bytes(1024)))],
        *[("userHandle", value) for value in (None, "", 7, "a b", encode(bytes(65)))],
        *[("signCount", value) for value in (-1, 2**32, 1.5, True, "1")],
        *[
            ("publicKey", value)
            for value in (
                None,
                "",
                encode(b"\xa0"),
                encode(b"\x04" + bytes(64)),
                encode(cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)})),
                encode(cbor2.dumps({1: 1, 3: -8, -1: 6, -2: b"short"})),
                encode(cbor2.dumps({1: 3, 3: -65535, -1: bytes(256), -2: b"\x03"})),
                encode(cbor2.dumps({1: [], 3: {}})),
                encode(bytes(3000)),
            )
        ],
        ("name", "x" * 65),
    ],
)
async def test_what_is_no_key(place: Place, name: str, value: object) -> None:
    """An administrator's mistake is named, and stores nothing."""
    before = await place.counts()
    body = _claim(Authenticator()) | {name: value}
    asked = {"token": place.admin, "strategy": "passkey", "_id": "admin"}
    for action in ("createCredentials", "validateCredentials"):
        answer = await place.server.call("query", f"security:{action}", body=body, **asked)
        assert told(answer) == INVALID
        assert name in answer["error"]["message"]
    assert await place.counts() == before


@pytest.mark.parametrize("level", ["preferred", "discouraged"])
async def test_without_verification_where_that_is_allowed(level: str) -> None:
    """A14: required unless the operator says otherwise."""
    async with place_of(userVerification=level) as place:
        login = await place.page().log_in(place.key, Answers(flags=PRESENT))
        assert login["status"] == 200
        assert (await place.page(token=place.ann).begin(CREATE))[0]["authenticatorSelection"][
            "userVerification"
        ] == level


async def test_a_page_in_a_frame_where_that_is_allowed() -> None:
    """A14: only of the origins that are named."""
    async with place_of(topOrigins=["https://host.test"]) as place:
        for top, status in (("https://host.test", 200), ("https://evil.test", 401), (None, 401)):
            more = {"crossOrigin": True} | ({} if top is None else {"topOrigin": top})
            login = await place.page().log_in(place.key, Answers(more=more))
            assert login["status"] == status


async def test_an_attestation_is_checked_where_it_comes(place: Place) -> None:
    page = place.page(token=place.ann)
    assert (await page.register(Authenticator(), fmt="packed"))["status"] == 200
    asked, state = await page.begin(CREATE)
    key, other = Authenticator(), Authenticator()
    key.key.sign = other.key.sign  # type: ignore[method-assign]
    body = {"state": state, "credential": key.create(asked, fmt="packed")}
    assert told(await page.ask(CREATE, body)) == REFUSED


async def test_a_second_factor_is_a_key_of_this_user(place: Place) -> None:
    """As a strategy that wants two proofs asks for it, through the guard against faults."""
    strategy = place.server.app.services.strategies.get("passkey")
    assert await strategy.second_factor("admin", "state") is None  # type: ignore[attr-defined]
    challenge = await strategy.second_factor("ann", "state")  # type: ignore[attr-defined]
    assert isinstance(challenge, Challenge)
    (own,) = challenge.data["allowCredentials"]  # type: ignore[misc]
    assert own["id"] == encode(place.key.id)

    async def check(kuid: str, credential: object) -> object:
        attempt = LoginAttempt({"credential": credential})
        return await strategy.check_second_factor(kuid, attempt, challenge.kept)  # type: ignore[attr-defined]

    credential = place.key.get(dict(challenge.data))
    found = await check("ann", credential)
    assert found == Authenticated("ann") and found.guards
    credential["response"]["userHandle"] = None
    assert await check("ann", credential) == Authenticated("ann")
    credential["response"]["userHandle"] = encode(b"somebody")
    assert isinstance(await check("ann", credential), Refused)
    assert isinstance(await check("admin", place.key.get(dict(challenge.data))), Refused)
    other = Authenticator()
    await place.page(token=place.admin).register(other)
    assert isinstance(await check("ann", other.get(dict(challenge.data))), Refused)
    # Her question is no question to somebody else, not even for a key of his own.
    assert isinstance(await check("admin", other.get(dict(challenge.data))), Refused)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rpId": ""}, "rpId: not set"),
        ({"rpId": "Keys.test"}, "rpId"),
        ({"origins": []}, "origins"),
        ({"origins": ["https://app.keys.test/"]}, "origins"),
        ({"origins": ["https://keys.test.evil.test"]}, "keys.test or a domain below it"),
        ({"origins": ["https://evilkeys.test"]}, "keys.test or a domain below it"),
        ({"origins": ["http://app.keys.test"]}, "http is allowed for localhost only"),
        ({"origins": ["https://*.keys.test"]}, "origins"),
        ({"topOrigins": ["nowhere"]}, "topOrigins"),
        ({"algorithms": ["none"]}, "algorithms: none; expected some of ES256"),
        ({"userVerification": "never"}, "userVerification"),
        ({"mostKeys": 0}, "mostKeys"),
    ],
)
async def test_settings_that_can_not_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(LocalError, match="strategies.passkey.*" + said):
        async with running(cheap_config(strategies={"passkey": TABLE | settings})):
            pass


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:8080", "https://localhost", f"android:apk-key-hash:{'A' * 43}"],
)
def test_origins_of_other_kinds(origin: str) -> None:
    check_settings(PasskeySettings(rp_id="localhost", origins=(origin,)))


def test_without_the_extra_the_operator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the strategy is wanted."""
    for name in [name for name in sys.modules if ".strategies.passkey" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "webauthn", None)
    check(cheap_config())
    with pytest.raises(
        LocalError, match=r"strategies.key.use: .*pip install 'manykeys\[passkeys\]'"
    ):
        check(cheap_config(strategies={"key": TABLE}))


def test_who_wants_no_passkeys_loads_nothing() -> None:
    """The extra costs a quarter of a second."""
    script = (
        "import sys, server.cli.main, server.cli.config_docs; sys.exit('webauthn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


async def test_the_page_shows_what_was_run() -> None:
    """docs/strategies/passkey.md: its configuration starts, its script is the one of the browser
    test."""
    page = (ROOT / "docs/strategies/passkey.md").read_text()
    toml, script = re.findall(r"```(?:toml|js)\n(.*?)```", page, re.DOTALL)
    assert script == (ROOT / "tests/interop/passkeys.js").read_text()
    given = tomllib.loads(toml)
    async with running(cheap_config(strategies=given["strategies"])) as server:
        asked = await Page(server).ask("auth:login")
        assert asked["result"]["challenge"]["rpId"] == "example.com"
