"""Sessions in a cookie: how one begins and ends, and whose pages may use it
(docs/api/auth.md#token-sources with the repairs of docs/api/differences.md#cookie-logout)."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlencode

import pytest

from server.config.model import Config
from server.config.server import Http
from server.storage.base import EventKind, JournalEvent, Put
from server.storage.rows import Row, Table
from server.system.logs import JsonLines, PlainLines
from tests.server.net.test_tls import connect, over_tls, trusting
from tests.support.certificates import Authority
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Envelope, Running, cheap_config, running

APP = "https://app.example"
EVIL = "https://evil.example"
SELF = {"Origin": "http://localhost"}
ERASED = "authToken=null; Path=/; HttpOnly; SameSite=Strict"
ROUTES = {
    "login": ("POST", "/_login/local"),
    "logout": ("POST", "/_logout"),
    "checkToken": ("POST", "/_checkToken"),
    "refreshToken": ("POST", "/_refreshToken"),
    "getCurrentUser": ("GET", "/_me"),
    "getMyRights": ("GET", "/_me/_rights"),
    "updateSelf": ("PUT", "/_me"),
    "createToken": ("POST", "/_createToken"),
}
ACCOUNT = {"username": "ann", "password": PASSWORD}
UNAUTHORIZED = "api.process.unauthorized_origin"


@dataclass
class Seen:
    """An answer: its envelope, and over HTTP the fields around it."""

    json: Envelope
    fields: dict[str, str]

    @property
    def cookie(self) -> str | None:
        """What is set."""
        return self.fields.get("set-cookie")

    @property
    def status(self) -> object:
        """The envelope's status."""
        return self.json["status"]

    @property
    def error_id(self) -> object:
        """The error's id, None in a success."""
        return self.json["error"] and self.json["error"]["id"]


async def ask(
    server: Running,
    transport: str,
    action: str,
    *,
    cookie: str | None = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    body: object = None,
    **args: object,
) -> Seen:
    """Ask for an action of the controller `auth` as a browser would: on a connection of its own,
    which over WebSocket begins with the upgrade request that has the cookie."""
    fields = dict(headers or {})
    if cookie is not None:
        fields["Cookie"] = cookie
    if action == "login":
        args["strategy"] = "local"
        body = ACCOUNT if body is None else body
    payload: dict[str, object] = {"controller": "auth", "action": action, **args}
    if body is not None:
        payload["body"] = body
    if transport == "websocket":
        socket = await server.open_socket(fields)
        return Seen(await socket.ask(payload if token is None else payload | {"jwt": token}), {})
    http = await server.connect()
    if transport == "query":
        answer = await http.ask("POST", "/_query", payload, token=token, headers=fields)
    else:
        method, path = ROUTES[action]
        given = {name: "true" if value is True else value for name, value in args.items()}
        path += "?" + urlencode({name: given[name] for name in given if name != "strategy"})
        answer = await http.ask(method, path, body, token=token, headers=fields)
    assert answer.json["status"] == answer.status
    return Seen(answer.json, answer.headers)


async def log_in(server: Running) -> str:
    """Give the pair a browser sends after a login in a cookie."""
    seen = await ask(server, "http", "login", cookieAuth=True)
    assert seen.status == 200 and seen.cookie is not None, seen
    return seen.cookie.partition(";")[0]


def value_of(cookie: str) -> str:
    """Give the token in a pair."""
    return cookie.partition("=")[2]


async def who(server: Running, **given: object) -> object:
    """Tell who a request is taken for, or the id of its refusal."""
    seen = await ask(server, "http", "getCurrentUser", **given)
    return seen.error_id or seen.json["result"]["_id"]


def cookie_config(http: dict[str, object] | None = None, **sections: object) -> Config:
    """Give a configuration with these settings under `[http]`."""
    return cheap_config(http=replace(Http(), **(http or {})), **sections)


async def with_ann(server: Running) -> str:
    """Make an administrator, whose token this gives, and the user `ann`, who has the default role
    without its limit on requests."""
    admin = await server.create_admin()
    await put(server, Table.PROFILES, "unhurried", {"policies": [{"roleId": "default"}]})
    await server.create_user(admin, "ann", "unhurried")
    return admin


