"""Foreign web pages against a server on the user's own machine (security checks F1, F6, A7): the
first administrator, and `--open`."""

import asyncio
import json
import signal
import socket as sockets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.api.local_origin import is_local_host, is_local_origin, is_local_page
from server.app.application import start
from server.config.model import Config
from tests.server.app.test_serve import serving
from tests.server.auth.audit.test_events import events
from tests.support.errors import told
from tests.support.server import PASSWORD, Http, Running, cheap_config, running
from tests.support.waiting import deadline, in_time

PATH = "/_createFirstAdmin/root"
FIRST = {"credentials": {"local": {"username": "root", "password": PASSWORD}}}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EVIL = "https://evil.example"
UNAUTHORIZED_ORIGIN = {"id": "api.process.unauthorized_origin", "status": 401}
UNAUTHORIZED = {"id": "security.rights.unauthorized", "status": 401}
TOO_MANY_GUESSES = {"id": "api.process.too_many_logins_requests", "status": 429}
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}

FOREIGN = {
    "foreign page": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    "foreign page, old browser": {"Origin": EVIL},
    "foreign page that names itself loopback": {"Origin": "https://localhost.evil.example"},
    "sandboxed page": {"Origin": "null"},
    "form of a foreign page": {"Sec-Fetch-Site": "cross-site"},
    "page of the same site": {"Sec-Fetch-Site": "same-site"},
    "rebound name": {"Host": "rebound.example"},
    "rebound name with the origin of its page": {
        "Host": "rebound.example:7512",
        "Origin": "http://rebound.example:7512",
    },
}
FORWARDED = {
    name: {name: "198.51.100.7"}
    for name in (
        *("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"),
        *("CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "Via", "X-Forwarded-Prefix"),
        *("CDN-Loop", "Fly-Client-IP", "X-Original-Forwarded-For", "X-Envoy-External-Address"),
    )
}
LOCAL = {
    "program": {},
    "program that says localhost": {"Host": "localhost:7512"},
    "program that says the address": {"Host": "127.0.0.1:7512"},
    "program over IPv6": {"Host": "[::1]:7512"},
    "page of this machine": {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    "page below localhost": {"Origin": "http://app.localhost"},
    "address bar": {"Sec-Fetch-Site": "none"},
}


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """A server without an administrator."""
    async with running() as started:
        yield started


async def ask_first_admin(
    server: Running, transport: str, headers: dict[str, str], **args: object
) -> dict[str, object]:
    """Ask for the first administrator with these header fields, of the request or the handshake."""
    if transport == "websocket":
        socket = await server.open_socket(headers)
        asked = {"controller": "security", "action": "createFirstAdmin", "_id": "root", **args}
        return await socket.ask({"body": FIRST, **asked})
    http = await server.connect()
    query = "".join(f"?{name}={value}" for name, value in args.items())
    return (await http.ask("POST", PATH + query, FIRST, headers=headers)).json


async def admin_exists(server: Running) -> bool:
    """Return what `server:adminExists` says."""
    answer = await server.call("http", "server:adminExists")
    return bool(answer["result"]["exists"])


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize("headers", [*FOREIGN.values(), *FORWARDED.values()], ids=str)
async def test_first_admin_from_a_foreign_page_is_refused(
    server: Running, transport: str, headers: dict[str, str]
) -> None:
    """F1: loopback is not enough; the message says what to do."""
    answer = await ask_first_admin(server, transport, headers)
    refused = told(answer, "id", "status", "message")
    assert (refused["id"], refused["status"]) == ("security.rights.unauthorized", 401)
    assert "setupCode" in refused["message"] and "manykeys create-admin" in refused["message"]
    assert not await admin_exists(server)


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize("headers", LOCAL.values(), ids=LOCAL)
async def test_first_admin_from_this_machine_is_created(
    server: Running, transport: str, headers: dict[str, str]
) -> None:
    """F1: programs and pages of this machine need no code."""
    assert (await ask_first_admin(server, transport, headers))["status"] == 200


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize("headers", [*FOREIGN.values(), *FORWARDED.values()], ids=str)
async def test_first_admin_with_the_setup_code_is_created(
    server: Running, transport: str, headers: dict[str, str]
) -> None:
    """F1: who knows the code may come from anywhere."""
    code = server.app.services.first_admin.code
    answer = await ask_first_admin(server, transport, headers, setupCode=code)
    assert answer["status"] == 200
    again = await ask_first_admin(server, transport, headers, setupCode=code)
    assert again["status"] == 401


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_first_admin_with_a_wrong_code_is_refused_even_locally(
    server: Running, transport: str
) -> None:
    """A7: a guess is never made up for by the address."""
    answer = await ask_first_admin(server, transport, {}, setupCode="guess")
    assert told(answer, "id", "status") == {"id": "security.rights.unauthorized", "status": 401}


async def connect_from(server: Running, address: str) -> Http:
    """Open a connection from another loopback address."""
    opening = asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))
    http = Http(*await in_time(opening))
    server.opened.append(http)
    return http


