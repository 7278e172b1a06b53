"""`GET /_me` with a bearer token on 64 keep-alive connections."""

from bench.loads.wrk import find_wrk, run_wrk
from bench.measure.throughput import LoadReport, compare
from bench.report.series import Chapter
from bench.subject.exchange import check_http
from bench.subject.sample import Sample
from bench.subject.servers import BARE, BARE_HTTP, GRANIAN, UVICORN
from bench.subject.stage import Stage, pinned
from bench.subject.subject import OURS

CONNECTIONS = 64


def measure(stage: Stage) -> Chapter:
    """Compare with the floor and with two servers of others."""
    find_wrk()
    chapter = Chapter("http", f"GET /_me, {CONNECTIONS} keep-alive connections, one core")
    compare(stage, chapter, "requests/s", [BARE_HTTP, UVICORN, GRANIAN], check_http, _load)
    chapter.require(OURS, BARE, 0.60)
    chapter.require(OURS, UVICORN.name, 2.0)
    chapter.require(OURS, GRANIAN.name, 1.5)
    return chapter


def _load(stage: Stage, port: int, sample: Sample) -> LoadReport:
    seconds = stage.plan.http_s
    with pinned(stage.cores.load):
        report = run_wrk(port, sample.token, connections=CONNECTIONS, duration_s=seconds)
    return LoadReport(report.per_second, seconds, report.busy)
