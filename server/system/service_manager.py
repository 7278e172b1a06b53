"""Notifications to a service manager such as systemd (sd_notify(3)): ready, reloading, stopping."""

import os
import socket
import time

READY, STOPPING = "READY=1", "STOPPING=1"


def tell(state: str) -> None:
    """Notify the service manager that started this process, if it asked for notifications."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    if address[0] == "@":  # an abstract name
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
            opened.connect(address)
            opened.sendall(state.encode())
    except OSError:
        pass  # the manager no longer listens: nothing to do


def reloading() -> str:
    """Return the state of a server that reloads its files."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
