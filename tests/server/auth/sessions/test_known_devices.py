"""Known devices over the wire: the cookie of browsers and the former token of all other clients,
what they prove, and what takes that away (security checks A4, A5, A8)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from server.auth.limits.throttle import NETWORK_FACTORS
from server.auth.sessions import known_devices
from server.config.model import Config
from server.storage.rows import Table
from tests.server.auth.limits.test_rate_limits import MISSING_USER, TOO_MANY_LOGINS, limited
from tests.server.net.test_tls import connect, over_tls, trusting
from tests.support.certificates import Authority
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Answer, Envelope, Running, running

DAY_MS = 24 * 3_600_000
LIMIT = 3
COOKIE = "loginDevice"
RESET = "kuzzle-plugin-auth-passport-local/password"


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the limits, which stands still: what must wait, must wait."""
    now = [1000.0]
    monkeypatch.setattr("server.app.application.clock_s", lambda: now[0])
    return now


@pytest.fixture
async def server(clock: Clock, seconds: list[float]) -> AsyncIterator[Running]:
    """A server that allows `LIMIT` failed logins, with the administrator `admin`, and Ann."""
    async with running(config()) as started:
        await started.create_user(await started.create_admin(), "ann")
        clock.now_ms += 5000
        yield started


def config() -> Config:
    """Give the configuration of a server behind a proxy, which names its clients."""
    found = limited(failed_logins=LIMIT)
    return replace(found, server=replace(found.server, trusted_proxies=("127.0.0.1",)))


async def post(
    server: Running,
    password: str,
    *,
    username: str = "ann",
    cookie: str = "",
    token: object = None,
    address: str = "203.0.113.9",
    path: str = "/_login/local",
    **headers: str,
) -> Answer:
    """Log in over HTTP, as a client of the proxy."""
    http = await server.connect()
    body: dict[str, object] = {"username": username, "password": password}
    if token is not None:
        body["previousToken"] = token
    fields = {"X-Forwarded-For": address, **headers}
    if cookie:
        fields["Cookie"] = cookie
    answer = await http.ask("POST", path, body, headers=fields)
    http.close()
    return answer


def cookie_of(answer: Answer) -> str:
    """Give the pair that a browser sends from now on."""
    assert answer.status == 200, answer
    pair = answer.headers["set-cookie"].partition(";")[0]
    assert pair.startswith(f"{COOKIE}="), pair
    return pair


async def known(server: Running, username: str = "ann", **given: object) -> str:
    """Log in as a browser does, and give its cookie."""
    return cookie_of(await post(server, PASSWORD, username=username, **given))


async def block(server: Running, username: str = "ann") -> None:
    """Guess until the account must wait, at whatever address."""
    for number in range(10 * LIMIT):
        address = f"198.51.100.{number}"
        assert (await post(server, "wrong", username=username, address=address)).status == 401
    assert told((await post(server, PASSWORD, username=username)).json) == TOO_MANY_LOGINS


async def ways(server: Running, **given: object) -> tuple[int, int]:
    """Give the statuses of a right and of a wrong password."""
    right = await post(server, PASSWORD, **given)
    return right.status, (await post(server, "wrong", **given)).status


# The cookie


async def test_device_cookie_is_set_by_each_login_over_http(server: Running, clock: Clock) -> None:
    """S10, with attributes no script and no other site gets around; for 90 days."""
    answer = await post(server, PASSWORD)
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    assert pair.startswith(f"{COOKIE}=")
    assert {"Path=/", "HttpOnly", "SameSite=Strict"} <= set(attributes)
    (expires,) = [one for one in attributes if one.startswith("Expires=")]
    ends = parsedate_to_datetime(expires.removeprefix("Expires="))
    assert ends.timestamp() * 1000 == clock.now_ms + 90 * DAY_MS
    assert COOKIE not in answer.body.decode()
    in_cookie = await post(server, PASSWORD, path="/_login/local?cookieAuth")
    assert in_cookie.headers["set-cookie"].startswith("authToken=")  # the last one of two
    refused = await post(server, "wrong")
    assert "set-cookie" not in refused.headers


