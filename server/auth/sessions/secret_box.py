"""Secrets that must be read again, like seeds of one-time codes, kept unreadable in the store.

The key is the operator's, or one that is made once and kept in the store: then a copy of the whole
database gives the secrets, and only parts of it do not. The
operator's older keys open what they sealed, and so does the store's where he says so. What is
sealed is bound to what it is for: moved to another user or use it can't be opened.
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
    """Seals with the first of `keys`, the operator's, and opens with any; without any, with the
    store's. With `opens_stored` that opens, too: not by itself, since whoever writes into the store
    could seal with it."""

    def __init__(
        self, storage: Storage, keys: Sequence[str], *, opens_stored: bool = False
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._opens_stored = opens_stored
        self._ciphers: list[AESGCM] = []

    async def seal(self, text: str, use: str) -> str:
        """Give a text sealed for a use."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        newest, *_ = await self.load()
        return (nonce + newest.encrypt(nonce, text.encode(), use.encode())).hex()

    async def open(self, sealed: object, use: str) -> str | None:
        """Give the text again; None if it was sealed with a key that is not there, for another use,
        or not at all."""
        for cipher in await self.load():
            text = _open(cipher, sealed, use)
            if text is not None:
                return text
        return None

    async def renew(self, sealed: object, use: str) -> object:
        """Give what is sealed as the first key seals it, and whatever that opens, or nothing does,
        as it is."""
        newest, *_ = await self.load()
        text = None if _open(newest, sealed, use) is not None else await self.open(sealed, use)
        return sealed if text is None else await self.seal(text, use)

    async def load(self) -> list[AESGCM]:
        """Give a cipher for each key, the newest first, making a key if there is none yet."""
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
        made = secrets.token_hex(_KEY_BYTES)
        try:
            await storage.apply([Insert(Table.SETTINGS, {"name": setting, "value": made})])
        except Exists:
            return await stored_secret(storage, setting)
        return made
    return cast(str, row["value"])
