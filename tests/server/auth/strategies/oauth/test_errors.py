"""Providers that deny, fail, talk nonsense or say nothing (security check O7), and how little the
rest of the server feels of it (X3)."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from server.auth.strategies.oauth import http_client as web
from tests.support.errors import told
from tests.support.issuer import SECRET, Issuer, issuing, settings_for
from tests.support.login_steps import Client
from tests.support.providers.oidc import (
    REFUSED,
    last_line,
    location_of,
    log_in,
    refused_with_a_line,
    served,
)
from tests.support.server import TRANSPORTS, cheap_config, running
from tests.support.waiting import until

LATE = {"id": "plugin.runtime.pipe_timeout", "code": 67239939, "status": 504}
OVERLOADED = {"id": "api.process.overloaded", "status": 503}
EMAIL = frozenset({"email"})  # which nobody but `/userinfo` tells


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with issuing() as started:
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_does_not_want_to(issuer: Issuer, transport: str) -> None:
    """O7: whatever the provider says of the reason stays where it is."""
    async with served(issuer) as server:
        client = Client(server, transport)
        back = issuer.authorize(location_of(await client.login("site")))
        answer = await client.login(
            "site", state=back["state"], error="access_denied", error_description="<b>no</b>\n"
        )
        assert await refused_with_a_line(server, answer) == "declined at the provider"
        assert answer["error"]["message"] == "declined at the provider"


NONSENSE = {
    "refused": (400, b'{"error": "invalid_grant", "error_description": "it is \\n secret-detail"}'),
    "not allowed": (401, b'{"error": "invalid_client"}'),
    "odd error": (400, b'{"error": {"code": ["a"]}}'),
    "forged line": (400, b'{"error": "x\\nERROR forged"}'),
    "a page": (200, b"<html>secret-detail"),
    "nothing": (200, b""),
    "a list": (200, b"[]"),
    "null": (200, b"null"),
    "no token": (200, b"{}"),
    "odd tokens": (200, b'{"access_token": 7, "id_token": {"a": 1}}'),
    "not text": (200, b"\xff\xfe"),
    "deep": (200, b"[" * 20_000 + b"]" * 20_000),
    "large": (200, b'"' + b"a" * (web.MOST_ANSWER_BYTES + 1) + b'"'),
}


SAYS_NOTHING = ("null", "no token", "odd tokens")


@pytest.mark.parametrize("path", ["/token", "/userinfo"])
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense(
    issuer: Issuer, path: str, answer: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """O7: refused, the operator is told where it was, and nothing of what was said."""
    issuer.answers[path], issuer.kept_back = answer, EMAIL
    async with served(issuer, persist=[*EMAIL]) as server:
        got = await log_in(Client(server, "http"), issuer)
        if path == "/userinfo" and answer in (NONSENSE[name] for name in SAYS_NOTHING):
            assert got["status"] == 200  # the ID token says who it is
            return
        await refused_with_a_line(server, got)
        assert (
            got["error"]["message"]
            == "the provider's response was not accepted: start the login again"
        )
    assert "strategy site: " in caplog.text
    for secret in ("secret-detail", "forged", SECRET, "provider-access", "code-0"):
        assert secret not in caplog.text


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks"])
@pytest.mark.parametrize("status", [404, 200])
async def test_nonsense_about_itself(issuer: Issuer, path: str, status: int) -> None:
    """O7: and once it is right again, so are logins."""
    issuer.answers[path] = (status, b"[7]")
    async with served(issuer) as server:
        client = Client(server, "http")
        if path == "/jwks":
            answer = await log_in(client, issuer)
        else:
            answer = await client.login("site")
        assert await refused_with_a_line(server, answer)
        del issuer.answers[path]
        assert (await log_in(client, issuer))["status"] == 200


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_provider_that_can_not_now(issuer: Issuer, status: int) -> None:
    """O7: that is nobody's failed login."""
    issuer.answers["/token"] = (status, b"")
    config = cheap_config(strategies={"site": settings_for(issuer)})
    limits = replace(config.limits, failed_logins=1)
    async with running(replace(config, limits=limits)) as server:
        for _ in range(3):
            assert told(await log_in(Client(server, "http"), issuer)) == LATE
        del issuer.answers["/token"]
        assert (await log_in(Client(server, "http"), issuer))["status"] == 200


async def test_refusals_count(issuer: Issuer) -> None:
    """A4: who comes back with made-up codes is slowed down."""
    config = cheap_config(strategies={"site": settings_for(issuer)})
    limits = replace(config.limits, failed_logins=1)
    async with running(replace(config, limits=limits)) as server:
        client = Client(server, "http")
        found = []
        for _ in range(30):
            away = await client.login("site")
            if away["status"] != 302:
                found.append(away["status"])
                break
            issuer.authorize(location_of(away))
            state = location_of(away).partition("&state=")[2].partition("&")[0]
            found.append((await client.login("site", code="made up", state=state))["status"])
        assert found[0] == 401
        assert found[-1] == 429