async def put(server: Running, table: Table, name: str, body: dict[str, object]) -> None:
    """Enter a role or profile."""
    row: Row = {"id": name, "body": body, "info": {}}
    await server.app.services.storage.apply([Put(table, row), JournalEvent(EventKind.RIGHTS, name)])


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """A server with default settings and the user `ann`."""
    async with running() as started:
        await with_ann(started)
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_login_in_a_cookie(server: Running, transport: str) -> None:
    """docs/api/auth.md#cookies: exact attributes, no `jwt` in the result; §4 login: key order."""
    seen = await ask(server, transport, "login", cookieAuth=True, expiresIn="2h")
    result = seen.json["result"]
    assert isinstance(result, dict)
    assert list(result) == ["_id", "expiresAt", "ttl"]
    assert (result["_id"], result["ttl"]) == ("ann", 7_200_000)
    assert seen.json["headers"] == {}  # docs/api/transport.md#envelope: set-cookie is left out
    if transport == "websocket":
        return
    assert seen.cookie is not None and seen.cookie.startswith("authToken=eyJ")
    ends = formatdate(result["expiresAt"] // 1000, usegmt=True)
    rest = f"Path=/; Expires={ends}; HttpOnly; SameSite=Strict"
    assert seen.cookie.partition("; ")[2] == rest
    assert seen.fields["cache-control"] == "no-store"  # H4
    assert await who(server, token=value_of(seen.cookie.partition(";")[0])) == "ann"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_login_without_a_cookie(server: Running, transport: str) -> None:
    """No session in a cookie unless it is asked for; `false` is no
    (docs/api/differences.md#booleans, HTTP booleans). The one that makes the device known holds no
    session (`test_known_devices.py`)."""
    for args in ({}, {"cookieAuth": "false" if transport == "http" else False}):
        seen = await ask(server, transport, "login", **args)
        assert seen.json["result"]["jwt"]
        assert seen.cookie is None or seen.cookie.startswith("loginDevice=")


async def test_a_token_without_end_lasts_as_long_as_the_browser(server: Running) -> None:
    """docs/api/auth.md#cookies: the reference's date lies in the past, and the browser drops the
    cookie."""
    seen = await ask(server, "http", "login", cookieAuth=True, expiresIn="-1")
    assert seen.cookie is not None
    assert seen.cookie.partition("; ")[2] == "Path=/; HttpOnly; SameSite=Strict"


async def test_the_longest_life_has_a_date(server: Running) -> None:
    seen = await ask(server, "http", "login", cookieAuth=True, expiresIn=f"{365 * 1000}d")
    assert seen.status == 200 and " GMT; HttpOnly" in str(seen.cookie)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_in_a_cookie(server: Running, transport: str) -> None:
    """docs/api/auth.md#token-sources, docs/api/differences.md#cookie-logout "a cookie on the
    upgrade": login, look, refresh, logout; then the token is worth nothing anywhere
    (docs/api/differences.md#cookie-logout, cookie logout)."""
    cookie = await log_in(server)
    seen = await ask(server, transport, "getCurrentUser", cookie=cookie)
    assert seen.json["result"]["_id"] == "ann"
    seen = await ask(server, transport, "checkToken", cookie=cookie, body={}, cookieAuth=True)
    assert seen.json["result"]["kuid"] == "ann"

    seen = await ask(
        server, transport, "refreshToken", cookie=cookie, headers=SELF, cookieAuth=True
    )
    assert seen.status == 200, seen
    assert list(seen.json["result"]) == ["_id", "expiresAt", "ttl"]
    if seen.cookie is not None:
        cookie, old = seen.cookie.partition(";")[0], cookie
        assert cookie != old
        assert await who(server, cookie=cookie) == "ann"
    seen = await ask(server, transport, "logout", cookie=cookie, headers=SELF, cookieAuth=True)
    assert (seen.status, seen.json["result"]) == (200, {"acknowledged": True})
    assert seen.cookie == (None if transport == "websocket" else ERASED)
    assert await who(server, cookie=cookie) == "security.token.invalid"
    assert await who(server, token=value_of(cookie)) == "security.token.invalid"


async def test_messages_of_a_socket_with_a_cookie(server: Running) -> None:
    """docs/api/differences.md#tokenexpired: each of them, also the same again; a session that ends
    there ends here, and the socket is told (docs/api/differences.md#tokenexpired, TokenExpired)."""
    cookie = await log_in(server)
    socket = await server.open_socket({"Cookie": cookie})
    question = {"controller": "auth", "action": "getCurrentUser"}
    for number in range(4):
        answer = await socket.ask(question | {"requestId": f"request-{number}"})
        assert answer["result"]["_id"] == "ann"
    assert (await ask(server, "http", "logout", cookie=cookie)).status == 200
    assert (await socket.ask(question))["error"]["id"] == "security.token.invalid"
    assert [notice["type"] for notice in socket.heard] == ["TokenExpired"]


async def test_refresh_over_http_goes_back_into_the_cookie(server: Running) -> None:
    """docs/api/auth.md#cookies quirk (b): the token does not come out where scripts could read
    it."""
    seen = await ask(server, "http", "refreshToken", cookie=await log_in(server), headers=SELF)
    assert "jwt" not in seen.json["result"]
    assert str(seen.cookie).startswith("authToken=eyJ")


async def test_refresh_over_websocket_gives_what_was_asked_for(server: Running) -> None:
    """No cookie can be set there, and the old token is over."""
    seen = await ask(server, "websocket", "refreshToken", cookie=await log_in(server), headers=SELF)
    assert await who(server, token=seen.json["result"]["jwt"]) == "ann"


@pytest.mark.parametrize("transport", ["query", "websocket"])
async def test_the_flag_is_an_argument_of_few_actions(server: Running, transport: str) -> None:
    """docs/api/transport.md#request: elsewhere it is one of those nobody reads; where it is read it
    is checked."""
    seen = await ask(server, transport, "getCurrentUser", cookieAuth="maybe")
    assert seen.status == 200
    other = await server.call(transport, "server:login", cookieAuth="maybe")
    assert told(other, "id") == {"id": "security.rights.unauthorized"}
    seen = await ask(server, transport, "login", cookieAuth="maybe")
    assert told(seen.json, "id", "props") == {
        "id": "api.assert.invalid_type",
        "props": ["cookieAuth", "boolean"],
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "cookie", ["authToken=null", "authToken=", 'authToken=""', "other=1", "authtoken=x", ""]
)
async def test_cookies_that_are_ignored(server: Running, transport: str, cookie: str) -> None:
    """docs/api/auth.md#token-sources."""
    seen = await ask(server, transport, "getCurrentUser", cookie=cookie)
    assert seen.json["result"]["_id"] == "-1"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_cookies_that_can_not_be_read(server: Running, transport: str) -> None:
    """docs/api/auth.md#token-sources; of two cookies neither is believed, whatever stands in
    them."""
    cookie = await log_in(server)
    for header in (f"{cookie}; {cookie}", f"authToken=x; {cookie}", "authToken=a b"):
        seen = await ask(server, transport, "getCurrentUser", cookie=header)
        assert told(seen.json, "status", "id", "code") == {
            "status": 401,
            "id": "security.cookie.invalid",
            "code": 117899265,
        }


async def test_a_cookie_with_escapes(server: Running) -> None:
    """docs/api/auth.md#token-sources: values are URI-decoded."""
    token = value_of(await log_in(server))
    assert await who(server, cookie="authToken=" + token.replace(".", "%2E")) == "ann"


async def test_a_cookie_that_is_too_large(server: Running) -> None:
    """Bounded with the head it stands in (RFC 6585 §5)."""
    http = await server.connect()
    answer = await http.ask("GET", "/_me", headers={"Cookie": "authToken=" + "a" * 20_000})
    assert answer.status == 431
    assert await who(server, cookie="authToken=" + "a" * 9000) == "security.token.invalid"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("action", ["getCurrentUser", "login", "logout", "checkToken"])
async def test_a_cookie_beside_a_token(server: Running, transport: str, action: str) -> None:
    """docs/api/auth.md#token-sources, 400 by docs/api/differences.md#cookie-and-token; H2: also
    when both say the same."""
    cookie = await log_in(server)
    for token in (value_of(cookie), "nonsense"):
        seen = await ask(server, transport, action, cookie=cookie, token=token, cookieAuth=True)
        assert told(seen.json, "status", "id", "code") == {
            "status": 400,
            "id": "security.token.verification_error",
            "code": 117506055,
        }


async def test_the_short_way_to_an_answer_is_none_for_cookies(server: Running) -> None:
    """The same connection, tokens that are live, results that are kept, heads that come again."""
    cookie = await log_in(server)
    token = await server.login("ann")
    http = await server.connect()
    for _ in range(3):
        assert (await http.ask("GET", "/_me", token=token)).status == 200
        assert (await http.ask("GET", "/_me")).json["result"]["_id"] == "-1"
    for _ in range(3):
        both = await http.ask("GET", "/_me", token=token, headers={"Cookie": cookie})
        assert both.json["error"]["id"] == "security.token.verification_error"
    for _ in range(3):
        alone = await http.ask("GET", "/_me", headers={"Cookie": cookie})
        assert alone.json["result"]["_id"] == "ann"
    await ask(server, "http", "logout", cookie=cookie)
    over = await http.ask("GET", "/_me", headers={"Cookie": cookie})
    assert over.json["error"]["id"] == "security.token.invalid"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cookie_that_is_over(server: Running, transport: str) -> None:
    """docs/api/auth.md#token-sources and what follows: every action fails, but not those that ask
    for a cookie and don't use its token."""
    cookie = await log_in(server)
    await ask(server, "http", "logout", cookie=cookie)
    for action, args in (
        ("getCurrentUser", {}),
        ("login", {}),
        ("refreshToken", {"cookieAuth": True}),
        ("checkToken", {"body": {}}),
    ):
        seen = await ask(server, transport, action, cookie=cookie, headers=SELF, **args)
        assert (seen.status, seen.error_id) == (401, "security.token.invalid"), action
    for fields in (SELF, {}):
        seen = await ask(server, transport, "login", cookie=cookie, headers=fields, cookieAuth=True)
        assert seen.status == 200
    seen = await ask(server, transport, "checkToken", cookie=cookie, body={}, cookieAuth=True)
    assert (seen.status, seen.json["result"]["valid"]) == (200, False)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_checking_a_cookie(server: Running, transport: str) -> None:
    """docs/api/auth.md#checktoken: the cookie's token instead of the body's; nothing to check is
    valid, and nobody's."""
    body = {"token": "nonsense"}
    nobody = {"expiresAt": None, "kuid": "-1", "valid": True}
    seen = await ask(server, transport, "checkToken", body=body, cookieAuth=True)
    assert seen.json["result"] == nobody
    cookie = await log_in(server)
    seen = await ask(server, transport, "checkToken", cookie=cookie, body=body, cookieAuth=True)
    assert seen.json["result"]["kuid"] == "ann"
    twice = f"{cookie}; {cookie}"
    seen = await ask(server, transport, "checkToken", cookie=twice, body={}, cookieAuth=True)
    assert seen.json["result"]["valid"] is False


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("cookie", ["over", "twice", "nonsense", "API key", "none", "null"])
async def test_every_logout_erases_the_cookie(server: Running, transport: str, cookie: str) -> None:
    """docs/api/differences.md#cookie-logout: whatever it is worth, the answer is 200."""
    good = await log_in(server)
    if cookie == "over":
        await ask(server, "http", "logout", cookie=good)
    key = await server.call(
        "query", "auth:createApiKey", token=await server.login("admin"), body={"description": "d"}
    )
    header = {
        "over": good,
        "twice": f"{good}; {good}",
        "nonsense": "authToken=nonsense",
        "API key": f"authToken={key['result']['_source']['token']}",
        "none": None,
        "null": "authToken=null",
    }[cookie]
    seen = await ask(server, transport, "logout", cookie=header, cookieAuth=True)
    assert (seen.status, seen.json["result"]) == (200, {"acknowledged": True})
    assert seen.cookie == (None if transport == "websocket" else ERASED)


async def test_a_logout_without_the_flag(server: Running) -> None:
    """A cookie is enough to have it erased; without any, nothing is set, and nobody may log out."""
    cookie = await log_in(server)
    seen = await ask(server, "http", "logout", cookie=cookie)
    assert (seen.status, seen.cookie) == (200, ERASED)
    assert await who(server, cookie=cookie) == "security.token.invalid"
    for header in (cookie, f"{cookie}; {cookie}"):
        seen = await ask(server, "http", "logout", cookie=header)
        assert (seen.status, seen.cookie) == (200, ERASED)
    seen = await ask(server, "http", "logout", token=await server.login("ann"))
    assert (seen.status, seen.cookie) == (200, None)
    seen = await ask(server, "http", "logout")
    assert (seen.status, seen.cookie) == (401, None)


async def test_a_logout_with_a_token_that_is_over(server: Running) -> None:
    """The leniency is for cookies alone."""
    seen = await ask(server, "http", "logout", token="nonsense", cookieAuth=True)
    assert (seen.status, seen.error_id, seen.cookie) == (401, "security.token.invalid", None)


async def test_a_logout_nobody_gave_a_right_to(server: Running) -> None:
    """ "Always" holds for users whose roles forbid it, too."""
    cookie = await log_in(server)
    open_role = {"controllers": {"auth": {"actions": {"*": True, "logout": False}}}}
    await put(server, Table.ROLES, "default", open_role)
    refused = await ask(server, "http", "logout", token=await server.login("ann"))
    assert refused.status == 403
    seen = await ask(server, "http", "logout", cookie=cookie, cookieAuth=True)
    assert (seen.status, seen.cookie) == (200, ERASED)
    assert await who(server, token=value_of(cookie)) == "security.token.invalid"


async def test_a_logout_everywhere(server: Running) -> None:
    """`global` ends the sessions of the cookie's user; those of nobody in particular stay, though
    everybody without a session is nobody."""
    cookie, other = await log_in(server), await server.login("ann")
    nobody = await server.app.services.issuer.issue(
        (await server.app.services.tokens.verify(None)).person.user, 60_000
    )
    await ask(server, "http", "logout", cookie=cookie, cookieAuth=True, **{"global": True})
    assert await who(server, token=other) == "security.token.invalid"
    for header in (cookie, None):
        await ask(server, "http", "logout", cookie=header, cookieAuth=True, **{"global": True})
        assert await who(server, token=nobody.token) == "-1"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_cookies_that_are_turned_off(transport: str) -> None:
    """docs/api/auth.md#token-sources and 4: `http.cookieAuthentication = false`."""
    unsupported = {"status": 500, "id": "security.cookie.unsupported", "code": 117899266}
    async with running(cookie_config({"cookie_authentication": False})) as server:
        await with_ann(server)
        token = await server.login("ann")
        for action in ("login", "logout", "refreshToken", "checkToken", "getCurrentUser"):
            seen = await ask(server, transport, action, cookieAuth=True)
            assert told(seen.json, "status", "id", "code") == unsupported, action
        for action in ("getCurrentUser", "login", "logout"):
            seen = await ask(server, transport, action, cookie=f"authToken={token}")
            assert told(seen.json, "status", "id", "code") == unsupported, action
        for cookie in ("authToken=null", "other=1"):
            seen = await ask(server, transport, "getCurrentUser", cookie=cookie, token=token)
            assert seen.status == 200


# What a browser says of a page, and what of ann's such a page may do with her cookie alone: R read,
# C change, L log out. The server's own address is http://localhost, its list has APP and `*`.
PAGES = [
    # A page of our own.
    ({"Origin": "http://localhost"}, "RCL"),
    ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, "RCL"),
    ({"Sec-Fetch-Site": "same-origin"}, "RCL"),
    # Also behind a proxy that we know nothing of: browsers know better.
    ({"Origin": "https://auth.example", "Sec-Fetch-Site": "same-origin"}, "RCL"),
    # A page of an origin that is allowed by name.
    ({"Origin": APP}, "RCL"),
    ({"Origin": APP, "Sec-Fetch-Site": "cross-site"}, "RCL"),
    ({"Origin": APP, "Sec-Fetch-Site": "same-site"}, "RCL"),
    # Any other.
    ({"Origin": EVIL}, ""),
    ({"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, ""),
    ({"Origin": EVIL, "Sec-Fetch-Site": "none"}, ""),
    ({"Origin": "null"}, ""),
    ({"Origin": "https://localhost"}, ""),
    ({"Origin": "http://localhost:7512"}, ""),
    ({"Origin": "http://localhost.evil.example"}, ""),
    ({"Origin": "http://LOCALHOST."}, ""),
    ({"Origin": "http://localhost/"}, ""),
    ({"Origin": f"{APP}, http://localhost"}, ""),
    ({"Origin": f"{APP}:443"}, ""),
    ({"Sec-Fetch-Site": "cross-site"}, ""),
    ({"Sec-Fetch-Site": "same-site"}, ""),
    ({"Sec-Fetch-Site": "same-origin, cross-site"}, ""),
    ({"Sec-Fetch-Site": "nonsense"}, ""),
    # Nobody's word but a trusted proxy's counts.
    ({"Origin": EVIL, "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}, ""),
    ({"Origin": EVIL, "Forwarded": "host=evil.example;proto=https"}, ""),
    ({"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}, ""),
    ({"Origin": EVIL, "Referer": "http://localhost/"}, ""),
    # No page at all, as far as one can see: no proof either.
    ({}, "RL"),
    ({"Origin": ""}, "RL"),
    ({"Sec-Fetch-Site": "none"}, "RL"),
    ({"Referer": "http://localhost/"}, "RL"),
]


@pytest.fixture(scope="module")
def listing() -> Config:
    """Everybody's pages may call, those of APP may use the cookie."""
    return cookie_config({"access_control_allow_origin": ("*", APP)})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_whose_pages_may_use_the_cookie(transport: str, listing: Config) -> None:
    """S11: a change needs proof, over HTTP and WebSocket; H5: a foreign page gets nothing from a
    socket with our cookie. Refused is refused before anything is done."""
    async with running(listing) as server:
        await with_ann(server)
        cookie = await log_in(server)
        for fields, allowed in PAGES:
            for letter, action, body in (
                ("R", "getCurrentUser", None),
                ("R", "getMyRights", None),
                ("C", "updateSelf", {"seen": "yes"}),
                ("C", "refreshToken", None),
                ("C", "createToken", None),
                ("L", "logout", None),
            ):
                used = await log_in(server) if action in ("refreshToken", "logout") else cookie
                seen = await ask(server, transport, action, cookie=used, headers=fields, body=body)
                if letter in allowed:
                    wanted = 403 if action == "createToken" else 200  # ann has no right to it
                    assert seen.status == wanted, (fields, action, seen)
                else:
                    assert (seen.status, seen.error_id) == (401, UNAUTHORIZED), (fields, action)
                    assert seen.cookie is None
                    assert await who(server, token=value_of(used)) == "ann"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("action", ["login", "logout", "checkToken"])
async def test_foreign_pages_may_not_ask_for_cookies(
    server: Running, transport: str, action: str
) -> None:
    """Nobody is logged in, or out, by a page he did not know that it asks; not by a link either."""
    for fields in ({"Origin": EVIL}, {"Sec-Fetch-Site": "cross-site"}):
        seen = await ask(server, transport, action, headers=fields, body=ACCOUNT, cookieAuth=True)
        assert (seen.error_id, seen.cookie) == (UNAUTHORIZED, None)
    for fields in ({"Origin": "http://localhost"}, {}):
        seen = await ask(server, transport, action, headers=fields, body=ACCOUNT, cookieAuth=True)
        assert seen.status == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens_need_no_proof(server: Running, transport: str) -> None:
    """A page that has a token got it from its user; with `*` all pages may call."""
    token = await server.login("ann")
    for fields in ({}, {"Origin": EVIL}, {"Sec-Fetch-Site": "cross-site"}):
        seen = await ask(
            server, transport, "updateSelf", token=token, headers=fields, body={"a": 1}
        )
        assert seen.status == 200


async def test_a_socket_of_a_foreign_page(server: Running) -> None:
    """H5: it is never linked to the session either, so it is not told of its end."""
    cookie = await log_in(server)
    socket = await server.open_socket({"Cookie": cookie, "Origin": EVIL})
    question = {"controller": "auth", "action": "getCurrentUser"}
    for number in range(3):
        answer = await socket.ask(question | {"requestId": f"request-{number}"})
        assert told(answer, "status", "id", "props") == {
            "status": 401,
            "id": UNAUTHORIZED,
            "props": [EVIL],
        }
    await ask(server, "http", "logout", cookie=cookie)
    await socket.ask(question)
    assert socket.heard == []


@dataclass(frozen=True)
class Behind:
    """A request as a proxy passes it on, and what must come of it."""

    fields: dict[str, str]
    origin: str
    is_secure: bool


BEHIND = [
    Behind({}, "http://localhost", False),
    Behind({"Host": "localhost:80"}, "http://localhost", False),
    Behind({"Host": "LocalHost:7512"}, "http://localhost:7512", False),
    Behind({"X-Forwarded-Proto": "http"}, "http://localhost", False),
    Behind({"X-Forwarded-Proto": "https, http"}, "http://localhost", False),
    Behind({"X-Forwarded-Proto": "https"}, "https://localhost", True),
    Behind({"X-Forwarded-Proto": "wss"}, "https://localhost", True),
    Behind({"X-Forwarded-Proto": "HTTPS", "Host": "a.example:443"}, "https://a.example", True),
    Behind({"X-Forwarded-Proto": "https", "Host": "a.example:80"}, "https://a.example:80", True),
    Behind(
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "auth.example:8443"},
        "https://auth.example:8443",
        True,
    ),
    Behind({"X-Forwarded-Host": "forged.example, a.example"}, "http://a.example", False),
    Behind({"X-Forwarded-Host": ""}, "http://localhost", False),
    Behind({"Forwarded": 'for=1.2.3.4;proto=https;host="a.example"'}, "https://a.example", True),
]


async def test_behind_a_proxy_of_ours() -> None:
    """S10: where the client came over TLS, the cookie is `Secure`, and its name tells browsers to
    take it from nobody else; our own origin is the one he sees."""
    config = cookie_config()
    config = replace(config, server=replace(config.server, trusted_proxies=("127.0.0.1",)))
    async with running(config) as server:
        await with_ann(server)
        for case in BEHIND:
            seen = await ask(server, "http", "login", headers=case.fields, cookieAuth=True)
            assert seen.cookie is not None
            name, secure = ("__Host-authToken", "; Secure") if case.is_secure else ("authToken", "")
            assert seen.cookie.startswith(f"{name}=eyJ")
            assert seen.cookie.endswith(f"; HttpOnly; SameSite=Strict{secure}")
            cookie = seen.cookie.partition(";")[0]
            here, there = case.fields | {"Origin": case.origin}, case.fields | {"Origin": EVIL}
            assert await who(server, cookie=cookie, headers=here) == "ann"
            for transport in TRANSPORTS:
                change = {"cookie": cookie, "body": {"a": 1}}
                seen = await ask(server, transport, "updateSelf", headers=here, **change)
                assert seen.status == 200, (case, seen)
                seen = await ask(server, transport, "updateSelf", headers=there, **change)
                assert seen.error_id == UNAUTHORIZED
            seen = await ask(server, "http", "logout", cookie=cookie, headers=here)
            assert seen.cookie == f"{name}=null; Path=/; HttpOnly; SameSite=Strict{secure}"


async def test_tls_of_our_own(tmp_path: Path) -> None:
    """S10, without a proxy; and a page of ours is one that came over TLS."""
    authority = Authority(tmp_path)
    async with running(over_tls(authority.sign("first"))) as server:
        await server.app.services.users.create(
            kuid="ann",
            kind="human",
            profile_ids=["default"],
            content={},
            credentials={"local": ACCOUNT},
            author="-1",
        )
        http = await connect(server.port, trusting(authority))
        login = await http.ask("POST", "/_login/local?cookieAuth", ACCOUNT)
        cookie, _, attributes = login.headers["set-cookie"].partition("; ")
        assert cookie.startswith("__Host-authToken=eyJ")
        assert attributes.endswith("; HttpOnly; SameSite=Strict; Secure")
        for origin, status in (("https://localhost", 200), ("http://localhost", 401)):
            headers = {"Cookie": cookie, "Origin": origin}
            assert (await http.ask("PUT", "/_me", {"a": 1}, headers=headers)).status == status
        http.close()


async def test_a_planted_cookie() -> None:
    """S10: over TLS only the name counts that no sibling host can set, and it wins everywhere."""
    config = cookie_config()
    config = replace(config, server=replace(config.server, trusted_proxies=("127.0.0.1",)))
    async with running(config) as server:
        admin = await with_ann(server)
        token, tls = await server.login("ann"), {"X-Forwarded-Proto": "https"}
        assert await who(server, cookie=f"authToken={admin}", headers=tls) == "-1"
        for headers in (tls, {}):
            both = f"authToken={admin}; __Host-authToken={token}"
            assert await who(server, cookie=both, headers=headers) == "ann"


async def test_anybody_may_say_that_he_came_over_tls(server: Running) -> None:
    """H8: without a trusted proxy the fields of one are nothing."""
    fields = {"X-Forwarded-Proto": "https", "Forwarded": "proto=https"}
    seen = await ask(server, "http", "login", headers=fields, cookieAuth=True)
    assert "Secure" not in str(seen.cookie)


# What is configured, an origin, whether it is echoed, whether with credentials.
ORIGINS = [
    ({}, APP, True, False),
    ({"access_control_allow_origin": ("*", APP)}, APP, True, True),
    ({"access_control_allow_origin": ("*", APP)}, EVIL, True, False),
    ({"access_control_allow_origin": (APP,)}, APP, True, True),
    ({"access_control_allow_origin": (APP,)}, EVIL, False, False),
    ({"access_control_allow_origin": (APP,)}, "*", False, False),
    ({"access_control_allow_origin": ("*",)}, "*", True, False),
    ({"access_control_allow_origin": (APP, "null")}, "null", True, False),
    ({"access_control_allow_origin": (APP,), "cookie_authentication": False}, APP, True, False),
    ({"access_control_allow_origin": (r"https://\w+\.example",)}, APP, True, True),
    ({"access_control_allow_origin": (r"https://\w+\.example",)}, APP + ".evil", False, False),
    # Patterns that everybody matches are `*` by another name.
    ({"access_control_allow_origin": (".*",)}, APP, True, False),
    ({"access_control_allow_origin": ("https://.+",)}, APP, True, False),
]


@pytest.mark.parametrize(("http", "origin", "is_echoed", "has_credentials"), ORIGINS)
async def test_cross_origin_fields(
    http: dict[str, object], origin: str, is_echoed: bool, has_credentials: bool
) -> None:
    """docs/api/transport.md#http-responses, H9: credentials only for origins that are named, never
    with `*`; the same in preflights (§5.1), in errors and in what is refused before any action."""
    uses_patterns = any("\\" in name or ".+" in name or ".*" in name for name in _names(http))
    http = http | {"access_control_allow_origin_use_reg_exp": uses_patterns}
    async with running(cookie_config(http)) as server:
        connection = await server.connect()
        for method, path in (
            ("OPTIONS", "/_login/local"),
            ("GET", "/_me"),
            ("GET", "/nowhere"),
            ("POST", "/_query"),
        ):
            answer = await connection.ask(method, path, headers={"Origin": origin})
            wanted = (origin if is_echoed else None, "true" if has_credentials else None)
            found = tuple(
                answer.headers.get(f"access-control-allow-{name}")
                for name in ("origin", "credentials")
            )
            assert found == wanted, (method, path)
            assert "Origin" in answer.headers["vary"]
        bare = (await connection.ask("GET", "/_me")).headers
        assert not bare.keys() & {"access-control-allow-origin", "access-control-allow-credentials"}


def _names(http: dict[str, object]) -> tuple[str, ...]:
    return http.get("access_control_allow_origin", ())


async def test_cookies_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    """X2: whatever becomes of a request, also when it fails for a fault of ours."""
    caplog.set_level(logging.DEBUG)
    config = cookie_config({"access_control_allow_origin": (APP,)})
    async with running(replace(config, logs=replace(config.logs, requests="all"))) as server:
        await with_ann(server)
        cookies = [await log_in(server), "authToken=very-secret", "authToken=very secret"]
        tokens = ["very-secret", "very secret", *map(value_of, cookies)]
        for transport in TRANSPORTS:
            for cookie in (*cookies, f"{cookies[0]}; {cookies[1]}"):
                for fields in ({}, {"Origin": APP}, {"Origin": EVIL}):
                    for action in ("getCurrentUser", "updateSelf", "checkToken", "login"):
                        given = {"cookie": cookie, "headers": fields, "body": ACCOUNT}
                        if action == "getCurrentUser":
                            del given["body"]
                        await ask(server, transport, action, cookieAuth=True, **given)
        server.app.services.storage.get = None
        seen = await ask(server, "http", "refreshToken", cookie=cookies[0], headers={"Origin": APP})
        assert seen.status == 500
    assert any(record.exc_info for record in caplog.records)
    written = [
        form.format(record) for record in caplog.records for form in (PlainLines(), JsonLines())
    ]
    assert len(written) > 100
    for token in tokens:
        assert not [line for line in written if token in line]
        assert token not in json.dumps([str(record.__dict__) for record in caplog.records])
