"""The JavaScript SDK, unmodified, goes through a login of two steps (contract/05 §4), with a
strategy that an installed package brings."""

import os
from pathlib import Path

import pytest

from tests.interop.conftest import RunScript
from tests.interop.serving import PASSWORD, serving
from tests.sample import install_sample

pytestmark = pytest.mark.interop


def test_two_steps(tmp_path: Path, run_script: RunScript, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a socket `query` gives the page to go to, which `auth.login` can not; what comes back
    from there finishes the login, on this socket alone and once."""
    install_sample(tmp_path)
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), known))))
    with serving(tmp_path, {"strategies.away.use": "detour"}) as server:
        server.create_admin()
        seen = run_script("two_steps.cjs", server.port, "admin", PASSWORD)
    refused = {"id": "plugin.strategy.missing_user", "status": 401}
    assert seen == {
        "strategies": ["local", "away"],
        "away": "TypeError",  # of the SDK, for want of a token
        "status": 302,
        "statusCode": 302,
        "site": "https://id.test/authorize",
        "foreign": refused,
        "isToken": True,
        "user": "admin",
        "replayed": refused,
    }
