"""Logins with real providers of OpenID Connect: one in Node that is certified, in a real browser,
and one in Python (docs/api/strategies.md#multi-step-logins)."""

import http.client
import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.interop.mocked import agree, mocking
from tests.interop.programs import DEADLINE_S, HERE, ROOT, find_program, started
from tests.interop.serving import Served, serving
from tests.interop.static import static_site
from tests.interop.test_browser import browsing, take
from tests.support.ports import free_port

pytestmark = pytest.mark.interop


@contextmanager
def providing(host: str, callback: str, folder: Path) -> Iterator[str]:
    """Run the certified provider, and give its address."""
    command = [find_program("node"), str(HERE / "provider.cjs"), host, callback]
    with started(command, errors=folder / "provider.stderr") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (folder / "provider.stderr").read_text()
        yield address


def settings_of(provider: str, callback: str, origin: str, **more: str) -> dict[str, str]:
    """Give the settings of a strategy `site`."""
    given = {
        "use": "oauth",
        "backend": "oidc",
        "key": "the-application",
        "secret": "the secret",
        "callbackUrl": callback,
        "windowOrigins": origin,
        "persist": "email",
        "settings.OIDC_ENDPOINT": provider,
    }
    return {f"strategies.site.{name}": value for name, value in (given | more).items()}


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_a_window_in_a_browser(packages: Path, tmp_path: Path, mode: str) -> None:
    """O1, O3, O5: a page opens a window, the provider of another site sends it back, by a form
    which browsers send without our cookie, too, and the page is handed the answer. A page of an
    origin that is not trusted is not."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/_login/site"
    files = {"window.html": HERE / "window.html"}
    extra = {"settings.AUTH_EXTRA_ARGUMENTS.response_mode": mode}
    with (
        static_site(files) as (page, outcomes),
        providing("localhost", callback, tmp_path) as provider,
    ):
        trusted = f"http://127.0.0.1:{page}"
        given = settings_of(provider, callback, trusted, **extra)
        with serving(tmp_path, given, port=port) as server:
            for origin in (trusted, f"http://localhost:{page}"):
                address = f"{origin}/window.html?{urlencode({'login': callback})}"
                folder = tmp_path / urlsplit(origin).hostname
                folder.mkdir()
                with browsing(address, folder, "--disable-popup-blocking") as errors:
                    heard = take(outcomes, errors)["heard"]
                if origin != trusted:
                    assert heard is None
                    continue
                assert heard["origin"] == f"http://127.0.0.1:{port}"
                told = heard["data"]
                assert (told["type"], told["strategy"]) == ("manykeys:login", "site")
                token = told["answer"]["result"]["jwt"]
                shown = server.ask("GET", "/_me/credentials/site", token=token)
                assert shown == {"email": "ann@mail.test"}


def ask(port: int, path: str, cookie: str = "") -> tuple:
    """Send a request; give status, header fields and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def log_in(server: Served) -> dict:
    """Go through a login as a browser does, and give the answer."""
    status, headers, body = ask(server.port, "/_login/keycloak")
    assert status == 302, body
    cookie = headers["Set-Cookie"].partition(";")[0]
    back = urlsplit(agree(headers["Location"]))
    assert back.path == "/_login/keycloak"
    _, _, body = ask(server.port, f"{back.path}?{back.query}", cookie)
    answer: dict = json.loads(body)
    return answer


def test_the_configuration_of_the_page(tmp_path: Path) -> None:
    """docs/strategies/oauth.md shows a table that works as it is, but for the provider's
    address."""
    page = (ROOT / "docs/strategies/oauth.md").read_text()
    table = re.search(r"```toml\n(\[strategies\.keycloak\].*?)```", page, re.DOTALL)
    assert table is not None
    config = tomllib.loads(table[1])["strategies"]["keycloak"]
    with mocking() as provider:
        config["settings"]["OIDC_ENDPOINT"] = provider
        given = {f"strategies.keycloak.{name}": _text(value) for name, value in config.items()}
        endpoint = given.pop("strategies.keycloak.settings")
        assert json.loads(endpoint) == {"OIDC_ENDPOINT": provider}
        given["strategies.keycloak.settings.OIDC_ENDPOINT"] = provider
        with serving(tmp_path, given) as server:
            first = log_in(server)
            assert first["status"] == 200, first
            assert log_in(server)["result"]["_id"] == first["result"]["_id"]


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)
