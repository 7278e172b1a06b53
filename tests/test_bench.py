"""The parts of the bench that compute: reports read, frames built, answers compared, medians taken.

Nothing here measures time.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from bench.__main__ import read_options
from bench.chapters.timing import read_refusal
from bench.extra.soak import growth_of
from bench.loads.datasets import PASSWORD, Session, crowd, fill
from bench.loads.hostile_clients import KINDS
from bench.loads.http_client import (
    HANDSHAKE,
    WrongAnswer,
    content_length,
    frame_payload,
    write_request,
    write_text_frame,
)
from bench.loads.idle_sockets import check_told
from bench.loads.soak_users import Visitor
from bench.loads.websocket_load import Shape, build_messages
from bench.loads.wrk import parse_report
from bench.measure.contrast import ask_each
from bench.measure.latencies import percentile
from bench.report.ranks import likelihood
from bench.report.report import format_number, read_json, write_json, write_table
from bench.report.series import Chapter, Requirement, Series, measure_rounds, ratios
from bench.subject.checks import check_result, check_same, check_user, settle
from bench.subject.sample import REQUEST_ID, VARIABLE, Sample, me_message, read_sample
from bench.subject.stage import QUICK, Cores, Failed, split_cores
from protocol.api.request import Response
from protocol.config import ConnectionConfig
from protocol.connection import Connection
from protocol.receive_buffer import Buffer
from protocol.state import State
from protocol.websocket.messages import Message, MessageLimits, WebSocket
from server.api.router import Router
from server.config.model import Config
from tests.support.server import cheap_config, running

WRK_REPORT = """\
Running 3s test @ http://127.0.0.1:7512/_me
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   815.21us  101.99us   4.31ms   92.13%
    Req/Sec    78.59k     1.51k   80.58k    83.33%
  Latency Distribution
     50%  806.00us
     75%  830.00us
     90%    0.86ms
     99%    1.19ms
  235012 requests in 3.01s, 123.25MB read
