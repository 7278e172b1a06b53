"""Conformance over real sockets: the Autobahn suite (RFC 6455, RFC 7692), and HTTP as raw bytes."""

import asyncio
from pathlib import Path

import pytest

from tests.conformance.http_cases import CASES
from tests.conformance.http_client import run_http_case
from tests.conformance.running import echoing, run_suite
from tests.conformance.suite import SuiteMissing, fetch, load_cases
from tests.interop.programs import do_without

# The suite judges nothing here: the RFC leaves it open what a server does.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
MESSAGES = 5  # of the long cases, which send a thousand each when they are run by hand


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[type]:
    """The cases of the suite, downloaded."""
    folder: Path = tmp_path_factory.mktemp("autobahn")
    try:
        return load_cases(fetch(folder))
    except SuiteMissing as reason:
        do_without(f"the Autobahn suite can't be downloaded: {reason}")


@pytest.mark.interop
async def test_every_case_is_ok(cases: list[type]) -> None:
    """The best score there is: 514 OK, 3 informational, none of them lax."""
    with echoing() as port:
        verdicts = await run_suite(cases, port, messages=MESSAGES, at_once=4)
    assert len(verdicts) == 517
    others = {
        one.case: one for one in verdicts if (one.behavior, one.behavior_close) != ("OK", "OK")
    }
    assert others.keys() == INFORMATIONAL, others
    assert all(one.is_passed for one in others.values()), others


@pytest.mark.interop
async def test_every_http_case_is_met() -> None:
    """security check H6: the sound is answered, what could be read in two ways is refused."""
    with echoing() as port:
        outcomes = await asyncio.gather(*(run_http_case(case, port) for case in CASES))
    missed = [(one.case.section, one.case.title, one.reason) for one in outcomes if one.reason]
    assert missed == []
