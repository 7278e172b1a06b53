"""Listening sockets: a TCP port, a Unix socket, or an inherited socket (systemd socket activation,
sd_listen_fds(3)), each with or without TLS."""

import errno
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import LocalError

_FIRST_INHERITED = 3  # sd_listen_fds(3): after the three standard ones
_SOCKET_MODE = 0o660  # for its owner, and for the group of a proxy in front


@dataclass(frozen=True, slots=True)
class Place:
    """A port of `host`, unless `path` names a Unix socket or `fd` an open socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    fd: int | None = None

    def open(self) -> socket.socket | None:
        """Return the socket of a path or a file descriptor, not yet listening; None for a port.

        LocalError for a path or descriptor of the wrong type, OSError if the socket cannot be used.
        """
        if self.fd is not None:
            return _inherited(self.fd)
        return _unix_socket(self.path) if self.path else None

    def close(self) -> None:
        """Remove the path of the server's Unix socket."""
        if self.path and self.fd is None:
            _remove(self.path)


def inherited_fd(environment: Mapping[str, str], pid: int) -> int | None:
    """Return the descriptor a service manager opened for this process, None if it did not."""
    is_ours = environment.get("LISTEN_PID") == str(pid)
    return _FIRST_INHERITED if is_ours and environment.get("LISTEN_FDS") == "1" else None


def shown_address(bound: object, *, is_tls: bool) -> str:
    """Return the URL of a listening socket; `bound` is its socket name."""
    if isinstance(bound, tuple):
        host, port = str(bound[0]), bound[1]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if is_tls else 'http'}://{shown}:{port}"
    return f"unix:{bound}"


def _inherited(fd: int) -> socket.socket:
    try:
        opened = socket.socket(fileno=fd)
    except OSError as reason:
        if reason.errno not in (errno.EBADF, errno.ENOTSOCK):
            raise
        raise LocalError(f"descriptor {fd} is not a socket") from None
    if opened.type != socket.SOCK_STREAM:
        opened.detach()
        raise LocalError(f"descriptor {fd} is not a stream socket")
    return opened


def _unix_socket(path: str) -> socket.socket:
    """Bind a new socket to a path; a stale socket is replaced."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            _remove(path)
        opened.bind(path)
        os.chmod(path, _SOCKET_MODE)
    except OSError as reason:
        opened.close()
        raise LocalError(f"cannot listen on {path}: {reason.strerror or reason}") from None
    return opened


def _is_stale(path: str) -> bool:
    """Return whether a path is a stale socket: no process listens on it."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
