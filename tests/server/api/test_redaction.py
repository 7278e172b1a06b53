"""No secret where it could be read later: logs, audit trail, database files, error answers
(security checks X1, X2, P11, T11, A9).

One broad scenario runs over every transport with secrets that can be recognised; then each of them
is looked for, as it is and as hexadecimal and base64.
"""

import base64
import io
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from server.config.model import Config
from server.system.logs import start_logs, stop_logs
from tests.support.server import TRANSPORTS, Envelope, Running, cheap_config, running

SIGNING_SECRET = "sekret-signing-0123456789abcdefghijklmnop"
RESET = "kuzzle-plugin-auth-passport-local/password"
LINE_BREAK = "x\nauth:login outcome=ok\u2028\u202e"
PLAIN_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ |\| )")


@dataclass
class Scenario:
    """A server, the secrets that were used, and the error answers it gave.

    `echoed` are secrets in places whose content goes back to who sent it (docs/api/errors.md: the
    props of
    `body_parse_failed` and `unknown_strategy`); they may be in error answers and nowhere else.
    """

    server: Running
    transport: str
    secrets: set[str] = field(default_factory=set)
    echoed: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    def secret(self, name: str) -> str:
        """Make up a secret."""
        made = f"sekret-{name}-{self.transport}"
        self.secrets.add(made)
        return made

    def echo(self, name: str) -> str:
        """Make up a secret that goes back to who sends it."""
        made = self.secret(name)
        self.echoed.add(made)
        return made

    async def ask(self, full_name: str, token: str | None = None, **args: object) -> Envelope:
        """Ask for an action; keep the answer if it is an error."""
        answer = await self.server.call(self.transport, full_name, token=token, **args)
        self.keep(answer)
        if answer["error"] is None:
            self.done.add(full_name)
        return answer

    def keep(self, answer: Envelope) -> None:
        """Keep an error answer."""
        if answer["error"] is not None:
            self.refusals.append(json.dumps(answer, ensure_ascii=False))

    async def token(self, full_name: str, token: str | None = None, **args: object) -> str:
        """Ask for an action that gives a token."""
        result = (await self.ask(full_name, token, **args))["result"]
        given = result.get("jwt") or result.get("token") or result.get("resetToken")
        given = given or result["_source"]["token"]
        self.secrets.add(given.removeprefix("kapikey-"))
        return given


def credentials(name: str, password: object) -> dict[str, object]:
    """Give what a user is created with."""
    local = {"username": name, "password": password}
    return {"content": {"profileIds": ["admin"]}, "credentials": {"local": local}}


async def run_tokens(scenario: Scenario, boss: str) -> None:
    """Use tokens and keys of every kind, well and badly."""
    ask = scenario.ask
    for single_use in (False, True):
        made = await scenario.token("auth:createToken", boss, singleUse=single_use)
        for _ in range(2):
            await ask("auth:getCurrentUser", made)
    key = await scenario.token("auth:createApiKey", boss, body={"description": "d"})
    await ask("auth:refreshToken", key)
    old = await scenario.token("auth:createToken", boss)
    await scenario.token("auth:refreshToken", old)
    for bad in (old[:-4], f"kapikey-{old}", f"kauth-{key}", scenario.secret("token")):
        await ask("auth:getCurrentUser", bad)
        await ask("auth:checkToken", body={"token": bad})
        await ask("security:createUser", bad, body=credentials("x", scenario.secret("p")))
    await ask("auth:logout", old)


async def run_passwords(scenario: Scenario, boss: str, name: str, password: str) -> None:
    """Change, reset and refuse passwords."""
    ask = scenario.ask
    changed = scenario.secret("changed")
    for body in (
        {"password": scenario.secret("unproven")},
        {"password": scenario.secret("unproven"), "currentPassword": scenario.secret("guess")},
        {"password": [scenario.secret("array")], "currentPassword": password},
        {"password": scenario.secret("long") * 1000, "currentPassword": password},
        {"password": changed, "currentPassword": password, "kuid": scenario.secret("kuid")},
        {"password": changed, "currentPassword": password},
    ):
        await ask("auth:updateMyCredentials", boss, strategy="local", body=body)
    key = await scenario.token("auth:createApiKey", boss, body={"description": "lives on"})
    asked = {"_id": name, "password": changed}
    reset = await scenario.token(f"{RESET}:getResetPasswordToken", boss, **asked)
    for token in (scenario.secret("reset"), reset, reset):
        body = {"token": token, "password": scenario.secret("renewed")}
        answer = await ask(f"{RESET}:reset", key, body=body)
        if answer["error"] is None:
            scenario.secrets.add(answer["result"]["jwt"])


