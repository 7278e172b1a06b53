"""Database threads: each runs one kind of work, with a queue from the event loop.

Independent of SQL. A thread takes all waiting orders at once, and returns their answers in one call
into the loop: under load the cost of a commit and of waking the loop is shared, without load no
order waits for others.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from server.storage.base import Entry, Unavailable
from server.system.process import let_others_go_first

MOST_WAITING = 10_000
"""Default queue length of a lane; further orders are refused."""
_BATCH = 256
_LOG = logging.getLogger("manykeys.storage")

Order = TypeVar("Order")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Job(Generic[Order, Answer]):
    """An order and its result: `error` if set, else `answer`."""

    order: Order
    future: asyncio.Future[Answer | None]
    answer: Answer | None = None
    error: Exception | None = None


class WorkerThread(Generic[Order, Answer]):
    """One thread and its queue.

    `work` sets the answers of a batch, in the thread. The journal entries it returns are delivered,
    in the loop, before those answers. `end` is called last in the thread.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Job[Order, Answer]]], Sequence[Entry]],
        deliver: Callable[[Sequence[Entry]], None],
        end: Callable[[], None],
        *,
        most_waiting: int | None = None,
        batch: int = _BATCH,
    ) -> None:
        self._work = work
        self._deliver = deliver
        self._end = end
        self._most_waiting = most_waiting
        self._batch = batch
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Job[Order, Answer] | None] = SimpleQueue()
        self._waiting = 0
        self._closing = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def ask(self, order: Order) -> Answer | None:
        """Return the answer. A cancelled caller's order may still be executed."""
        if self._closing:
            raise Unavailable("the database is closed")
        if self._waiting >= (self._most_waiting or MOST_WAITING):
            raise Unavailable("the database queue is full")
        job = Job[Order, Answer](order, self._loop.create_future())
        self._waiting += 1
        self._queue.put(job)
        try:
            return await job.future
        finally:
            del job  # its error's traceback keeps this frame, which must not keep the job

    async def close(self) -> None:
        """Finish all orders, then stop the thread. Further orders are refused."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        let_others_go_first()
        ending = False
        try:
            while not ending:
                taken = self._take()
                jobs = [job for job in taken if job is not None]
                ending = len(jobs) < len(taken)
                self._loop.call_soon_threadsafe(self._settle, jobs, self._attempt(jobs))
                del taken, jobs  # an idle thread keeps no references
            self._end()
            self._loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            self._end()  # the loop was closed first: no caller is left to answer

    def _take(self) -> list[Job[Order, Answer] | None]:
        """Wait for an order; take it and all others in the queue."""
        taken = [self._queue.get()]
        # This thread is the only consumer, so the queue does not shrink meanwhile.
        taken += [
            self._queue.get_nowait() for _ in range(min(self._queue.qsize(), self._batch - 1))
        ]
        return taken

    def _attempt(self, jobs: Sequence[Job[Order, Answer]]) -> Sequence[Entry]:
        live = [job for job in jobs if not job.future.cancelled()]
        if not live:
            return ()
        try:
            return self._work(live)
        except Exception as exc:  # after any error no caller may be left waiting
            if not isinstance(exc, Unavailable):
                _LOG.exception("database operations failed")
            for job in live:
                job.error = exc
            return ()

    def _settle(self, jobs: Sequence[Job[Order, Answer]], entries: Sequence[Entry]) -> None:
        self._waiting -= len(jobs)
        self._deliver(entries)
        for job in jobs:
            if job.future.done():
                continue  # cancelled
            if (refusal := job.error) is not None:
                # Its traceback has frames of the thread, and these keep the jobs.
                refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
                job.future.set_exception(refusal)
            else:
                job.future.set_result(job.answer)
