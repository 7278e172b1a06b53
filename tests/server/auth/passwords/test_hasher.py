"""What `PasswordHasher` stores and accepts, and that nobody gets past its queue."""

import asyncio
import os
import sys
import threading
from types import NoneType

import bcrypt
import pytest

from protocol.errors import ApiError, LocalError
from server.auth.passwords import hasher as module
from server.auth.passwords.hasher import (
    MOST_PASSWORD_BYTES,
    THREAD_NICENESS,
    PasswordHasher,
    check_password,
)
from server.auth.passwords.work_owner import WorkOwner
from tests.support.waiting import deadline, until

COST = 4


@pytest.fixture
def passwords():
    made = PasswordHasher(cost=COST, threads=1, queue=8)
    yield made
    made.close()


@pytest.fixture
def held(monkeypatch):
    """Make every check against a hash wait for `.set()`; count what was begun."""

    class Held(threading.Event):
        begun = 0

    event, real = Held(), bcrypt.checkpw

    def check(password: bytes, hashed: bytes) -> bool:
        event.begun += 1
        event.wait(10)
        return real(password, hashed)

    monkeypatch.setattr(module.bcrypt, "checkpw", check)
    yield event
    event.set()


PASSWORDS = (
    "password",
    "x" * 64,
    "x" * 72,
    "x" * 73,
    "x" * 200,
    "x" * MOST_PASSWORD_BYTES,
    "a\0b",
    "\0",
    " leading and trailing ",
    "Ünïcödé 🔑",
    "u\u0308",
)


@pytest.mark.parametrize("password", PASSWORDS, ids=lambda text: ascii(text[:12]) + str(len(text)))
async def test_each_byte_of_a_password_matters(passwords, password):
    """Security checks P2, P3, P4, P5."""
    hashed = await passwords.hash(password)
    assert await passwords.verify(password, hashed)
    others = {password[:-1], password + "x", password[:-1] + "y", "y" + password[1:]}
    others |= {
        password.swapcase(),
        password.strip(),
        password + "\0",
        "ü" if len(password) == 2 else "",
    }
    for other in others - {password}:
        assert not await passwords.verify(other, hashed)


async def test_stored_form_is_ours_salted_and_not_of_the_bare_password(passwords):
    """Security check P11."""
    first, second = await passwords.hash("password"), await passwords.hash("password")
    assert first.startswith("mk1$$2b$04$") and len(first) == 64
    assert first != second
    assert not bcrypt.checkpw(b"password", first.removeprefix("mk1$").encode())


async def test_the_stored_form_stays_readable(passwords):
    """A hash of an earlier day: who changes how passwords are condensed must give the form a new
    name."""
    stored = "mk1$$2b$04$abcdefghijklmnopqrstuuJVBbBBQ.maTem8SwqN2t7UYv6RqXbdG"
    assert await passwords.verify("correct horse", stored)
    assert not await passwords.verify("correct horsf", stored)


async def test_current_is_our_notation_at_our_cost(passwords):
    assert passwords.is_current(await passwords.hash("x"))
    body = "." * 53
    assert not passwords.is_current(f"mk1$$2b$05${body}")
    assert not passwords.is_current(f"$2b$04${body}")
    assert not passwords.is_current(f"mk1$$2b$04${body}\n")


async def test_a_hash_of_another_cost_is_verified(passwords):
    dearer = PasswordHasher(cost=5, threads=1, queue=1)
    hashed = await dearer.hash("password")
    dearer.close()
    assert await passwords.verify("password", hashed)


UNREADABLE = (
    None,
    "",
    "mk1$",
    "mk2$$2b$04$" + "." * 53,
    "mk1$$2b$31$" + "." * 53,
    "mk1$$2b$17$" + "." * 53,
    "mk1$$2b$03$" + "." * 53,
    "mk1$$2b$04$" + "." * 52,
    "mk1$$2b$04$" + "é" * 53,
    "5f4dcc3b5aa765d61d8327deb882cf99",
)


@pytest.mark.parametrize("hashed", UNREADABLE)
async def test_without_a_readable_hash_the_same_work_is_done_in_vain(
    passwords, hashed, monkeypatch
):
    """Security check P13: unknown formats and absurd costs neither raise nor hang."""
    checked, real = [], bcrypt.checkpw

    def check(password: bytes, against: bytes) -> bool:
        checked.append(against)
        return real(password, against)

    monkeypatch.setattr(module.bcrypt, "checkpw", check)
    assert not await passwords.verify("password", hashed)
    (decoy,) = checked
    assert decoy.startswith(b"$2b$04$")


async def test_even_a_decoy_that_fits_lets_nobody_in(passwords, monkeypatch):
    monkeypatch.setattr(module.bcrypt, "checkpw", lambda password, hashed: True)
    assert not await passwords.verify("password", None)


