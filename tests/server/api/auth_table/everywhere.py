"""Rows every action has alike: whose token is no good, who has no right, who must be somebody; and
the routes."""

from tests.server.api.auth_table import credentials, keys, logins, selves, tokens
from tests.server.api.auth_table.badtokens import never_given_out
from tests.server.api.auth_table.errors import FORBIDDEN, INVALID_TOKEN, UNAUTHORIZED
from tests.server.api.auth_table.made import ann
from tests.server.api.auth_table.rows import OPEN, Row

ROUTES = {
    "login": ("GET /_login/:strategy", "POST /_login/:strategy"),
    "logout": ("POST /_logout",),
    "checkToken": ("POST /_checkToken",),
    "refreshToken": ("POST /_refreshToken",),
    "createToken": ("POST /_createToken",),
    "getCurrentUser": ("GET /_me", "GET /users/_me"),
    "getMyRights": ("GET /_me/_rights", "GET /users/_me/_rights"),
    "checkRights": ("POST /_checkRights",),
    "updateSelf": ("PUT /_me", "PUT /_updateSelf"),
    "getStrategies": ("GET /strategies",),
    "getMyCredentials": ("GET /_me/credentials/:strategy", "GET /credentials/:strategy/_me"),
    "credentialsExist": (
        "GET /_me/credentials/:strategy/_exists",
        "GET /credentials/:strategy/_me/_exists",
    ),
    "createMyCredentials": (
        "POST /_me/credentials/:strategy/_create",
        "POST /credentials/:strategy/_me/_create",
    ),
    "updateMyCredentials": (
        "PUT /_me/credentials/:strategy/_update",
        "PUT /credentials/:strategy/_me/_update",
    ),
    "validateMyCredentials": (
        "POST /_me/credentials/:strategy/_validate",
        "POST /credentials/:strategy/_me/_validate",
    ),
    "deleteMyCredentials": (
        "DELETE /_me/credentials/:strategy",
        "DELETE /credentials/:strategy/_me",
    ),
    "createApiKey": ("POST /api-keys/_create",),
    "searchApiKeys": ("POST /api-keys/_search",),
    "deleteApiKey": ("DELETE /api-keys/:_id",),
}
"""The routes of each action, the deprecated ones last (docs/api/auth.md)."""

AUTHENTICATED_ONLY = ("logout", "refreshToken", "updateSelf", *credentials.ACTIONS)
"""docs/api/auth.md: 401 for anonymous, whatever his rights are."""

_OWN = [*logins.ROWS, *tokens.ROWS, *selves.ROWS, *credentials.ROWS, *keys.ROWS]


def happy_row(action: str) -> Row:
    """Give the first row of an action: one that goes well."""
    return next(row for row in _OWN if row.action == action)


def asking(action: str, **row: object) -> Row:
    """Give a row that asks what the first one of the action does."""
    happy = happy_row(action)
    body = {"token": "x"} if action == "checkToken" else happy.body
    return Row(action=action, args=happy.args, body=body, **row)


ROWS = [
    *(
        asking(action, line="02 §1.5 row 4a", by=never_given_out, comes=INVALID_TOKEN)
        for action in ROUTES
    ),
    *(
        asking(action, line="03 §4", by=None, comes=UNAUTHORIZED.of("auth", action, "-1"))
        for action in ROUTES
        if action not in selves.ANONYMOUS_ROLE
    ),
    *(
        asking(action, line="03 §4", by=ann, comes=FORBIDDEN.of("auth", action, "ann"))
        for action in ROUTES
        if action not in selves.DEFAULT_ROLE
    ),
    *(
        asking(
            action,
            line="02 §3 authenticated only",
            by=None,
            comes=UNAUTHORIZED.of("auth", action),
            on=OPEN,
        )
        for action in AUTHENTICATED_ONLY
    ),
]
