"""Return of freed memory to the operating system, with the GNU C library."""

import asyncio
import ctypes
from collections.abc import Callable

_M_MMAP_THRESHOLD = -3  # of malloc.h
_LARGE_BYTES = 128 * 1024
_WORTH_BYTES = 8 * 1024 * 1024
_LOOK_S = 2.0


def return_large_blocks() -> None:
    """Make the C library return every large block as soon as it is freed.

    Without a fixed threshold it raises the threshold to the size of the blocks it frees. Bodies
    would then be allocated on the heap, which fragments while they grow.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, _LARGE_BYTES)


async def keep_returning(released_bytes: Callable[[], int]) -> None:
    """Trim the heap after many bytes were released, which `released_bytes` counts since the start,
    until cancelled.

    By itself the heap shrinks no further than to the last small block in it: a flood of bodies
    could leave the process at its peak. Trimming takes a tenth of a millisecond for each mebibyte,
    in a thread.
    """
    seen_bytes = 0
    while True:
        await asyncio.sleep(_LOOK_S)
        if released_bytes() - seen_bytes >= _WORTH_BYTES:
            seen_bytes = released_bytes()
            await asyncio.to_thread(_call, "malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return
    function(*arguments)
