"""Logs in on another site, which sends the browser back with a code: a strategy of two steps."""

from dataclasses import dataclass
from urllib.parse import urlencode

from server.auth.strategies import Prepared, Redirect, Refused, StrategyKind
from server.auth.strategies.credential_rows import CredentialRows, owner_of
from server.core.settings import setting, text


@dataclass(frozen=True, slots=True)
class Settings:
    url: str = setting("url", text(1), "https://id.test/authorize", "Where users log in.")


class Detour(CredentialRows):
    fields = ("subject",)

    def __init__(self, name, settings, parts):
        super().__init__(name, parts)
        self._url = settings.url

    async def verify(self, attempt):
        url = f"{self._url}?{urlencode({'state': attempt.state})}"
        return Redirect(url, kept={"prefix": "subject-"})

    async def resume(self, attempt, kept):
        code = attempt.args.get("code") or attempt.body.get("code")
        row = await self.find(f"{kept['prefix']}{code}")
        return Refused("nobody here is known there") if row is None else owner_of(row)

    async def validate(self, credentials, kuid, is_update):
        await self.check_free(credentials.get("subject"), kuid, "subject")

    async def create(self, credentials, kuid, by):
        return Prepared({}, [self.inserted(credentials["subject"], kuid, {})])

    async def update(self, credentials, kuid, by):
        return Prepared({}, self.updated(await self.of(kuid), credentials["subject"], {}))


KIND = StrategyKind(Settings, Detour)
