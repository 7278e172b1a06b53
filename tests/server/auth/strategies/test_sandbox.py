"""A faulty strategy hurts nobody but who logs in with it
(docs/api/strategies.md#strategy-interface, #login-outcomes; security check X2)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from protocol.errors import ApiError, error, plain_error
from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    LoginAttempt,
    Outcome,
    Prepared,
    Redirect,
    Refused,
)
from server.auth.strategies.sandbox import MOST_CALLS, SandboxedStrategy
from server.storage.base import Storage, Unavailable
from server.storage.rows import Table
from tests.support.errors import told
from tests.support.sample_strategy import Badge
from tests.support.server import TRANSPORTS, Running, cheap_config, running
from tests.support.waiting import deadline

FAULT = {"id": "plugin.runtime.unexpected_error", "code": 67239938, "status": 500}
LATE = {"id": "plugin.runtime.pipe_timeout", "code": 67239939, "status": 504}
SECRET = "hunter2-hunter2"
AWAY = "https://id.test/"
LOGIN, WHO = "auth:login", "auth:getCurrentUser"
CALLS = [
    ("exists", "auth:credentialsExist", None),
    ("validate", "auth:validateMyCredentials", {"number": "7"}),
    ("create", "auth:createMyCredentials", {"number": "7"}),
    ("update", "auth:updateMyCredentials", {"number": "7"}),
    ("delete", "auth:deleteMyCredentials", None),
    ("get_info", "auth:getMyCredentials", None),
]


class Faulty(Badge):
    """A badge of which one method, or all of them, do something else."""

    def __init__(self, storage: Storage, method: str, does: Callable[..., object]) -> None:
        super().__init__(storage, Authenticated("ann"))
        setattr(self, method, does)

    async def get_info(self, kuid: str) -> dict[str, object]:
        return {}


async def leaves(*given: object) -> object:
    raise SystemExit(SECRET)


async def breaks(*given: object) -> object:
    raise ValueError(SECRET, given)


async def gives_up(*given: object) -> object:
    raise asyncio.CancelledError(SECRET)


async def repeats(*given: object) -> object:
    return await repeats(*given)


def is_not_async(*given: object) -> object:
    return True


async def gives_nonsense(*given: object) -> object:
    return object()


async def sleeps(*given: object) -> object:
    return await asyncio.Event().wait()


async def refuses_wildly(*given: object) -> object:
    raise plain_error(42, SECRET)


async def refuses_unreadably(*given: object) -> object:
    raise ApiError("no", status=400, more={"why": object()})


FAULTS = (leaves, breaks, gives_up, repeats, is_not_async, gives_nonsense)
REFUSALS = (refuses_wildly, refuses_unreadably)


@pytest.fixture
async def patient() -> AsyncIterator[Running]:
    """A server that gives strategies a tenth of a second."""
    config = cheap_config()
    async with running(
        replace(config, timeouts=replace(config.timeouts, strategy_ms=100))
    ) as server:
        await server.create_user(await server.create_admin(), "ann")
        yield server


async def add(server: Running, method: str, does: Callable[..., object]) -> None:
    """Give a server a strategy with this fault."""
    services = server.app.services
    await services.strategies.add("badge", Faulty(services.storage, method, does))


@pytest.mark.parametrize("does", FAULTS + REFUSALS, ids=lambda does: does.__name__)
@pytest.mark.parametrize(("method", "action", "body"), CALLS)
async def test_faults_of_credentials(
    patient: Running,
    caplog: pytest.LogCaptureFixture,
    method: str,
    action: str,
    body: object,
    does: Callable[..., object],
) -> None:
    """docs/api/strategies.md#methods exceptions; what is raised is named in the log by its kind
    alone, and in no answer."""
    if method == "validate" and does is gives_nonsense:
        return  # what it gives counts for nothing
    await add(patient, method, does)
    token = await patient.login("ann")
    for transport in TRANSPORTS:
        answer = await patient.call(transport, action, token=token, strategy="badge", body=body)
        assert told(answer) == FAULT
        assert SECRET not in repr(answer)
    assert "strategy badge" in caplog.text
    assert SECRET not in caplog.text
    assert await patient.login("ann")


OUTCOMES: list[tuple[object, int, str | None]] = [
    (Authenticated("ann"), 200, None),
    (Authenticated("nobody"), 500, "plugin.strategy.unknown_kuid"),
    (Authenticated(5), 500, "plugin.strategy.invalid_kuid"),  # type: ignore[arg-type]
    (Refused("lost"), 401, "plugin.strategy.missing_user"),
    (Refused(""), 401, "plugin.strategy.missing_user"),
    (Refused(["no text"]), 401, "plugin.strategy.missing_user"),  # type: ignore[arg-type]
    (None, 500, "plugin.strategy.invalid_verify_resolve"),
    (False, 500, "plugin.strategy.invalid_verify_resolve"),
    ({"kuid": "ann"}, 500, "plugin.strategy.invalid_verify_resolve"),
    (Authenticated, 500, "plugin.strategy.invalid_verify_resolve"),
    (error("security.user.not_found", "x"), 404, "security.user.not_found"),
    (plain_error(412, "x"), 412, None),
    (ValueError(SECRET), 500, "plugin.runtime.unexpected_error"),
    (Unavailable(SECRET), 503, "services.storage.not_connected"),
    (Redirect(AWAY), 302, None),
    (Challenge({"next": "code"}), 200, None),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("outcome", "status", "error_id"), OUTCOMES, ids=repr)
async def test_outcomes(
    patient: Running, transport: str, outcome: object, status: int, error_id: str | None
) -> None:
    """docs/api/strategies.md#login-outcomes, row by row, for a strategy that was added."""
    services = patient.app.services
    await services.strategies.add("badge", Badge(services.storage, outcome))
    answer = await patient.call(transport, LOGIN, strategy="badge", body={})
    assert answer["status"] == status
    assert (answer["error"] or {}).get("id") == error_id
    assert SECRET not in repr(answer)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (leaves, FAULT),
        (breaks, FAULT),
        (gives_up, FAULT),
        (repeats, FAULT),
        (refuses_wildly, FAULT),
        (refuses_unreadably, FAULT),
        (
            is_not_async,
            {"id": "plugin.strategy.invalid_verify_return", "code": 67305486, "status": 500},
        ),
        (sleeps, LATE),
    ],
)
async def test_faults_of_logins(
    patient: Running, transport: str, does: Callable[..., object], expected: dict[str, object]
) -> None:
    """docs/api/strategies.md#login-outcomes; the local strategy goes on."""
    await add(patient, "verify", does)
    answer = await patient.call(transport, LOGIN, strategy="badge", body={})
    assert told(answer) == expected
    assert await patient.login("ann")


