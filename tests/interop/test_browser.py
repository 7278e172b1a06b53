"""A real browser: the SDK's bundle over both transports, its cookie mode, and subprotocols
(docs/api/clients.md#javascript-sdk)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urlencode

import pytest

from tests.interop.programs import DEADLINE_S, HERE, find_program, started
from tests.interop.serving import PASSWORD, Json, Served, serving
from tests.interop.sessions import check_session
from tests.interop.static import static_site

pytestmark = pytest.mark.interop


@contextmanager
def browsing(address: str, folder: Path, *flags: str) -> Iterator[Path]:
    """Open a page in a browser with a profile of its own; gives where the browser's errors go."""
    errors = folder / "browser.stderr"
    browser = [
        find_program("chromium", "chromium-browser", "google-chrome"),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={folder / 'profile'}",
        *flags,
    ]
    with started([*browser, address], errors=errors):
        yield errors


def take(outcomes: SimpleQueue[Json], errors: Path) -> Json:
    """Wait for what a page saw."""
    try:
        seen = outcomes.get(timeout=DEADLINE_S)
    except Empty:
        pytest.fail(f"the page reported nothing:\n{errors.read_text()}", pytrace=False)
    assert "error" not in seen, seen
    return seen


def page_files(packages: Path, page: str) -> dict[str, Path]:
    """Give the files of a page of ours that uses the SDK."""
    files = {name: HERE / name for name in (page, "session.js")}
    return files | {"kuzzle.js": packages / "kuzzle-sdk" / "dist" / "kuzzle.js"}


def test_session_in_a_browser(server: Served, packages: Path, tmp_path: Path) -> None:
    """The page comes from another port, so its HTTP requests pass the browser's CORS checks."""
    place = urlencode({"port": server.port, "username": "admin", "password": PASSWORD})
    with static_site(page_files(packages, "page.html")) as (port, outcomes):
        address = f"http://127.0.0.1:{port}/page.html?{place}"
        with browsing(address, tmp_path) as errors:
            seen = take(outcomes, errors)
    assert (seen["none"], seen["one"], seen["two"]) == ("", "some-subprotocol", "first")
    # The SDK passes null for "no options", and browsers make a subprotocol of it.
    assert seen["ping"] == {"answer": '{"p":2}', "subprotocol": "null"}
    check_session(seen["websocket"])
    check_session(seen["http"])


ANONYMOUS = {"_id": "-1", "kuid": "-1", "valid": True, "script": ""}
ADMIN = {"_id": "admin", "kuid": "admin", "valid": True, "script": ""}


# What foreign pages see: what they may read is nobody's, what they did blindly changed nothing.
REFUSED = "api.process.unauthorized_origin"
NEAR = {
    "bare": "-1",
    "read": "TypeError",
    "blind": "opaque",
    "socket": REFUSED,
    "change": REFUSED,
    "sdk": "no connection",
}
# Browsers add no cookie here (SameSite=Strict), so there is nothing to refuse but the logout that
# asks for one to be erased.
FAR = NEAR | {"socket": "-1"}


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_session_in_a_cookie(packages: Path, tmp_path: Path, transport: str) -> None:
    """The SDK's cookie mode (docs/api/clients.md#cookie-mode), from a page of an origin that is
    allowed by name: log in, refresh, load the page anew, log out. In between the same browser shows
    pages of other origins, which get nothing: one on another port, to whose requests browsers do
    add the cookie (S11, H5, H9), and one of another site."""
    files = page_files(packages, "cookies.html")
    with (
        static_site(files) as (port, outcomes),
        static_site(files) as (foreign_port, foreign_outcomes),
    ):
        own, near = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{foreign_port}"
        far = f"http://localhost:{foreign_port}"
        steps = (("enter", own), ("stay", own), ("intrude", near), ("intrude", far), ("leave", own))
        with serving(tmp_path, {"http.accessControlAllowOrigin": f"*,{own}"}) as server:
            server.create_admin()
            given = {
                "port": server.port,
                "username": "admin",
                "password": PASSWORD,
                "steps": " ".join(f"{step},{transport},{site}" for step, site in steps),
            }
            address = f"{own}/cookies.html?{urlencode(given)}"
            with browsing(address, tmp_path) as errors:
                entered, stayed = take(outcomes, errors), take(outcomes, errors)
                intruders = [take(foreign_outcomes, errors) for _ in range(2)]
                left = take(outcomes, errors)
    failed = [seen for seen in (entered, stayed, *intruders, left) if "error" in seen]
    assert failed == []
    assert (entered["before"], entered["given"], entered["after"]) == (ANONYMOUS, None, ADMIN)
    if transport == "http":
        assert list(entered["refreshed"]) == ["_id", "expiresAt", "ttl"]
    # Over WebSocket the SDK gives up each request that changes the cookie, and still makes it.
    given_up = set() if transport == "http" else {"discarded"}
    assert entered["again"] == ADMIN
    assert stayed == ADMIN
    assert intruders == [NEAR, FAR]
    assert (left["before"], left["after"]) == (ADMIN, ANONYMOUS)
    assert {*entered["events"], *left["events"]} == given_up
