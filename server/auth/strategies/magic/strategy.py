"""Strategy `magic`: login with a one-time code or a magic link sent by email.

The response is the same, and as fast, whether an account has the address or not; the email is sent
a moment later, so that the time of the response does not reveal it either. A code is valid for one
attempt, right or wrong, and wrong ones count as failed logins for rate limiting. A user who adds an
address is sent a code, whether the address is another user's or not, and gets the address once they
enter the code.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import cast

from protocol.errors import error, plain_error
from server.auth.audit.events import tell
from server.auth.limits.throttle import LoginThrottle
from server.auth.strategies.base import (
    Challenge,
    LoginAttempt,
    Outcome,
    Parts,
    Prepared,
    Proof,
    Proven,
    Refused,
    StrategyKind,
)
from server.auth.strategies.credential_rows import CredentialRows, owner_of
from server.auth.strategies.magic.messages import Email, EmailMessages, examine
from server.auth.strategies.magic.settings import MagicSettings
from server.core.ids import MOST_ID_BYTES, is_id
from server.core.outcomes import WRONG
from server.storage.rows import Row, Table

WRONG_CODE = "wrong code"
_LINK_BYTES = 24  # longer than a code: it is part of a URL and never typed


class Magic(CredentialRows):
    """Sends codes to `address`, which identifies the credentials."""

    fields = ("address",)

    def __init__(self, name: str, settings: MagicSettings, parts: Parts) -> None:
        super().__init__(name, parts)
        self._settings = settings
        self._sent = LoginThrottle(
            # The limit of an address is the same however many clients request codes for it.
            settings.most_codes,
            clock_s=lambda: parts.clock_ms() / 1000,
            account_factor=1,
        )
        self._emails = EmailMessages(name, settings, parts.login_ms)

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Send a code to the account with this address, and ask for a code in any case. 429 if too
        many were requested."""
        address = self.account_of(attempt)
        if address is None:
            tell(reason="no address")
            return Refused("address is required")
        await self._count(f"to\0{address}", attempt.address)
        code, long_code = self._make_code(), secrets.token_urlsafe(_LINK_BYTES)
        row = await self.find(address)
        kuid = "" if row is None else str(row["kuid"])
        owner = await self._storage.get(Table.USERS, kuid=kuid)
        tell(subject=kuid)
        if owner is not None and not owner["disabled"]:
            link = self._emails.write_link(attempt.state, long_code)
            self._send(Email(address, code, link))
        proofs = [_prove(attempt.state, one) for one in (code, long_code)]
        kept_proofs = proofs if self._settings.link_url else proofs[:1]
        kept = {"address": address, "kuid": kuid, "proofs": kept_proofs}
        return Challenge({"next": "code"}, kept, self._settings.is_portable)

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """Compare the code; the address must still belong to the same user."""
        is_right = _is_proved(attempt, kept)
        row = await self.find(kept["address"])
        tell(subject="" if row is None else str(row["kuid"]))
        is_same_user = row is not None and row["kuid"] == kept["kuid"]
        if row is None or not is_same_user or not is_right:
            tell(reason=WRONG_CODE if is_same_user else "unknown address")
            return Refused(WRONG)
        return owner_of(row)

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Send a code, but no link, to an address that this user adds, whether it is another user's
        or not: opening a link that they did not request must not give their address away. 429 if
        too many were requested."""
        address = self._check(attempt.body.get("address") or attempt.args.get("address"))
        await self._count(f"by\0{kuid}", "")
        await self._count(f"to\0{address}", attempt.address)
        code = self._make_code()
        self._send(Email(address, code, is_proof=True))
        kept = {"address": address, "proofs": [_prove(attempt.state, code)]}
        return Challenge({"next": "code"}, kept, self._settings.is_portable)

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Compare the code; the proved address is the one it was sent to."""
        if _is_proved(attempt, kept):
            return Proven({"address": kept["address"]})
        tell(reason=WRONG_CODE)
        return Refused(WRONG_CODE)

    def account_of(self, attempt: LoginAttempt) -> str | None:
        """Return the address of the attempt."""
        address = attempt.body.get("address") or attempt.args.get("address")
        # One character more than is valid: addresses that are too long are counted like all others.
        return address[: MOST_ID_BYTES + 1] if isinstance(address, str) and address else None

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`. Whether an address is taken is not revealed here, where everyone can ask,
        but only to a user who has proved that it is theirs."""
        self._check(credentials.get("address"))

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        address = await self.check_free(credentials.get("address"), kuid, "address")
        if await self.exists(kuid):
            raise plain_error(412, f"the user already has credentials of {self.name}")
        return Prepared({"address": address, "kuid": kuid}, [self.inserted(address, kuid, {})])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        address = await self.check_free(credentials.get("address"), kuid, "address")
        changes = self.updated(await self.of(kuid), address, {})
        return Prepared({"address": address, "kuid": kuid}, changes)

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return a user's address; ApiError 412 if they have none."""
        return _shown(await self.of(kuid))

    async def after_register(self) -> None:
        """Deliver emails until the strategy is removed."""
        await self._emails.run()

    def _check(self, address: object) -> str:
        """Return a valid address; ApiError 400 if it is not valid."""
        if address is None:
            raise error("api.assert.missing_argument", "address")
        if not isinstance(address, str) or not is_id(address) or not self._emails.takes(address):
            raise error("api.assert.invalid_argument", "address", "a valid email address")
        return address

    async def _count(self, what: str, client: str) -> None:
        """Count an email; ApiError 429 if the limit is reached."""
        begun = await self._sent.begin(what, client)
        begun.failed()  # each request counts, whatever becomes of it

    def _make_code(self) -> str:
        return "".join(secrets.choice("0123456789") for _ in range(self._settings.digits))

    def _send(self, message: Email) -> None:
        self._emails.put(message)


def _prove(state: str, code: str) -> str:
    """Return what is stored of a code: an HMAC keyed by the state, so that codes cannot be tried on
    it without knowing the state."""
    return hmac.digest(state.encode(), code.encode(errors="replace"), "sha256").hex()


def _is_proved(attempt: LoginAttempt, kept: Mapping[str, object]) -> bool:
    """Return whether the attempt contains one of the codes that were sent for this login."""
    state = attempt.body.get("state") or attempt.args.get("state")
    code = attempt.body.get("code") or attempt.args.get("code")
    proof, proofs = _prove(str(state), str(code)), cast("list[str]", kept["proofs"])
    return any([hmac.compare_digest(one, proof) for one in proofs])


def _shown(row: Row) -> dict[str, object]:
    return {"address": row["id"], "kuid": row["kuid"]}


KIND = StrategyKind(MagicSettings, Magic, examine=examine)