async def run_logins(scenario: Scenario, name: str, password: str) -> None:
    """Log in with what is wrong in every way."""
    for body in (
        {"username": name, "password": scenario.secret("wrong")},
        {"username": scenario.secret("typed-into-the-wrong-field"), "password": password},
        {"username": name, "password": {"a": scenario.secret("object")}},
        {"username": [scenario.secret("list")], "password": password},
        {"password": password},
        {"username": name, "password": password, "previousToken": scenario.secret("former")},
        {"username": name, "password": password, "previousToken": [scenario.secret("listed")]},
        [scenario.secret("body")],
    ):
        await scenario.ask("auth:login", strategy="local", body=body)
    wrong = {"username": name, "password": scenario.secret("elsewhere")}
    await scenario.ask("auth:login", strategy=LINE_BREAK, body=wrong)
    await scenario.ask("auth:login", strategy=scenario.echo("strategy"), body=wrong)


async def run_cookies(scenario: Scenario, name: str, password: str) -> None:
    """Keep a token in a cookie, and end it there."""
    http = await scenario.server.connect()
    who = {"username": name, "password": password}
    answer = await http.ask("POST", "/_login/local?cookieAuth=true", who)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    scenario.secrets.add(cookie.partition("=")[2])
    for method, path in (("GET", "/_me"), ("POST", "/_logout?cookieAuth=true"), ("GET", "/_me")):
        answer = await http.ask(method, path, headers={"Cookie": cookie})
        scenario.keep(answer.json)


async def run_raw(scenario: Scenario, name: str) -> None:
    """Send secrets where they do not belong: query strings, headers, bodies that can't be read."""
    http = await scenario.server.connect()
    query = f"username={name}&password={scenario.secret('query')}&jwt={scenario.secret('jwt')}"
    for method, path, body, headers in (
        ("GET", f"/_login/local?{query}", None, {}),
        ("POST", f"/nowhere?{query}", {}, {}),
        ("POST", "/_query", f'{{"jwt": "{scenario.echo("cut")}'.encode(), {}),
        ("GET", "/_me", None, {"Authorization": f"Bearer {scenario.secret('one')} two"}),
        ("GET", "/_me", None, {"Authorization": f"Basic {scenario.secret('basic')}"}),
        ("GET", "/_me", None, {"Cookie": f"authToken={scenario.secret('cookie')}"}),
        ("POST", "/_query", {"controller": LINE_BREAK, "action": LINE_BREAK}, {}),
    ):
        answer = await http.ask(method, path, body, headers=headers)
        scenario.keep(answer.json)
    socket = await scenario.server.open_socket()
    for message in (
        f'{{"jwt": "{scenario.secret("socket")}'.encode(),
        [scenario.secret("message")],
        {"controller": "auth", "action": "login", "jwt": 7, "body": scenario.secret("text")},
    ):
        scenario.keep(await socket.ask(message))


async def run_all(server: Running, transport: str) -> Scenario:
    """Run the whole scenario over one transport."""
    scenario = Scenario(server, transport)
    name, password = f"boss-{transport}", scenario.secret("password")
    body = credentials(name, password)
    if transport == TRANSPORTS[0]:
        code = server.app.services.first_admin.code
        assert code is not None
        scenario.secrets.add(code)
        wrong = scenario.secret("setup")
        await scenario.ask("security:createFirstAdmin", _id=name, body=body, setupCode=wrong)
        del body["content"]
        made = await scenario.ask("security:createFirstAdmin", _id=name, body=body, setupCode=code)
    else:
        admin = await scenario.token("auth:login", strategy="local", body=SPARE)
        made = await scenario.ask("security:createUser", admin, _id=name, body=body)
    assert made["status"] == 200, made
    who = {"username": name, "password": password}
    boss = await scenario.token("auth:login", strategy="local", body=who)
    if transport == TRANSPORTS[0]:
        spare = credentials(SPARE["username"], SPARE["password"])
        await scenario.ask("security:createUser", boss, _id="spare", body=spare)
    await scenario.ask("security:createUser", boss, _id=name, body=body)
    await run_logins(scenario, name, password)
    await run_tokens(scenario, boss)
    await run_cookies(scenario, name, password)
    await run_raw(scenario, name)
    await run_passwords(scenario, boss, name, password)
    return scenario


