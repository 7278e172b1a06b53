"""A file is read in a process of its own, so that one processor reads while another one stores.

That process writes blocks to its standard output: each as `pack` writes it, behind its length in
four bytes; a length of 0 is the end of the file.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress

from protocol.errors import LocalError
from server.admin.importing.reader import Block, Reading, pack, read_blocks, unpack

_AHEAD_BYTES = 8 * 1024 * 1024
"""Of blocks that are read before they are asked for; as much again may be on its way."""
_LENGTH_BYTES = 4
_NICER = 15
"""Who stores is slower, and goes first where there is not a processor for each."""


async def read_here(reading: Reading) -> AsyncGenerator[Block, None]:
    """Read a file in this process, which is sooner done with a small one."""
    for block in read_blocks(reading):
        yield block


async def read_apart(reading: Reading) -> AsyncGenerator[Block, None]:
    """Read a file in another process. OSError if that can't be, `LocalError` if the process ends
    before the file does."""
    process = await _start(reading)
    try:
        while (block := await _receive(process)) is not None:
            yield block
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _start(reading: Reading) -> Process:
    # A group of its own keeps Ctrl-C from it: whoever started it ends it. `-P`: it imports from
    # where we do, and never from the folder an operator happens to be in.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __spec__.name, *reading.arguments()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        limit=_AHEAD_BYTES,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        process_group=0,
    )


async def _receive(process: Process) -> Block | None:
    if process.stdout is None:
        raise LocalError("the process that reads the file has no output")
    try:
        length = int.from_bytes(await process.stdout.readexactly(_LENGTH_BYTES))
        return unpack(await process.stdout.readexactly(length)) if length else None
    except asyncio.IncompleteReadError:
        raise LocalError("the process that reads the file has ended before the file") from None


def main() -> None:
    """Write blocks until all are read, or nobody wants them any more."""
    os.nice(_NICER)
    reading = Reading.of(sys.argv[1:])
    with suppress(BrokenPipeError), open(1, "wb", buffering=0, closefd=False) as output:
        try:
            for block in read_blocks(reading):
                _write(output.fileno(), pack(block))
        except BrokenPipeError:
            raise
        except OSError as fault:
            _write(output.fileno(), pack(fault))
        _write(output.fileno(), b"")


def _write(file: int, data: bytes) -> None:
    rest = memoryview(len(data).to_bytes(_LENGTH_BYTES) + data)
    while rest:
        rest = rest[os.write(file, rest) :]


if __name__ == "__main__":
    main()
