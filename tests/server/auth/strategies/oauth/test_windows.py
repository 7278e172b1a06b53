"""How logins come back: as a form that another site's page posts, and as a page for a window
(security checks O1, O5, H4)."""

import html
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import pytest

from server.auth.login import pending
from server.auth.strategies.base import LoginAttempt, Outcome, Refused
from server.storage.rows import Table
from tests.support.clock import Clock
from tests.support.errors import told
from tests.support.issuer import Issuer, issuing, settings_for
from tests.support.login_steps import Client, Steps, state_of
from tests.support.providers.oidc import REFUSED, last_line, location_of, served
from tests.support.server import Answer, Running, cheap_config, running
from tests.support.totp import mfa_config

APP = "https://app.test"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with issuing() as started:
        yield started


@pytest.fixture
async def server(issuer: Issuer, clock: Clock) -> AsyncIterator[Running]:
    """A server where one logs in with it."""
    async with served(issuer, windowOrigins=[APP, "http://localhost:8000"]) as started:
        yield started


async def begin(client: Client, issuer: Issuer) -> dict[str, str]:
    """Go to the provider, and give what one comes back with."""
    return issuer.authorize(location_of(await client.login("site")))


async def post(
    server: Running, form: dict[str, str], path: str = "/_login/site", **headers: str
) -> Answer:
    """Send a form as a page of the provider's does: without our cookie."""
    http = await server.connect()
    body = urlencode(form).encode()
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://id.test"}
    fields["Content-Length"] = str(len(body))
    return await http.ask("POST", path, body, headers=fields | headers)


def come_for(answer: Answer) -> dict[str, str]:
    """Give what a browser comes for its form with."""
    location = answer.headers["location"]
    assert location.startswith("?")
    return dict(parse_qsl(location[1:]))


async def test_a_posted_form(server: Running, issuer: Issuer) -> None:
    """It is put aside until the browser comes with its cookie, for which it is sent on."""
    client = Client(server, "http")
    back = await begin(client, issuer)
    answer = await post(server, back)
    assert answer.status == 303
    location = come_for(answer)
    assert (location.keys(), location["state"]) == ({"state", "form"}, back["state"])
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert back["code"] not in repr(answer)
    for stranger in (Client(server, "http"), Client(server, "websocket")):
        assert told(await stranger.login("site", **location)) == REFUSED
    assert (await client.login("site", **location))["status"] == 200
    assert told(await client.login("site", **location)) == REFUSED
    assert await server.app.services.storage.count(Table.ONE_TIME) == 0


@pytest.mark.parametrize("form", [None, "", "x" * 43, "\u00e9"])
async def test_a_form_that_somebody_else_was_lured_to_post(
    server: Running, issuer: Issuer, form: str | None
) -> None:
    """O1: whoever began can't go on with what another browser brings from the provider, although
    the cookie is his: he would be who posted it."""
    attacker = Client(server, "http")
    back = await begin(attacker, issuer)  # the victim opens the address, with the session there
    assert (await post(server, back)).status == 303
    args = {"state": back["state"]} | ({} if form is None else {"form": form})
    for more in ({}, {"code": back["code"]}):
        assert told(await attacker.login("site", **(args | more))) == REFUSED
    assert (await last_line(server))["reason"] == "a form from another browser"
    assert await server.app.services.storage.count(Table.SESSIONS) == 0


async def test_forms_that_are_not_taken(server: Running, issuer: Issuer, clock: Clock) -> None:
    """A second one, one for no login, too large a one, a late one."""
    client = Client(server, "http")
    back, other = await begin(client, issuer), await begin(client, issuer)
    large = other | {"more": "x" * pending.MOST_FORM_BYTES}
    assert (await post(server, back)).status == 303
    for form, reason in (
        (back | {"code": "stolen"}, "a second form"),
        (back | {"state": "x" * 43}, "unknown state"),
        (large, "a form that is too large"),
    ):
        answer = await post(server, form)
        assert told(answer.json) == REFUSED
        assert (await last_line(server))["reason"] == reason
    clock.now_ms += 600_000
    assert told((await post(server, other)).json) == REFUSED
    assert (await last_line(server))["reason"] == "expired state"


