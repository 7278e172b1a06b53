"""`manykeys keys` beside a running server, and the key set that server publishes (T9, T10)."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from protocol.errors import LocalError
from server.auth.sessions.keyring import Signing, add_key, open_keyring
from server.cli import keys as keycommands
from server.config.model import Config
from server.storage.rows import Row, Table, Value
from server.storage.sqlite.storage import SqliteStorage
from tests.server.app.test_serve import create_admin, login, run, serving
from tests.support.errors import told
from tests.support.keyrings import (
    NOW_MS,
    OTHER_SECRET,
    SECRET,
    clock_ms,
    decode,
    encode,
    kid_of,
    opened,
    retire,
    stored_keys,
)
from tests.support.server import Http, Running, cheap_config, running
from tests.support.waiting import deadline, in_time

INVALID = {"id": "security.token.invalid", "code": 117506049, "status": 401}
KEY_SET = "/.well-known/jwks.json"
REFUSED = 2
"""The exit code for what is to be corrected."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the test itself do not wait for other servers."""
    for name in ("JOURNAL_S", "_READING_S", "SETTLE_S"):
        monkeypatch.setattr(keycommands, name, 0.0)


async def manykeys(*arguments: str) -> tuple[int, str]:
    """Run the program; give its exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await in_time(process.communicate())
    assert process.returncode is not None
    return process.returncode, (printed + errors).decode()


async def keys(data: Path, *arguments: str) -> str:
    """Run `manykeys keys`, which must succeed, and give what it printed."""
    code, printed = await manykeys("keys", *arguments, "--data", str(data))
    assert code == 0, printed
    return printed


async def states(data: Path, *options: str) -> dict[str, str]:
    """Give the state of each key by kid, oldest first, as `list` prints it."""
    heading, *lines = (await keys(data, "list", *options)).splitlines()
    assert heading.split() == ["KID", "ALGORITHM", "CREATED", "STATE"]
    return {line.split()[0]: " ".join(line.split()[3:]) for line in lines}


async def ask_me(http: Http, token: str) -> dict[str, object]:
    """Ask who a token stands for, and give the envelope."""
    return (await http.ask("GET", "/_me", token=token)).json


async def wait_for(is_so: Callable[[dict[str, object]], bool], http: Http, token: str) -> None:
    """Ask again and again until the answer is as wanted."""
    async with deadline():
        while not is_so(await ask_me(http, token)):
            pass


async def test_keys_are_rotated_and_retired_while_a_server_runs(tmp_path: Path) -> None:
    """T9: overlap after `rotate`, refusal after `retire`, and no restart for either."""
    data = tmp_path / "keys.db"
    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        old = await login(http)
        first = str(kid_of(old))
        assert await states(data) == {first: "signs"}

        assert first not in await keys(data, "rotate")
        (_, second) = listed = await states(data)
        assert listed == {first: "verifies", second: "signs"}
        async with deadline():
            while kid_of(new := await login(http)) != second:
                pass
        for token in (old, new):
            assert (await ask_me(http, token))["status"] == 200

        code, printed = await manykeys("keys", "retire", second, "--data", str(data))
        assert code == REFUSED and second in printed and "rotate" in printed
        await keys(data, "retire", first)
        await wait_for(lambda answer: answer["status"] == 401, http, old)
        assert told(await ask_me(http, old)) == INVALID
        assert (await ask_me(http, new))["status"] == 200
        listed = await states(data)
        assert listed[first].startswith("retired ") and listed[second] == "signs"
        http.close()
        await server.stop()
    async with serving(data) as server:
        http = await server.connect()
        assert told(await ask_me(http, old)) == INVALID
        assert (await ask_me(http, new))["status"] == 200
        http.close()
        await server.stop()


async def test_a_changed_secret_drops_sessions_cleanly(tmp_path: Path) -> None:
    """T9, docs/api/auth.md#signing-keys: old tokens answer `security.token.invalid`, a new login
    works."""
    data = tmp_path / "keys.db"
    old = ""
    for secret in (SECRET, OTHER_SECRET):
        async with serving(data, "--set", f"security.authToken.secret={secret}") as server:
            http = await server.connect()
            if not old:
                await create_admin(http)
                old = await login(http)
                assert (await ask_me(http, old))["status"] == 200
            else:
                assert told(await ask_me(http, old)) == INVALID
                assert (await ask_me(http, await login(http)))["status"] == 200
            http.close()
            errors = await server.stop()
        assert ("all sessions are revoked" in errors) == (secret == OTHER_SECRET)
        assert SECRET not in errors


async def test_a_command_without_the_secret_ends_no_session(tmp_path: Path) -> None:
    """T9: only a server that signs with another secret has changed it."""
    data = tmp_path / "keys.db"
    async with serving(data, "--set", f"security.authToken.secret={SECRET}") as server:
        http = await server.connect()
        await create_admin(http)
        token = await login(http)
        made = await run("create-admin", "second", "--password-stdin", "--data", str(data))
        assert made[0] == 0, made
        assert (await ask_me(http, token))["status"] == 200
        assert (await ask_me(http, await login(http, "second", "from stdin")))["status"] == 200
        http.close()


async def test_api_keys_come_back_with_their_secret(tmp_path: Path) -> None:
    """docs/api/auth.md#signing-keys: a changed secret ends sessions for good and only silences API
    keys; the start after that ends nothing more."""
    data = str(tmp_path / "keys.db")
    async with running(signing_with("HS256", SECRET), data=data) as server:
        session = await server.create_admin()
        body = {"description": "a program's"}
        made = await server.call("http", "auth:createApiKey", token=session, body=body)
        api_key = made["result"]["_source"]["token"]
        assert await statuses(server, session, api_key) == [200, 200]
    async with running(signing_with("HS256", OTHER_SECRET), data=data) as server:
        assert await statuses(server, session, api_key) == [401, 401]
        later = await server.login("admin")
    async with running(signing_with("HS256", OTHER_SECRET), data=data) as server:
        assert await statuses(server, session, api_key, later) == [401, 401, 200]
    async with running(signing_with("HS256", SECRET), data=data) as server:
        assert await statuses(server, session, api_key, later) == [401, 200, 401]


async def statuses(server: Running, *tokens: str) -> list[object]:
    """Ask with each token."""
    http = await server.connect()
    return [(await ask_me(http, token))["status"] for token in tokens]


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_no_start_with_a_secret_and_key_pairs(tmp_path: Path, algorithm: str) -> None:
    """T8: both settings are named, the secret is not shown."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    given = (f"algorithm={algorithm}", f"secret.file={secret}")
    flags = [part for one in given for part in ("--set", f"security.authToken.{one}")]
    code, printed = await manykeys("serve", "--port", "0", "--data", str(tmp_path / "k.db"), *flags)
    assert code == REFUSED and len(printed.splitlines()) == 1
    assert "security.authToken.secret" in printed and "security.authToken.algorithm" in printed
    assert SECRET not in printed


