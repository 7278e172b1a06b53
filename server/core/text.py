"""Text that is safe to show on a terminal."""

_MOST_SHOWN = 120


def printable(text: str) -> str:
    """Give a text that does nothing to a terminal: on one line, cut where it is very long."""
    cut = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)
