"""`GET /.well-known/jwks.json`: the keys others verify our tokens with (RFC 7517;
docs/api/differences.md#signing; check T9)."""

from dataclasses import replace

import jwt
import pytest

from server.auth.sessions.keyring import add_key
from server.config.model import Config
from tests.support.keyrings import NOW_MS, kid_of, retire
from tests.support.server import Answer, Running, cheap_config, running
from tests.support.waiting import until

PATH = "/.well-known/jwks.json"
# What RFC 7518 §6 and RFC 8037 §2 call public, and what names a key (RFC 7517 §4).
MEMBERS = {
    "ES256": {"kty", "crv", "x", "y"},
    "RS256": {"kty", "n", "e"},
    "EdDSA": {"kty", "crv", "x"},
}
NAMES = {"kid", "alg", "use"}


def signing(algorithm: str) -> Config:
    """Give a configuration with this algorithm."""
    config = cheap_config()
    token = replace(config.security.auth_token, algorithm=algorithm)
    return replace(config, security=replace(config.security, auth_token=token))


async def get(server: Running, **headers: str) -> Answer:
    """Ask for the keys."""
    http = await server.connect()
    return await http.ask("GET", PATH, headers=headers)


async def kids(server: Running) -> set[str]:
    """Give the names of the published keys."""
    return {key["kid"] for key in (await get(server)).json["keys"]}


@pytest.mark.parametrize("algorithm", MEMBERS)
async def test_public_keys_are_published(algorithm: str) -> None:
    """Raw JSON that may be cached for a while, without anything private, and enough to verify."""
    async with running(signing(algorithm)) as server:
        answer = await get(server)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        assert list(answer.json) == ["keys"]
        (key,) = answer.json["keys"]
        assert set(key) == MEMBERS[algorithm] | NAMES
        assert (key["alg"], key["use"]) == (algorithm, "sig")
        token = await server.create_admin()
        assert key["kid"] == kid_of(token)
        claims = jwt.decode(token, jwt.PyJWK(key), algorithms=[algorithm])
        assert claims["_id"] == "admin"


async def test_a_shared_secret_beside_a_key_pair() -> None:
    """What is published says nothing of the other keys."""
    async with running(signing("ES256")) as server:
        storage, keyring = server.app.services.storage, server.app.services.keyring
        shared = await add_key(storage, "HS256", NOW_MS)
        await add_key(storage, "ES256", NOW_MS)
        await until(lambda: len(keyring.public_keys()["keys"]) == 2)
        answer = await get(server)
        assert shared.encode() not in answer.body
        assert {key["alg"] for key in answer.json["keys"]} == {"ES256"}


async def test_anybody_may_ask() -> None:
    """No rights, no token, not even a good one: the keys are no secret."""
    async with running(signing("EdDSA")) as server:
        wanted = (await get(server)).body
        for authorization in ("Bearer nonsense", "Bearer ", "Basic eDp5"):
            answer = await get(server, Authorization=authorization)
            assert (answer.status, answer.body) == (200, wanted)


async def test_the_set_follows_the_keys() -> None:
    """T9: a new key is there before it signs, a retired one no more."""
    async with running(signing("ES256")) as server:
        storage, keyring = server.app.services.storage, server.app.services.keyring
        (old,) = await kids(server)
        new = await add_key(storage, "ES256", NOW_MS * 2)
        await until(lambda: len(keyring.public_keys()["keys"]) == 2)
        assert await kids(server) == {old, new}
        await retire(storage, old)
        assert await kids(server) == {new}