async def test_mistakes_of_keys_are_said_in_one_line(tmp_path: Path) -> None:
    absent = tmp_path / "absent.db"
    code, printed = await manykeys("keys", "list", "--data", str(absent))
    assert code == REFUSED and str(absent) in printed and len(printed.splitlines()) == 1
    assert not absent.exists()
    for arguments in (["keys"], ["keys", "retire"], ["keys", "show"]):
        code, _ = await manykeys(*arguments)
        assert code == REFUSED


async def test_list_shows_no_secret() -> None:
    async with opened() as storage:
        for algorithm in ("HS256", "ES256"):
            await open_keyring(storage, Signing(algorithm), clock_ms=clock_ms)
        rows = await stored_keys(storage)
        shown = await keycommands.list_keys(storage, Signing("ES256"))
        with_secret = await keycommands.list_keys(storage, Signing("HS256", SECRET))
    for row in rows:
        assert str(row["kid"]) in shown
        assert str(row["secret"])[:16] not in shown
    assert "2023-11-14T22:13:20Z" in shown
    assert sorted(line.split()[-1] for line in shown.splitlines()[1:]) == ["signs", "verifies"]
    *stored, last = with_secret.splitlines()[1:]
    assert [line.split()[-1] for line in stored] == ["verifies", "verifies"]
    assert last.endswith("signs (security.authToken.secret)") and SECRET not in with_secret


async def test_the_newest_key_signs_whatever_the_clock_says() -> None:
    async with opened() as storage:
        await open_keyring(storage, Signing(), clock_ms=clock_ms)
        await keycommands.rotate(storage, Signing(), NOW_MS - 1_000_000)
        keyring = await open_keyring(storage, Signing(), clock_ms=clock_ms)
        signer = str(kid_of(keyring.sign({"_id": "ann", "iat": 1})))
        shown = await keycommands.list_keys(storage, Signing())
        assert shown.splitlines()[-1].split()[0] == signer
        assert shown.splitlines()[-1].endswith("signs")


async def test_what_rotate_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as storage:
        with pytest.raises(LocalError, match="change that setting"):
            await keycommands.rotate(storage, Signing("HS256", SECRET), NOW_MS)
        monkeypatch.setattr(keycommands, "MOST_KEYS", 2)
        for _ in range(2):
            await keycommands.rotate(storage, Signing(), NOW_MS)
        with pytest.raises(LocalError, match="retire some"):
            await keycommands.rotate(storage, Signing(), NOW_MS)
        assert len(await stored_keys(storage)) == 2


