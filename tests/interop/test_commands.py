"""curl and wscat, with the command lines a reader of the README types."""

import json
from pathlib import Path

import pytest

from tests.interop.programs import find_program, run, started
from tests.interop.serving import PASSWORD, Served

pytestmark = pytest.mark.interop

ACCOUNT = json.dumps({"username": "admin", "password": PASSWORD})
TYPE = "Content-Type: application/json"


def test_curl(server: Served) -> None:
    """Log in, ask who I am, log out: then the token is worth nothing (docs/api/clients.md#curl)."""
    curl = [find_program("curl"), "--silent", "--show-error", "--max-time", "30"]
    address = f"http://localhost:{server.port}"
    printed = run([*curl, f"{address}/_login/local", "-H", TYPE, "-d", ACCOUNT])
    token = json.loads(printed)["result"]["jwt"]
    bearer = ["-H", f"Authorization: Bearer {token}"]

    me = run([*curl, f"{address}/_me?pretty", *bearer])
    assert '\n  "status": 200' in me
    assert json.loads(me)["result"]["_id"] == "admin"
    assert json.loads(run([*curl, f"{address}/_me"]))["result"]["_id"] == "-1"

    gone = json.loads(run([*curl, "-X", "POST", f"{address}/_logout", *bearer]))
    assert (gone["status"], gone["result"]) == (200, {"acknowledged": True})
    code = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    assert run([*curl, *code, f"{address}/_me", *bearer]) == "401"


def test_curl_compressed(server: Served) -> None:
    """curl can decode what it gets when it says that it takes compressed answers."""
    curl = [find_program("curl"), "--silent", "--show-error", "--max-time", "30", "--compressed"]
    routes = json.loads(run([*curl, f"http://localhost:{server.port}/_publicApi"]))["result"]
    assert "POST" in {route["verb"] for route in routes["auth"]["login"]["http"]}


def test_wscat(server: Served, packages: Path, tmp_path: Path) -> None:
    """One request from the command line; the answer is one line (docs/api/clients.md#wscat)."""
    request = {"controller": "auth", "action": "getCurrentUser", "jwt": server.login()}
    wscat = [find_program("node"), str(packages / ".bin" / "wscat")]
    command = [*wscat, "-c", f"ws://localhost:{server.port}", "--execute", json.dumps(request)]
    with started(command, errors=tmp_path / "wscat.stderr") as process:
        assert process.stdin is not None and process.stdout is not None
        answer = json.loads(process.stdout.readline())
        process.stdin.close()  # wscat ends with its input
        assert process.wait() == 0
    assert (answer["status"], answer["result"]["_id"]) == (200, "admin")
    assert answer["room"] == answer["requestId"]