async def test_setup_code_guessed_too_often_is_throttled_for_that_client_only() -> None:
    """F1, A4, A5: like passwords; the operator elsewhere is not kept from using the code."""
    limits = replace(Config().limits, failed_logins=3)
    async with running(cheap_config(limits=limits)) as server:
        guesser = await connect_from(server, "127.0.0.2")
        for number in range(4):
            answer = await guesser.ask("POST", f"{PATH}?setupCode=guess{number}", FIRST)
            assert told(answer.json, "id", "status") == (
                TOO_MANY_GUESSES if number == 3 else UNAUTHORIZED
            )
        assert int(answer.headers["retry-after"]) >= 1
        code = server.app.services.first_admin.code
        answer = await guesser.ask("POST", f"{PATH}?setupCode={code}", FIRST)
        assert told(answer.json, "id", "status") == TOO_MANY_GUESSES
        operator = await connect_from(server, "127.0.0.3")
        assert (await operator.ask("POST", f"{PATH}?setupCode={code}", FIRST)).status == 200


@pytest.mark.parametrize(
    ("headers", "code", "reason"),
    [
        ({}, "guess", "wrong setup code"),
        ({"Origin": EVIL}, None, "no setup code, Origin is foreign"),
        ({"Host": "rebound.example"}, None, "no setup code, Host is foreign"),
        ({"Via": "1.1 proxy"}, None, "no setup code, through a proxy"),
    ],
)
async def test_first_admin_that_is_refused_is_audited(
    server: Running, headers: dict[str, str], code: str | None, reason: str
) -> None:
    """F1, X1: with the reason, and never with the code that was sent."""
    args = {} if code is None else {"setupCode": code}
    assert (await ask_first_admin(server, "http", headers, **args))["status"] == 401
    token = await server.create_admin()
    found = await events(server, token, kind="security:createFirstAdmin")
    assert [event["reason"] for event in found] == ["", reason]
    assert "guess" not in json.dumps(found)


async def test_first_admin_of_several_at_once_is_one() -> None:
    """F1, A7: over both transports, each with the code."""
    async with running(strict()) as server:
        code, http = server.app.services.first_admin.code, await server.connect()
        sockets = [await server.open_socket() for _ in range(4)]
        bodies = [
            {"credentials": {"local": {"username": f"root{number}", "password": PASSWORD}}}
            for number in range(5)
        ]
        asked = {"controller": "security", "action": "createFirstAdmin", "setupCode": code}
        *answers, last = await asyncio.gather(
            *(
                socket.ask({**asked, "body": body})
                for socket, body in zip(sockets, bodies, strict=False)
            ),
            http.ask("POST", f"/_createFirstAdmin?setupCode={code}", bodies[-1]),
        )
        statuses = sorted([*(answer["status"] for answer in answers), last.status])
        assert statuses[0] == 200 and set(statuses[1:]) <= {401, 412}


def changed(**server: object) -> Config:
    """Return a configuration with other settings of `server`."""
    config = cheap_config()
    return replace(config, server=replace(config.server, **server))


