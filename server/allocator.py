"""How the process returns memory to the system."""

import ctypes

_M_MMAP_THRESHOLD = -3  # of malloc.h in the GNU C library
_LARGE_BYTES = 128 * 1024


def return_large_blocks() -> None:
    """Let the C library return every large block as soon as it is freed; nothing where the library
    is not GNU's.

    Unless it is given a threshold, it raises its own to the size of the blocks it frees. Bodies
    would then come from the heap, which shrinks no further than to the last small block in it: a
    flood of bodies could leave the process at its highest level.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
