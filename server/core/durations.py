"""Duration strings (`1h`, `1.5 days`, `90s`): parse to milliseconds, and format."""

import re

NEVER = -1
"""On the wire, a lifetime or expiry without limit."""


SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
YEAR_MS = 365 * DAY_MS + DAY_MS // 4

_UNITS_MS = {
    name: unit_ms
    for names, unit_ms in (
        ("ms msec msecs millisecond milliseconds", 1),
        ("s sec secs second seconds", SECOND_MS),
        ("m min mins minute minutes", MINUTE_MS),
        ("h hr hrs hour hours", HOUR_MS),
        ("d day days", DAY_MS),
        ("w week weeks", WEEK_MS),
        ("y yr yrs year years", YEAR_MS),
    )
    for name in names.split()
}
_WRITTEN_MS = {"d": DAY_MS, "h": HOUR_MS, "m": MINUTE_MS, "s": SECOND_MS}
_MAX_CHARACTERS = 100
_MAX_MS = 2**53  # stricter than Kuzzle: beyond it JSON parsers lose single milliseconds
# ASCII only: ignoring case in Unicode would match the long s as an s.
_DURATION = re.compile(r"(-?[0-9]*\.?[0-9]+) *([a-z]*)", re.ASCII | re.IGNORECASE)


def parse_duration_ms(text: str) -> int | float | None:
    """Parse a duration string to milliseconds, which may be negative; None if it is not valid.

    Whole numbers are returned as int. A number without a unit is in milliseconds.
    """
    if len(text) > _MAX_CHARACTERS:
        return None
    match = _DURATION.fullmatch(text)
    unit_ms = _UNITS_MS.get(match[2].lower() or "ms") if match else None
    if match is None or unit_ms is None:
        return None
    duration_ms = float(match[1]) * unit_ms
    if abs(duration_ms) > _MAX_MS:
        return None
    return int(duration_ms) if duration_ms.is_integer() else duration_ms


def write_duration(duration_ms: int | float) -> str | int | float:
    """Format a duration, like "1h"; return a number if it is not a multiple of a second."""
    for unit, unit_ms in _WRITTEN_MS.items():
        if duration_ms > 0 and duration_ms % unit_ms == 0:
            return f"{int(duration_ms // unit_ms)}{unit}"
    return duration_ms
