"""Password hashing (bcrypt) in a few low-priority threads, off the event loop.

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
from functools import partial
from time import monotonic, thread_time

import bcrypt

from protocol.errors import LocalError, error
from server.auth.passwords import foreign_hashes as foreignhashes
from server.auth.passwords.fair_queue import FairQueue, Place
from server.auth.passwords.foreign_hashes import Record
from server.auth.passwords.work_owner import WorkOwner, current_owner
from server.core.limit_counters import Limit

MOST_PASSWORD_BYTES = 4096
LEAST_COST, MOST_COST = 4, 16
"""bcrypt's own minimum, and about four seconds: a stored hash must not have a higher cost, or it
would block a thread."""

_NOTATION = "mk1$"
_STORED = re.compile(r"mk1\$(\$2b\$([0-9]{2})\$[./A-Za-z0-9]{53})")
# Separates this HMAC from any other use of the same passwords; it is not a secret.
_DOMAIN = b"manykeys/password/1"
THREAD_NICENESS = 10
"""Niceness of the hashing threads (setpriority(2)): a tenth of a core that is busy otherwise. With
an idle policy (`SCHED_IDLE`) no login would complete while another program keeps the core busy."""


def can_verify(record: Record) -> bool:
    """Return whether passwords can be verified with a stored form, own or imported."""
    return _find_ours(record) is not None or foreignhashes.is_readable(record)


def _find_ours(record: Record) -> bytes | None:
    """Return the bcrypt hash in this server's own form."""
    hashed = record.get("hash")
    stored = _STORED.fullmatch(hashed) if isinstance(hashed, str) else None
    if stored is None or not LEAST_COST <= int(stored[2]) <= MOST_COST:
        return None
    return stored[1].encode()


def check_password(value: object, argument: str) -> str:
    """Return a password that can be hashed. ApiError 400, naming the argument, for anything
    else."""
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


_Ran = tuple[str | bool | Exception, float]


@dataclass(slots=True, eq=False)
class _Job:
    """Work for a thread, and the future its caller awaits."""

    work: Callable[[], str | bool]
    outcome: asyncio.Future[str | bool]

    def run(self) -> _Ran:
        """Return the result of the work, or its exception, and its processor time in seconds."""
        started_s = thread_time()
        try:
            found: str | bool | Exception = self.work()
        except Exception as reason:
            found = reason
        return found, thread_time() - started_s

    def settle(self, found: str | bool | Exception) -> None:
        """Pass the result to the caller, if it still waits."""
        if self.outcome.done():
            return
        if isinstance(found, Exception):
            self.outcome.set_exception(found)
        else:
            self.outcome.set_result(found)


class PasswordHasher:
    """Hashes and verifies passwords; `queue` is how many may wait while all threads are busy, and
    `places` how many there may be at once.

    A `FairQueue` decides which job is next and which is refused, with ApiError 503 before any
    hashing. Work belongs to the `owner`, by default the one of the action that runs. A caller that
    gives up before a thread has begun releases its place.
    """

    def __init__(
        self,
        *,
        cost: int,
        threads: int,
        queue: int,
        clock_s: Callable[[], float] = monotonic,
        on_limit: Callable[[Limit], None] = lambda limit: None,
    ) -> None:
        if not LEAST_COST <= cost <= MOST_COST:
            raise LocalError(f"bcrypt cost {cost} is not within {LEAST_COST} and {MOST_COST}")
        self._cost = cost
        self._queue: FairQueue[_Job] = FairQueue(
            running=threads, waiting=queue, clock_s=clock_s, on_limit=on_limit
        )
        self.places = self._queue.places
        # A decoy hash: no password is known for it, and checking against it costs what checking a
        # real one does, so that timing does not reveal which users exist.
        self._decoy = b"$2b$%02d$" % cost + b"." * 53
        self._pool = ThreadPoolExecutor(threads, "passwords", initializer=_lower_priority)

    def __len__(self) -> int:
        """Return how many places are taken."""
        return len(self._queue)

    async def hash(self, password: str, *, owner: WorkOwner | None = None) -> str:
        """Return the form to store, with a new salt."""
        hashed = await self._run(lambda: self._hash(password), owner)
        return str(hashed)

    async def verify(
        self, password: str, stored: str | Record | None, *, owner: WorkOwner | None = None
    ) -> bool:
        """Return whether this is the password; without a stored form, or with an unreadable one,
        after the same work.

        A hash of another program has its own cost, so an attacker who measures time can
        distinguish such an account until its owner has logged in.
        """
        return bool(await self._run(lambda: self._verify(password, stored), owner))

    def is_current(self, hashed: str) -> bool:
        """Return whether a stored form is in this server's notation and at the current cost."""
        stored = _STORED.fullmatch(hashed)
        return stored is not None and int(stored[2]) == self._cost

    def close(self) -> None:
        """Stop the threads; callers that still wait are cancelled."""
        for job in self._queue.leave_all():
            job.outcome.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], str | bool], owner: WorkOwner | None) -> str | bool:
        job = _Job(work, asyncio.get_running_loop().create_future())
        place, displaced = self._queue.enter(owner or current_owner(), job)
        if displaced is not None:
            displaced.job.settle(self._queue.refusal())
        self._begin_waiting()
        try:
            return await job.outcome
        finally:
            self._queue.leave(place)

    def _begin_waiting(self) -> None:
        """Start waiting jobs on the threads that are idle."""
        while (place := self._queue.next()) is not None:
            running = asyncio.wrap_future(self._pool.submit(place.job.run))
            running.add_done_callback(partial(self._finish, place))

    def _finish(self, place: Place[_Job], ran: asyncio.Future[_Ran]) -> None:
        """Settle a job that ran, and begin the next one."""
        if ran.cancelled():  # closed before a thread began it
            place.job.outcome.cancel()
            return
        found, cost_s = ran.result()
        self._queue.finish(place, cost_s)
        self._begin_waiting()
        place.job.settle(found)

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


def _lower_priority() -> None:
    """Lower the priority below the event loop's, on systems that schedule threads one by one:
    elsewhere the thread's number might be some other process.

    Never an idle priority: any other program that is busy would keep users from logging in.
    """
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), THREAD_NICENESS)
        except OSError:
            pass  # not permitted here; hashing then has the priority of all else
