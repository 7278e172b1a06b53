"""Passwords in and out of their stored form, hashed off the event loop by a few threads that yield
to everything else.

Stored form: `mk1$` and a bcrypt hash, not of the password but of its HMAC-SHA-384 in base64: 64
characters, so that bcrypt, which stops at byte 72 or at a NUL, misses no byte. Nothing else is done
to it: é as one character and é as two (NFC, NFD) are two passwords. Knows no user and no storage.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import bcrypt

from protocol.errors import LocalError, error
from server.auth import foreignhashes
from server.auth.foreignhashes import Record

MOST_PASSWORD_BYTES = 4096
LEAST_COST, MOST_COST = 4, 16
"""bcrypt's own lower bound, and about four seconds: a stored hash may not claim more, or it would
hold a thread."""

_NOTATION = "mk1$"
_STORED = re.compile(r"mk1\$(\$2b\$([0-9]{2})\$[./A-Za-z0-9]{53})")
# Sets our HMAC apart from any other use of the same passwords; it is no secret.
_DOMAIN = b"manykeys/password/1"
# How long a refused caller should wait: the threads have then worked off a good part of the queue.
_RETRY_AFTER_S = 1


def can_verify(record: Record) -> bool:
    """Tell whether passwords can be held against a stored form, ours or another program's."""
    return _find_ours(record) is not None or foreignhashes.is_readable(record)


def _find_ours(record: Record) -> bytes | None:
    """Give the bcrypt hash in a form of ours."""
    hashed = record.get("hash")
    stored = _STORED.fullmatch(hashed) if isinstance(hashed, str) else None
    if stored is None or not LEAST_COST <= int(stored[2]) <= MOST_COST:
        return None
    return stored[1].encode()


def check_password(value: object, argument: str) -> str:
    """Give a password that can be hashed. ApiError 400, naming the argument, for anything else."""
    if not isinstance(value, str):
        raise error("api.assert.invalid_type", argument, "string")
    if not value:
        raise error("api.assert.empty_argument", argument)
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise error("api.assert.invalid_argument", argument, "valid Unicode") from None
    if length > MOST_PASSWORD_BYTES:
        limit = f"at most {MOST_PASSWORD_BYTES} bytes"
        raise error("api.assert.invalid_argument", argument, limit)
    return value


@dataclass(slots=True, eq=False)
class _Job:
    """Work for a thread; skipped if nobody waits for it any more when its turn comes."""

    work: Callable[[], str | bool]
    is_abandoned: bool = False

    def run(self) -> str | bool:
        return False if self.is_abandoned else self.work()


class Passwords:
    """Hashes and verifies passwords; `queue` is how many may wait while all threads are busy, and
    `places` how many there may be at once.

    Every call is refused with ApiError 503 at once when the queue is full. A caller who gives up
    keeps his place until a thread has come to it, so that giving up again and again lets nobody
    past the bound.
    """

    def __init__(self, *, cost: int, threads: int, queue: int) -> None:
        if not LEAST_COST <= cost <= MOST_COST:
            raise LocalError(f"bcrypt cost {cost} is not within {LEAST_COST} and {MOST_COST}")
        self._cost = cost
        self.places = threads + queue
        self._taken = 0
        # Nobody's hash: no password is known for it, and checking against it costs what checking a
        # real one does.
        self._decoy = b"$2b$%02d$" % cost + b"." * 53
        self._pool = ThreadPoolExecutor(threads, "passwords", initializer=_yield_to_others)

    async def hash(self, password: str) -> str:
        """Give the form to store, under a new salt."""
        hashed = await self._run(lambda: self._hash(password))
        return str(hashed)

    async def verify(self, password: str, stored: str | Record | None) -> bool:
        """Tell whether this is the password; without a stored form, or with an unreadable one,
        after the same work.

        A form of another program costs what it costs there, so whoever measures can tell such an
        account apart until its owner has logged in.
        """
        return bool(await self._run(lambda: self._verify(password, stored)))

    def is_current(self, hashed: str) -> bool:
        """Tell whether a stored form is in our notation and at the current cost."""
        stored = _STORED.fullmatch(hashed)
        return stored is not None and int(stored[2]) == self._cost

    def close(self) -> None:
        """Let the threads end; who still waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], str | bool]) -> str | bool:
        if self._taken >= self.places:
            raise error("api.process.overloaded", retry_after_s=_RETRY_AFTER_S)
        job = _Job(work)
        future = asyncio.wrap_future(self._pool.submit(job.run))
        self._taken += 1
        future.add_done_callback(self._release)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            job.is_abandoned = True
            raise

    def _release(self, _: object) -> None:
        self._taken -= 1

    def _hash(self, password: str) -> str:
        return _NOTATION + bcrypt.hashpw(_condense(password), bcrypt.gensalt(self._cost)).decode()

    def _verify(self, password: str, stored: str | Record | None) -> bool:
        record: Record = {"hash": stored} if isinstance(stored, str) else stored or {}
        ours = _find_ours(record)
        if ours is not None:
            return bcrypt.checkpw(_condense(password), ours)
        found = foreignhashes.verify(password, record)
        if not found and (found is None or not foreignhashes.is_slow(record)):
            bcrypt.checkpw(_condense(password), self._decoy)
        return bool(found)


def _condense(password: str) -> bytes:
    return base64.b64encode(hmac.digest(_DOMAIN, password.encode(), hashlib.sha384))


def _yield_to_others() -> None:
    """Let this thread run only where nothing else wants to, on systems that know threads one by
    one: elsewhere the thread's number might be some other process.

    A thread with a low priority still keeps the event loop waiting now and then; an idle one never
    does.
    """
    if sys.platform == "linux":
        try:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        except OSError:
            pass  # forbidden here; hashing is then as important as all else
