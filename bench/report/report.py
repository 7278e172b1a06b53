"""The results as a table to read and as JSON to keep."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.report.series import Chapter, Requirement, Series
from bench.subject.stage import Plan

_PACKAGES = (
    "uvloop",
    "orjson",
    "bcrypt",
    "uvicorn",
    "httptools",
    "granian",
    "websockets",
    "picows",
)
_COMPUTED = ("median", "met")


def write_table(chapters: Iterable[Chapter]) -> str:
    """Give all chapters as text: what was measured, then what is required of it."""
    return "\n\n".join("\n".join(_chapter_lines(chapter)) for chapter in chapters)


def _chapter_lines(chapter: Chapter) -> list[str]:
    lines = [chapter.title]
    lines += [_series_line(series) for series in chapter.series]
    lines += [_requirement_line(requirement) for requirement in chapter.requirements]
    lines += [f"  note: {note}" for note in chapter.notes]
    return lines


def _series_line(series: Series) -> str:
    low, high = min(series.values), max(series.values)
    spread = f"({format_number(low)} … {format_number(high)})"
    line = f"  {series.name:32} {format_number(series.median):>9} {series.unit:11} {spread:22}"
    if series.busy is not None:
        line += f" server busy {series.busy:.0%}"
    return line.rstrip()


def _requirement_line(requirement: Requirement) -> str:
    low, high = min(requirement.values), max(requirement.values)
    sign = "≤" if requirement.at_most else "≥"
    spread = f"({low:.2f} … {high:.2f})"
    wanted = f"{sign} {requirement.bound:.2f}"
    verdict = "met" if requirement.is_met else "MISSED"
    name = " / ".join(filter(None, (requirement.series, requirement.reference)))
    return f"  {name:50} {requirement.median:6.2f} {spread:18} {wanted}  {verdict}"


def format_number(value: float) -> str:
    """Give a number with about three digits that say something."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def write_json(path: Path, chapters: Iterable[Chapter], plan: Plan) -> None:
    """Keep every measured value, with the machine and the versions it was measured on."""
    results = {
        "machine": _describe_machine(),
        "plan": asdict(plan),
        "chapters": [_chapter_fields(chapter) for chapter in chapters],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def _chapter_fields(chapter: Chapter) -> dict[str, object]:
    return {
        "name": chapter.name,
        "title": chapter.title,
        "series": [{**asdict(one), "median": one.median} for one in chapter.series],
        "requirements": [
            {**asdict(one), "median": one.median, "met": one.is_met} for one in chapter.requirements
        ],
        "notes": chapter.notes,
    }


def read_json(path: Path) -> list[Chapter]:
    """Give the chapters that `write_json` kept."""
    return [
        Chapter(
            fields["name"],
            fields["title"],
            [Series(**_measured(one)) for one in fields["series"]],
            [Requirement(**_measured(one)) for one in fields["requirements"]],
            fields["notes"],
        )
        for fields in json.loads(path.read_text())["chapters"]
    ]


def _measured(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is computed from the rest."""
    return {name: value for name, value in fields.items() if name not in _COMPUTED}


def _describe_machine() -> dict[str, object]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
