"""The kind `x509`: who shows a client certificate of an authority that is trusted is who it names
(docs/strategies/x509.md; security check D5).

The certificate is the one of his own TLS connection, or with `header` the one a trusted proxy says
he has shown; never either. It is judged anew at each login: a WebSocket outlives what it was opened
with. Browsers show certificates whichever page asks, so pages of other origins can't log in.
"""

import asyncio
from collections.abc import Mapping

from protocol.errors import LocalError, error, plain_error
from server.auth.audit.events import tell
from server.auth.strategies.base import (
    LoginAttempt,
    Newcomer,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Refused,
    StrategyKind,
)
from server.auth.strategies.credential_rows import CredentialRows, owner_of
from server.auth.strategies.x509.chain import Chains, Files, Good
from server.auth.strategies.x509.names import names_in, normalized
from server.auth.strategies.x509.proxy_header import read_field
from server.auth.strategies.x509.settings import X509Settings
from server.core.ids import is_id
from server.core.outcomes import WRONG
from server.storage.rows import Row

_NONE_SHOWN = "a client certificate is required"
_FOREIGN_PAGE = "pages of this origin may not log in with a certificate"


class X509(CredentialRows):
    """Credentials are an identifier: what a certificate says in the way that is configured."""

    fields = ("identifier",)

    def __init__(self, name: str, settings: X509Settings, parts: Parts) -> None:
        """LocalError for files that can't be used."""
        super().__init__(name, parts)
        self._settings = settings
        if not settings.authorities:
            raise LocalError("ca: not set; expected files with authorities")
        self._chains = Chains(
            Files(settings.authorities, settings.intermediates, settings.revocations),
            takes_old_lists=settings.takes_old_lists,
        )

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Find the user of the certificate, or let him become one."""
        found = await self._identify(attempt)
        if isinstance(found, Refused):
            return found
        row = await self.find(found)
        if row is not None:
            tell(subject=str(row["kuid"]))
            return owner_of(row)
        if self._settings.creates_users:
            return Newcomer(found, {"identifier": found}, self._settings.profile_ids)
        return _refused("unknown certificate")

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Give what the certificate names: he who shows it can have it."""
        found = await self._identify(attempt)
        return found if isinstance(found, Refused) else Proven({"identifier": found})

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """See `Proves`; there is one step only."""
        return await self.prove(attempt, kuid)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`."""
        if credentials.keys() != {"identifier"}:
            raise plain_error(400, "expected an identifier, and nothing else")
        await self.check_free(self._read(credentials), kuid, "identifier")
        if not is_update and kuid is not None and await self.exists(kuid):
            raise plain_error(412, f"the user has credentials of {self.name} already")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        identifier = self._read(credentials)
        return Prepared(
            {"identifier": identifier, "kuid": kuid}, [self.inserted(identifier, kuid, {})]
        )

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        identifier = self._read(credentials)
        changes = self.updated(await self.of(kuid), identifier, {})
        return Prepared({"identifier": identifier, "kuid": kuid}, changes)

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Give a user's identifier; ApiError 412 if he has none."""
        return _shown(await self.of(kuid))

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Give whose an identifier is; ApiError 412 if it is nobody's."""
        row = await self.find(normalized(identifier, self._settings.way))
        if row is None:
            raise plain_error(412, f"nobody has such credentials of {self.name}")
        return _shown(row)

    async def _identify(self, attempt: LoginAttempt) -> str | Refused:
        """Give what the certificate of an attempt names, if it is good."""
        if attempt.is_from_foreign_page:
            return _refused("foreign page", _FOREIGN_PAGE)
        shown = self._shown_by(attempt)
        if isinstance(shown, Refused):
            return shown
        now_ms = self._clock_ms()
        judged = await asyncio.to_thread(self._chains.judge, shown[0], shown[1:], now_ms)
        if not isinstance(judged, Good):
            return _refused(judged)
        way = self._settings.way
        try:
            names = names_in(judged.certificate, way)
        except ValueError:
            return _refused("unreadable name")
        if len(names) != 1:
            return _refused(f"{'several' if names else 'no'} {way} in the certificate")
        return names[0] if is_id(names[0]) else _refused("unusable name")

    def _shown_by(self, attempt: LoginAttempt) -> list[bytes] | Refused:
        """Give the certificates of an attempt, the client's own one first."""
        own, name = attempt.certificate, self._settings.header.lower()
        if not name:
            if own is None:
                return _refused("no certificate", _NONE_SHOWN)
            if attempt.is_from_proxy:
                return _refused("the certificate is a proxy's")
            return [own, *attempt.intermediates]
        if not attempt.headers.get(name):
            return _refused("no certificate", _NONE_SHOWN)
        if not attempt.is_from_proxy:
            return _refused("header of somebody who is no trusted proxy", _NONE_SHOWN)
        if own is not None:
            return _refused("two certificates")
        given = read_field(attempt.headers, name, self._settings.form)
        return _refused("unreadable header") if given is None else given

    def _read(self, credentials: Mapping[str, object]) -> str:
        """Give an identifier in the form that is kept; ApiError 400 for what is none."""
        given, way = credentials.get("identifier"), self._settings.way
        read = normalized(given, way) if isinstance(given, str) else None
        if read is None:
            raise error("api.assert.invalid_argument", "identifier", f"a {way}")
        return read


def _refused(reason: str, message: str = WRONG) -> Refused:
    tell(reason=reason)
    return Refused(message)


def _shown(row: Row) -> dict[str, object]:
    return {"identifier": row["id"], "kuid": row["kuid"]}


KIND = StrategyKind(X509Settings, X509)