DONE = {
    *("auth:login", "auth:logout", "auth:createToken", "auth:refreshToken", "auth:createApiKey"),
    *("auth:updateMyCredentials", f"{RESET}:getResetPasswordToken", f"{RESET}:reset"),
}
SPARE = {"username": "spare", "password": "sekret-spare"}


def careful_config() -> Config:
    """Give a configuration that logs everything and asks for the present password."""
    config = cheap_config()
    token = replace(config.security.auth_token, secret=SIGNING_SECRET)
    local = replace(config.plugins.local, require_password=True)
    return replace(
        config,
        security=replace(config.security, auth_token=token),
        plugins=replace(config.plugins, local=local),
        logs=replace(config.logs, requests="all", audit=True),
        limits=replace(config.limits, failed_logins=0),
    )


def forms(secret: str) -> list[bytes]:
    """Give how a secret could be written."""
    plain = secret.encode()
    return [plain, plain.hex().encode(), base64.b64encode(plain).rstrip(b"=")]


@pytest.mark.parametrize("form", ["plain", "json"])
async def test_no_secret_stays_anywhere(tmp_path: Path, form: str) -> None:
    """X1, X2; the database is looked at with its log, while it runs and after it was closed."""
    data, stream = tmp_path / "keys.db", io.StringIO()
    writer = start_logs(form, "debug", stream)
    found: dict[str, bytes] = {}
    try:
        async with running(careful_config(), data=str(data)) as server:
            scenarios = [await run_all(server, transport) for transport in TRANSPORTS]
            await server.app.services.trail.flush(is_last=True)
            hits, total = await search_all(server)
            found["audit trail"] = hits.encode()
            found |= {f"{name}, live": read for name, read in read_files(tmp_path)}
    finally:
        stop_logs(writer)
    found |= read_files(tmp_path)
    found["log"] = stream.getvalue().encode()
    secrets = {SIGNING_SECRET, SPARE["password"]}.union(*(one.secrets for one in scenarios))
    refusals = [refusal for one in scenarios for refusal in one.refusals]
    found["error answers"] = "\n".join(refusals).encode()
    for one in scenarios:
        assert one.done >= DONE, DONE - one.done
    assert {"keys.db, live", "keys.db-wal, live", "keys.db"} <= found.keys()
    assert len(secrets) > 100 and len(refusals) > 100 and total > 50
    echoed = set[str]().union(*(one.echoed for one in scenarios))
    leaks = [
        (place, secret)
        for place, text in found.items()
        for secret in sorted(secrets - echoed if place == "error answers" else secrets)
        if any(written in text for written in forms(secret))
    ]
    assert leaks == []
    check_lines(form, stream.getvalue())


def read_files(folder: Path) -> list[tuple[str, bytes]]:
    """Give the name and content of each file."""
    return [(file.name, file.read_bytes()) for file in folder.iterdir()]


async def search_all(server: Running) -> tuple[str, int]:
    """Give what the API tells of the whole trail, and how many events that are."""
    body = {"username": SPARE["username"], "password": SPARE["password"]}
    made = await server.call("query", "auth:login", strategy="local", body=body)
    token = made["result"]["jwt"]
    answer = await server.call("query", "security:searchAudit", token=token, size=10_000)
    assert answer["status"] == 200
    return json.dumps(answer["result"], ensure_ascii=False), answer["result"]["total"]


def check_lines(form: str, text: str) -> None:
    """Every line is one of ours; nobody has begun one with what he sent."""
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) > 100
    for line in lines:
        assert not set(line) & {"\r", "\u2028", "\u202e"}
        if form == "json":
            assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
        else:
            assert PLAIN_LINE.match(line), line
    assert any("manykeys.audit" in line for line in lines)
