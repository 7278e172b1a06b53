"""Strategy `totp`: one-time codes of an authenticator app (RFC 6238) as a second factor, and
recovery codes for users who have lost it.

The secret is returned once, during enrollment, and stored encrypted. The last time step whose code
was used is stored with it and updated in the transaction that stores the token, so that each code
is valid once; the same holds for recovery codes. Requires the extra `totp`.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import cast

from protocol.errors import ApiError, LocalError, error, plain_error
from server.auth.audit.events import tell
from server.auth.audit.notices import RECOVERED, REUSED
from server.auth.sessions.secret_box import Sealer
from server.auth.strategies.base import (
    Authenticated,
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
from server.auth.strategies.credential_rows import CredentialRows, data_of
from server.auth.strategies.totp_settings import TotpSettings
from server.storage.rows import Row, Table

try:
    import pyotp
except ImportError:
    pyotp = None  # type: ignore[assignment]

MOST_TRIES = 5
"""Maximum number of codes to try during enrollment, before it must start again with another
secret."""
RECOVERY_CODES = 10
WRONG_CODE = "wrong code"
_SEED_CHARACTERS = 32  # of base32: 160 bits, the output size of HMAC-SHA-1 (RFC 4226 §4, R6)
_MIN_SEED_BYTES = 16
_RECOVERY_BYTES = 10
_GROUP = 4
_SLACK_STEPS = 1  # RFC 6238 §5.2: for clock drift, and for the time it takes to type a code
_SEED = re.compile(r"[A-Z2-7]{26,128}")
_RECOVERY = re.compile(r"[A-Z2-7]{16}")


class Totp(CredentialRows):
    """Asks for codes. A row is identified by its user's id."""

    fields = ("code",)
    logs_in = False

    def __init__(self, name: str, settings: TotpSettings, parts: Parts) -> None:
        if pyotp is None:
            raise LocalError("needs an extra that is not installed: pip install 'manykeys[totp]'")
        super().__init__(name, parts)
        self._settings = settings
        self._sealer = Sealer(parts.storage, settings.keys, opens_stored=settings.opens_stored)

    async def after_register(self) -> None:
        """Load the key before the first login needs it."""
        await self._sealer.load()

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Refuse the login: codes are only valid after a first factor."""
        tell(reason="no first factor")
        return Refused("TOTP is a second factor: log in with another strategy first")

    async def second_factor(self, kuid: str, state: str) -> Challenge | None:
        """Ask this user for a code; None if they are not enrolled."""
        row = await self._find(kuid)
        return None if row is None else Challenge({"next": "code", "digits": _digits_of(row)})

    async def check_second_factor(
        self, kuid: str, attempt: LoginAttempt, kept: Mapping[str, object]
    ) -> Authenticated | Refused:
        """Verify a code of this user, or one of their recovery codes."""
        row, code = await self._find(kuid), _read_code(attempt)
        if row is None:
            tell(reason="not enrolled")
            return Refused(WRONG_CODE)
        left = await self._after_code(row, code) or _after_recovery(row, code)
        if left is None:
            tell(reason=WRONG_CODE)
            return Refused(WRONG_CODE)
        if left == data_of(row):
            tell(reason="reused code", notice=REUSED)
            return Refused(WRONG_CODE)
        # Encrypted with the newest key from now on, so that older keys can be removed some day.
        left["seed"] = await self._sealer.renew(left["seed"], self._use(kuid))
        return Authenticated(kuid, tuple(self.updated(row, kuid, left)))

    async def prove(self, attempt: LoginAttempt, kuid: str) -> Proof:
        """Return a new secret to a user who is not enrolled; verify a code of one who is."""
        row = await self._find(kuid)
        if row is None:
            seed = pyotp.random_base32(_SEED_CHARACTERS)
            kept = {"seed": await self._sealer.seal(seed, self._use(kuid)), "tries": 0}
            return Challenge(await self._shown_seed(seed, kuid), kept, self._settings.is_portable)
        left = await self._after_code(row, _read_code(attempt))
        if left is None or left == data_of(row):
            tell(reason=WRONG_CODE if left is None else "reused code")
            return Refused(WRONG_CODE)
        return Proven({"step": left["step"]})

    async def resume_proof(
        self, attempt: LoginAttempt, kept: Mapping[str, object], kuid: str
    ) -> Proof:
        """Verify the first code of a secret. The response to a wrong one reveals only that it was
        mistyped: the user who enrolls knows the secret."""
        seed = await self._sealer.open(kept["seed"], self._use(kuid))
        step = None if seed is None else self._step_of(seed, self._new(), _read_code(attempt))
        if step is not None:
            return Proven({"secret": seed, "step": step})
        tries = cast(int, kept["tries"]) + 1
        tell(reason=WRONG_CODE)
        if tries >= MOST_TRIES:
            return Refused("too many wrong codes: start the enrollment again")
        again = {"next": "code", "wrong": True, "digits": self._settings.digits}
        return Challenge(again, {**kept, "tries": tries}, self._settings.is_portable)

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`: a `secret` that an administrator imports. An update without one only
        generates new recovery codes."""
        for name in credentials.keys() - {"secret", "step"}:
            raise error("api.assert.unexpected_argument", name, "secret")
        if not is_update and kuid is not None and await self.exists(kuid):
            raise self._enrolled()
        if not is_update or "secret" in credentials:
            _check_seed(credentials.get("secret"))
        if type(credentials.get("step", 0)) is not int:
            raise error("api.assert.invalid_type", "step", "integer")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        if await self.exists(kuid):
            raise self._enrolled()
        codes = _make_recovery_codes()
        data = await self._data(credentials, kuid, codes)
        return Prepared(_shown(kuid, codes), [self.inserted(kuid, kuid, data)])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`; earlier recovery codes become invalid."""
        row, codes = await self.of(kuid), _make_recovery_codes()
        data = {**data_of(row), "codes": [_hash(kuid, code) for code in codes]}
        if "secret" in credentials:
            data = await self._data(credentials, kuid, codes)
        elif "step" in credentials:
            if cast(int, credentials["step"]) <= cast(int, data["step"]):
                raise error("plugin.strategy.missing_user", WRONG_CODE)  # used since it was proved
            data["step"] = credentials["step"]
        return Prepared(_shown(kuid, codes), self.updated(row, kuid, data))

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Return since when a user is enrolled and how many recovery codes they have left; ApiError
        412 if they are not enrolled."""
        row = await self.of(kuid)
        left = len(cast("list[str]", data_of(row)["codes"]))
        return {"kuid": kuid, "createdAt": row["created_at"], "recoveryCodesLeft": left}

    def _enrolled(self) -> ApiError:
        return plain_error(412, f"the user already has credentials of {self.name}")

    async def _find(self, kuid: str) -> Row | None:
        return await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy=self.name)

    async def _data(
        self, credentials: Mapping[str, object], kuid: str, codes: list[str]
    ) -> dict[str, object]:
        """Return what is stored of a secret and recovery codes."""
        seed = _check_seed(credentials.get("secret"))
        return {
            **self._new(),
            "seed": await self._sealer.seal(seed, self._use(kuid)),
            "step": credentials.get("step", 0),
            "codes": [_hash(kuid, code) for code in codes],
        }

    def _new(self) -> dict[str, object]:
        """Return the parameters of codes for users who enroll now: they never change for these
        users."""
        return {"digits": self._settings.digits, "period": self._settings.period_s}

    def _use(self, kuid: str) -> str:
        return f"totp\0{self.name}\0{kuid}"

    async def _after_code(self, row: Row, code: str) -> dict[str, object] | None:
        """Return a row's data after this code was used, unchanged if it was used before; None if it
        is wrong."""
        data = data_of(row)
        seed = await self._sealer.open(data["seed"], self._use(cast(str, row["kuid"])))
        step = None if seed is None else self._step_of(seed, data, code)
        if seed is None:
            tell(reason="the secret cannot be decrypted: another key")
        if step is None:
            return None
        return {**data, "step": max(step, cast(int, data["step"]))}

    def _step_of(self, seed: str, data: Mapping[str, object], code: str) -> int | None:
        """Return the time step, of those near now, that has this code: the last one."""
        digits, period_s = cast(int, data["digits"]), cast(int, data["period"])
        generator = pyotp.TOTP(seed, digits=digits, interval=period_s)
        now = self._clock_ms() // 1000 // period_s
        found = None
        for step in range(now - _SLACK_STEPS, now + _SLACK_STEPS + 1):
            if hmac.compare_digest(generator.generate_otp(step).encode(), code.encode()):
                found = step
        return found

    async def _shown_seed(self, seed: str, kuid: str) -> dict[str, object]:
        """Return what an authenticator app needs, as a QR code or typed."""
        named = await self._storage.get(Table.CREDENTIALS, kuid=kuid, strategy="local")
        generator = pyotp.TOTP(seed, digits=self._settings.digits, interval=self._settings.period_s)
        uri = generator.provisioning_uri(
            name=kuid if named is None else cast(str, named["id"]),
            issuer_name=self._settings.issuer,
        )
        shown = {"digits": self._settings.digits, "period": self._settings.period_s}
        return {"next": "code", "secret": seed, "uri": uri, **shown}


def _read_code(attempt: LoginAttempt) -> str:
    """Return the code of an attempt, without the blanks and dashes that people type."""
    code = attempt.body.get("code") or attempt.args.get("code")
    if not code:
        raise error("api.assert.missing_argument", "code")
    if not isinstance(code, str):
        raise error("api.assert.invalid_type", "code", "string")
    return code[:64].replace(" ", "").replace("-", "") if code.isascii() else ""


def _check_seed(value: object) -> str:
    """Return a secret in base32; ApiError 400 if it is not valid, or too short."""
    text = value.rstrip("=") if isinstance(value, str) else ""
    accepted = f"{_MIN_SEED_BYTES} bytes or more in base32"
    if not _SEED.fullmatch(text):
        raise error("api.assert.invalid_argument", "secret", accepted)
    try:
        base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        raise error("api.assert.invalid_argument", "secret", accepted) from None
    return text


def _after_recovery(row: Row, code: str) -> dict[str, object] | None:
    """Return a row's data without this recovery code; None if it has no such code."""
    data = data_of(row)
    hashed = _hash(cast(str, row["kuid"]), code.upper())
    codes = cast("list[str]", data["codes"])
    left = [one for one in codes if not hmac.compare_digest(one, hashed)]
    if not _RECOVERY.fullmatch(code.upper()) or len(left) == len(codes):
        return None
    tell(notice=RECOVERED)
    return {**data, "codes": left}


def _make_recovery_codes() -> list[str]:
    generated = (secrets.token_bytes(_RECOVERY_BYTES) for _ in range(RECOVERY_CODES))
    return [base64.b32encode(one).decode() for one in generated]


def _hash(kuid: str, code: str) -> str:
    """Return what is stored of a recovery code: 80 random bits cannot be found by brute force."""
    return hashlib.sha256(f"{kuid}\0{code}".encode()).hexdigest()


def _shown(kuid: str, codes: list[str]) -> dict[str, object]:
    """Return recovery codes, this once, in groups that people can type."""
    grouped = [
        "-".join(one[at : at + _GROUP] for at in range(0, len(one), _GROUP)) for one in codes
    ]
    return {"kuid": kuid, "recoveryCodes": grouped}


def _digits_of(row: Row) -> int:
    return cast(int, data_of(row)["digits"])


KIND = StrategyKind(TotpSettings, Totp)
