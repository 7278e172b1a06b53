"""A file is read in a process of its own, so that one processor reads while another one stores."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from protocol.errors import LocalError
from server.importreading import BLOCK_BYTES, Block, Reading, read_blocks

_AHEAD_BLOCKS = 16 * 1024 * 1024 // BLOCK_BYTES
"""Blocks that are read before they are asked for."""
_PROCESSES = multiprocessing.get_context("spawn")

_NICER = 15
"""Who stores is slower, and goes first where there is not a processor for each."""

_Sent = Block | OSError | None
"""None: this was all."""


async def read_here(reading: Reading) -> AsyncGenerator[Block, None]:
    """Read a file in this process, which is sooner done with a small one."""
    for block in read_blocks(reading):
        yield block


async def read_apart(reading: Reading) -> AsyncGenerator[Block, None]:
    """Read a file in another process. OSError if that can't be, `LocalError` if the process ends
    before the file does."""
    ours, theirs = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_send_blocks, args=(theirs, reading), daemon=True)
    with _interruptions_kept():
        process.start()
    theirs.close()
    blocks = asyncio.Queue[_Sent](_AHEAD_BLOCKS)
    receiving = asyncio.create_task(_receive(ours, blocks))
    try:
        while (block := await blocks.get()) is not None:
            if isinstance(block, OSError):
                raise block
            yield block
        await receiving
    finally:
        process.kill()  # which ends a wait for its blocks, too
        receiving.cancel()
        with suppress(asyncio.CancelledError, LocalError):
            await receiving
        process.join()
        ours.close()


async def _receive(connection: Connection, blocks: asyncio.Queue[_Sent]) -> None:
    sent: _Sent
    while True:
        try:
            sent = await asyncio.to_thread(connection.recv)
        except EOFError:
            await blocks.put(None)
            raise LocalError("the process that reads the file has ended before the file") from None
        await blocks.put(sent)
        if sent is None:
            return


def _send_blocks(connection: Connection, reading: Reading) -> None:
    """Send blocks until all are read, or nobody wants them any more."""
    os.nice(_NICER)
    with suppress(BrokenPipeError):
        try:
            for block in read_blocks(reading):
                connection.send(block)
            connection.send(None)
        except BrokenPipeError:
            raise
        except OSError as fault:
            connection.send(fault)
            connection.send(None)


@contextmanager
def _interruptions_kept() -> Iterator[None]:
    """Keep Ctrl-C from a process that starts meanwhile, for good: whoever started it ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
