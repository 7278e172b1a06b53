"""The limit of log lines: what a flood leaves of itself in the log."""

import io
import json
import logging

import pytest

from server.system.log_limiter import MAX_KINDS, LineLimiter
from server.system.logs import start_logs, stop_logs
from tests.server.app.test_serve import serving


def record(
    message: str, *values: object, name: str = "test", level: int = logging.INFO, **facts: object
) -> logging.LogRecord:
    """Return a log record with facts."""
    made = logging.LogRecord(name, level, "", 0, message, values, None)
    made.facts = facts
    return made


def refused(address: str, status: int = 429) -> logging.LogRecord:
    """Return the record of a refused request."""
    return record("answered", name="request", status=status, address=address)


def texts(records: list[logging.LogRecord]) -> list[str]:
    """Return the messages of records."""
    return [each.getMessage() for each in records]


class Seconds:
    """A clock in seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_limiter_flood_of_refusals_becomes_so_many_lines_and_a_sum() -> None:
    """A client cannot fill a disk with its refusals."""
    clock = Seconds()
    limiter = LineLimiter(50, clock)
    allowed = sum(limiter.allows(refused(f"192.0.2.{at % 100}")) for at in range(1000))
    assert allowed == 50
    assert limiter.left_out == 950
    assert limiter.take_summaries() == []
    clock.now_s = 1.0
    (summary,) = limiter.take_summaries()
    assert summary.getMessage() == "950 more refused requests were not logged"
    assert summary.facts == {"count": 950, "status": 429}
    assert (summary.name, summary.levelno) == ("request", logging.INFO)
    assert not limiter.has_left_out
    assert limiter.allows(refused("192.0.2.1"))


def test_limiter_flood_of_one_address_leaves_room_for_others() -> None:
    limiter = LineLimiter(50, Seconds())
    assert sum(limiter.allows(refused("192.0.2.1")) for _ in range(1000)) == 10
    assert sum(limiter.allows(refused("192.0.2.2")) for _ in range(3)) == 3


def test_limiter_kinds_have_a_limit_each() -> None:
    """A flood of 429 hides no 401, no failure of ours and no line about something else."""
    limiter = LineLimiter(5, Seconds())
    while limiter.allows(record("answered", name="request", status=429)):
        pass
    assert limiter.allows(refused("192.0.2.1", 401))
    assert limiter.allows(record("answered", name="request", level=logging.ERROR, status=500))
    assert limiter.allows(record("%s: client certificate rejected: %s", "a", "b"))


def test_limiter_failures_are_summed_at_their_own_level() -> None:
    """Of answers 5xx nothing is left out without a word, and the word is an error, too."""
    clock = Seconds()
    limiter = LineLimiter(2, clock)
    for _ in range(5):
        limiter.allows(record("answered", name="request", level=logging.ERROR, status=503))
    clock.now_s = 1.0
    (summary,) = limiter.take_summaries()
    assert (summary.levelno, summary.facts) == (logging.ERROR, {"count": 3, "status": 503})


def test_limiter_success_is_not_limited() -> None:
    limiter = LineLimiter(1, Seconds())
    fine = [record("answered", name="request", status=200, address="192.0.2.1")] * 100
    fine += [record("login", name="manykeys.audit", outcome="ok")] * 100
    assert all(map(limiter.allows, fine))
    assert not limiter.has_left_out


def test_limiter_messages_with_values_are_one_kind() -> None:
    """A kind is the text before values are put in; asyncio's own have them from line two on."""
    clock = Seconds()
    limiter = LineLimiter(5, clock)
    for at in range(20):
        limiter.allows(record("Fatal error on transport\nprotocol: <Peer %s>" % at))  # noqa: UP031
        limiter.allows(record("strategy %s: failed", f"s{at}"))
    clock.now_s = 1.0
    assert texts(limiter.take_summaries()) == [
        "15 more lines not logged: Fatal error on transport",
        "15 more lines not logged: strategy %s: failed",
    ]


def test_limiter_kinds_beyond_their_number_are_one_kind() -> None:
    clock = Seconds()
    limiter = LineLimiter(2, clock)
    for at in range(MAX_KINDS + 10):
        limiter.allows(record(f"made up {at}"))
    clock.now_s = 1.0
    assert texts(limiter.take_summaries()) == ["8 more lines not logged: other messages"]


def test_limiter_of_zero_is_no_limit() -> None:
    limiter = LineLimiter(0, Seconds())
    assert all(limiter.allows(refused("192.0.2.1")) for _ in range(1000))


@pytest.mark.parametrize("form", ["plain", "json"])
def test_logs_sum_is_written_when_they_stop(form: str) -> None:
    """What was left out in the last second is not forgotten."""
    stream = io.StringIO()
    writer = start_logs(form, "info", stream, 2)
    for _ in range(5):
        logging.getLogger("request").info("answered", extra={"facts": {"status": 404}})
    stop_logs(writer)
    *lines, last = stream.getvalue().splitlines()
    assert len(lines) == 2
    if form == "json":
        assert json.loads(last)["message"] == "3 more refused requests were not logged"
        assert json.loads(last)["count"] == 3
    else:
        assert last.endswith("3 more refused requests were not logged count=3 status=404")


async def test_server_flood_of_refused_requests_is_summed_and_counted() -> None:
    """A client that is answered 404 five hundred times writes some lines and a sum, and
    `server:metrics` says how many lines were left out."""
    async with serving(":memory:", "--open") as server:
        http = await server.connect()
        flood = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500
        await http.send(flood)
        for _ in range(500):
            assert (await http.read()).status == 404
        metrics = (await http.ask("GET", "/_metrics")).json["result"]
        http.close()
        errors = await server.stop()
    logged = [line for line in errors.splitlines() if " answered " in line and "=404" in line]
    sums = [line for line in errors.splitlines() if "refused requests were not logged" in line]
    left_out = sum(int(line.split("count=")[1].split()[0]) for line in sums)
    assert len(logged) + left_out == 500
    assert len(logged) < 250
    assert metrics["limits"]["logLines"] == left_out