async def test_device_cookie_and_session_cookie_leave_in_one_answer(server: Running) -> None:
    """Two fields, as RFC 6265 §3 wants it."""
    http = await server.connect()
    body = b'{"username":"ann","password":"%b"}' % PASSWORD.encode()
    await http.send(
        b"POST /_login/local?cookieAuth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    head = (await http.read_end()).partition(b"\r\n\r\n")[0].decode()
    names = [
        line.partition(": ")[2].partition("=")[0]
        for line in head.split("\r\n")
        if line.lower().startswith("set-cookie:")
    ]
    assert sorted(names) == ["authToken", COOKIE]


async def test_device_cookie_over_tls_has_the_host_prefix(tmp_path: Path) -> None:
    """S10: `Secure`, and no sibling host can plant one."""
    authority = Authority(tmp_path)
    async with running(over_tls(authority.sign("first"))) as server:
        users = server.app.services.users
        await users.create(
            kuid="ann",
            kind="human",
            profile_ids=["default"],
            content={},
            credentials={"local": {"username": "ann", "password": PASSWORD}},
            author="-1",
        )
        http = await connect(server.port, trusting(authority))
        body = {"username": "ann", "password": PASSWORD}
        answer = await http.ask("POST", "/_login/local", body)
        line = answer.headers["set-cookie"]
        assert line.startswith(f"__Host-{COOKIE}=") and line.endswith("; Secure")
        http.close()


async def test_known_device_by_cookie_passes_the_wait_of_the_account(server: Running) -> None:
    """A5: the owner logs in while strangers guess; others, right or wrong, must wait (A4)."""
    cookie = await known(server)
    await block(server)
    for _ in range(2 * LIMIT):
        cookie = await known(server, cookie=cookie, address="192.0.2.55")
    assert await ways(server, cookie=cookie) == (200, 401)
    assert await ways(server) == (429, 429)


async def test_known_device_by_cookie_on_a_websocket(server: Running) -> None:
    """The cookie comes with the upgrade request."""
    cookie = await known(server)
    await block(server)
    login = {"controller": "auth", "action": "login", "strategy": "local"}
    login["body"] = {"username": "ann", "password": PASSWORD}
    for headers, status in (({"Cookie": cookie}, 200), ({}, 429)):
        socket = await server.open_socket({"X-Forwarded-For": "192.0.2.7", **headers})
        assert (await socket.ask(login))["status"] == status


async def test_known_device_passes_no_wait_of_another_account(server: Running) -> None:
    """A4: a proof is bound to its account; so is one for an account that is not there, and the
    answers are the same."""
    admin = await known(server, "admin")
    await block(server)
    await block(server, "nobody")
    for username in ("ann", "nobody"):
        assert await ways(server, username=username, cookie=admin) == (429, 429)
    two = await known(server, "admin", cookie=admin)
    assert await ways(server, username="ann", cookie=two) == (429, 429)


async def test_known_device_of_several_accounts(server: Running, clock: Clock) -> None:
    """A family shares a browser: it is known to the last accounts that have logged in."""
    admin = await server.login("admin")
    cookie = await known(server)
    for number in range(known_devices.MOST_ACCOUNTS - 1):
        await server.create_user(admin, f"kin{number}")
        cookie = await known(server, f"kin{number}", cookie=cookie)
    await block(server)
    assert (await post(server, PASSWORD, cookie=cookie)).status == 200
    await server.create_user(admin, "one too many")
    cookie = await known(server, "one too many", cookie=cookie)
    assert (await post(server, PASSWORD, cookie=cookie)).status == 429


async def test_known_device_has_the_ordinary_limit_of_failures(server: Running) -> None:
    """A4: a stolen cookie gives as many guesses as an address has, from wherever it is shown. The
    device keeps its count when it logs in again with the cookie of before."""
    cookie = await known(server)
    stolen = await known(server, cookie=cookie)
    for number in range(LIMIT):
        given = {"cookie": (cookie, stolen)[number % 2], "address": f"192.0.2.{number}"}
        assert (await post(server, "wrong", **given)).status == 401
    for one in (cookie, stolen):
        refused = await post(server, PASSWORD, cookie=one)
        assert told(refused.json) == TOO_MANY_LOGINS
    assert (await post(server, PASSWORD)).status == 200  # as an unknown device


async def test_known_device_is_not_told_apart_by_the_answer(server: Running) -> None:
    """What a client that proves nothing is answered, and what a known device is."""
    cookie, ends = await known(server), []
    for given in ({}, {"cookie": cookie}, {"cookie": f"{COOKIE}=made.up.1.x"}, {"token": "a.b.c"}):
        answer = (await post(server, "wrong", **given)).json
        del answer["requestId"]
        ends.append(answer)
    assert all(one == ends[0] for one in ends)


async def test_device_cookie_that_was_changed_proves_nothing(server: Running) -> None:
    """Each part is signed; what cannot be read at all is no error either."""
    cookie = await known(server)
    await block(server)
    value = cookie.partition("=")[2]
    changed = [
        value[:at] + ("B" if value[at] == "A" else "A") + value[at + 1 :]
        for at in range(0, len(value) - 1, 7)
    ]
    broken = ["", "~", "....", "a.b.c.d", "~".join([value] * 60), value[:-4], "\xe9", "%E9", '"']
    for one in (*changed, *broken):
        answer = await post(server, PASSWORD, cookie=f"{COOKIE}={one}")
        assert answer.status == 429, one
    assert (await post(server, PASSWORD, cookie=cookie)).status == 200


async def test_device_cookie_of_a_foreign_page_does_not_count(server: Running) -> None:
    """H5: no page makes the device of its visitor guess, and none takes the cookie's place."""
    cookie = await known(server)
    await block(server)
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-site"}
    assert (await post(server, PASSWORD, cookie=cookie, **foreign)).status == 429
    answer = await post(server, PASSWORD, username="admin", **foreign)
    assert answer.status == 200 and "set-cookie" not in answer.headers


# The former token


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_known_device_by_a_former_token(
    server: Running, clock: Clock, transport: str
) -> None:
    """A5, A8: in the body over each transport, and beside it where arguments are no query string;
    expired, logged out and swept, for 90 days."""
    token = await server.login("ann")
    await server.call("query", "auth:logout", token=token)
    await block(server)
    clock.now_ms += 89 * DAY_MS
    await server.app.services.tokens.sweep()
    body = {"username": "ann", "password": PASSWORD}
    kinds: list[tuple[dict[str, object], dict[str, object], int]] = [
        ({}, {}, 429),
        ({"previousToken": token}, {}, 200),
        ({"previousToken": f"kauth-{token}"}, {}, 200),
        ({"previousToken": None}, {}, 429),
        ({}, {"previousToken": token}, 429 if transport == "http" else 200),
    ]
    for more, args, status in kinds:
        answer = await log_in(server, transport, body | more, **args)
        assert answer["status"] == status, (more, args)
    clock.now_ms += DAY_MS
    assert (await log_in(server, transport, body | {"previousToken": token}))["status"] == 429


async def log_in(server: Running, transport: str, body: dict, **args: object) -> Envelope:
    """Log in as a client at the address of the guesses above."""
    payload = {"controller": "auth", "action": "login", "strategy": "local", "body": body, **args}
    headers = {"X-Forwarded-For": "198.51.100.1"}
    if transport == "websocket":
        return await (await server.open_socket(headers)).ask(payload)
    http = await server.connect()
    if transport == "query":
        return (await http.ask("POST", "/_query", payload, headers=headers)).json
    query = "".join(f"?{name}={value}" for name, value in args.items())
    return (await http.ask("POST", f"/_login/local{query}", body, headers=headers)).json


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_former_token_of_a_wrong_type(server: Running, transport: str) -> None:
    body = {"username": "ann", "password": PASSWORD, "previousToken": 7}
    answer = await log_in(server, transport, body)
    assert told(answer, "id", "status") == {"id": "api.assert.invalid_type", "status": 400}


async def test_former_token_has_the_ordinary_limit_of_failures(server: Running) -> None:
    """A4, as for a cookie; another token of the account is another device."""
    first, second = await server.login("ann"), await server.login("ann")
    await block(server)
    statuses = [
        (await post(server, "wrong", token=first, address=f"192.0.2.{number}")).status
        for number in range(LIMIT + 1)
    ]
    assert statuses == [401] * LIMIT + [429]
    assert await ways(server, token=first) == (429, 429)
    assert await ways(server, token=second) == (200, 401)


async def test_former_token_must_be_a_session_token_of_the_account(
    server: Running, clock: Clock
) -> None:
    """T6: neither an API key, with or without its prefix, nor another account's token, nor one that
    is not signed by us or says that it comes from the future."""
    ann, admin = await server.login("ann"), await server.login("admin")
    wanted = {"token": admin, "userId": "ann", "body": {"description": "d"}}
    made = await server.call("query", "security:createApiKey", **wanted)
    key = made["result"]["_source"]["token"]
    future = server.app.services.keyring.sign({"_id": "ann", "iat": clock.now_ms // 1000 + 60})
    forged = ann[:-6] + "AAAAAA"
    await block(server)
    for token in (key, key.removeprefix("kapikey-"), admin, forged, future, "x" * 9000, "é.é.é"):
        assert (await post(server, PASSWORD, token=token)).status == 429, token
    assert (await post(server, PASSWORD, token=ann)).status == 200


async def test_former_token_is_not_shown_to_strategies(server: Running) -> None:
    """What they keep or send on must not hold a token."""
    seen: list[dict[str, object]] = []
    local = server.app.services.strategies.get("local")

    class Nosy:
        name, fields = "nosy", ()

        async def verify(self, attempt):  # noqa: ANN001, ANN202
            seen.append({**attempt.body, **attempt.args})
            return await local.verify(attempt)

    server.app.services.strategies.register("nosy", Nosy())
    for given in ({"body": {"previousToken": "a.b.c", "x": "y"}}, {"previousToken": "a.b.c"}):
        await server.call("query", "auth:login", strategy="nosy", **given)
    assert [sorted(one) for one in seen] == [["strategy", "x"], ["strategy"]]


# What takes it away


async def disable(server: Running, admin: str, ann: str) -> None:
    """And enable again."""
    for name in ("disableUser", "enableUser"):
        await done(server.call("query", f"security:{name}", token=admin, _id="ann"))


async def delete(server: Running, admin: str, ann: str) -> None:
    """And create another user of the same id."""
    await done(server.call("query", "security:deleteUser", token=admin, _id="ann"))
    credentials = {"local": {"username": "ann", "password": PASSWORD}}
    body = {"content": {"profileIds": ["default"]}, "credentials": credentials}
    await done(server.call("query", "security:createUser", token=admin, _id="ann", body=body))


async def revoke(server: Running, admin: str, ann: str) -> None:
    """All sessions of the user."""
    await done(server.call("query", "security:revokeTokens", token=admin, _id="ann"))


async def revoke_all(server: Running, admin: str, ann: str) -> None:
    """All sessions of all users."""
    await done(server.call("query", "security:revokeAllTokens", token=admin))


async def log_out_everywhere(server: Running, admin: str, ann: str) -> None:
    """All sessions, by the user."""
    await done(server.call("query", "auth:logout", token=ann, **{"global": True}))


async def change_password(server: Running, admin: str, ann: str) -> None:
    """All other sessions, with a new password that is the same."""
    body = {"password": PASSWORD}
    args = {"strategy": "local", "revokeTokens": True}
    await done(
        server.call("query", "auth:updateMyCredentials", token=ann, body=body, **args),
    )


async def change_anothers_password(server: Running, admin: str, ann: str) -> None:
    """By an administrator."""
    body, args = {"password": PASSWORD}, {"_id": "ann", "strategy": "local", "revokeTokens": True}
    await done(
        server.call("query", "security:updateCredentials", token=admin, body=body, **args),
    )


async def reset_password(server: Running, admin: str, ann: str) -> None:
    """With a reset token."""
    args = {"token": admin, "_id": "ann"}
    made = await done(server.call("query", f"{RESET}:getResetPasswordToken", **args))
    body = {"token": made["result"]["resetToken"], "password": PASSWORD}
    await done(server.call("query", f"{RESET}:reset", token=admin, body=body))


async def end_family_by_reuse(server: Running, admin: str, ann: str) -> None:
    """A refreshed token comes back after its grace."""
    row = await server.app.services.storage.find(Table.SESSIONS, limit=9, kuid="ann")
    await server.app.services.tokens._revoke_family(row[0]["family"])


async def done(asked: object) -> Envelope:
    """Give the answer, which must be a success."""
    answer = await asked  # type: ignore[misc]
    assert answer["status"] == 200, answer
    return answer


@pytest.mark.parametrize(
    "change",
    [
        disable,
        delete,
        revoke,
        revoke_all,
        log_out_everywhere,
        change_password,
        change_anothers_password,
        reset_password,
        end_family_by_reuse,
    ],
)
async def test_known_device_is_forgotten_with_all_sessions(
    server: Running, clock: Clock, seconds: list[float], change: object
) -> None:
    """S2, S3, S4: what ends the sessions of a user ends the proofs of before, by cookie and by
    token, of this account; the next login makes a device known again."""
    cookie, ann, admin = await known(server), await server.login("ann"), await server.login("admin")
    others = await known(server, "admin")
    await block(server)
    assert await ways(server, cookie=cookie) == (200, 401)
    assert await ways(server, token=ann) == (200, 401)
    clock.now_ms += 5000
    await change(server, admin, ann)  # type: ignore[operator]
    clock.now_ms += 5000
    await server.app.services.tokens.sweep()
    assert await ways(server, cookie=cookie) == (429, 429)
    assert await ways(server, token=ann) == (429, 429)
    seconds[0] += 900
    cookie = await known(server, address="192.0.2.30")
    seconds[0] += 900
    is_of_all = change is revoke_all
    await block_again(server, "ann")
    assert await ways(server, cookie=cookie) == (200, 401)
    await block(server, "admin")
    expected = 429 if is_of_all else 200
    assert (await post(server, PASSWORD, username="admin", cookie=others)).status == expected


async def block_again(server: Running, username: str) -> None:
    """Guess once more, beyond the limit: the account must wait again."""
    for number in range(10 * LIMIT):
        await post(server, "wrong", username=username, address=f"198.51.100.{number}")
    assert (await post(server, PASSWORD, username=username)).status == 429


async def test_known_device_goes_on_when_one_session_is_deleted(server: Running) -> None:
    """Logging out is what a user does before the next login."""
    cookie, token = await known(server), await server.login("ann")
    for one in (token, await server.login("ann")):
        await done(server.call("query", "auth:logout", token=one))
    await block(server)
    assert await ways(server, cookie=cookie) == (200, 401)
    assert await ways(server, token=token) == (200, 401)


async def test_proofs_are_the_same_for_all_processes_of_a_store(tmp_path: Path) -> None:
    """The key is the store's: two servers that start at once agree on it."""
    data = str(tmp_path / "keys.db")
    async with running(config(), data=data) as one:
        await one.create_user(await one.create_admin(), "ann")
        async with running(config(), data=data) as other:
            (cookie, _) = await asyncio.gather(known(one), known(other))
            await block(other)
            assert (await post(other, PASSWORD, cookie=cookie)).status == 200
    async with running(config(), data=data) as again:
        await block(again)
        assert (await post(again, PASSWORD, cookie=cookie)).status == 200


async def test_known_device_at_a_blocked_address(server: Running) -> None:
    """A5: behind one address with a guesser, who has used up what the address has."""
    cookie, address = await known(server), "203.0.113.77"
    for number in range(LIMIT * NETWORK_FACTORS[0]):
        answer = await post(server, "wrong", username=f"user{number}", address=address)
        assert answer.status == 401
    assert (await post(server, PASSWORD, address=address)).status == 429
    assert (await post(server, PASSWORD, address=address, cookie=cookie)).status == 200


async def test_device_cookie_is_short(clock: Clock) -> None:
    """However long the ids of its users are."""
    async with running() as server:
        devices = server.app.services.devices._known
        cookie = ""
        for number in range(10):
            kuid = f"{number}" + "x" * 500
            clock.now_ms += 1
            cookie = await devices.issue(kuid, cookie)
            assert len(cookie) <= known_devices.MOST_COOKIE_CHARACTERS
            found = await devices.verify(cookie, "")
            assert found[0].kuid == kuid
            assert len(found) == min(number + 1, known_devices.MOST_ACCOUNTS)


async def test_wrong_answers_are_401_until_the_limit(server: Running) -> None:
    """A4: the id of the refusal is the contract's, known device or not."""
    answer = await post(server, "wrong", cookie=await known(server))
    assert told(answer.json, "id", "status") == {"id": MISSING_USER, "status": 401}
