"""The page that shows what each server makes of the cases."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.conformance.fuzzer import Verdict
from tests.conformance.http_cases import CASES
from tests.conformance.http_client import Outcome

_GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "sizes and limits",
    "10": "auto-fragmentation",
    "12": "compression",
    "13": "compression, parameters",
}
_HEADING = """\
# Conformance

Made by `python -m tests.conformance --peers --write`: all servers in one run on one machine, each
as it comes, with a bare application that answers every request and echoes every message.

## WebSocket: the Autobahn suite

{count} cases (RFC 6455, RFC 7692); long ones send {messages} messages. A case counts where its
messages and its closing are OK. "Lax" is what the suite calls non-strict, "other" what it judges
unimplemented; three cases judge nothing and count for everybody.

"""
_HTTP = """
## HTTP/1.1

{count} requests as raw bytes (RFC 9112, RFC 9110): sound ones have to be answered, and whatever two
readers could read differently has to be refused with a right status and the connection closed.

"""


@dataclass(frozen=True, slots=True)
class Result:
    """What one server made of all cases; `outcomes` is empty for one without HTTP."""

    name: str
    verdicts: list[Verdict]
    outcomes: list[Outcome]

    def failed_http(self) -> list[str]:
        """Give the titles of the HTTP cases it fails."""
        return [one.case.title for one in self.outcomes if not one.is_met]


def write_page(results: Sequence[Result], absent: Sequence[str], messages: int) -> str:
    """Give docs/conformance.md."""
    count = len(results[0].verdicts)
    parts = [_HEADING.format(count=count, messages=messages)]
    parts += _table(["", *(one.name for one in results)], _websocket_rows(results))
    parts.append(_HTTP.format(count=len(CASES)))
    speakers = [one for one in results if one.outcomes]
    parts += _table(["", *(one.name for one in speakers)], _section_rows(speakers))
    parts.append("\nThe cases that somebody fails:\n\n")
    parts += _table(["", "Case", *(one.name for one in speakers)], _case_rows(speakers))
    parts += [f"\nNot measured: {reason}.\n" for reason in absent]
    return "".join(parts)


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |\n" for line in lines]


def _websocket_rows(results: Sequence[Result]) -> list[list[str]]:
    rows = []
    for group, title in _GROUPS.items():
        row = [f"{group}. {title}"]
        for result in results:
            mine = [one for one in result.verdicts if one.case.partition(".")[0] == group]
            row.append(_counted(mine))
        rows.append(row)
    rows.append(["**all**", *(_counted(result.verdicts) for result in results)])
    return rows


def _counted(verdicts: list[Verdict]) -> str:
    """Say how many of some cases are passed, and what the others are."""
    passed = sum(one.is_passed for one in verdicts)
    if passed == len(verdicts):
        return f"{passed}"
    kinds = Counter(_kind(one) for one in verdicts if not one.is_passed)
    others = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{passed} of {len(verdicts)} ({others})"


def _kind(verdict: Verdict) -> str:
    words = {"NON-STRICT": "lax", "UNIMPLEMENTED": "other"}
    return words.get(verdict.behavior, "failed")


def _section_rows(results: Sequence[Result]) -> list[list[str]]:
    rows = []
    for rfc in dict.fromkeys(case.section for case in CASES):
        row = [f"RFC {rfc}"]
        for result in results:
            mine = [one for one in result.outcomes if one.case.section == rfc]
            row.append(f"{sum(one.is_met for one in mine)} of {len(mine)}")
        rows.append(row)
    totals = [f"{sum(one.is_met for one in result.outcomes)} of {len(CASES)}" for result in results]
    rows.append(["**all**", *totals])
    return rows


def _case_rows(results: Sequence[Result]) -> list[list[str]]:
    rows = []
    for number, case in enumerate(CASES):
        reasons = [result.outcomes[number].reason for result in results]
        if any(reasons):
            title = case.title.replace("|", "\\|")
            rows.append([f"RFC {case.section}", title, *reasons])
    return rows
