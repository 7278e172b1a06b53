"""`python -m bench.report.readme`: the table of the README, out of bench/results.json."""

import json
from pathlib import Path

from bench.report.report import format_number

_RESULTS = Path(__file__).parents[1] / "results.json"


def write_table(results: dict) -> str:
    """Give the required ratios and the figures behind them as a Markdown table."""
    lines = ["| What | manykeys | Beside | Ratio | Wanted |", "|---|---|---|---|---|"]
    for chapter in results["chapters"]:
        series = {one["name"]: one for one in chapter["series"]}
        for required in chapter["requirements"]:
            ours = series[required["series"]]
            other = series.get(required["reference"])
            sign = "≤" if required["at_most"] else "≥"
            lines.append(
                f"| {chapter['title']}: {required['series']} "
                f"| {format_number(ours['median'])} {ours['unit']} "
                f"| {_shown(other)} "
                f"| {_ratio(required, other)} "
                f"| {sign} {required['bound']:g}{'' if required['met'] else ' (missed)'} |"
            )
    machine = results["machine"]
    lines += ["", f"{machine['system']}, {machine['cores']} cores, Python {machine['python']}."]
    return "\n".join(lines)


def _shown(other: dict | None) -> str:
    return "" if other is None else f"{other['name']}: {format_number(other['median'])}"


def _ratio(required: dict, other: dict | None) -> str:
    return "" if other is None else f"{required['median']:.2f}"


if __name__ == "__main__":
    print(write_table(json.loads(_RESULTS.read_text())))
