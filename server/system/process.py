"""Memory use and priority of this process and its machine; 0 where the system has no figure."""

import os
import resource
import sys
import threading
from contextlib import suppress

# getrusage counts in KiB, on macOS in bytes.
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024

_LESS_IMPORTANT = 10


def let_others_go_first() -> None:
    """Lower the priority of this thread, so that the event loop is preferred if both share a core;
    such a thread still gets at least a tenth of the core.

    On Linux only: elsewhere a thread's number might be another process.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # not permitted: both then have the same priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LESS_IMPORTANT)


def peak_memory_bytes() -> int:
    """Return the peak memory use of the process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES


def used_memory_bytes() -> int:
    """Return the memory use of the process; its peak if only that is known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory_bytes()


def machine_memory_bytes() -> tuple[int, int]:
    """Return the machine's free and total memory."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return _pages("SC_AVPHYS_PAGES") * page_bytes, _pages("SC_PHYS_PAGES") * page_bytes


def _pages(name: str) -> int:
    return max(0, os.sysconf(name)) if name in os.sysconf_names else 0