@pytest.mark.parametrize(
    ("value", "error_id"),
    [
        (None, "api.assert.invalid_type"),
        (5, "api.assert.invalid_type"),
        (["password"], "api.assert.invalid_type"),
        ("", "api.assert.empty_argument"),
        ("\ud800", "api.assert.invalid_argument"),
        ("x" * (MOST_PASSWORD_BYTES + 1), "api.assert.invalid_argument"),
        ("é" * (MOST_PASSWORD_BYTES // 2) + "x", "api.assert.invalid_argument"),
    ],
)
def test_what_is_no_password_is_refused_before_hashing(value, error_id):
    with pytest.raises(ApiError) as refused:
        check_password(value, "body.password")
    assert (refused.value.id, refused.value.status) == (error_id, 400)
    assert refused.value.props[0] == "body.password"


def test_a_password_of_the_greatest_length_passes():
    longest = "é" * (MOST_PASSWORD_BYTES // 2)
    assert check_password(longest, "password") is longest


async def test_a_full_queue_refuses_at_once_and_opens_again(held):
    """Security check X3: 503 before any hashing."""
    passwords = PasswordHasher(cost=COST, threads=1, queue=2)
    waiting = [asyncio.create_task(passwords.verify("x", None)) for _ in range(3)]
    await asyncio.sleep(0)
    for call in (passwords.verify("x", None), passwords.hash("x")):
        with pytest.raises(ApiError) as refused:
            await call
        assert (refused.value.id, refused.value.status) == ("api.process.overloaded", 503)
        assert refused.value.retry_after_s == 1
    held.set()
    assert await asyncio.gather(*waiting) == [False] * 3
    assert not await passwords.verify("x", None)
    passwords.close()


async def test_a_caller_that_gives_up_leaves_its_place_unless_hashing_has_begun(held):
    passwords = PasswordHasher(cost=COST, threads=1, queue=2)
    first, second, third = (asyncio.create_task(passwords.verify("x", None)) for _ in range(3))
    await until(lambda: held.begun == 1)
    for task in (first, second):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    fourth = asyncio.create_task(passwords.verify("x", None))
    await asyncio.sleep(0)
    with pytest.raises(ApiError):
        await passwords.verify("x", None)
    held.set()
    assert await asyncio.gather(third, fourth) == [False] * 2
    assert held.begun == 3  # all but the second, which gave up before its turn
    passwords.close()


async def test_a_queue_filled_by_one_client_serves_the_others_next(held):
    """Security check X3: one account or address never takes the whole queue, and the place of a
    client that fills it is given to one that has had less; all before any hashing."""
    order: list[str] = []
    passwords = PasswordHasher(cost=COST, threads=1, queue=5)

    async def verify(account: str, address: str) -> None:
        await passwords.verify("x", None, owner=WorkOwner(account, address))
        order.append(account)

    flood = [asyncio.create_task(verify("flood", "192.0.2.1")) for _ in range(3)]
    await until(lambda: held.begun == 1)
    with pytest.raises(ApiError) as refused:
        await verify("flood", "192.0.2.1")
    assert (refused.value.id, refused.value.status) == ("api.process.overloaded", 503)
    neighbour = asyncio.create_task(verify("neighbour", "192.0.2.1"))
    other = asyncio.create_task(verify("other", "192.0.2.2"))
    await asyncio.sleep(0)
    held.set()
    ended = await asyncio.gather(*flood, neighbour, other, return_exceptions=True)
    assert [type(one) for one in ended] == [NoneType, NoneType, ApiError, NoneType, NoneType]
    assert order == ["flood", "other", "neighbour", "flood"]
    assert held.begun == 4
    passwords.close()


async def test_an_error_of_the_work_is_raised_and_frees_the_thread(passwords, monkeypatch):
    def fail(password: bytes, hashed: bytes) -> bool:
        raise ValueError

    with monkeypatch.context() as patched:
        patched.setattr(module.bcrypt, "checkpw", fail)
        with pytest.raises(ValueError):  # noqa: PT011
            await passwords.verify("x", None)
    assert not await passwords.verify("x", None)


async def test_close_cancels_callers_that_wait(held):
    passwords = PasswordHasher(cost=COST, threads=1, queue=2)
    running, waiting = (asyncio.create_task(passwords.verify("x", None)) for _ in range(2))
    await until(lambda: held.begun == 1)
    passwords.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.set()
    assert await running is False
    assert held.begun == 1


async def test_the_loop_runs_while_a_thread_hashes(passwords, held):
    task = asyncio.create_task(passwords.verify("x", None))
    asyncio.get_running_loop().call_soon(held.set)
    async with deadline():
        assert await task is False


async def test_hashing_threads_have_a_lower_priority_but_no_idle_one(passwords, monkeypatch):
    """Security check X3: an idle policy gets nothing at all while the event loop is busy."""
    asked = []
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.os, "PRIO_PROCESS", 0, raising=False)
    monkeypatch.setattr(module.os, "setpriority", lambda *given: asked.append(given), raising=False)
    await passwords.hash("x")
    ((which, thread_id, niceness),) = asked
    assert (which, niceness) == (0, THREAD_NICENESS)
    assert 0 < THREAD_NICENESS <= 10
    assert thread_id != threading.get_native_id()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
async def test_hashing_threads_run_under_the_ordinary_policy(passwords, monkeypatch):
    """As the system sees it, from within a thread that hashes (security check X3)."""
    seen, real = [], bcrypt.checkpw

    def check(password: bytes, hashed: bytes) -> bool:
        thread_id = threading.get_native_id()
        policy = os.sched_getscheduler(thread_id)
        seen.append((policy, os.getpriority(os.PRIO_PROCESS, thread_id)))
        return real(password, hashed)

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    monkeypatch.setattr(module.bcrypt, "checkpw", check)
    await passwords.verify("x", None)
    assert seen == [(os.SCHED_OTHER, max(own, THREAD_NICENESS))]


async def test_where_threads_have_no_priority_none_is_asked_for(passwords, monkeypatch):
    """A thread's number would be some process's there."""
    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(module.os, "setpriority", None, raising=False)
    assert await passwords.hash("x")


async def test_a_system_that_forbids_priorities_still_hashes(passwords, monkeypatch):
    def refuse(*given: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module.os, "setpriority", refuse, raising=False)
    assert await passwords.hash("x")


@pytest.mark.parametrize("cost", [3, 17])
def test_a_cost_out_of_bounds_is_refused(cost):
    with pytest.raises(LocalError):
        PasswordHasher(cost=cost, threads=1, queue=1)
