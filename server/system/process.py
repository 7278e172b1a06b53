"""What the operating system says of this process and its machine; 0 where it does not say."""

import os
import resource
import sys
import threading
from contextlib import suppress

# getrusage counts in KiB, on macOS in bytes.
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024

_LESS_IMPORTANT = 10


def let_others_go_first() -> None:
    """Have the event loop preferred to this thread where both share a core; no thread of its kind
    gets less than a tenth of it.

    On Linux alone: elsewhere a thread's number might be some other process.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # forbidden here: both are then as important
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LESS_IMPORTANT)


def peak_memory_bytes() -> int:
    """Give the most memory the process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES


def used_memory_bytes() -> int:
    """Give the memory the process uses; its peak where only that is known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory_bytes()


def machine_memory_bytes() -> tuple[int, int]:
    """Give the machine's free memory and all of it."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return _pages("SC_AVPHYS_PAGES") * page_bytes, _pages("SC_PHYS_PAGES") * page_bytes


def _pages(name: str) -> int:
    return max(0, os.sysconf(name)) if name in os.sysconf_names else 0
