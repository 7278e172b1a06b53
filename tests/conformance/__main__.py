"""`python -m tests.conformance`: the Autobahn suite and the HTTP cases against our server and, with
`--peers`, against others; writes docs/conformance.md with `--write`."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.fuzzer import Verdict
from tests.conformance.http_cases import CASES
from tests.conformance.http_client import Outcome, run_http_case
from tests.conformance.report import Result, write_page
from tests.conformance.running import ROOT, echoing, run_suite
from tests.conformance.servers import PEERS
from tests.conformance.suite import fetch, load_cases

_PAGE = ROOT / "docs/conformance.md"
_AT_ONCE = 4


async def measure(
    name: str, port: int, cases: list[type], given: argparse.Namespace, *, speaks_http: bool = True
) -> Result:
    """Run everything against one server."""
    done = 0

    def count(verdict: Verdict) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty() and done % 10 == 0:
            print(f"\r{name}: {done} of {len(cases)}", end="", file=sys.stderr, flush=True)

    verdicts = await run_suite(
        cases, port, messages=given.messages, at_once=_AT_ONCE, on_verdict=count
    )
    outcomes: list[Outcome] = []
    for case in CASES if speaks_http else ():
        outcomes.append(await run_http_case(case, port))
    print(f"\r{name}: done{' ' * 20}", file=sys.stderr)
    return Result(name, verdicts, outcomes)


@contextmanager
def suite() -> Iterator[list[type]]:
    """Give the cases of the suite, downloaded for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        yield load_cases(fetch(Path(folder)))


def is_among(case: type, groups: str) -> bool:
    """Tell whether a case, called like `Case12_1_5`, is in one of these groups; "" for any."""
    group = case.__name__.removeprefix("Case").partition("_")[0]
    return not groups or group in groups.split(",")


def main() -> int:
    """Measure, print, and maybe write the page; 1 when our own server fails a case."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="other servers too")
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--messages", type=int, default=1000, help="most a long case sends (1000)")
    parser.add_argument("--groups", default="", metavar="N,N", help="these groups of cases only")
    given = parser.parse_args()
    if given.write and given.groups:
        parser.error("--write: the page is about all cases")
    results, absent = [], []
    with suite() as every:
        cases = [case for case in every if is_among(case, given.groups)]
        with echoing() as port:
            results.append(asyncio.run(measure("manykeys", port, cases, given)))
        for peer in PEERS if given.peers else ():
            if missing := peer.missing():
                absent.append(f"{peer.name}: {missing} not installed")
                continue
            with peer.running() as port:
                results.append(
                    asyncio.run(
                        measure(peer.shown(), port, cases, given, speaks_http=peer.speaks_http)
                    )
                )
    page = write_page(results, absent, given.messages)
    print(page)
    if given.write:
        _PAGE.write_text(page)
    ours = results[0]
    for verdict in ours.verdicts:
        if not verdict.is_passed:
            print(f"manykeys fails {verdict}", file=sys.stderr)
    return 0 if all(one.is_passed for one in ours.verdicts) and ours.failed_http() == [] else 1


if __name__ == "__main__":
    sys.exit(main())
