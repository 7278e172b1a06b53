"""Requests nobody would think of, made by Schemathesis from what the server tells of its own API.

No answer may be a fault of the server, have a status the document does not name, or another shape.
"""

import re
import sys
from pathlib import Path

import pytest

from tests.interop.programs import run
from tests.interop.serving import Served

pytestmark = pytest.mark.interop

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# Arguments in a path that lead somewhere; a key outlives the logouts among the requests.
CONFIGURATION = '[parameters]\n"path.strategy" = "local"\n"path.userId" = "admin"\n'
EXAMPLES = 6
# The whole API wants the time; anonymous is refused nearly everywhere, an application sees little.
LONGEST_S = {("admin", "kuzzle"): 20, ("nobody", "kuzzle"): 10, ("admin", "app"): 20}


@pytest.mark.parametrize(("caller", "scope"), LONGEST_S)
def test_generated_requests(server: Served, tmp_path: Path, caller: str, scope: str) -> None:
    """docs/api/server.md#openapi; docs/api/differences.md#wrong-types: bad input is the caller's
    fault, and told as documented."""
    address = f"http://127.0.0.1:{server.port}/_openapi?scope={scope}"
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    options = ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--seed", "1"]
    options += ["--max-time", str(LONGEST_S[caller, scope])]
    options += ["--phases", "coverage,fuzzing", "--generation-database", "none", "--no-color"]
    if caller == "admin":
        made = server.ask("POST", "/api-keys/_create", {"description": "tests"}, server.login())
        options += ["--header", f"Authorization: Bearer {made['_source']['token']}"]
    program = [sys.executable, "-m", "schemathesis.cli", "run"]
    printed = run([*program, address, *options], folder=tmp_path)
    counted = re.search(r"([0-9]+) generated, ([0-9]+) passed", printed)
    assert counted is not None, printed
    generated, passed = int(counted[1]), int(counted[2])
    assert generated == passed > EXAMPLES
