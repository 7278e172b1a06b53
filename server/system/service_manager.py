"""What a service manager is told (sd_notify(3)): ready, reloading, stopping."""

import os
import socket
import time

READY, STOPPING = "READY=1", "STOPPING=1"


def tell(state: str) -> None:
    """Tell the service manager that started this process, if one did and wants to know."""
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
        pass  # nobody listens any more: there is nothing to do about it


def reloading() -> str:
    """Give the state of a server that reads its files again."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
