"""Passkeys as second factors: asked for, enrolled while somebody logs in, copied (security checks
A14, A15, A16)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.config.model import Config
from tests.server.auth.audit.test_notifier import Box, notifying
from tests.support.authenticator import Answers, Authenticator
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.passkeys import CREATE, TABLE, Page
from tests.support.server import PASSWORD, Running, running
from tests.support.totp import Person, mfa_config

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
BOTH = ("query", "websocket")


def passkey_config(**mfa: object) -> Config:
    """Give a configuration with both second factors."""
    config = mfa_config(factors=("totp", "passkey"), required_for={"users": ["ann"]}, **mfa)
    return replace(config, strategies={**config.strategies, "passkey": TABLE})


@pytest.fixture
async def server(clock: Clock, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(notifying(tmp_path, passkey_config())) as started:
        admin = await started.create_admin()
        body = {
            "content": {"profileIds": ["default"]},
            "credentials": {"local": {"username": "ann", "password": PASSWORD}},
        }
        create = "security:createUser"
        made = await started.call("query", create, token=admin, body=body, _id="ann")
        assert made["status"] == 200
        yield started


async def first(page: Page) -> tuple[dict, str]:
    """Show the password, and give what is asked next and the name of the step."""
    body = {"username": "ann", "password": PASSWORD}
    asked = await page.ask("auth:login", body, strategy="local")
    return asked["result"]["challenge"], asked["result"]["state"]


@pytest.mark.parametrize("transport", BOTH)
async def test_a_passkey_after_the_password(
    server: Running, transport: str, tmp_path: Path
) -> None:
    """Made while she logs in, then asked for; a copy of it is refused, and told."""
    box, page, key = Box(tmp_path), Page(server, transport), Authenticator(count=5)
    asked, state = await first(page)
    assert asked == {"next": "enrol", "factors": ["totp", "passkey"]}
    making = await page.ask("auth:login", {"state": state})
    made = making["result"]
    credential = key.create(made["challenge"])
    done = await page.ask("auth:login", {"state": made["state"], "credential": credential})
    assert done["result"].keys() == {"_id", "expiresAt", "jwt", "ttl", "credentials"}
    await box.one("credentialsAdded", user="ann", strategy="passkey")
    asked, state = await first(page)
    assert (asked["next"], asked["factors"]) == ("secondFactor", ["passkey"])
    options = asked["challenges"]["passkey"]
    copied = await page.finish(state, key.get(options, Answers(count=1)))
    assert told(copied) == REFUSED
    await box.one("possibleClone", user="ann", strategy="passkey", outcome="refused")
    other = await page.finish(state, Authenticator().get(options))
    assert told(other) == REFUSED
    assert (await page.finish(state, key.get(options)))["result"]["_id"] == "ann"
    assert told(await page.finish(state, key.get(options))) == REFUSED


async def test_a_passkey_is_made_soon_after_a_login_only(server: Running, clock: Clock) -> None:
    """A15."""
    admin = await server.login("admin")
    clock.now_ms += 16 * 60_000
    answer = await Person(server, "query").ask(CREATE, admin, strategy="passkey", body={})
    assert told(answer)["id"] == "security.rights.recent_login_required"
