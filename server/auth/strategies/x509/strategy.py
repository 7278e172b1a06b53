"""Strategy `x509`: login with a TLS client certificate of a trusted authority
(docs/strategies/x509.md; security check D5).

The certificate is the one of the client's own TLS connection, or with `header` the one that a
trusted proxy sends; never either. It is validated at each login: a WebSocket outlives the validity
of the certificate it was opened with. Browsers send certificates whichever page asks, so pages of
other origins cannot log in.
"""

import asyncio
from collections.abc import Mapping

from protocol.errors import LocalError, error, plain_error
from server.auth.audit.events import tell
from server.auth.strategies.base import (
    LoginAttempt,
    NewUser,
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

_NO_CERTIFICATE = "a client certificate is required"
_FOREIGN_PAGE = "pages of this origin may not log in with a certificate"


class X509(CredentialRows):
    """Credentials are an identifier: the configured field of a certificate."""

    fields = ("identifier",)

    def __init__(self, name: str, settings: X509Settings, parts: Parts) -> None:
        """Raise LocalError for files that cannot be used."""
        super().__init__(name, parts)
        self._settings = settings
        if not settings.authorities:
            raise LocalError("ca: not set; expected files with CA certificates")
        self._chains = Chains(
            Files(settings.authorities, settings.intermediates, settings.revocations),
            takes_old_lists=settings.takes_old_lists,
        )

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Return the user of the certificate, or create one."""
        found = await self._identify(attempt)
        if isinstance(found, Refused):
            return found
        row = await self.find(found)
        if row is not None:
            tell(subject=str(row["kuid"]))
            return owner_of(row)
        if self._settings.creates_users:
            return NewUser(found, {"identifier": found}, self._settings.profile_ids)
        return _refused("unknown certificate")

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Return the identifier in the certificate that the client has sent."""
        found = await self._identify(attempt)
        return found if isinstance(found, Refused) else Proven({"identifier": found})

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """See `Proves`; there is only one step."""
        return await self.prove(attempt, kuid)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`."""
        if credentials.keys() != {"identifier"}:
            raise plain_error(400, "expected identifier, and nothing else")
        await self.check_free(self._read(credentials), kuid, "identifier")
        if not is_update and kuid is not None and await self.exists(kuid):
            raise plain_error(412, f"the user already has credentials of {self.name}")

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
        """Return a user's identifier; ApiError 412 if they have none."""
        return _shown(await self.of(kuid))

    async def get_by_id(self, identifier: str) -> dict[str, object]:
        """Return the user of an identifier; ApiError 412 if there is none."""
        row = await self.find(normalized(identifier, self._settings.way))
        if row is None:
            raise plain_error(412, f"no user has these credentials of {self.name}")
        return _shown(row)

    async def _identify(self, attempt: LoginAttempt) -> str | Refused:
        """Return the identifier in the certificate of an attempt, if it is valid."""
        if attempt.is_from_foreign_page:
            return _refused("foreign page", _FOREIGN_PAGE)
        shown = self._certificates_of(attempt)
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

    def _certificates_of(self, attempt: LoginAttempt) -> list[bytes] | Refused:
        """Return the certificates of an attempt, the client's own one first."""
        own, name = attempt.certificate, self._settings.header.lower()
        if not name:
            if own is None:
                return _refused("no certificate", _NO_CERTIFICATE)
            if attempt.is_from_proxy:
                return _refused("the certificate belongs to a proxy")
            return [own, *attempt.intermediates]
        if not attempt.headers.get(name):
            return _refused("no certificate", _NO_CERTIFICATE)
        if not attempt.is_from_proxy:
            return _refused("header not from a trusted proxy", _NO_CERTIFICATE)
        if own is not None:
            return _refused("two certificates")
        given = read_field(attempt.headers, name, self._settings.form)
        return _refused("unreadable header") if given is None else given

    def _read(self, credentials: Mapping[str, object]) -> str:
        """Return an identifier in the form that is stored; ApiError 400 if it is not valid."""
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