@pytest.mark.parametrize("place", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_nobody_there(issuer: Issuer, place: str) -> None:
    """O7: 504, and a line for the operator."""
    async with served(issuer, settings={"OIDC_ENDPOINT": place}) as server:
        assert told(await Client(server, "http").login("site")) == LATE
        assert (await last_line(server))["reason"].startswith("connection_failed at ")


async def test_a_provider_without_tls_where_there_should_be(issuer: Issuer) -> None:
    place = issuer.url.replace("http:", "https:")
    async with served(issuer, settings={"OIDC_ENDPOINT": place}) as server:
        assert told(await Client(server, "http").login("site")) == LATE
        assert (await last_line(server))["reason"].startswith("tls_error at ")


@pytest.mark.parametrize("path", ["/token", "/userinfo", "/jwks"])
async def test_a_provider_that_hangs(issuer: Issuer, path: str) -> None:
    """O7: the wait ends by `timeout`, and what it was about is over."""
    issuer.kept_back = EMAIL
    async with served(issuer, timeout=200, persist=[*EMAIL]) as server:
        client = Client(server, "http")
        away = issuer.authorize(location_of(await client.login("site")))
        issuer.hangs_at = path
        assert told(await client.login("site", **away)) == LATE
        issuer.hangs_at = ""
        assert told(await client.login("site", **away)) == REFUSED


async def test_a_provider_that_dawdles(issuer: Issuer) -> None:
    """O7: a byte now and then gains no time."""
    issuer.drips_at = "/token"
    async with served(issuer, timeout=200) as server:
        assert told(await log_in(Client(server, "http"), issuer)) == LATE


async def test_a_hanging_provider_leaves_everybody_else_alone(issuer: Issuer) -> None:
    """X3: 200 logins between their steps, as many threads waiting as there are, more logins than
    may wait: `getCurrentUser` and other strategies answer meanwhile."""
    table = settings_for(issuer, threads=2, queue=3, timeout=60_000)
    async with running(cheap_config(strategies={"site": table})) as server:
        token = await server.create_admin()
        for _ in range(200):
            assert (await Client(server, "http").login("site"))["status"] == 302
        client = Client(server, "http")
        backs = [issuer.authorize(location_of(await client.login("site"))) for _ in range(6)]
        issuer.hangs_at = "/token"
        clients = [Client(server, "http", cookie=client.cookie) for _ in backs]
        waiting = [
            asyncio.create_task(one.login("site", **back))
            for one, back in zip(clients, backs, strict=True)
        ]
        await until(lambda: issuer.hanging == 2)
        await until(lambda: any(one.done() for one in waiting))
        (refused,) = [one.result() for one in waiting if one.done()]
        assert told(refused, "id", "status") == OVERLOADED
        me = await server.call("http", "auth:getCurrentUser", token=token)
        assert (me["status"], me["result"]["_id"]) == (200, "admin")
        assert await server.login("admin")
        issuer.released.set()
        answers = await asyncio.gather(*waiting)
        assert sorted(one["status"] for one in answers) == [200] * 5 + [503]


async def test_a_hanging_provider_leaves_the_same_address_alone(issuer: Issuer) -> None:
    """X3: the logins that wait for it are no failed ones yet, and more of them than an address may
    fail keep nobody there from logging in otherwise."""
    table = settings_for(issuer, threads=2, queue=20, timeout=60_000)
    config = cheap_config(strategies={"site": table})
    async with running(replace(config, limits=replace(config.limits, failed_logins=1))) as server:
        await server.create_admin()
        client = Client(server, "http")
        backs = [issuer.authorize(location_of(await client.login("site"))) for _ in range(15)]
        issuer.hangs_at = "/token"
        clients = [Client(server, "http", cookie=client.cookie) for _ in backs]
        waiting = [
            asyncio.create_task(one.login("site", **back))
            for one, back in zip(clients, backs, strict=True)
        ]
        await until(lambda: issuer.hanging == 2)
        async with asyncio.timeout(30):
            assert await server.login("admin")
        assert not any(one.done() for one in waiting)
        issuer.released.set()
        assert [one["status"] for one in await asyncio.gather(*waiting)] == [200] * 15


async def test_no_secret_in_the_log(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """X2: not at the finest level, whatever a library might write there."""
    caplog.set_level(logging.DEBUG)
    async with served(issuer) as server:
        client = Client(server, "http")
        location = location_of(await client.login("site"))
        back = issuer.authorize(location)
        answer = await client.login("site", **back)
        token = answer["result"]["jwt"]
    for secret in (SECRET, token, back["state"], "provider-access"):
        assert secret not in caplog.text, secret
        assert json.dumps(secret) not in caplog.text
