"""WebSocket `getCurrentUser` on 50 connections, one message in flight on each."""

import json
import os
import subprocess
import sys

from bench.measure.throughput import LoadReport, compare
from bench.report.series import Chapter
from bench.subject.exchange import check_websocket
from bench.subject.sample import VARIABLE, Sample
from bench.subject.servers import BARE_WEBSOCKET, PICOWS, WEBSOCKETS
from bench.subject.stage import Failed, Stage, pinned
from bench.subject.subject import OURS

CONNECTIONS = 50


def measure(stage: Stage) -> Chapter:
    """Compare with the floor and with two libraries."""
    chapter = Chapter("websocket", f"WebSocket getCurrentUser, {CONNECTIONS} connections, one core")
    peers = [BARE_WEBSOCKET, WEBSOCKETS, PICOWS]
    compare(stage, chapter, "messages/s", peers, check_websocket, _load)
    chapter.require(OURS, WEBSOCKETS.name, 1.5)
    chapter.require(OURS, PICOWS.name, 0.70)
    return chapter


def _load(stage: Stage, port: int, sample: Sample) -> LoadReport:
    path = stage.folder / "sample.json"
    sample.write(path)
    command = [sys.executable, "-m", "bench.loads.websocket_load", str(port), str(CONNECTIONS)]
    with pinned(stage.cores.load):
        done = subprocess.run(
            [*command, str(stage.plan.websocket_s)],
            env=os.environ | {VARIABLE: str(path)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise Failed(f"the WebSocket load ended with {done.returncode}: {done.stderr[-400:]}")
    found = json.loads(done.stdout)
    return LoadReport(found["per_second"], found["seconds"], found["busy"])
