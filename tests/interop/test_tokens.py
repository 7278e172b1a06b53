"""Tokens verified without the server, by other people's libraries
(docs/api/differences.md#session-token)."""

from pathlib import Path

import jwt
import pytest

from tests.interop.conftest import RunScript
from tests.interop.serving import serving

pytestmark = pytest.mark.interop

SECRET = "a secret of more than thirty-two bytes"


def test_token_can_be_verified_offline(tmp_path: Path, run_script: RunScript) -> None:
    """PyJWT and jsonwebtoken agree on the claims of a token signed with a configured secret."""
    with serving(tmp_path, {"security.authToken.secret": SECRET}) as server:
        server.create_admin()
        token = server.login()
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert list(claims) == ["_id", "iat", "exp", "jti"]
    assert (claims["_id"], claims["exp"] - claims["iat"]) == ("admin", 3600)
    assert run_script("verify.cjs", token, SECRET) == claims
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, SECRET + "!", algorithms=["HS256"])