Requests/sec:  78163.90
Transfer/sec:     40.99MB
"""


def test_wrk_report_is_read_in_one_unit() -> None:
    report = parse_report(WRK_REPORT)
    assert report.per_second == 78163.90
    assert report.p50_ms == pytest.approx(0.806)
    assert report.p99_ms == pytest.approx(1.19)


@pytest.mark.parametrize(
    ("written", "p99_ms"), [("950.00us", 0.95), ("1.50s", 1500.0), ("0.10m", 6000.0)]
)
def test_wrk_latency_units(written: str, p99_ms: float) -> None:
    report = parse_report(WRK_REPORT.replace("  1.19ms", written))
    assert report.p99_ms == pytest.approx(p99_ms)


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 12",
        "  Socket errors: connect 0, read 3, write 0, timeout 0",
    ],
)
def test_wrk_trouble_fails_the_run(line: str) -> None:
    text = WRK_REPORT.replace("Requests/sec", f"{line}\nRequests/sec")
    with pytest.raises(Failed, match=line.strip().split(":")[0]):
        parse_report(text)


def test_wrk_report_without_numbers_fails_the_run() -> None:
    with pytest.raises(Failed):
        parse_report("unable to connect to 127.0.0.1:7512 Connection refused\n")


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was half as fast in the second round; the ratio does not notice.
    assert ratios((60.0, 30.0, 66.0), (100.0, 50.0, 100.0)) == (0.6, 0.6, 0.66)


def test_requirement_is_judged_by_the_median_of_the_ratios() -> None:
    chapter = Chapter("http", "…")
    chapter.series = [
        Series("manykeys", "requests/s", (61.0, 30.0, 62.0)),
        Series("floor", "requests/s", (100.0, 100.0, 100.0)),
    ]
    chapter.require("manykeys", "floor", 0.60)
    (requirement,) = chapter.requirements
    assert requirement.median == 0.61
    assert requirement.is_met


def test_requirement_needs_both_series() -> None:
    chapter = Chapter("http", "…", [Series("manykeys", "requests/s", (61.0,))])
    chapter.require("manykeys", "granian", 1.5)
    assert chapter.requirements == []


@pytest.mark.parametrize(
    ("value", "at_most", "is_met"),
    [(0.60, False, True), (0.59, False, False), (0.60, True, True), (0.61, True, False)],
)
def test_bound_itself_is_allowed(value: float, at_most: bool, is_met: bool) -> None:
    assert Requirement("manykeys", (value,), 0.60, at_most).is_met is is_met


def test_rounds_take_turns_in_going_first() -> None:
    order: list[str] = []

    def subject(name: str, value: float) -> float:
        order.append(name)
        return value

    found = measure_rounds(
        {"a": lambda: subject("a", 1.0), "b": lambda: subject("b", 2.0)},
        3,
        lambda number: order.append(str(number)),
    )
    assert order == ["a", "b", "0", "b", "a", "1", "a", "b", "2"]
    assert found == {"a": (1.0, 1.0, 1.0), "b": (2.0, 2.0, 2.0)}


def example_chapter() -> Chapter:
    chapter = Chapter("http", "GET /_me", notes=["granian is not measured: it is not installed"])
    chapter.series = [
        Series("manykeys", "requests/s", (50_000.0, 70_000.0, 60_000.0), (0.9, 1.0, 0.99)),
        Series("bare uvloop", "requests/s", (120_000.0, 120_000.0, 120_000.0)),
    ]
    chapter.require("manykeys", "bare uvloop", 0.60)
    return chapter


def test_table_tells_median_spread_and_verdict() -> None:
    title, ours, floor, ratio, note = write_table([example_chapter()]).splitlines()
    assert title == "GET /_me"
    assert ours.split() == ("manykeys 60,000 requests/s (50,000 … 70,000) server busy 99%".split())
    assert floor.split() == "bare uvloop 120,000 requests/s (120,000 … 120,000)".split()
    assert ratio.split() == "manykeys / bare uvloop 0.50 (0.42 … 0.58) ≥ 0.60 MISSED".split()
    assert note == "  note: granian is not measured: it is not installed"


def test_json_keeps_every_value_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_json(path, [example_chapter()], QUICK)
    written = json.loads(path.read_text())
    assert written["chapters"][0]["requirements"][0]["met"] is False
    assert written["plan"]["rounds"] == QUICK.rounds
    (chapter,) = read_json(path)
    assert write_table([chapter]) == write_table([example_chapter()])


@pytest.mark.parametrize(
    ("value", "text"), [(118_123.4, "118,123"), (8.4666, "8.47"), (0.2164, "0.216")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300, 65_535])
def test_client_frame_is_what_a_server_reads(size: int) -> None:
    payload = bytes(0x20 + at % 90 for at in range(size))
    buffer = Buffer()
    buffer.append(write_text_frame(payload, b"\x01\x82\x03\xf4"))
    event = WebSocket(MessageLimits(message_bytes=65_536)).feed(buffer)
    assert event == Message(payload, True)
    assert len(buffer) == 0


def test_client_frame_is_the_one_of_the_rfc() -> None:
    # RFC 6455 §5.7: a single-frame masked text message.
    frame = write_text_frame(b"Hello", b"\x37\xfa\x21\x3d")
    assert frame == b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"


def test_frame_payload_of_both_lengths() -> None:
    assert frame_payload(b"\x81\x05Hello") == b"Hello"
    assert frame_payload(b"\x81\x7e\x00\x80" + b"x" * 128) == b"x" * 128


def test_load_asks_under_ever_different_ids() -> None:
    messages = build_messages("token")
    assert len({frame for _, frame in messages}) == len(messages)
    assert len({request_id for request_id, _ in messages}) == len(messages)
    assert {len(request_id) for request_id, _ in messages} == {len(REQUEST_ID)}


@pytest.mark.parametrize("answer", [b"\x81\x03a-2", b"\x81\x04aa-1", b"\x82\x03a-1"])
def test_load_refuses_another_answer(answer: bytes) -> None:
    shape = Shape(b"\x81\x03", 5, has_id=True)
    shape.check(b"\x81\x03a-1", b"1")
    with pytest.raises(WrongAnswer):
        shape.check(answer, b"1")


def test_content_length_in_any_case() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n") == 12
    assert content_length(b"HTTP/1.1 204 No Content\r\n\r\n") == 0


USER: dict[str, object] = {
    "_id": "bench",
    "_source": {"profileIds": ["admin"], "name": "Bench"},
    "strategies": ["local"],
}
SAMPLE = Sample("token", "node-1", USER, b"", b"")


def envelope() -> dict[str, object]:
    return {
        "action": "getCurrentUser",
        "controller": "auth",
        "error": None,
        "headers": {},
        "node": "node-1",
        "requestId": "r-1",
        "result": USER,
        "status": 200,
        "volatile": None,
    }


def test_documented_envelopes_pass() -> None:
    check_user(envelope(), SAMPLE)
    check_user({**envelope(), "room": "r-1"}, SAMPLE, room="r-1")
    check_result(USER, "bench", "Bench")


@pytest.mark.parametrize(
    "change", [{"status": 401}, {"result": {}}, {"error": {}}, {"room": "r-1"}, {"node": "other"}]
)
def test_another_envelope_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(WrongAnswer):
        check_user({**envelope(), **change}, SAMPLE)


def test_members_in_another_order_are_refused() -> None:
    with pytest.raises(WrongAnswer):
        check_user(dict(reversed(envelope().items())), SAMPLE)


@pytest.mark.parametrize(
    "change", [{"_id": "-1"}, {"strategies": []}, {"_source": {"profileIds": ["default"]}}]
)
def test_another_user_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(WrongAnswer):
        check_result({**USER, **change}, "bench", "Bench")


def http_answer(date: str, request_id: str, status: int = 200) -> bytes:
    head = f"HTTP/1.1 {status} OK\r\ndate: {date}\r\nx-kuzzle-request-id: {request_id}\r\n\r\n"
    return f'{head}{{"requestId":"{request_id}","status":{status}}}'.encode()


def test_ids_and_dates_may_differ_and_nothing_else() -> None:
    before = http_answer("Sun, 06 Nov 1994 08:49:37 GMT", "a" * 36)
    check_same(before, http_answer("Sun, 06 Nov 1994 08:49:38 GMT", "b" * 36))
    assert len(settle(before)) == len(before)
    for other in (
        http_answer("Sun, 06 Nov 1994 08:49:37 GMT", "a" * 36, status=401),
        http_answer("Sun, 06 Nov 1994 08:49:37 GMT", "a" * 35),
    ):
        with pytest.raises(WrongAnswer):
            check_same(before, other)


def test_sample_reaches_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample("token", "node-1", USER, b"HTTP/1.1 200 OK\r\n\r\n\xff", b"{}")
    sample.write(tmp_path / "sample.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "sample.json"))
    assert read_sample() == sample


def test_message_asks_for_the_current_user() -> None:
    assert json.loads(me_message("token", "r-1")) == {
        "controller": "auth",
        "action": "getCurrentUser",
        "requestId": "r-1",
        "jwt": "token",
    }


def test_server_and_load_share_a_core_only_when_there_is_one() -> None:
    assert split_cores({0, 1, 2}) == Cores(server=frozenset({0}), load=frozenset({1, 2}))
    assert split_cores({3}) == Cores(server=frozenset({3}), load=frozenset({3}))


def test_labels_of_near_lines_do_not_touch() -> None:
    plot = pytest.importorskip("bench.report.plot", exc_type=ImportError)
    assert plot.spread_out([62.0, 60.0, 90.0], gap=5.0) == [65.0, 60.0, 90.0]


def test_required_line_is_the_bound_times_the_reference() -> None:
    plot = pytest.importorskip("bench.report.plot", exc_type=ImportError)
    chapter = example_chapter()
    (requirement,) = chapter.requirements
    assert plot.line_height(requirement, chapter.series) == 0.60 * 120_000
    assert plot.line_height(requirement, chapter.series[1:]) is None


def test_long_chapters_only_when_asked_for() -> None:
    usual = read_options([]).only
    assert usual == ["http", "websocket", "login", "start", "memory"]
    more = ["sessions", "users", "push", "pending", "timing", "faults"]
    assert read_options(["--full"]).only == [*usual, *more]
    assert read_options(["--only", "push,http"]).only == ["push", "http"]
    with pytest.raises(SystemExit):
        read_options(["--only", "lunch"])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        # ranks as they stand: U = 18, z = 31.5 / sqrt(10 * 10 * 21 / 12) = 2.3812
        ([1, 2, 3, 4, 6, 7, 9, 11, 14, 16], [5, 8, 10, 12, 13, 15, 17, 18, 19, 20], 0.0173),
        # All the same: nothing tells one from the other.
        ([5.0] * 9, [5.0] * 7, 1.0),
        # Ranks 1 to 4 and 5 to 8: U = 0, z = 7.5 / sqrt(12) = 2.1651
        ([1, 2, 3, 4], [5, 6, 7, 8], 0.0304),
        # Ties share their rank: 1.5, 1.5, 4, 4 and 4, 6.5, 6.5, 8; U = 1, z = 6.5 / 3.3381 = 1.9472
        ([1, 1, 2, 2], [2, 3, 3, 4], 0.0515),
    ],
)
def test_likelihood_of_one_distribution(
    ours: list[float], theirs: list[float], expected: float
) -> None:
    assert likelihood(ours, theirs) == pytest.approx(expected, abs=5e-5)
    assert likelihood(theirs, ours) == likelihood(ours, theirs)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.99, 99), (0.5, 50), (0.001, 1), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_a_value_of_the_sample(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def notification(kind: str, status: int = 200) -> bytes:
    payload = json.dumps({"status": status, "type": kind, "node": "n" * 100}).encode()
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def test_only_the_end_of_a_token_counts_as_told() -> None:
    told = notification("TokenExpired")
    check_told(told)
    for other in (b"", told[:-1], told * 2, notification("TokenExpiring"), b"\x88\x02\x03\xe8"):
        with pytest.raises(WrongAnswer):
            check_told(other)


def test_refusals_are_compared_by_what_they_tell() -> None:
    failed = {"status": 401, "id": "plugin.strategy.missing_user", "message": "no", "props": []}
    told = (401, "plugin.strategy.missing_user", "no")
    assert read_refusal({"error": failed, "result": None}) == told
    with pytest.raises(WrongAnswer):
        read_refusal({"error": None, "result": {}})


def test_request_as_it_is_sent() -> None:
    assert write_request("GET", "/_me", token="t") == (
        b"GET /_me HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer t\r\n\r\n"
    )
    assert write_request("POST", "/_login/local", body={"a": 1}).endswith(
        b'Content-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'
    )


def test_questions_are_about_the_owner_of_the_token() -> None:
    (question,) = ask_each([Session("ann", "t")])
    assert question.kuid == "ann"
    assert question.request == write_request("GET", "/_me", token="t")


def test_a_crowd_is_one_the_server_knows(tmp_path: Path) -> None:
    data, known = tmp_path / "crowd.db", []

    async def prepare() -> None:
        async with running(data=str(data)):
            pass

    async def look() -> None:
        async with running(data=str(data)) as server:
            for session in known:
                answer = await server.call("http", "auth:getCurrentUser", token=session.token)
                assert answer["result"]["_id"] == session.kuid
                assert answer["result"]["strategies"] == ["local"]
            body = {"username": known[0].kuid, "password": PASSWORD}
            answer = await server.call("http", "auth:login", body=body, strategy="local")
            assert answer["result"]["_id"] == known[0].kuid

    asyncio.run(prepare())
    fill(data, partial(crowd, users=10, sessions=100, known=known, wanted=5), cost=4)
    asyncio.run(look())
    assert [session.kuid[-2:] for session in known] == ["01", "03", "05", "07", "09"]


@pytest.mark.parametrize(
    ("values", "growth"),
    [
        ([5.0] * 10, 0.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0] + [10.0] * 5, 0.0),  # what is reached first does not count
        ([10.0] * 5 + [8.0, 9.0, 10.0, 11.0, 12.0], 0.4),
        ([1.0, 2.0, 3.0], 0.0),  # too few to tell
    ],
)
def test_growth_is_that_of_the_second_half(values: list[float], growth: float) -> None:
    assert growth_of(range(len(values)), values) == pytest.approx(growth)


@pytest.mark.parametrize("name", KINDS)
def test_hostile_peers_keep_to_the_protocol(name: str) -> None:
    """What breaks it would be let go at once, and its flood never felt."""
    kind = KINDS[name]
    connection = Connection(ConnectionConfig(Router(()), "node"))
    connection.receive(HANDSHAKE if kind.is_socket else b"")
    requests = connection.receive(kind.sends)
    while requests or connection.has_unread_input:
        for request in requests:
            connection.send(request, Response("made"))
        requests = connection.receive(b"")
    assert connection.phase in (State.SOCKET, State.HEAD)
    assert not connection.is_finished


async def test_visitors_of_the_soak_are_answered_as_they_expect() -> None:
    """Each kind of visit once, and a wrong expectation would be told."""
    async with running(cheap_config(limits=replace(Config().limits, failed_logins=0))) as server:
        admin = await server.create_admin()
        visitor = Visitor(server.port, "ann", admin, Random(1))
        await asyncio.to_thread(visitor.arrive)
        for way in visitor.ways():
            await asyncio.to_thread(way)
        with pytest.raises(WrongAnswer):
            await asyncio.to_thread(visitor.check_out, admin)