async def test_one_that_does_not_answer_is_told_to_stop(patient: Running) -> None:
    stopped = asyncio.Event()

    async def hangs(*given: object) -> object:
        try:
            return await asyncio.Event().wait()
        finally:
            stopped.set()

    await add(patient, "verify", hangs)
    assert told(await patient.call("query", LOGIN, strategy="badge", body={})) == LATE
    async with deadline():
        await stopped.wait()


async def test_one_that_does_not_stop_is_left_alone(patient: Running) -> None:
    """`asyncio.timeout` would wait for it."""
    enough = asyncio.Event()

    async def stays(*given: object) -> object:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError(SECRET)

    await add(patient, "verify", stays)
    assert told(await patient.call("query", LOGIN, strategy="badge", body={})) == LATE
    assert await patient.login("ann")
    enough.set()


@pytest.mark.parametrize("does", [breaks, sleeps, is_not_async])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_one_is_does_not_depend_on_it(
    patient: Running, transport: str, does: Callable[..., object]
) -> None:
    """02 §4 getCurrentUser shows the others, and is asked again next time."""
    token = await patient.login("ann")
    services = patient.app.services
    await add(patient, "exists", does)
    for _ in range(2):
        answer = await patient.call(transport, WHO, token=token)
        assert answer["result"]["strategies"] == ["local"]
    badge = services.strategies.get("badge")
    assert isinstance(badge, SandboxedStrategy)
    badge._strategy.exists = always  # type: ignore[method-assign]
    answer = await patient.call(transport, WHO, token=token)
    assert answer["result"]["strategies"] == ["local", "badge"]


async def always(kuid: str) -> bool:
    """Tell that everybody has one."""
    return True


async def gives_no_count(*given: object) -> object:
    return Prepared({}, [], "several")  # type: ignore[arg-type]


@pytest.mark.parametrize("does", [*FAULTS, gives_no_count], ids=lambda does: does.__name__)
async def test_faults_of_the_end_of_one_key(patient: Running, does: Callable[..., object]) -> None:
    """Nothing is removed by it, above all not everything."""
    await add(patient, "delete_one", does)
    token, named = await patient.login("ann"), {"strategy": "badge", "credentialId": "7"}
    await patient.call("query", CALLS[2][1], token=token, strategy="badge", body=CALLS[2][2])
    for transport in TRANSPORTS:
        answer = await patient.call(transport, CALLS[4][1], token=token, **named)
        assert told(answer) == FAULT
    assert await patient.app.services.strategies.get("badge").exists("ann")


