"""The key that signs tokens: HMAC with a configured secret, or with one made at first start and kept in the store.

Algorithms are named explicitly on verification, so that a token never chooses how it is checked (RFC 8725 §3.1).
"""

import secrets
from dataclasses import dataclass

import jwt

from protocol.errors import LocalError
from server.storage.base import Insert, Exists, Storage, Table

LEAST_SECRET_BYTES = 32
_SECRET_SETTING = "tokenSecret"
_SECRET_BYTES = 64


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """Signs claims and reads back what it signed."""

    algorithm: str
    secret: bytes

    def sign(self, claims: dict[str, object]) -> str:
        """Give the compact form of a JSON Web Token (RFC 7519)."""
        return jwt.encode(claims, self.secret, algorithm=self.algorithm)

    def read(self, token: str) -> dict[str, object] | None:
        """Give the claims of a token of ours, or None for any other text. Lifetimes are the caller's to check."""
        try:
            return jwt.decode(
                token,
                self.secret,
                algorithms=[self.algorithm],
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "verify_iss": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None


async def load_key(storage: Storage, algorithm: str, secret: str | None) -> SigningKey:
    """Give the key to sign with; without a configured secret the stored one, made now if there is none yet."""
    if not algorithm.startswith("HS"):
        raise LocalError(f"security.authToken.algorithm: {algorithm} has no key; use HS256")
    if secret is not None:
        return SigningKey(algorithm, secret.encode())
    row = await storage.get(Table.SETTINGS, name=_SECRET_SETTING)
    if row is None:
        made = secrets.token_hex(_SECRET_BYTES)
        try:
            await storage.apply([Insert(Table.SETTINGS, {"name": _SECRET_SETTING, "value": made})])
        except Exists:
            pass  # another process was faster; its secret is the one that counts
        row = await storage.get(Table.SETTINGS, name=_SECRET_SETTING)
    if row is None or not isinstance(row["value"], str):
        raise LocalError("the stored token secret can't be read")
    return SigningKey(algorithm, row["value"].encode())
