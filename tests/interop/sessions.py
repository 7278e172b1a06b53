"""What the session of `session.js` must have seen, in Node and in a browser."""

import jwt

from tests.interop.serving import Json


def check_session(seen: Json) -> None:
    """Compare with the contract what a session of the administrator `admin` saw."""
    assert seen["before"] == {
        "expiresAt": None,
        "kuid": "-1",
        "valid": True,
    }  # docs/api/clients.md#checklist
    claims = jwt.decode(seen["token"], options={"verify_signature": False})
    assert (claims["_id"], claims["exp"] - claims["iat"]) == ("admin", 3600)
    assert seen["user"] == {"_id": "admin", "profileIds": ["admin"]}
    check = seen["check"]
    assert (check["kuid"], check["valid"]) == ("admin", True)
    assert check["expiresAt"] // 1000 == claims["exp"]
    assert seen["isAuthenticated"] is True
    everything = dict.fromkeys(("controller", "action", "index", "collection"), "*")
    assert seen["rights"] == [
        everything | {"value": "allowed"}
    ]  # docs/api/security.md#listed-rights
    assert seen["strategies"] == ["local"]
    assert seen["after"]["_id"] == "-1"
    assert seen["after"]["check"]["valid"] is False
    assert seen["events"] == []
