"""Secrets that must be read again, like seeds of one-time codes, kept unreadable in the store.

The key is the operator's, or one that is made once and kept in the store: then a copy of the whole
database gives the secrets, and only parts of it do not. What is sealed is bound to what it is for:
moved to another user or use it can't be opened.
"""

import hashlib
import secrets
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.storage.base import Exists, Insert, Storage, Table

_SETTING = "sealingKey"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Sealer:
    """Seals and opens; `key` is the operator's, None for the store's."""

    def __init__(self, storage: Storage, key: str | None) -> None:
        self._storage = storage
        self._key = key
        self._cipher: AESGCM | None = None

    async def seal(self, text: str, use: str) -> str:
        """Give a text sealed for a use."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = await self.load()
        return (nonce + cipher.encrypt(nonce, text.encode(), use.encode())).hex()

    async def open(self, sealed: object, use: str) -> str | None:
        """Give the text again; None if it was sealed with another key, for another use, or not at
        all."""
        try:
            data = bytes.fromhex(cast(str, sealed))
            opened = (await self.load()).decrypt(
                data[:_NONCE_BYTES], data[_NONCE_BYTES:], use.encode()
            )
        except (InvalidTag, ValueError, TypeError):
            return None
        return opened.decode()

    async def load(self) -> AESGCM:
        """Give the cipher, making a key if there is none yet."""
        if self._cipher is None:
            secret = self._key or await _stored_key(self._storage)
            key = hashlib.sha256(b"manykeys/sealing/1" + secret.encode()).digest()
            self._cipher = AESGCM(key)
        return self._cipher


async def _stored_key(storage: Storage) -> str:
    """Give the store's key; of several processes that make one at once, one does."""
    row = await storage.get(Table.SETTINGS, name=_SETTING)
    if row is None:
        made = secrets.token_hex(_KEY_BYTES)
        try:
            await storage.apply([Insert(Table.SETTINGS, {"name": _SETTING, "value": made})])
        except Exists:
            return await _stored_key(storage)
        return made
    return cast(str, row["value"])
