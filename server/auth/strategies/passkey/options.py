"""Options for the browser's WebAuthn calls, in the JSON form of
`PublicKeyCredential.parseCreationOptionsFromJSON` and `parseRequestOptionsFromJSON` (WebAuthn level
3 §5.1.8, §5.1.9)."""

import secrets
from collections.abc import Sequence

from server.auth.strategies.passkey.settings import ALGORITHMS, PasskeySettings
from server.storage.rows import Row

_CHALLENGE_BYTES = 32
_HANDLE_BYTES = 32
_PUBLIC_KEY = "public-key"


def make_challenge() -> str:
    """Return random bytes to sign, in base64url."""
    return secrets.token_urlsafe(_CHALLENGE_BYTES)


def make_handle() -> str:
    """Return a new user handle, in base64url, which does not reveal who the user is (WebAuthn
    §14.6.1)."""
    return secrets.token_urlsafe(_HANDLE_BYTES)


def ask_for_new(
    settings: PasskeySettings, *, challenge: str, handle: str, kuid: str, keys: Sequence[Row]
) -> dict[str, object]:
    """Return options to create a key on an authenticator that has none of `keys`. It must be a
    discoverable credential, as logins do not name a user."""
    return {
        "rp": {"id": settings.rp_id, "name": settings.rp_name or settings.rp_id},
        "user": {"id": handle, "name": kuid, "displayName": kuid},
        "challenge": challenge,
        "pubKeyCredParams": [
            {"type": _PUBLIC_KEY, "alg": ALGORITHMS[name]} for name in settings.algorithms
        ],
        "timeout": int(settings.timeout_ms),
        "excludeCredentials": [_describe(key) for key in keys],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": settings.user_verification,
        },
        "attestation": settings.attestation,
    }


def ask_for_one(
    settings: PasskeySettings, *, challenge: str, keys: Sequence[Row]
) -> dict[str, object]:
    """Return options to sign with one of `keys`, or with any key of the domain if there are
    none."""
    return {
        "challenge": challenge,
        "timeout": int(settings.timeout_ms),
        "rpId": settings.rp_id,
        "allowCredentials": [_describe(key) for key in keys],
        "userVerification": settings.user_verification,
    }


def _describe(key: Row) -> dict[str, object]:
    return {"type": _PUBLIC_KEY, "id": key["id"], "transports": key["transports"]}
