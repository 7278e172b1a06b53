"""Foreign web pages against a server on the user's own machine (security checks F1, F6, A7): the
first administrator, and `--open`."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from server.app import start
from server.config import Config
from server.local_origin import is_local_host, is_local_origin, is_local_page
from tests.server.errors import told
from tests.server.running import PASSWORD, Http, Running, cheap_config, running
from tests.server.test_serve import serving
from tests.waiting import deadline, in_time

PATH = "/_createFirstAdmin/root"
FIRST = {"credentials": {"local": {"username": "root", "password": PASSWORD}}}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EVIL = "https://evil.example"

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
        *("CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "Via"),
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
        assert told(answer.json, "id", "status") == {
            "id": "api.process.unauthorized_origin",
            "status": 401,
        }
        assert "access-control-allow-origin" not in answer.headers
        assert (await http.ask("GET", "/users/x")).status == 404


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
async def test_open_to_a_foreign_socket_is_refused(headers: dict[str, str]) -> None:
    """F6: the handshake's fields count for each message."""
    async with running(open_mode=True) as server:
        socket = await server.open_socket(headers)
        answer = await socket.ask({"controller": "auth", "action": "getCurrentUser"})
        assert told(answer, "id", "status") == {
            "id": "api.process.unauthorized_origin",
            "status": 401,
        }


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
    import socket as sockets

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
async def serving_unix(path: Path) -> AsyncIterator[str]:
    """Serve on a Unix socket for the length of a test; yield the setup code."""
    app = await start(changed(uds=str(path)), data=":memory:")
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
