"""Prefixes and hashes of tokens."""

import hashlib

SESSION_PREFIX, API_KEY_PREFIX = "kauth-", "kapikey-"


def hash_token(token: str) -> bytes:
    """Give what is stored of a token: the SHA-256 of its text."""
    return hashlib.sha256(token.encode()).digest()
