"""Lifetimes of tokens: parse what a client asks for, within the configured limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import error
from server.core.durations import NEVER, parse_duration_ms

# A thousand years: every date stays one that all calendars can format.
_MAX_LIFETIME_MS = 1000 * 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """All in ms; -1 means no expiry or no limit, 0 turns off.

    `default_ttl_ms` and `max_ttl_ms` of a session; `max_age_ms` of a chain of refreshes from its
    first login; `idle_ms` is the idle timeout; `grace_ms` how long an already refreshed token stays
    valid. `live` tokens are cached in memory; `sessions` is how many a user may have, 0 for any
    number. `prefix` is prepended to every session token issued.
    """

    default_ttl_ms: int = 3_600_000
    max_ttl_ms: int = NEVER
    max_age_ms: int = NEVER
    idle_ms: int = NEVER
    grace_ms: int = 1000
    live: int = 100_000
    sessions: int = 0
    prefix: str = ""

    def lifetime_ms(self, wanted: object) -> int:
        """Return the lifetime a login asks for: nothing, 0, false and null mean the default.

        400 for what is not a lifetime, or longer than allowed.
        """
        if wanted is None or wanted == "" or (wanted == 0 and not isinstance(wanted, str)):
            ttl_ms = self.default_ttl_ms
        else:
            ttl_ms = read_lifetime(wanted)
        check_ttl(ttl_ms, self.max_ttl_ms)
        return ttl_ms

    def stated_lifetime_ms(self, args: Mapping[str, object], *, must_end: bool = False) -> int:
        """Return the lifetime of a session created with another token: only an absent `expiresIn`
        means the default, a blank, false or null one is not valid.

        With `must_end`, 400 `security.token.invalid_expiration` for no expiry.
        """
        is_stated = "expiresIn" in args
        ttl_ms = read_lifetime(args["expiresIn"]) if is_stated else self.default_ttl_ms
        if must_end and ttl_ms == NEVER:
            raise error("security.token.invalid_expiration", "expiresIn", "it must expire")
        check_ttl(ttl_ms, self.max_ttl_ms)
        return ttl_ms

    def end_ms(self, now_ms: int, ttl_ms: int, started_at_ms: int) -> int | None:
        """Return when a token created now expires, None for never: its lifetime, cut at the maximum
        age of a chain that began at `started_at_ms`."""
        ends = None if ttl_ms == NEVER else now_ms + ttl_ms
        if self.max_age_ms == NEVER:
            return ends
        oldest = started_at_ms + self.max_age_ms
        return oldest if ends is None else min(ends, oldest)


def check_ttl(ttl_ms: int, most_ms: int) -> None:
    """Raise 400 `security.token.ttl_exceeded` for a lifetime above the limit."""
    if most_ms != NEVER and (ttl_ms == NEVER or ttl_ms > most_ms):
        raise error("security.token.ttl_exceeded")


def read_lifetime(wanted: object) -> int:
    """Return a lifetime in whole ms, -1 for no expiry; 400 `api.assert.invalid_argument` if not
    valid."""
    if isinstance(wanted, str):
        parsed = parse_duration_ms(wanted)
    elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
        parsed = wanted
    else:
        parsed = None
    if parsed == NEVER:
        return NEVER
    if parsed is None or not 1 <= parsed <= _MAX_LIFETIME_MS:
        accepted = 'milliseconds, or a string such as "2h"'
        raise error("api.assert.invalid_argument", "expiresIn", accepted)
    return int(parsed)
