"""Encryption at rest of secrets that must be read again, like TOTP seeds (AES-GCM).

The key is the operator's, or one that is generated once and kept in the store: then a copy of the
whole database reveals the secrets, and a copy of only some tables does not. The operator's older
keys decrypt what they encrypted, and so does the store's key if the operator allows it. Each secret
is bound to its use: moved to another user or use it cannot be decrypted.
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.storage.base import Exists, Insert, Storage
from server.storage.rows import Table

_SETTING = "sealingKey"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Sealer:
    """Encrypts with the first of `keys`, the operator's, and decrypts with any; without any, with
    the store's key. With `opens_stored` that one decrypts too: not by default, since an attacker
    who can write to the store could encrypt with it."""

    def __init__(
        self, storage: Storage, keys: Sequence[str], *, opens_stored: bool = False
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._opens_stored = opens_stored
        self._ciphers: list[AESGCM] = []

    async def seal(self, text: str, use: str) -> str:
        """Return a string encrypted for a use."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        newest, *_ = await self.load()
        return (nonce + newest.encrypt(nonce, text.encode(), use.encode())).hex()

    async def open(self, sealed: object, use: str) -> str | None:
        """Return the decrypted string; None if it was encrypted with a key that is not configured,
        for another use, or not at all."""
        for cipher in await self.load():
            text = _open(cipher, sealed, use)
            if text is not None:
                return text
        return None

    async def renew(self, sealed: object, use: str) -> object:
        """Return a secret encrypted with the first key again; unchanged if that key decrypts it, or
        no key does."""
        newest, *_ = await self.load()
        text = None if _open(newest, sealed, use) is not None else await self.open(sealed, use)
        return sealed if text is None else await self.seal(text, use)

    async def load(self) -> list[AESGCM]:
        """Return a cipher for each key, the newest first; create a key if there is none yet."""
        if not self._ciphers:
            wanted = [*self._keys]
            if self._opens_stored or not wanted:
                wanted.append(await stored_secret(self._storage, _SETTING))
            self._ciphers = [_cipher(secret) for secret in wanted]
        return self._ciphers


def _cipher(secret: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"manykeys/sealing/1" + secret.encode()).digest())


def _open(cipher: AESGCM, sealed: object, use: str) -> str | None:
    try:
        data = bytes.fromhex(cast(str, sealed))
        return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], use.encode()).decode()
    except (InvalidTag, ValueError, TypeError):
        return None


async def stored_secret(storage: Storage, setting: str) -> str:
    """Return a random key that the store keeps under a name, 32 bytes in hexadecimal. It is created
    once: of several processes that do so at the same time, one succeeds."""
    row = await storage.get(Table.SETTINGS, name=setting)
    if row is None:
        secret = secrets.token_hex(_KEY_BYTES)
        try:
            await storage.apply([Insert(Table.SETTINGS, {"name": setting, "value": secret})])
        except Exists:
            return await stored_secret(storage, setting)
        return secret
    return cast(str, row["value"])
