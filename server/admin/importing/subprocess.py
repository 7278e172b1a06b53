"""Reader process of imports: one processor reads the file while another one stores.

The process writes blocks to its standard output: each as `pack` returns it, after its length in
four bytes; a length of 0 marks the end of the file.
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
"""Maximum size of blocks that are read ahead; as much again may be in the pipe."""
_LENGTH_BYTES = 4
_NICER = 15
"""Lower priority: storing is slower, and goes first if both share a processor."""


async def read_here(reading: Reading) -> AsyncGenerator[Block, None]:
    """Read a file in this process, which is faster for a small one."""
    for block in read_blocks(reading):
        yield block


async def read_apart(reading: Reading) -> AsyncGenerator[Block, None]:
    """Read a file in another process. OSError if it cannot be read, `LocalError` if the process
    exits before the end of the file."""
    process = await _start(reading)
    try:
        while (block := await _receive(process)) is not None:
            yield block
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _start(reading: Reading) -> Process:
    # A process group of its own keeps Ctrl-C from it: this process stops it. `-P`: it imports from
    # the same path as this process, and never from the operator's working directory.
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
        raise LocalError("the reader process has no output")
    try:
        length = int.from_bytes(await process.stdout.readexactly(_LENGTH_BYTES))
        return unpack(await process.stdout.readexactly(length)) if length else None
    except asyncio.IncompleteReadError:
        raise LocalError("the reader process exited before the end of the file") from None


def main() -> None:
    """Write blocks until the end of the file, or until the pipe is closed."""
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
