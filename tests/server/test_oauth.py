"""Logins with a provider of OpenID Connect (contract/05 §4, §5)."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.server.issuer import Issuer, issuing, settings_for
from tests.server.running import TRANSPORTS, Envelope, Running, cheap_config, running
from tests.server.stepping import Client

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}
PERSIST = {"persist": ["email", "name"], "kuzzleAttributesMapping": {"email": "mail"}}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with issuing() as started:
        yield started


@pytest.fixture
async def server(issuer: Issuer) -> AsyncIterator[Running]:
    """A server where one logs in with it."""
    config = cheap_config(strategies={"site": settings_for(issuer, **PERSIST)})
    async with running(config) as started:
        yield started


def location_of(away: Envelope) -> str:
    """Give where an answer sends to."""
    assert away["status"] == 302, away
    location: str = away["result"]["headers"]["Location"]
    return location


async def log_in(client: Client, issuer: Issuer, **more: str) -> Envelope:
    """Take both steps."""
    location = location_of(await client.login("site"))
    return await client.login("site", **(issuer.authorize(location) | more))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_comes_for_the_first_time_becomes_a_user(
    server: Running, issuer: Issuer, transport: str
) -> None:
    client = Client(server, transport)
    first = await log_in(client, issuer)
    assert first["status"] == 200, first
    second = await log_in(client, issuer)
    assert second["result"]["_id"] == first["result"]["_id"]
    token = second["result"]["jwt"]
    shown = await server.call("query", "auth:getMyCredentials", token=token, strategy="site")
    assert shown["result"] == {"mail": "ann@mail.test"}
