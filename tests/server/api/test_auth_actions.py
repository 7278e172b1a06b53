"""Each action of the `auth` controller over HTTP, `/_query` and WebSocket: every result and every
error of docs/api/auth.md, a row for each."""

from collections import defaultdict

import pytest

from server.api.actions import TABLE
from tests.server.api.auth_table import (
    badtokens,
    credentials,
    everywhere,
    keys,
    lifetimes,
    logins,
    selves,
    tokens,
)
from tests.server.api.auth_table.everywhere import ROUTES, happy_row
from tests.server.api.auth_table.rows import Gives, Refusal, Row, drive, drive_route
from tests.support.clock import Clock
from tests.support.server import TRANSPORTS

ROWS: list[Row] = [
    *logins.ROWS,
    *tokens.ROWS,
    *selves.ROWS,
    *credentials.ROWS,
    *keys.ROWS,
    *lifetimes.ROWS,
    *badtokens.ROWS,
    *everywhere.ROWS,
]
INVALID_TYPE, MISSING = "api.assert.invalid_type", "api.assert.missing_argument"
INVALID, NO_BODY = "api.assert.invalid_argument", "api.assert.body_required"
ANONYMOUS, FORBIDDEN = "security.rights.unauthorized", "security.rights.forbidden"
TOKEN, TOO_LONG = "security.token.invalid", "security.token.ttl_exceeded"
STRATEGY = "security.credentials.unknown_strategy"
LOCAL = "plugin.kuzzle-plugin-auth-passport-local"
WEAK, NAMED = f"{LOCAL}.weak_password", f"{LOCAL}.login_in_password"
PLAIN = None
"""The id of what has none (docs/api/strategies.md#local-errors)."""
OF_CREDENTIALS = {TOKEN, ANONYMOUS, MISSING, INVALID_TYPE, STRATEGY}
WITH_BODY = OF_CREDENTIALS | {NO_BODY, INVALID, PLAIN}
ERRORS: dict[str, set[str | None]] = {
    "checkRights": {TOKEN, ANONYMOUS, MISSING, INVALID_TYPE, NO_BODY},
    "checkToken": {TOKEN, INVALID_TYPE},
    "createApiKey": {
        *(TOKEN, ANONYMOUS, FORBIDDEN, MISSING, INVALID_TYPE, INVALID, NO_BODY, TOO_LONG),
        "services.storage.document_already_exists",
    },
    "createMyCredentials": WITH_BODY,
    "createToken": {
        *(TOKEN, ANONYMOUS, FORBIDDEN, INVALID_TYPE, INVALID, TOO_LONG),
        "security.token.invalid_expiration",
    },
    "credentialsExist": OF_CREDENTIALS,
    "deleteApiKey": {
        *(TOKEN, ANONYMOUS, FORBIDDEN, MISSING, INVALID_TYPE),
        "services.storage.not_found",
    },
    "deleteMyCredentials": OF_CREDENTIALS | {PLAIN},
    "getCurrentUser": {TOKEN},
    "getMyCredentials": OF_CREDENTIALS | {PLAIN},
    "getMyRights": {TOKEN},
    "getStrategies": {TOKEN, ANONYMOUS},
    "login": {
        *(TOKEN, FORBIDDEN, MISSING, INVALID_TYPE, INVALID, TOO_LONG, STRATEGY),
        *(f"plugin.strategy.{name}" for name in ("missing_user", "unknown_kuid", "invalid_kuid")),
        "plugin.strategy.invalid_verify_resolve",
        *("plugin.runtime.unexpected_error", "api.process.too_many_logins_requests"),
        *(f"{LOCAL}.expired_password", f"{LOCAL}.must_change_password"),
    },
    "logout": {TOKEN, ANONYMOUS, INVALID_TYPE},
    "refreshToken": {
        *(TOKEN, ANONYMOUS, INVALID_TYPE, INVALID, TOO_LONG),
        "security.token.refresh_forbidden",
    },
    "searchApiKeys": {
        *(TOKEN, ANONYMOUS, FORBIDDEN, INVALID_TYPE, INVALID),
        *("services.storage.unknown_query_keyword", "services.storage.unexpected_bad_request"),
        "api.assert.koncorde_restricted_keyword",
    },
    "updateMyCredentials": WITH_BODY | {WEAK, NAMED, f"{LOCAL}.reused_password"},
    "updateSelf": {TOKEN, ANONYMOUS, NO_BODY, INVALID_TYPE, "api.assert.forbidden_argument"},
    "validateMyCredentials": WITH_BODY | {WEAK, NAMED},
}
"""What each action may be refused with: docs/api/auth.md#api-keys,
docs/api/strategies.md#the-local-strategy, #login-outcomes, docs/api/transport.md#arguments."""


