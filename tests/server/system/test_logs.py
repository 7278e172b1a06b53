"""Log lines: their look, what clients can't put in them, and that nobody waits for them."""

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.request_log import RequestLog
from server.system.logs import JsonLines, PlainLines, Writer, start_logs, stop_logs

AT_S = 1_700_000_000.25
DEADLINE_S = 10.0


def record(message: str, *values: object, **facts: object) -> logging.LogRecord:
    made = logging.LogRecord("test", logging.INFO, "", 0, message, values, None)
    made.created = AT_S
    if facts:
        made.facts = facts
    return made


class Stuck(io.StringIO):
    """A stream nobody reads until `go` is set; `stuck` tells that a write has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.stuck.set()
        assert self.go.wait(DEADLINE_S)
        return super().write(text)


class Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def collected() -> Iterator[Collected]:
    logger, handler = logging.getLogger("test-requests"), Collected()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def log(which: str, action: str | None, status: int, **other: str) -> None:
    RequestLog(which, logging.getLogger("test-requests")).log_request(
        request_id=other.get("request_id", "r1"),
        kuid="ann",
        controller="auth",
        action=action,
        status=status,
        duration_ms=1.23456,
        origin="http",
        address="127.0.0.1",
    )


def test_plain_line() -> None:
    line = PlainLines().format(record("hello %s", "you", status=200, kuid=None, note="two words"))
    assert line == (
        '2023-11-14T22:13:20.250Z INFO test hello you status=200 kuid=- note="two words"'
    )


def test_json_line() -> None:
    line = JsonLines().format(record("hello", status=200, kuid=None, note="é"))
    assert line.isascii()
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "test",
        "message": "hello",
        "status": 200,
        "kuid": None,
        "note": "é",
    }


FORGING = ["a\nb", "a\r\nb", "a\x0bb", "a\x85b", "a\u2028b", "a\x1b[2Jb", "a\x9b2Jb", "a\u202eb"]


@pytest.mark.parametrize("value", FORGING)
@pytest.mark.parametrize("form", [PlainLines(), JsonLines()])
def test_nobody_writes_a_line_of_his_own(form: logging.Formatter, value: str) -> None:
    """X1: log lines are newline-safe, in messages as well as in values."""
    line = form.format(record(value, action=value))
    assert len(line.splitlines()) == 1
    assert line.isprintable()


@given(st.text())
def test_any_value_stays_in_one_line(value: str) -> None:
    for form in (PlainLines(), JsonLines()):
        line = form.format(record("%s", value, action=value, after=1))
        assert len(line.splitlines()) == 1
        line.encode()
    assert json.loads(line)["after"] == 1


def test_value_with_a_space_does_not_become_two() -> None:
    assert (
        PlainLines()
        .format(record("m", action='a" kuid=admin'))
        .endswith(r'action="a\" kuid=admin"')
    )


def test_values_and_messages_are_cut() -> None:
    for form in (PlainLines(), JsonLines()):
        assert len(form.format(record("x" * 100_000, action="y" * 100_000))) < 10_000


def test_stack_trace_can_not_be_taken_for_lines() -> None:
    made = record("failed")
    try:
        raise ValueError("x\n2023-11-14T22:13:20.250Z INFO request forged")
    except ValueError as reason:
        made.exc_info = (ValueError, reason, None)
    first, *others = PlainLines().format(made).splitlines()
    assert first.endswith("failed")
    assert others and all(line.startswith("| ") for line in others)
    written = JsonLines().format(made)
    assert "\n" not in written
    assert "ValueError" in json.loads(written)["trace"]


def test_lines_go_out_in_order() -> None:
    stream = io.StringIO()
    writer = Writer(stream)
    for number in range(1000):
        writer.handle(record("%d", number))
    writer.finish(DEADLINE_S)
    assert [int(line) for line in stream.getvalue().split()] == list(range(1000))
    assert writer.dropped == 0


def test_slow_stderr_costs_lines_not_time() -> None:
    stream = Stuck()
    writer = Writer(stream, most_lines=2)
    writer.handle(record("first"))
    assert stream.stuck.wait(DEADLINE_S)
    for number in range(5):
        writer.handle(record("later %d", number))
    assert writer.dropped == 3
    stream.go.set()
    writer.finish(DEADLINE_S)
    assert stream.getvalue().splitlines() == [
        "first",
        "later 0",
        "later 1",
        "3 log lines were dropped: stderr is too slow",
    ]


def test_closed_stderr_is_no_failure() -> None:
    stream = io.StringIO()
    stream.close()
    writer = Writer(stream)
    writer.handle(record("unseen"))
    writer.finish(DEADLINE_S)
    writer.handle(record("too late"))
    assert writer.dropped == 2


def test_full_stderr_costs_lines_only_while_it_is_full() -> None:
    class Full(io.StringIO):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                self.is_full = False
                refused.set()
                raise BlockingIOError
            written.set()
            return super().write(text)

    stream, written, refused = Full(), threading.Event(), threading.Event()
    writer = Writer(stream)
    writer.handle(record("lost"))
    assert refused.wait(DEADLINE_S)
    writer.handle(record("seen"))
    assert written.wait(DEADLINE_S)
    writer.finish(DEADLINE_S)
    assert stream.getvalue().startswith("seen\n1 log lines were dropped")


def test_started_logs_take_all_loggers_above_the_level() -> None:
    root = logging.getLogger()
    level = root.level
    stream = io.StringIO()
    writer = start_logs("json", "warning", stream)
    try:
        logging.getLogger("some.library").warning("seen")
        logging.getLogger("some.library").info("unseen")
    finally:
        stop_logs(writer)
        root.setLevel(level)
    logging.getLogger("some.library").error("after the end")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["seen"]


def test_request_line(collected: Collected) -> None:
    """Security check A9: what stood in a query string or a header is no part of it."""
    log("all", "login", 200)
    (made,) = collected.records
    made.created = AT_S
    assert PlainLines().format(made) == (
        "2023-11-14T22:13:20.250Z INFO test-requests answered controller=auth action=login "
        "status=200 ms=1.235 kuid=ann origin=http address=127.0.0.1 id=r1"
    )


def test_failures_of_ours_are_errors(collected: Collected) -> None:
    log("notable", "getCurrentUser", 500)
    log("notable", "getCurrentUser", 401)
    assert [made.levelname for made in collected.records] == ["ERROR", "INFO"]


READING = [
    *("getCurrentUser", "mGetUsers", "searchUsers", "scrollUsers", "checkToken", "checkRights"),
    *("validateCredentials", "hasCredentials", "credentialsExist", "now", "info", "adminExists"),
    *("getMyRights", "healthCheck", "publicApi", "openapi", "capabilities", "listSessions"),
]
CHANGING = [
    *("login", "logout", "refreshToken", "createToken", "createApiKey", "deleteApiKey", "reset"),
    *("createUser", "updateUser", "replaceUser", "deleteUser", "mDeleteUsers", "upsertUser"),
    *("createFirstAdmin", "revokeTokens", "createMyCredentials", "updateSelf", "refresh"),
    "getResetPasswordToken",
]


@pytest.mark.parametrize("action", READING)
def test_reading_is_not_notable(action: str) -> None:
    assert not RequestLog("notable").is_logged(action, 200)
    assert RequestLog("notable").is_logged(action, 403)
    assert RequestLog("all").is_logged(action, 200)


@pytest.mark.parametrize("action", CHANGING)
def test_changes_and_logins_are_notable(action: str) -> None:
    assert RequestLog("notable").is_logged(action, 200)
    assert not RequestLog("none").is_logged(action, 200)


def test_none_logs_no_failure_either(collected: Collected) -> None:
    log("none", "login", 500)
    assert not collected.records
