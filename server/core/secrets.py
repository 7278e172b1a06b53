"""Token prefixes and token hashes."""

import hashlib

SESSION_PREFIX, API_KEY_PREFIX = "kauth-", "kapikey-"


def hash_token(token: str) -> bytes:
    """Return the SHA-256 of a token, which is stored instead of the token."""
    return hashlib.sha256(token.encode()).digest()