@pytest.fixture
def still_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the limits follow too."""
    monkeypatch.setattr("server.app.application.clock_s", lambda: clock.now_ms / 1000)
    return clock


def over_every_way(rows: list[Row]) -> pytest.MarkDecorator:
    """Make a test of each row and each of its ways, with a name a terminal can show."""
    tests = [
        pytest.param(row, way, id=f"{row.action}-{row.line}-{way}".replace("§", ""))
        for row in rows
        for way in row.ways
    ]
    return pytest.mark.parametrize(("row", "way"), tests)


@over_every_way([*logins.ROWS, *tokens.ROWS, *selves.ROWS, *keys.ROWS, *everywhere.ROWS])
async def test_row(row: Row, way: str, still_clock: Clock) -> None:
    """The lines of docs/api/auth.md the rows name; security check A10."""
    await drive(row, way, still_clock)


@over_every_way(credentials.ROWS)
async def test_row_of_credentials(row: Row, way: str, still_clock: Clock) -> None:
    """docs/api/auth.md, docs/api/strategies.md#local-errors; security checks P9, P14 and A15."""
    await drive(row, way, still_clock)


@over_every_way(lifetimes.ROWS)
async def test_lifetime(row: Row, way: str, still_clock: Clock) -> None:
    """docs/api/auth.md#expiresin."""
    await drive(row, way, still_clock)


@over_every_way(badtokens.ROWS)
async def test_token_that_is_no_good(row: Row, way: str, still_clock: Clock) -> None:
    """docs/api/auth.md#verification: the same 401, never a 500; security checks T1, T2, T6, T7 and
    T10."""
    await drive(row, way, still_clock)


@pytest.mark.parametrize(
    ("action", "route"), [(action, route) for action, routes in ROUTES.items() for route in routes]
)
async def test_route(action: str, route: str, still_clock: Clock) -> None:
    """docs/api/auth.md: each route leads to its action, those of before 2.4.0 too; here the token
    stands in the header."""
    await drive_route(happy_row(action), route, still_clock)


def test_the_routes_are_those_of_the_contract() -> None:
    """docs/api/auth.md: no more of them, in this order, and deprecated where the contract says
    so."""
    found = {
        name: [(f"{route.verb} {route.path}", route.is_deprecated) for route in entry.routes]
        for name, entry in TABLE["auth"].items()
    }
    for action, routes in ROUTES.items():
        is_old = [action != "login" and at > 0 for at in range(len(routes))]
        assert found[action] == list(zip(routes, is_old, strict=True))


def test_nothing_is_left_out() -> None:
    """Each action goes well over every way, and is refused with every error it has, over every
    way that can ask for it."""
    well: dict[str, set[str]] = defaultdict(set)
    refused: dict[str, set[str | None]] = defaultdict(set)
    for row in ROWS:
        if isinstance(row.comes, Gives):
            well[row.action] |= set(row.ways)
        elif isinstance(row.comes, Refusal):
            refused[row.action].add(row.comes.id)
    assert well == dict.fromkeys(ERRORS, set(TRANSPORTS))
    missing = {action: ERRORS[action] - refused[action] for action in ERRORS}
    assert missing == dict.fromkeys(ERRORS, set())
    assert len(ERRORS) == len(ROUTES) == 19
