"""What counts against who tries to be somebody else (docs/api/differences.md#failed-logins;
security checks A8, P9)."""

from dataclasses import replace

import pytest

from protocol.errors import ApiError, error
from server.auth.strategies.base import LoginAttempt, Outcome
from tests.support.errors import told
from tests.support.server import PASSWORD, TRANSPORTS, Running, cheap_config, running

TOO_MANY = {"id": "api.process.too_many_logins_requests", "code": 33685517, "status": 429}


class Badge:
    """A strategy of somebody else's, which raises its own refusals."""

    name, fields = "badge", ("number",)

    def __init__(self, refused: ApiError) -> None:
        self.refused = refused

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """See `Strategy`."""
        raise self.refused

    def account_of(self, attempt: LoginAttempt) -> str:
        """See `Strategy`."""
        return str(attempt.body["number"])


async def statuses(server: Running, count: int) -> list[int]:
    """Show the badge so often."""
    found = []
    for _ in range(count):
        body = {"number": "7"}
        answer = await server.call("query", "auth:login", strategy="badge", body=body)
        found.append(answer["status"])
    return found


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (error("security.rights.forbidden", "badge"), [403, 403, 429]),
        (error("plugin.strategy.missing_user", "no such badge"), [401, 401, 429]),
        (error("api.process.overloaded"), [503] * 3),
        (error("plugin.strategy.missing_user", "renew it", more={"token": "x"}), [401] * 3),
    ],
)
async def test_refusals_of_any_strategy_count(refused: ApiError, expected: list[int]) -> None:
    """However a strategy refuses; failures of its own, and what followed a right answer, do not."""
    config = cheap_config()
    limits = replace(config.limits, failed_logins=2)
    async with running(replace(config, limits=limits)) as server:
        server.app.services.strategies.register("badge", Badge(refused))  # type: ignore[arg-type]
        assert await statuses(server, 3) == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_present_password_can_not_be_guessed(transport: str) -> None:
    """A stolen session is no place to try passwords in; during the block the right one is refused
    too."""
    config = cheap_config()
    local = replace(config.plugins.local, require_password=True)
    config = replace(
        config,
        plugins=replace(config.plugins, local=local),
        limits=replace(config.limits, failed_logins=3),
    )
    async with running(config) as server:
        token = await server.create_admin()
        for present, status in (*((f"guess {n}", 403) for n in range(3)), (PASSWORD, 429)):
            body = {"password": "mine now", "currentPassword": present}
            answer = await server.call(
                transport, "auth:updateMyCredentials", token=token, strategy="local", body=body
            )
            assert answer["status"] == status
        assert told(answer) == TOO_MANY
        await server.login("admin")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_change_of_username_to_a_taken_one_counts_as_attempt(transport: str) -> None:
    """A8: what is refused because another user has it says who exists; changing one's own
    credentials asks that as `auth:validateMyCredentials` does."""
    config = cheap_config()
    config = replace(config, limits=replace(config.limits, failed_logins=3))
    async with running(config) as server:
        admin = await server.create_admin()
        user = await server.create_user(admin, "user")
        update = "auth:updateMyCredentials"
        for status in (412, 412, 412, 429):
            answer = await server.call(
                transport, update, token=user, strategy="local", body={"username": "admin"}
            )
            assert answer["status"] == status, answer
        assert told(answer) == TOO_MANY
