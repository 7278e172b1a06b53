"""Measured numbers: medians, spread, ratios within a round, and what they are required to be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Series:
    """One thing measured once per round.

    `server_busy` are the shares of one core the server used meanwhile, none where nobody watched.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    server_busy: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """Give the middle value."""
        return median(self.values)

    @property
    def busy(self) -> float | None:
        """Give the middle share of its core the server used, None where nobody watched."""
        return median(self.server_busy) if self.server_busy else None


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a series must reach: at least `bound`, or with `at_most` no more than it.

    With `reference` the values are ratios to the series of that name, taken within each round.
    """

    series: str
    values: tuple[float, ...]
    bound: float
    at_most: bool = False
    reference: str | None = None

    @property
    def median(self) -> float:
        """Give the middle value."""
        return median(self.values)

    @property
    def is_met(self) -> bool:
        """Tell whether the median keeps the bound."""
        return self.median <= self.bound if self.at_most else self.median >= self.bound


@dataclass(slots=True)
class Chapter:
    """One table of the report; `notes` say what to know about its numbers or what is missing."""

    name: str
    title: str
    series: list[Series] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    has_failed: bool = False

    def require(self, series: str, reference: str, bound: float, *, at_most: bool = False) -> None:
        """Require `series` to be `bound` times `reference`; nothing where one was not measured."""
        found = {one.name: one for one in self.series}
        if series in found and reference in found:
            values = ratios(found[series].values, found[reference].values)
            self.requirements.append(Requirement(series, values, bound, at_most, reference))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Divide round by round, so that what slows a whole round down cancels out."""
    return tuple(mine / other for mine, other in zip(ours, theirs, strict=True))


def measure_rounds(
    subjects: Mapping[str, Callable[[], float]],
    rounds: int,
    after_round: Callable[[int], None] = lambda number: None,
) -> dict[str, tuple[float, ...]]:
    """Measure every subject once per round; each round begins with another one."""
    names = list(subjects)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            values[name].append(subjects[name]())
        after_round(number)
    return {name: tuple(found) for name, found in values.items()}
