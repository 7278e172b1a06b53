"""Ports for programs that must be told one before they start."""

import secrets
import socket

FIRST, LAST = 10_000, 32_000


def free_port(host: str = "127.0.0.1") -> int:
    """Give a port nobody listens on. It is below those the system itself gives to connections and
    to whoever listens on port 0, so that none of them takes it before the program does."""
    while True:
        port = FIRST + secrets.randbelow(LAST - FIRST)
        try:
            socket.create_server((host, port)).close()
        except OSError:
            continue
        return port