async def test_what_retire_refuses() -> None:
    """Whatever signs must stay; the text says what to do instead."""
    async with opened() as storage:
        one = await add_key(storage, "HS256", NOW_MS)
        for signing in (Signing("HS256"), Signing("ES256")):  # the only key, of either algorithm
            with pytest.raises(LocalError, match="rotate"):
                await keycommands.retire(storage, signing, one, NOW_MS)
        two = await add_key(storage, "HS256", NOW_MS + 1)
        with pytest.raises(LocalError, match=f"{two} signs"):
            await keycommands.retire(storage, Signing(), two, NOW_MS)
        await keycommands.retire(storage, Signing(), one, NOW_MS)
        for kid in (one, "unknown", ""):
            with pytest.raises(LocalError, match="is not a key"):
                await keycommands.retire(storage, Signing(), kid, NOW_MS)
        configured = Signing("HS256", SECRET)
        keyring = await open_keyring(storage, configured, clock_ms=clock_ms)
        own = str(kid_of(keyring.sign({"_id": "ann", "iat": 1})))
        with pytest.raises(LocalError, match="change that setting"):
            await keycommands.retire(storage, configured, own, NOW_MS)
        await keycommands.retire(storage, configured, two, NOW_MS)  # the secret signs
        assert [row["secret"] for row in await stored_keys(storage)] == ["", ""]


async def test_two_retirements_leave_a_key() -> None:
    """The key that signs can't vanish between the look and the change."""
    async with opened() as storage:
        hmac, curve = [await add_key(storage, name, NOW_MS) for name in ("HS256", "ES256")]
        outcomes = await asyncio.gather(
            keycommands.retire(storage, Signing("HS256"), curve, NOW_MS),
            keycommands.retire(storage, Signing("ES256"), hmac, NOW_MS),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LocalError", "str"]
        assert len([row for row in await stored_keys(storage) if row["retired_at"] is None]) == 1


def signing_with(algorithm: str, secret: str | None = None) -> Config:
    """Give the settings of a server that signs so."""
    config = cheap_config()
    token = replace(config.security.auth_token, algorithm=algorithm, secret=secret)
    return replace(config, security=replace(config.security, auth_token=token))


async def test_the_key_set_is_public() -> None:
    """T9: JSON as it is (RFC 7517 §5), for everybody, to be kept a while."""
    async with running(signing_with("ES256")) as server:
        http = await server.connect()
        answer = await http.ask("GET", KEY_SET)
        assert (answer.status, list(answer.json)) == (200, ["keys"])
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        (key,) = answer.json["keys"]
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        token = await server.create_admin()
        claims = jwt.decode(token, jwt.PyJWK(key).key, algorithms=["ES256"])
        assert (claims["_id"], kid_of(token)) == ("admin", key["kid"])
        assert (await http.ask("POST", KEY_SET, {})).status == 404


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_the_key_set_without_key_pairs_is_empty(secret: str | None) -> None:
    """T9: HMAC secrets are never published."""
    async with running(signing_with("HS256", secret)) as server:
        answer = await (await server.connect()).ask("GET", KEY_SET)
        assert json.loads(answer.body) == {"keys": []}


async def test_well_signed_is_not_enough() -> None:
    """T10: signed with our secret, but never given out; T1, T3 the same on the wire."""
    async with running(signing_with("HS256", SECRET)) as server:
        token = await server.create_admin()
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        keyring = server.app.services.keyring
        forged = keyring.sign(claims | {"jti": "another"})
        assert keyring.read(forged) is not None
        header, payload, signature = token.split(".")
        fields = decode(header)
        heads = [encode(fields | more) for more in ({"alg": "none"}, {"jku": "http://127.0.0.1"})]
        signed = [f"{head}.{payload}.{end}" for head in heads for end in ("", signature)]
        http = await server.connect()
        for text in (forged, *signed, token + ".", token[:-1], "a.b.c"):
            for prefix in ("", "kauth-", "kapikey-"):
                assert told(await ask_me(http, prefix + text)) == INVALID, text
        assert (await ask_me(http, token))["status"] == 200


async def test_a_token_in_verification_is_retired_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """T9: the signature was good when the store was asked, and is not when the answer comes."""
    async with running() as server:
        token = await server.create_admin()
        storage = server.app.services.storage
        await add_key(storage, "HS256", 2 * NOW_MS)
        is_asked, may_go_on = asyncio.Event(), asyncio.Event()
        get = SqliteStorage.get

        async def slow_get(self: SqliteStorage, table: Table, **key: Value) -> Row | None:
            row = await get(self, table, **key)
            if table is Table.SESSIONS:
                is_asked.set()
                await may_go_on.wait()
            return row

        server.app.services.tokens.forget_all()
        monkeypatch.setattr(SqliteStorage, "get", slow_get)
        asking = asyncio.create_task(ask_me(await server.connect(), token))
        await is_asked.wait()
        await retire(storage, kid_of(token))
        may_go_on.set()
        assert told(await asking) == INVALID


async def test_live_tokens_of_a_retired_key_end_at_once(server: Running) -> None:
    """T9: on HTTP and on an open socket, with the acknowledgement."""
    token = await server.create_admin()
    me = {"controller": "auth", "action": "getCurrentUser", "jwt": token}
    http, socket = await server.connect(), await server.open_socket()
    assert (await ask_me(http, token))["status"] == 200
    assert (await socket.ask(me))["status"] == 200
    storage = server.app.services.storage
    await add_key(storage, "HS256", 2 * NOW_MS)
    assert (await ask_me(http, token))["status"] == 200
    await retire(storage, kid_of(token))
    assert told(await ask_me(http, token)) == INVALID
    assert told(await socket.ask(me)) == INVALID