async def test_a_user_can_be_deleted_whatever_it_says(patient: Running) -> None:
    """S2: his end does not wait for anybody."""
    await add(patient, "exists", breaks)
    admin = await patient.login("admin")
    answer = await patient.call("query", "security:deleteUser", token=admin, _id="ann")
    assert answer["status"] == 200


async def test_the_last_way_in_is_not_one_that_gives_no_answer(patient: Running) -> None:
    """docs/architecture.md: the only other one may or may not have credentials of hers."""
    await add(patient, "exists", breaks)
    token = await patient.login("ann")
    delete = "auth:deleteMyCredentials"
    assert (await patient.call("query", delete, token=token, strategy="local"))["status"] == 412


async def prepares_nonsense(*given: object) -> object:
    return Prepared({}, ["DELETE"])  # type: ignore[list-item]


async def shows_nonsense(*given: object) -> object:
    return Prepared({"at": object()}, [])


@pytest.mark.parametrize("does", [prepares_nonsense, shows_nonsense])
async def test_only_changes_are_made(patient: Running, does: Callable[..., object]) -> None:
    await add(patient, "create", does)
    token, body = await patient.login("ann"), {"number": "7"}
    create = "auth:createMyCredentials"
    answer = await patient.call("query", create, token=token, strategy="badge", body=body)
    assert told(answer) == FAULT


async def test_the_names_it_gives_accounts_are_optional(patient: Running) -> None:
    def names_nothing(attempt: LoginAttempt) -> str:
        raise KeyError(SECRET)

    await add(patient, "account_of", names_nothing)
    assert (await patient.call("query", LOGIN, strategy="badge", body={}))["status"] == 200


async def test_so_many_calls_at_once_are_too_many() -> None:
    """What does not end does not pile up either."""
    going = asyncio.Event()

    class Slow(Badge):
        async def verify(self, attempt: LoginAttempt) -> Outcome:
            await going.wait()
            return Refused("late")

    guarded = SandboxedStrategy("slow", Slow(None), timeout_s=20)  # type: ignore[arg-type]
    calls = [asyncio.create_task(guarded.verify(LoginAttempt())) for _ in range(MOST_CALLS)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await guarded.verify(LoginAttempt())
    assert (refused.value.id, refused.value.status) == ("plugin.runtime.too_many_pipes", 503)
    going.set()
    assert await asyncio.gather(*calls) == [Refused("late")] * MOST_CALLS
    assert await guarded.verify(LoginAttempt()) == Refused("late")


async def test_who_waits_no_more_stops_the_call() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    class Slow(Badge):
        async def verify(self, attempt: LoginAttempt) -> Outcome:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return Refused("never")

    guarded = SandboxedStrategy("slow", Slow(None), timeout_s=20)  # type: ignore[arg-type]
    login = asyncio.create_task(guarded.verify(LoginAttempt()))
    async with deadline():
        await begun.wait()
        login.cancel()
        await stopped.wait()
    with pytest.raises(asyncio.CancelledError):
        await login


async def test_what_it_does_once_registered_concerns_nobody(
    patient: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """docs/api/strategies.md#methods afterRegister: called once, not awaited; it may go on until
    the end."""
    called, ended = [], asyncio.Event()

    async def goes_on() -> None:
        called.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await add(patient, "after_register", goes_on)
    assert (await patient.call("query", LOGIN, strategy="badge", body={}))["status"] == 200
    await patient.app.services.strategies.remove("badge")
    async with deadline():
        await ended.wait()
    assert called == [1]
    with caplog.at_level(logging.ERROR):
        await add(patient, "after_register", breaks)
        assert (await patient.call("query", LOGIN, strategy="badge", body={}))["status"] == 200
    assert "after_register failed with ValueError" in caplog.text


async def test_the_end_of_the_server_is_its_end() -> None:
    """It may clean up before the store is closed."""
    ended = asyncio.Event()

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async with running() as server:
        await add(server, "after_register", cleans_up)
        await server.create_admin()
    assert ended.is_set()


async def test_its_tables_are_its_own(patient: Running) -> None:
    """A change that meets another's row is told as for any strategy."""
    await add(patient, "validate", always_fine)
    tokens = [await patient.login(name) for name in ("ann", "admin")]
    create, body = "auth:createMyCredentials", {"number": "7"}
    for token, status in zip(tokens, (200, 500), strict=True):
        answer = await patient.call("query", create, token=token, strategy="badge", body=body)
        assert answer["status"] == status
    rows = await patient.app.services.storage.find(Table.CREDENTIALS, limit=9, strategy="badge")
    assert [row["kuid"] for row in rows] == ["ann"]


async def always_fine(*given: object) -> None:
    """Let anything pass."""
