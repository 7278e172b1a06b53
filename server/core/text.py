"""Terminal-safe text."""

_MAX_SHOWN = 120


def printable(text: str) -> str:
    """Return a string without terminal control sequences, on one line, truncated if very long."""
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)