async def test_forms_are_few(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest login ends."""
    monkeypatch.setattr(pending, "MOST_FORMS_OF_ADDRESS", 2)
    async with served(issuer) as server:
        client = Client(server, "http")
        backs = [await begin(client, issuer) for _ in range(3)]
        places = [come_for(await post(server, back)) for back in backs]
        found = [(await client.login("site", **place))["status"] for place in places]
        assert found == [401, 200, 200]


async def test_only_what_is_put_aside_may_come_from_anywhere(issuer: Issuer) -> None:
    """H5, S11: a form for another strategy, one with our cookie, anything but a form: origins that
    are not allowed stay so."""
    config = cheap_config(strategies={"site": settings_for(issuer)})
    http = replace(config.http, access_control_allow_origin=(APP,))
    async with running(replace(config, http=http)) as server:
        client = Client(server, "http")
        back = await begin(client, issuer)
        refused = [
            await post(server, back | {"username": "a", "password": "b"}, "/_login/local"),
            await post(server, back, Cookie=client.cookie),
            await post(server, {"code": back["code"]}),
        ]
        for answer in refused:
            assert answer.json["error"]["id"] == "api.process.unauthorized_origin"
        assert (await post(server, back)).status == 303


async def show(client: Client, **args: str) -> Answer:
    """Come back as a browser that wants something to show."""
    http = await client.server.connect()
    path = f"/_login/site?{urlencode(args)}"
    return await http.ask("GET", path, headers=BROWSER | {"Cookie": client.cookie})


def told_in(page: str) -> dict:
    """Give what a page's script is told."""
    found = re.search(r'<script type="application/json" id="result">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


async def test_the_page_of_a_login(server: Running, issuer: Issuer) -> None:
    """It holds the answer for the origins that are trusted, runs no script but its own, lies in no
    cache and no frame, and nothing of it is in an address."""
    client = Client(server, "http")
    answer = await show(client, **(await begin(client, issuer)))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "location" not in answer.headers
    page = answer.body.decode()
    (nonce,) = set(re.findall(r'<(?:script|style) nonce="([^"]+)"', page))
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    seen = told_in(page)
    assert seen["origins"] == [APP, "http://localhost:8000"]
    assert (seen["message"]["type"], seen["message"]["strategy"]) == ("manykeys:login", "site")
    login = seen["message"]["answer"]
    assert login["status"] == 200
    me = await server.call("query", "auth:getCurrentUser", token=login["result"]["jwt"])
    assert me["result"]["_id"] == login["result"]["_id"]
    other = await show(client, **(await begin(client, issuer)))
    assert nonce not in other.body.decode()


async def test_the_page_of_a_login_that_goes_on(issuer: Issuer, clock: Clock) -> None:
    """Who is asked for a second factor is not told that he is in."""
    config = mfa_config(required_for="*")
    table = settings_for(issuer, windowOrigins=[APP])
    async with running(replace(config, strategies={**config.strategies, "site": table})) as server:
        client = Client(server, "http")
        answer = await show(client, **(await begin(client, issuer)))
        page = answer.body.decode()
        assert "You are logged in." not in page
        assert "One more step" in page
        result = told_in(page)["message"]["answer"]["result"]
        assert result["challenge"] == {"next": "enrol", "factors": ["totp"]}


async def test_the_page_of_a_refusal(server: Running, issuer: Issuer) -> None:
    """Nothing of what came with the request becomes part of the page."""
    client = Client(server, "http")
    await begin(client, issuer)
    evil = "</script><script>alert(1)</script>"
    answer = await show(client, state="x" * 43, code=evil, error=evil)
    assert answer.status == 401
    page = answer.body.decode()
    assert "alert(1)" not in html.unescape(page)
    assert "The login was not completed." in page
    assert told_in(page)["message"]["answer"]["error"]["id"] == REFUSED["id"]


async def test_what_a_provider_says_runs_nothing(issuer: Issuer) -> None:
    """An answer that shows what he calls himself there ends no element of the page."""
    evil = "</script><script>alert(1)</script><!--&"
    async with served(issuer, windowOrigins=[APP], persist=["nickname"]) as server:
        token = await server.create_user(await server.create_admin(), "ann")
        client = Client(server, "http", {"Authorization": f"Bearer {token}"})
        http, path = await server.connect(), "/_me/credentials/site/_create"
        away = await http.ask("POST", path, {}, headers=client.headers)
        client.cookie = away.headers["set-cookie"].partition(";")[0]
        known, issuer.claims = issuer.claims, {**issuer.claims, "nickname": evil}
        answer = await show(client, **issuer.authorize(location_of(away.json)))
        issuer.claims = known
        page = answer.body.decode()
        assert told_in(page)["message"]["answer"]["result"]["nickname"] == evil
        assert page.count("</script>") == 2
        assert "<!--" not in page


async def test_a_refusal_of_somebody_elses_strategy() -> None:
    """Its words are text on the page, whatever they are."""

    class Odd(Steps):
        window_origins = ()

        async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
            return Refused("<img src=x>")

    async with running() as server:
        services = server.app.services
        await services.strategies.add("site", Odd(services.storage))
        client = Client(server, "http")
        answer = await show(client, state=state_of(await client.login("site")))
        assert (answer.status, b"<img" in answer.body) == (401, False)
        assert "<img src=x>" in html.unescape(answer.body.decode())


async def test_without_origins_nothing_is_handed_over(issuer: Issuer) -> None:
    """Nor does the page hold it."""
    async with served(issuer) as server:
        client = Client(server, "http")
        answer = await show(client, **(await begin(client, issuer)))
        assert (answer.status, told_in(answer.body.decode())) == (
            200,
            {"origins": [], "message": None},
        )
        assert b"eyJ" not in answer.body


async def test_the_first_step_and_programs_get_no_page(server: Running, issuer: Issuer) -> None:
    http = await server.connect()
    first = await http.ask("GET", "/_login/site", headers=BROWSER)
    assert (first.status, first.json["status"]) == (302, 302)
    local = await http.ask("GET", "/_login/local?state=x&username=a", headers=BROWSER)
    assert local.json["status"] == 401
    client = Client(server, "http")
    assert (await client.login("site", **(await begin(client, issuer))))["status"] == 200


async def test_a_session_in_a_cookie_is_no_obstacle(server: Running, issuer: Issuer) -> None:
    """Whoever comes back from a provider of the same site has such a cookie with him."""
    client = Client(server, "http")
    back = await begin(client, issuer)
    client.cookie += "; authToken=over"
    client.headers = {"Sec-Fetch-Site": "same-site"}
    assert (await client.login("site", **back))["status"] == 200
