"""Passkeys made and used by a real browser with virtual authenticators (security check A14)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.devtools import Devtools, driving
from tests.interop.programs import HERE, find_program
from tests.interop.serving import PASSWORD, Json, serving
from tests.interop.static import static_site

pytestmark = pytest.mark.interop
REFUSED = {"error": "plugin.strategy.missing_user"}


@dataclass
class Desk:
    """A page, and who sits before it."""

    tools: Devtools

    def act(self, what: str, transport: str = "http", *given: str) -> Json:
        """Have the page do something."""
        arguments = ", ".join(json.dumps(one) for one in (what, transport, *given))
        return self.tools.evaluate(f"act({arguments})")

    def plug_in(self, transport: str) -> str:
        """Give the computer an authenticator whose user is there and says yes."""
        how = {
            "protocol": "ctap2",
            "transport": transport,
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        made = self.tools.ask("WebAuthn.addVirtualAuthenticator", options=how)
        return str(made["authenticatorId"])

    def pull_out(self, authenticator: str) -> list[Json]:
        """Take an authenticator away, and give what was on it."""
        own = {"authenticatorId": authenticator}
        keys: list[Json] = self.tools.ask("WebAuthn.getCredentials", **own)["credentials"]
        self.tools.ask("WebAuthn.removeVirtualAuthenticator", **own)
        return keys

    def plug_in_again(self, transport: str, keys: list[Json]) -> str:
        """Give the computer an authenticator that has these keys."""
        authenticator = self.plug_in(transport)
        for key in keys:
            self.tools.ask("WebAuthn.addCredential", authenticatorId=authenticator, credential=key)
        return authenticator


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A page of http://localhost, and a server on another port that knows this origin."""
    files = {name: HERE / name for name in ("passkeys.html", "passkeys.js")}
    browser = [
        find_program("chromium", "chromium-browser", "google-chrome"),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--disable-background-networking", "--no-first-run"),
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    with static_site(files) as (port, _):
        own = f"http://localhost:{port}"
        settings = {
            "http.accessControlAllowOrigin": own,
            "strategies.passkey.use": "passkey",
            "strategies.passkey.rpId": "localhost",
            "strategies.passkey.origins": own,
        }
        with serving(tmp_path, settings) as server:
            server.create_admin()
            with driving(browser, tmp_path) as tools:
                tools.open(f"{own}/passkeys.html?port={server.port}")
                tools.ask("WebAuthn.enable", enableUI=False)
                yield Desk(tools)


def test_two_keys_in_a_browser(desk: Desk) -> None:
    """A14: one is made over HTTP and one over WebSocket; each lets its user in over both; the one
    that is removed does not any more, the other one does."""
    laptop = desk.plug_in("internal")
    assert desk.act("enter", "http", "admin", PASSWORD)["_id"] == "admin"
    first = desk.act("add", "http", "laptop")
    assert (first["name"], first["transports"]) == ("laptop", ["internal"])
    # It has a key of this user already.
    assert desk.act("add", "http", "again") == {"error": "InvalidStateError"}
    keys = desk.pull_out(laptop)

    stick = desk.plug_in("usb")
    second = desk.act("add", "websocket", "stick")
    assert (second["name"], second["transports"]) == ("stick", ["usb"])
    for transport in ("http", "websocket"):
        login = desk.act("logIn", transport)
        assert login["_id"] == "admin", login
        assert desk.act("list", transport)["keys"][1]["lastUsedAt"] is not None
    others = desk.pull_out(stick)

    laptop = desk.plug_in_again("internal", keys)
    for transport in ("websocket", "http"):
        assert desk.act("logIn", transport)["_id"] == "admin"
    assert desk.act("remove", "http", first["id"]) == {"acknowledged": True}
    (left,) = desk.act("list", "websocket")["keys"]
    assert left["id"] == second["id"]
    for transport in ("http", "websocket"):
        assert desk.act("logIn", transport) == REFUSED
    desk.pull_out(laptop)
    desk.plug_in_again("usb", others)
    assert desk.act("logIn", "websocket")["_id"] == "admin"


def test_a_copy_of_a_key_is_noticed(desk: Desk) -> None:
    """A14: the counter of an authenticator that was copied stands where the other one's was."""
    stick = desk.plug_in("usb")
    desk.act("enter", "http", "admin", PASSWORD)
    desk.act("add", "http", "stick")
    copied = desk.tools.ask("WebAuthn.getCredentials", authenticatorId=stick)["credentials"]
    assert desk.act("logIn")["_id"] == "admin"
    desk.pull_out(stick)
    desk.plug_in_again("usb", copied)
    assert desk.act("logIn") == REFUSED
