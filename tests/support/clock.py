"""A clock for servers under test."""

START_MS = 1_800_000_000_000


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        """Give the time in ms since 1970."""
        return self.now_ms
