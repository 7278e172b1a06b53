"""Tokens verified with nothing but the key set a server publishes (security-checks T9)."""

import json
import urllib.request
from pathlib import Path

import jwt
import pytest

from tests.interop.conftest import RunScript
from tests.interop.programs import DEADLINE_S
from tests.interop.serving import Json, Served, serving

pytestmark = pytest.mark.interop


def read_key_set(server: Served) -> Json:
    """Fetch the public keys, as anybody can."""
    url = f"http://127.0.0.1:{server.port}/.well-known/jwks.json"
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        key_set: Json = json.load(answer)
    return key_set


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_pyjwt_verifies_with_the_key_set(tmp_path: Path, algorithm: str) -> None:
    """PyJWT finds the key by `kid` and goes on verifying when the server is gone."""
    with serving(tmp_path, {"security.authToken.algorithm": algorithm}) as server:
        server.create_admin()
        token = server.login()
        client = jwt.PyJWKClient(f"http://127.0.0.1:{server.port}/.well-known/jwks.json")
        key = client.get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=[algorithm])
    assert list(claims) == ["_id", "iat", "exp", "jti"]
    assert (claims["_id"], claims["exp"] - claims["iat"]) == ("admin", 3600)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_jsonwebtoken_verifies_with_the_key_set(
    tmp_path: Path, run_script: RunScript, algorithm: str
) -> None:
    """The same from Node. jsonwebtoken knows no EdDSA, so PyJWT alone stands for that."""
    with serving(tmp_path, {"security.authToken.algorithm": algorithm}) as server:
        server.create_admin()
        token = server.login()
        key_set = read_key_set(server)
    claims = run_script("verify_jwks.cjs", token, json.dumps(key_set), algorithm)
    assert claims == jwt.decode(token, options={"verify_signature": False})
    assert claims["_id"] == "admin"


def test_shared_secrets_are_not_in_the_key_set(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert read_key_set(server) == {"keys": []}
