"""A real browser: the SDK's bundle over both transports, and subprotocols (contract/07 §1)."""

from pathlib import Path
from queue import Empty
from urllib.parse import urlencode

import pytest

from tests.interop.programs import DEADLINE_S, HERE, find_program, started
from tests.interop.serving import PASSWORD, Served
from tests.interop.sessions import check_session
from tests.interop.static import static_site

pytestmark = pytest.mark.interop


def test_session_in_a_browser(server: Served, packages: Path, tmp_path: Path) -> None:
    """The page comes from another port, so its HTTP requests pass the browser's CORS checks."""
    files = {name: HERE / name for name in ("page.html", "session.js")}
    files["kuzzle.js"] = packages / "kuzzle-sdk" / "dist" / "kuzzle.js"
    place = urlencode({"port": server.port, "username": "admin", "password": PASSWORD})
    errors = tmp_path / "browser.stderr"
    browser = [
        find_program("chromium", "chromium-browser", "google-chrome"),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    with static_site(files) as (port, outcomes):
        address = f"http://127.0.0.1:{port}/page.html?{place}"
        with started([*browser, address], errors=errors):
            try:
                seen = outcomes.get(timeout=DEADLINE_S)
            except Empty:
                pytest.fail(f"the page reported nothing:\n{errors.read_text()}", pytrace=False)
    assert "error" not in seen, seen
    assert (seen["none"], seen["one"], seen["two"]) == ("", "some-subprotocol", "first")
    # The SDK passes null for "no options", and browsers make a subprotocol of it.
    assert seen["ping"] == {"answer": '{"p":2}', "subprotocol": "null"}
    check_session(seen["websocket"])
    check_session(seen["http"])
