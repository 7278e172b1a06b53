"""Logs in with the number of a badge and the code on its back."""

import hmac
from dataclasses import dataclass

from protocol.errors import plain_error
from server.auth.strategies import Prepared, Refused, StrategyKind
from server.auth.strategies.credential_rows import CredentialRows, data_of, owner_of
from server.core.settings import secret_text, setting


@dataclass(frozen=True, slots=True)
class Settings:
    key: str | None = setting("key", secret_text(32), None, "Keys the hashes.", secret=True)


class Badges(CredentialRows):
    fields = ("number", "code")

    def __init__(self, name, settings, parts):
        super().__init__(name, parts)
        self._key = (settings.key or "").encode()

    async def verify(self, attempt):
        row = await self.find(attempt.body.get("number"))
        hashed = self._hash(attempt.body.get("code"))
        is_same = row is not None and hmac.compare_digest(data_of(row)["hash"], hashed)
        return owner_of(row) if is_same else Refused("wrong badge")

    async def validate(self, credentials, kuid, is_update):
        await self.check_free(credentials.get("number"), kuid, "number")
        if not isinstance(credentials.get("code"), str) or len(credentials["code"]) != 12:
            raise plain_error(400, "code must be the 12 characters on the back of the badge")

    async def create(self, credentials, kuid, by):
        number, data = credentials["number"], {"hash": self._hash(credentials["code"])}
        return Prepared({"number": number}, [self.inserted(number, kuid, data)])

    async def update(self, credentials, kuid, by):
        number, data = credentials["number"], {"hash": self._hash(credentials["code"])}
        return Prepared({"number": number}, self.updated(await self.of(kuid), number, data))

    def _hash(self, code):
        return hmac.digest(self._key, str(code).encode(errors="replace"), "sha256").hex()


KIND = StrategyKind(Settings, Badges)
