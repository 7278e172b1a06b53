"""Known devices: proof that a client has logged in to an account before (security check A5).

A known device is exempt from the waits that failed logins of others cause. It is not a credential:
the password, or another factor, is still required. There are two proofs, both valid for `LIFE_MS`
and for one account:

- an entry of the device cookie, which a browser gets with each login: user ID, a random device ID
  and the time, with an HMAC by a key of the store;
- a session token of the account, expired or not, which the client sends as `previousToken`.

Neither needs a row for each device. What revokes all sessions of a user revokes all proofs issued
before as well: a row keeps the time for as long as there may be older proofs.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from server.auth.sessions.keyring import Keyring
from server.auth.sessions.secret_box import stored_secret
from server.core.ids import ANONYMOUS_ID, is_id
from server.core.secrets import API_KEY_PREFIX, SESSION_PREFIX, hash_token
from server.storage.base import Change, Put, Storage
from server.storage.rows import Table

LIFE_MS = 90 * 24 * 3_600_000
MOST_ACCOUNTS = 4
"""Accounts one browser is known to; the one that logged in longest ago is dropped."""
MOST_COOKIE_CHARACTERS = 3500
MOST_TOKEN_CHARACTERS = 8192
_SETTING = "deviceKey"
_KIND = "devices revoked"
_ALL_USERS = ""  # no user has this ID
_DEVICE_BYTES = 12
_ENTRIES, _PARTS = "~", "."
_TOKEN_MARK = "token:"  # noqa: S105  (no device ID has a colon)


@dataclass(frozen=True, slots=True)
class Device:
    """A valid proof: its user, since when in ms since 1970, and the ID its failures are counted
    under."""

    kuid: str
    id: str
    since_ms: int


class KnownDevices:
    """Issues and verifies the proofs."""

    __slots__ = ("_clock_ms", "_key", "_keyring", "_storage")

    def __init__(self, storage: Storage, keyring: Keyring, *, clock_ms: Callable[[], int]) -> None:
        self._storage = storage
        self._keyring = keyring
        self._clock_ms = clock_ms
        self._key = b""

    def now_ms(self) -> int:
        """Return the time, in ms since 1970."""
        return self._clock_ms()

    async def verify(self, cookie: str, token: str) -> tuple[Device, ...]:
        """Return the devices that a cookie and a token prove, "" for an absent one. Invalid proofs
        are skipped: no response says why."""
        found = [*(await self._of_cookie(cookie)), *(await self._of_token(token))]
        if not found:
            return ()
        revoked_ms = await self._revoked(found)
        return tuple(one for one in found if one.since_ms > revoked_ms[one.kuid])

    async def issue(self, kuid: str, cookie: str) -> str:
        """Return the device cookie of a browser in which this user has just logged in; `cookie` is
        the one before. A known device keeps its ID, and with it the failures it is charged with."""
        known = await self._of_cookie(cookie)
        device = next((one.id for one in known if one.kuid == kuid), "")
        device = device or secrets.token_urlsafe(_DEVICE_BYTES)
        entries = [await self._write(Device(kuid, device, self._clock_ms()))]
        length = len(entries[0])
        for one in known:
            entry = await self._write(one)
            length += 1 + len(entry)
            if one.kuid != kuid and length <= MOST_COOKIE_CHARACTERS:
                entries.append(entry)
        return _ENTRIES.join(entries[:MOST_ACCOUNTS])

    async def _of_cookie(self, cookie: str) -> list[Device]:
        if not cookie or len(cookie) > MOST_COOKIE_CHARACTERS or not cookie.isascii():
            return []
        read = [await self._read(entry) for entry in cookie.split(_ENTRIES)[:MOST_ACCOUNTS]]
        return [one for one in read if one is not None]

    async def _of_token(self, token: str) -> list[Device]:
        """A session token by its signature alone: once it has expired its row may be gone."""
        bare = token.removeprefix(SESSION_PREFIX)
        claims = self._keyring.read(bare) if len(bare) <= MOST_TOKEN_CHARACTERS else None
        if claims is None:
            return []
        kuid, since_ms = cast(str, claims["_id"]), cast(int, claims["iat"]) * 1000
        if kuid == ANONYMOUS_ID or not self._is_in_time(since_ms):
            return []
        # An API key without its prefix has a valid signature too.
        key_hash = hash_token(API_KEY_PREFIX + bare)
        if await self._storage.exists(Table.API_KEYS, token_hash=key_hash):
            return []
        return [Device(kuid, _TOKEN_MARK + hash_token(bare).hex(), since_ms)]

    async def _read(self, entry: str) -> Device | None:
        parts = entry.split(_PARTS)
        if len(parts) != 4:
            return None
        shown, device, since, proof = parts
        signed = await self._sign(_PARTS.join((shown, device, since)))
        if not hmac.compare_digest(signed, proof):
            return None
        one = Device(_decode(shown), device, int(since))
        return one if is_id(one.kuid) and self._is_in_time(one.since_ms) else None

    async def _write(self, one: Device) -> str:
        shown = base64.urlsafe_b64encode(one.kuid.encode()).rstrip(b"=").decode()
        text = _PARTS.join((shown, one.id, str(one.since_ms)))
        return f"{text}{_PARTS}{await self._sign(text)}"

    async def _sign(self, text: str) -> str:
        if not self._key:
            self._key = bytes.fromhex(await stored_secret(self._storage, _SETTING))
        signature = hmac.digest(self._key, b"manykeys/device/1\0" + text.encode(), "sha256")
        return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    def _is_in_time(self, since_ms: int) -> bool:
        return self._clock_ms() - LIFE_MS < since_ms <= self._clock_ms()

    async def _revoked(self, devices: Sequence[Device]) -> dict[str, int]:
        """Return since when proofs of each user are valid, in ms since 1970."""
        kuids = {one.kuid for one in devices}
        keys = [(_row_key(kuid),) for kuid in (*kuids, _ALL_USERS)]
        rows = await self._storage.find_each(Table.ONE_TIME, ("token_hash",), keys)
        at_ms = {
            row["token_hash"]: cast(int, cast("dict[str, object]", row["data"])["at"])
            for row in rows
        }
        of_all_ms = at_ms.get(_row_key(_ALL_USERS), 0)
        return {kuid: max(of_all_ms, at_ms.get(_row_key(kuid), 0)) for kuid in kuids}


def revoke_devices(kuid: str, now_ms: int) -> Change:
    """Return the change after which no device of a user is known any more, until its next login."""
    return Put(
        Table.ONE_TIME,
        {
            "token_hash": _row_key(kuid),
            "kind": _KIND,
            "kuid": None,  # the row must outlast the user: another one may get the ID
            "expires_at": now_ms + LIFE_MS,
            "data": {"at": now_ms},
        },
    )


def revoke_all_devices(now_ms: int) -> Change:
    """Return the change after which no device of any user is known any more."""
    return revoke_devices(_ALL_USERS, now_ms)


def _row_key(kuid: str) -> bytes:
    return hash_token(f"{_KIND}\0{kuid}")


def _decode(shown: str) -> str:
    """Return the string of base64url that this server has written; "" for any other."""
    try:
        return base64.urlsafe_b64decode(shown + "=" * (-len(shown) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
