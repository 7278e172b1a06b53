"""The results as one picture: `python -m bench.report.plot RESULTS.json PICTURE.png`.

A panel per chapter and unit: medians as bars, spread as whiskers, and as dashed lines what our bar
must reach or stay below.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.report import format_number, read_json
from bench.report.series import Chapter, Requirement, Series

_REQUIRED, _OTHER, _LINE = "#1f6f8b", "#b9c4c9", "#c0392b"
_PANEL_INCHES = (6.2, 3.3)
_COLUMNS = 2
_DOTS_PER_INCH = 130
_ROOM_ABOVE = 1.12
_LABEL_GAP = 0.06  # of the panel's height
_FEWEST_PLACES = 3


def draw(path: Path, chapters: Sequence[Chapter]) -> None:
    """Write the picture of all chapters that have numbers."""
    panels = [
        (chapter, unit)
        for chapter in chapters
        for unit in dict.fromkeys(series.unit for series in chapter.series)
    ]
    rows = max(1, -(-len(panels) // _COLUMNS))
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * _COLUMNS, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axis, (chapter, unit) in zip(axes, panels, strict=False):
        _draw_panel(axis, chapter, unit)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _draw_panel(axis: Axes, chapter: Chapter, unit: str) -> None:
    shown = [series for series in chapter.series if series.unit == unit]
    _draw_bars(axis, shown, {requirement.series for requirement in chapter.requirements})
    lines = [
        (height, _line_text(requirement))
        for requirement in chapter.requirements
        if (height := line_height(requirement, shown)) is not None
    ]
    highest = max(value for series in shown for value in series.values)
    top = _ROOM_ABOVE * max([highest, *(height for height, _ in lines)])
    axis.set_ylim(0, top)
    places = spread_out([height for height, _ in lines], _LABEL_GAP * top)
    for (height, text), place in zip(lines, places, strict=True):
        axis.axhline(height, color=_LINE, linestyle="--", linewidth=0.9)
        axis.text(
            1.01, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=7,
            color=_LINE,
        )  # fmt: skip
    axis.set_title(chapter.title, fontsize=10, loc="left")
    axis.set_ylabel(unit)
    axis.yaxis.set_major_formatter(lambda value, _: format_number(value))
    axis.spines[["top", "right"]].set_visible(False)


def _draw_bars(axis: Axes, shown: Sequence[Series], required: set[str]) -> None:
    medians = [series.median for series in shown]
    below = [series.median - min(series.values) for series in shown]
    above = [max(series.values) - series.median for series in shown]
    colours = [_REQUIRED if series.name in required else _OTHER for series in shown]
    places = range(len(shown))
    axis.bar(places, medians, yerr=[below, above], color=colours, capsize=3, width=0.6)
    for place, series in zip(places, shown, strict=True):
        top = (place, max(series.values))
        text = format_number(series.median)
        axis.annotate(text, top, (0, 4), textcoords="offset points", ha="center", fontsize=9)
    axis.set_xticks(list(places), [series.name for series in shown], fontsize=8)
    axis.set_xlim(-0.6, max(len(shown), _FEWEST_PLACES) - 0.4)


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Give a place for each label at its height or above it, none nearer to another than `gap`."""
    places = list(heights)
    order = sorted(range(len(places)), key=lambda index: places[index])
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + gap)
    return places


def line_height(requirement: Requirement, shown: Sequence[Series]) -> float | None:
    """Give what the bar must reach or stay below; None when it is in another panel."""
    medians = {series.name: series.median for series in shown}
    if requirement.series not in medians:
        return None
    if requirement.reference is None:
        return requirement.bound
    return requirement.bound * medians[requirement.reference]


def _line_text(requirement: Requirement) -> str:
    sign = "≤" if requirement.at_most else "≥"
    of = "" if requirement.reference is None else f" × {requirement.reference}"
    return f"{sign} {requirement.bound:g}{of}"


if __name__ == "__main__":
    draw(Path(sys.argv[2]), read_json(Path(sys.argv[1])))
