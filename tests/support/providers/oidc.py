"""Going through logins with the provider of `tests.support.issuer`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from server.storage.rows import Table
from tests.support.errors import told
from tests.support.issuer import Issuer, settings_for
from tests.support.login_steps import Client
from tests.support.server import Envelope, Running, cheap_config, running

REFUSED = {"id": "plugin.strategy.missing_user", "code": 67305492, "status": 401}


@asynccontextmanager
async def served(issuer: Issuer, **settings: object) -> AsyncIterator[Running]:
    """Run a server where one logs in with this provider."""
    mail = {"use": "magic", "command": ["true"]}
    config = cheap_config(
        strategies={"site": settings_for(issuer, **settings)}
        | ({"magic": mail} if settings.get("linkByVerifiedEmail") else {})
    )
    async with running(config) as started:
        yield started


async def prove_address(server: Running, admin: str, kuid: str, address: str) -> None:
    """Give a user an address that counts as proved, as an administrator may."""
    made = await server.call(
        "query",
        "security:createCredentials",
        token=admin,
        strategy="magic",
        _id=kuid,
        body={"address": address},
    )
    assert made["status"] == 200, made


def location_of(away: Envelope) -> str:
    """Give where an answer sends to."""
    assert away["status"] == 302, away
    location: str = away["result"]["headers"]["Location"]
    return location


async def log_in(client: Client, issuer: Issuer, **more: str) -> Envelope:
    """Take both steps."""
    location = location_of(await client.login("site"))
    return await client.login("site", **(issuer.authorize(location) | more))


async def kuid_of(server: Running, issuer: Issuer, **claims: object) -> str:
    """Log somebody in and give his kuid."""
    issuer.claims = claims
    answer = await log_in(Client(server, "http"), issuer)
    assert answer["status"] == 200, answer
    kuid: str = answer["result"]["_id"]
    return kuid


async def refused_with_a_line(server: Running, answer: Envelope) -> str:
    """See that an answer is the refusal all get, that nobody was made of it, and give the reason
    in its audit line."""
    assert told(answer) == REFUSED, answer
    services = server.app.services
    assert await services.storage.count(Table.USERS) == 0
    assert await services.storage.count(Table.CREDENTIALS) == 0
    assert await services.storage.count(Table.SESSIONS) == 0
    return (await last_line(server))["reason"]


async def last_line(server: Running) -> Mapping[str, str]:
    """Give what the trail tells of the last login."""
    services = server.app.services
    await services.trail.flush(is_last=True)
    rows = await services.storage.find(Table.AUDIT, limit=1000, kind="auth:login")
    refused = [row for row in rows if row["outcome"] == "refused"]
    assert refused
    return refused[-1]  # type: ignore[return-value]
