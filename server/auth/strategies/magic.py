"""The kind `magic`: a code that a program of the operator's delivers, by mail, say, good for one
login.

Whoever names an address is answered alike, at once, whether anybody has it or not; the program runs
a moment later, so that the answer's time tells nothing either. A code is good for one attempt,
right or wrong, and the throttle counts the wrong ones. Known limit: nothing proves that an address
is its user's own when he adds it.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import SystemRandom

from server.auth.audit import tell
from server.auth.names import MOST_ID_BYTES
from server.auth.strategies import (
    WRONG,
    Challenge,
    LoginAttempt,
    Outcome,
    Parts,
    Prepared,
    Refused,
    StrategyKind,
)
from server.auth.strategies.rows import CredentialRows, owner_of
from server.auth.throttle import Throttle
from server.configtree import ConfigError
from server.hooks import Command, Outbox
from server.settings import YES_NO, Milliseconds, duration, setting, texts, whole
from server.storage.base import Row, Table

_LOG = logging.getLogger("manykeys.magic")
MOST_WAITING = 1000
"""Codes that may wait for the program; further ones are not delivered."""
_WORKERS = 8
_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class MagicSettings:
    """`[strategies.NAME]` with `use = "magic"`."""

    command: tuple[str, ...] = setting(
        "command",
        texts(1),
        (),
        "Program that delivers a code, and its arguments; JSON on its standard input: to, code.",
    )
    command_timeout_ms: Milliseconds = setting(
        "commandTimeout", duration(100), 10_000, "How long the program may take."
    )
    digits: int = setting("digits", whole(6, 12), 6, "Length of a code.")
    most_codes: int = setting(
        "mostCodes",
        whole(1, 1000),
        5,
        "Codes for one address, and ten times as many for one client, before the next must wait.",
    )
    is_portable: bool = setting(
        "portable", YES_NO, False, "Take a code from clients that keep no cookies, too."
    )


@dataclass(frozen=True, slots=True)
class _Letter:
    """A code on its way."""

    to: str
    code: str = field(repr=False)


class Magic(CredentialRows):
    """Sends codes to `address`, which identifies the credentials."""

    fields = ("address",)

    def __init__(self, name: str, settings: MagicSettings, parts: Parts) -> None:
        if not settings.command:
            raise ConfigError("command: not set; expected the program that delivers codes")
        super().__init__(name, parts)
        self._settings = settings
        self._sent = Throttle(settings.most_codes, clock_s=lambda: parts.clock_ms() / 1000)
        self._way = Command(settings.command, settings.command_timeout_ms / 1000)
        self._letters: Outbox[_Letter] = Outbox(
            f"codes of strategy {name}",
            self._deliver,
            _LOG,
            workers=_WORKERS,
            most_waiting=MOST_WAITING,
        )
        self._random = SystemRandom()

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """Send a code to who has this address, and ask everybody for one. 429 for too many."""
        address = self.account_of(attempt)
        if address is None:
            tell(reason="no address")
            return Refused("address is required")
        begun = await self._sent.begin(address, attempt.address)
        begun.failed()  # what counts is that one was asked for
        code = "".join(secrets.choice("0123456789") for _ in range(self._settings.digits))
        row = await self.find(address)
        kuid = "" if row is None else str(row["kuid"])
        owner = await self._storage.get(Table.USERS, kuid=kuid)
        tell(subject=kuid)
        if owner is not None and not owner["disabled"]:
            self._send(_Letter(address, code))
        kept = {"address": address, "proof": _prove(attempt.state, code)}
        return Challenge({"next": "code"}, kept, self._settings.is_portable)

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """Compare the code."""
        state = attempt.body.get("state") or attempt.args.get("state")
        code = attempt.body.get("code") or attempt.args.get("code")
        proof = _prove(str(state), str(code))
        is_same = hmac.compare_digest(str(kept["proof"]), proof)
        row = await self.find(kept["address"])
        tell(subject="" if row is None else str(row["kuid"]))
        if row is None or not is_same:
            tell(reason="unknown address" if row is None else "wrong code")
            return Refused(WRONG)
        return owner_of(row)

    def account_of(self, attempt: LoginAttempt) -> str | None:
        """Give the address that is tried."""
        address = attempt.body.get("address") or attempt.args.get("address")
        # One character more than anybody has: what is too long is kept like all others.
        return address[: MOST_ID_BYTES + 1] if isinstance(address, str) and address else None

    async def validate(
        self, credentials: Mapping[str, object], kuid: str | None, is_update: bool
    ) -> None:
        """See `Strategy`."""
        await self.check_free(credentials.get("address"), kuid, "address")

    async def create(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        address = str(credentials["address"])
        return Prepared({"address": address, "kuid": kuid}, [self.inserted(address, kuid, {})])

    async def update(self, credentials: Mapping[str, object], kuid: str, by: str) -> Prepared:
        """See `Strategy`."""
        address = str(credentials["address"])
        changes = self.updated(await self.of(kuid), address, {})
        return Prepared({"address": address, "kuid": kuid}, changes)

    async def get_info(self, kuid: str) -> dict[str, object]:
        """Give a user's address; ApiError 412 if he has none."""
        return _shown(await self.of(kuid))

    async def after_register(self) -> None:
        """Deliver codes until the strategy is removed."""
        await self._letters.run()

    def _send(self, letter: _Letter) -> None:
        self._letters.put(letter)

    async def _deliver(self, letter: _Letter) -> None:
        # To start a program holds up everybody for a moment: not the answer to who asked.
        await asyncio.sleep(self._random.uniform(0, _LONGEST_PAUSE_S))
        await self._way.deliver({"to": letter.to, "code": letter.code})


def _prove(state: str, code: str) -> str:
    """Give what is kept of a code: nothing to try codes on for who does not know the state."""
    return hmac.digest(state.encode(), code.encode(errors="replace"), "sha256").hex()


def _shown(row: Row) -> dict[str, object]:
    return {"address": row["id"], "kuid": row["kuid"]}


KIND = StrategyKind(MagicSettings, Magic)