def strict() -> Config:
    """Return a configuration with `security.strict`."""
    config = cheap_config()
    return replace(config, security=replace(config.security, strict=True))


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize(
    "config",
    [changed(trusted_proxies=("127.0.0.1",)), changed(trusted_proxies=("192.0.2.1",)), strict()],
    ids=["trusted proxy here", "trusted proxy on another machine", "strict"],
)
async def test_first_admin_behind_a_proxy_or_strict_needs_the_code(
    config: Config, transport: str
) -> None:
    """F1: a proxy that adds no field makes every client look local."""
    async with running(config) as server:
        answer = await ask_first_admin(server, transport, {})
        assert told(answer, "id", "status") == {"id": "security.rights.unauthorized", "status": 401}
        code = server.app.services.first_admin.code
        assert (await ask_first_admin(server, transport, {}, setupCode=code))["status"] == 200


async def test_first_admin_by_proxy_protocol_needs_the_code() -> None:
    """F1: whatever address the PROXY header names."""
    config = changed(trusted_proxies=("127.0.0.1",), proxy_protocol=True)
    async with running(config) as server:
        for header in (b"PROXY UNKNOWN\r\n", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"):
            http = await server.connect()
            await http.send(header)
            assert (await http.ask("POST", PATH, FIRST)).status == 401


@pytest.mark.parametrize(
    "credentials", [None, {}, {"totp": {}}], ids=["no body", "none", "a second factor"]
)
async def test_first_admin_without_credentials_to_log_in_is_refused(
    credentials: dict[str, object] | None,
) -> None:
    """F1: an administrator who cannot log in would close the set-up; the code is not spent."""
    async with running(strict()) as server:
        setup, http = server.app.services.first_admin, await server.connect()
        if credentials:
            server.app.services.strategies.register("totp", SecondFactor())
        body = None if credentials is None else {"credentials": credentials}
        answer = await http.ask("POST", f"{PATH}?setupCode={setup.code}", body)
        assert told(answer.json, "id", "status") == {
            "id": "api.assert.missing_argument",
            "status": 400,
        }
        assert (await ask_first_admin(server, "http", {}, setupCode=setup.code))["status"] == 200


class SecondFactor:
    """A strategy that cannot log in alone."""

    logs_in = False


async def test_first_admin_by_a_form_without_credentials_is_refused(server: Running) -> None:
    """F1: browsers send forms without a preflight."""
    http = await server.connect()
    answer = await http.ask("POST", PATH, b"a=1", headers=FORM)
    assert told(answer.json, "id", "status") == {"id": "api.assert.missing_argument", "status": 400}
    assert not await admin_exists(server)


@pytest.mark.parametrize("password", ["a", "short77", "password1"])
async def test_first_admin_with_a_weak_password_is_refused(server: Running, password: str) -> None:
    """F1, P1, P6: strict password rules hold for administrators whatever is configured."""
    http = await server.connect()
    body = {"credentials": {"local": {"username": "root", "password": password}}}
    answer = await http.ask("POST", PATH, body)
    weak = "plugin.kuzzle-plugin-auth-passport-local.weak_password"
    assert told(answer.json, "id", "status") == {"id": weak, "status": 400}
    assert not await admin_exists(server)


async def test_create_admin_with_a_weak_password_is_refused(tmp_path: Path) -> None:
    """F1: the command holds administrators to the same rules."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "create-admin", "root", "--password-stdin"),
        *("--data", str(tmp_path / "keys.db")),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with deadline():
        _, errors = await process.communicate(b"short77\n")
    assert process.returncode == 2
    assert b"8 characters" in errors and b"short77" not in errors


async def test_setup_code_after_the_last_admin_is_gone_is_new(server: Running) -> None:
    """F1: set-up opens again, and no foreign page may use that."""
    first = server.app.services.first_admin.code
    shown: list[str] = []
    server.app.services.first_admin.on_code = shown.append
    token = await server.create_admin()
    deleted = await server.call("http", "security:deleteUser", token=token, _id="admin")
    assert deleted["status"] == 200
    headers = FOREIGN["foreign page"]
    assert (await ask_first_admin(server, "http", headers))["status"] == 401
    assert len(shown) == 1 and shown[0] == server.app.services.first_admin.code != first
    answer = await ask_first_admin(server, "http", headers, setupCode=shown[0])
    assert answer["status"] == 200


async def test_setup_code_after_a_command_took_the_last_admin_is_printed(tmp_path: Path) -> None:
    """F1: also when a command beside the server does it; never in a log."""
    data = tmp_path / "keys.db"
    async with serving(data, "--set", "logs.format=json") as server:
        http = await server.connect()
        assert (await http.ask("POST", PATH, FIRST)).status == 200
        http.close()
        command = (sys.executable, "-m", "server", "user", "delete", "root", "--data", str(data))
        deleting = await asyncio.create_subprocess_exec(*command)
        assert await in_time(deleting.wait()) == 0
        async with deadline():
            line = (await server.process.stdout.readline()).decode()
        shown = line.rpartition(" ")[2].strip()
        assert line.startswith("first admin: ") and shown not in server.lines[0]
        assert shown not in await server.stop(signal.SIGTERM)


LAST_ADMIN_GOES = {
    "deleteUser": ("deleteUser", {"_id": "admin"}, None),
    "mDeleteUsers": ("mDeleteUsers", {}, {"ids": ["admin"]}),
    "updateUser": ("updateUser", {"_id": "admin"}, {"profileIds": ["default"]}),
    "replaceUser": ("replaceUser", {"_id": "admin"}, {"profileIds": ["default"]}),
    "upsertUser": ("upsertUser", {"_id": "admin"}, {"content": {"profileIds": ["default"]}}),
}


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize("how", LAST_ADMIN_GOES)
async def test_setup_code_is_new_however_the_last_admin_goes(
    server: Running, transport: str, how: str
) -> None:
    """F1: seen by the store, whichever action did it."""
    name, args, body = LAST_ADMIN_GOES[how]
    shown: asyncio.Queue[str] = asyncio.Queue()
    setup = server.app.services.first_admin
    first, setup.on_code = setup.code, shown.put_nowait
    token = await server.create_admin()
    assert setup.code is None
    done = await server.call(transport, f"security:{name}", token=token, body=body, **args)
    assert done["status"] == 200, done
    assert await in_time(shown.get()) == setup.code != first


async def test_setup_code_is_not_made_while_an_admin_is_left(server: Running) -> None:
    """F1: a disabled administrator is one too: `manykeys user enable` brings them back, and nothing
    on this machine may take their place meanwhile."""
    token = await server.create_admin()
    await server.create_user(token, "ann", "admin")
    disabled = await server.call("http", "security:disableUser", token=token, _id="ann")
    deleted = await server.call("http", "security:deleteUser", token=token, _id="admin")
    assert (disabled["status"], deleted["status"]) == (200, 200)
    setup = server.app.services.first_admin
    await setup.refresh()
    assert setup.code is None
    assert (await ask_first_admin(server, "http", {}))["status"] == 401


async def test_setup_code_after_an_imported_admin_is_gone_is_new(tmp_path: Path) -> None:
    """F1: an import beside the server ends the first code, and what takes its administrator away
    makes another one."""
    data, file = tmp_path / "keys.db", tmp_path / "users.json"
    user = {"collection": "users", "_id": "ann", "_source": {"profileIds": ["admin"]}}
    async with serving(data) as server:
        first = server.lines[0].rpartition(" ")[2]
        file.write_text(json.dumps(user) + "\n")
        assert await run_beside(data, "import", str(file)) == 0
        http = await server.connect()
        answer = await http.ask("POST", f"{PATH}?setupCode={first}", FIRST)
        assert told(answer.json, "id", "status") == UNAUTHORIZED
        file.write_text(json.dumps({**user, "_source": {"profileIds": ["default"]}}) + "\n")
        assert await run_beside(data, "import", str(file), "--update") == 0
        async with deadline():
            shown = (await server.process.stdout.readline()).decode().rpartition(" ")[2].strip()
        assert shown != first
        answer = await http.ask("POST", f"{PATH}?setupCode={first}", FIRST)
        assert told(answer.json, "id", "status") == UNAUTHORIZED
        assert (await http.ask("POST", f"{PATH}?setupCode={shown}", FIRST)).status == 200
        http.close()


async def run_beside(data: Path, *command: str) -> int:
    """Run a command on the store of a server; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *command, "--data", str(data)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await in_time(process.wait())


@pytest.mark.parametrize(
    ("peer", "status"), [("203.0.113.9", 401), ("fd00::9", 401), ("", 401), ("127.0.0.1", 200)]
)
async def test_first_admin_on_an_inherited_socket_depends_on_the_peer(
    peer: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1: `--fd` may be anything, so the address of each client decides."""
    monkeypatch.setattr("server.net.connection.peer_address", lambda transport: peer)
    with sockets.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.detach()
    async with running(changed(fd=fd)) as server:
        assert (await ask_first_admin(server, "http", {}))["status"] == status


async def test_first_admin_on_a_dual_stack_socket_is_created() -> None:
    """F1: there, an IPv4 client has an IPv6 address that means the same."""
    with sockets.create_server(
        ("::", 0), family=sockets.AF_INET6, dualstack_ipv6=True
    ) as listening:
        fd = listening.detach()
    async with running(changed(fd=fd)) as server:
        assert (await ask_first_admin(server, "http", {}))["status"] == 200


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/users/x/_create"), ("GET", "/_me"), ("GET", "/_healthcheck"), ("GET", "/_openapi")],
)
async def test_open_to_a_foreign_page_is_refused(
    method: str, path: str, headers: dict[str, str]
) -> None:
    """F6: every action, reading ones and endpoints too; the page may not read the answer."""
    async with running(open_mode=True) as server:
        http = await server.connect()
        body = {"content": {"profileIds": ["admin"]}} if method == "POST" else None
        answer = await http.ask(method, path, body, headers=headers)
        assert told(answer.json, "id", "status") == UNAUTHORIZED_ORIGIN
        assert "access-control-allow-origin" not in answer.headers
        assert (await http.ask("GET", "/users/x")).status == 404


@pytest.mark.parametrize(
    ("config", "before", "headers"),
    [
        ({"trusted_proxies": ("127.0.0.1",)}, b"", {"X-Forwarded-For": "203.0.113.7"}),
        (
            {"trusted_proxies": ("127.0.0.1",), "proxy_protocol": True},
            b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n",
            {},
        ),
    ],
    ids=["X-Forwarded-For", "PROXY"],
)
async def test_open_to_a_client_of_a_proxy_elsewhere_is_refused(
    config: dict[str, object], before: bytes, headers: dict[str, str]
) -> None:
    """F6: a proxy on this machine makes no client local."""
    async with running(changed(**config), open_mode=True) as server:
        http = await server.connect()
        await http.send(before)
        answer = await http.ask("GET", "/users/x", headers=headers)
        assert told(answer.json, "id", "status") == UNAUTHORIZED_ORIGIN


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize("headers", FORWARDED.values(), ids=FORWARDED)
async def test_open_behind_a_proxy_that_is_not_trusted_is_refused(
    transport: str, headers: dict[str, str]
) -> None:
    """F6: a tunnel or proxy on this machine would open the server to everyone."""
    async with running(open_mode=True) as server:
        if transport == "http":
            http = await server.connect()
            answer = (await http.ask("GET", "/users/x", headers=headers)).json
        else:
            socket = await server.open_socket(headers)
            answer = await socket.ask({"controller": "security", "action": "getUser", "_id": "x"})
        assert told(answer, "id", "status") == UNAUTHORIZED_ORIGIN


async def test_open_on_a_unix_socket_refuses_a_name_that_is_not_local(tmp_path: Path) -> None:
    """F6: it may have a proxy in front, with a public name."""
    path = tmp_path / "keys.sock"
    async with serving_unix(path, open_mode=True):
        http = Http(*await asyncio.open_unix_connection(str(path)))
        assert (await http.ask("GET", "/users/x")).status == 404
        answer = await http.ask("GET", "/users/x", headers={"Host": "keys.example.com"})
        assert told(answer.json, "id", "status") == UNAUTHORIZED_ORIGIN
        http.close()


async def test_open_to_a_malformed_request_answers_what_is_wrong() -> None:
    """A head that cannot be read names no host; nothing is done for it either."""
    async with running(open_mode=True) as server:
        http = await server.connect()
        await http.send(b"GET /_me HTTP/1.1\r\n\r\n")
        assert (await http.read()).status == 400


async def test_open_keeps_the_token_of_a_foreign_page_from_the_fast_lane() -> None:
    """F6: a kept result is not for a foreign page either."""
    async with running(open_mode=True) as server:
        token, http = await server.create_admin(), await server.connect()
        for headers, status in (({}, 200), ({}, 200), ({"Sec-Fetch-Site": "cross-site"}, 401)):
            assert (await http.ask("GET", "/_me", token=token, headers=headers)).status == status


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
async def test_open_to_a_foreign_socket_is_refused(headers: dict[str, str]) -> None:
    """F6: there is no WebSocket at all, and the page may not read why."""
    async with running(open_mode=True) as server:
        http = await server.connect()
        answer = await http.ask("GET", "/", headers={**UPGRADE, **headers})
        assert told(answer.json, "id", "status") == UNAUTHORIZED_ORIGIN
        assert "access-control-allow-origin" not in answer.headers


async def test_open_to_a_preflight_of_a_foreign_page_is_refused() -> None:
    """F6: browsers then do not send the request at all."""
    async with running(open_mode=True) as server:
        http = await server.connect()
        answer = await http.ask("OPTIONS", "/users/x/_create", headers={"Origin": EVIL})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("transport", ["http", "websocket"])
@pytest.mark.parametrize("headers", LOCAL.values(), ids=LOCAL)
async def test_open_to_this_machine_is_allowed(transport: str, headers: dict[str, str]) -> None:
    """F6: what `--open` is for."""
    async with running(open_mode=True) as server:
        assert (await ask_first_admin(server, transport, headers))["status"] == 200


@pytest.mark.parametrize(
    "origin",
    [
        *("http://localhost", "https://localhost:8443", "http://a.b.localhost", "HTTP://LOCALHOST"),
        *("http://127.0.0.1", "http://127.9.8.7:1", "http://[::1]:3000"),
    ],
)
def test_is_local_origin_of_loopback_is_true(origin: str) -> None:
    """RFC 6761 §6.3, RFC 1122 §3.2.1.3, RFC 4291 §2.5.3."""
    assert is_local_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "null",
            "",
            "localhost",
            "http://",
            "http://evil.example",
            "http://localhost.evil.example",
        ),
        *("http://evil.example#localhost", "http://localhost@evil.example", "http://notlocalhost"),
        *("http://evil.example http://localhost", "http://localhost/", "http://128.0.0.1"),
        *("http://[::2]", "http://0.0.0.0", "http://10.0.0.1", "http://127.0.0.1.evil.example"),
    ],
)
def test_is_local_origin_of_anything_else_is_false(origin: str) -> None:
    """One origin whose host is loopback, nothing that only looks like it."""
    assert not is_local_origin(origin)


def test_is_local_host_without_a_name_is_false() -> None:
    """HTTP/1.0 without a Host does not say by which name the server was found."""
    assert not is_local_host({})
    assert is_local_page({})


async def test_open_on_an_inherited_socket_of_the_network_refuses_to_start() -> None:
    """F6: `--fd` decides the address, not `--host`."""
    with sockets.socket() as listening:
        listening.bind(("0.0.0.0", 0))  # noqa: S104
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve", "--open", "--data", ":memory:"),
            *("--fd", str(listening.fileno())),
            pass_fds=[listening.fileno()],
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        async with deadline():
            _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"loopback" in errors


@asynccontextmanager
async def serving_unix(path: Path, *, open_mode: bool = False) -> AsyncIterator[str]:
    """Serve on a Unix socket for the length of a test; yield the setup code."""
    app = await start(changed(uds=str(path)), data=":memory:", open_mode=open_mode)
    try:
        yield str(app.services.first_admin.code)
    finally:
        await app.stop()


async def test_first_admin_on_a_unix_socket_needs_the_code(tmp_path: Path) -> None:
    """F1: such sockets are for proxies."""
    path = tmp_path / "keys.sock"
    async with serving_unix(path) as code:
        http = Http(*await asyncio.open_unix_connection(str(path)))
        assert (await http.ask("POST", PATH, FIRST)).status == 401
        answer = await http.ask("POST", f"{PATH}?setupCode={code}", FIRST)
        assert answer.status == 200, json.dumps(answer.json)
        http.close()
