"""Floods of a stranger that are after the server's memory, against a real server with its default
settings: resident memory before each, at its end, and once it is over.

    python -m bench.loads.memory_floods --minutes 10 [--address-space 1073741824] [--only NAME ...]

Each is one connection or a few, all on this machine. The server may hold 30 MiB more afterwards
than before; with a bounded address space it must live, and answer others.
"""

import argparse
import gzip
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
MORE_BYTES = 30 * 2**20
"""What the server may hold more after a flood than before."""
SETTLES_S = 5.0
_TIMEOUT_S = 30.0
_SIZE = 2**20
_LISTENS = re.compile(rb"listens on http://[^\s:]+:(\d+)")
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_ABRUPT = struct.pack("ii", 1, 0)

Sockets = list[socket.socket]
Flood = Callable[[int, float], tuple[int, Sockets]]
"""Floods the server on a port for so many seconds; gives how many requests that were, and the
sockets that are still open then."""


def _post(path: bytes, body: bytes, fields: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n%b" % (path, fields)
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _frame(first: int, payload: bytes, size: int | None = None) -> bytes:
    """Give a frame masked with zeros; with `size` it announces more than it has."""
    length = len(payload) if size is None else size
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 2**16:
        head = bytes((first, 0xFE)) + struct.pack("!H", length)
    else:
        head = bytes((first, 0xFF)) + struct.pack("!Q", length)
    return head + bytes(4) + payload


def _many(piece: bytes, size: int) -> bytes:
    """Give a JSON object of about this size, with an array of such pieces."""
    return b'{"a":[' + b",".join([piece] * (size // (len(piece) + 1) - 8)) + b"]}"


_LISTS, _TEXT = _many(b"[]", _SIZE), b'{"a":"' + b"x" * (_SIZE - 100) + b'"}'
# As many values as are read, in a body that inflates as much as it may.
_AT_LIMIT = b'{"a":[' + b",".join([b"[]"] * 5900) + b"]" + b" " * 40_000 + b"}"


def _open(port: int, *, upgrade: bool = False) -> socket.socket:
    opened = socket.create_connection((HOST, port), timeout=_TIMEOUT_S)
    if upgrade:
        opened.sendall(_UPGRADE)
        opened.recv(4096)
    return opened


def _reset(opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
    opened.close()


def _asking(data: bytes, *, upgrade: bool = False, clients: int = 24) -> Flood:
    """Give a flood of clients that send the same again once it is answered."""

    def flood(port: int, seconds: float) -> tuple[int, Sockets]:
        ends_s, counts = time.monotonic() + seconds, [0] * clients

        def run(place: int) -> None:
            while time.monotonic() < ends_s:
                with suppress(OSError), _open(port, upgrade=upgrade) as opened:
                    while time.monotonic() < ends_s:
                        opened.sendall(data)
                        if not opened.recv(65536):
                            break
                        counts[place] += 1

        threads = [threading.Thread(target=run, args=(place,)) for place in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts), []

    return flood


def _leaving(data: bytes, *, upgrade: bool = False) -> Flood:
    """Give a flood of one connection after the other that is reset in the midst of something."""

    def flood(port: int, seconds: float) -> tuple[int, Sockets]:
        ends_s, count = time.monotonic() + seconds, 0
        while time.monotonic() < ends_s:
            opened = _open(port, upgrade=upgrade)
            with suppress(ConnectionError):
                opened.sendall(data)
            _reset(opened)
            count += 1
        return count, []

    return flood


def _silent(port: int, seconds: float) -> tuple[int, Sockets]:
    """Open sockets that say 60 KB once and then nothing."""
    payload = _many(b"[]", 60_000)
    said = (
        b'{"controller":"auth","action":"getCurrentUser","requestId":"q","body":' + payload + b"}"
    )
    held = []
    for _ in range(200):
        opened = _open(port, upgrade=True)
        opened.sendall(_frame(0x81, said))
        opened.recv(65536)
        held.append(opened)
    time.sleep(seconds)
    return len(held), held


_CREATE, _LOGIN, _GZIP = b"/users/x/_create", b"/_login/local", b"Content-Encoding: gzip\r\n"
FLOODS: dict[str, Flood] = {
    "compressed, too many values": _asking(_post(_LOGIN, gzip.compress(_LISTS), _GZIP)),
    "compressed, as many values as may be": _asking(_post(_LOGIN, gzip.compress(_AT_LIMIT), _GZIP)),
    "refused, 1 MiB of text": _asking(_post(_CREATE, _TEXT), clients=4),
    "refused, 1 MiB of values": _asking(_post(_LOGIN, _LISTS), clients=4),
    "malformed, 1 MiB": _asking(_post(_LOGIN, _TEXT[:-1]), clients=4),
    "refused messages of 1 MiB": _asking(
        _frame(0x81, b'{"controller":"security","action":"getUser","body":' + _TEXT[:-60] + b'"}}'),
        upgrade=True,
        clients=4,
    ),
    "bodies cut off": _leaving(
        b"POST /_query HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 999_000
    ),
    "chunks cut off": _leaving(
        b"POST /_query HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n"
        + b"a" * 999_000
    ),
    "messages cut off": _leaving(_frame(0x81, b"a" * 999_000, 1_000_000), upgrade=True),
    "fragments cut off": _leaving(_frame(0x01, b"a" * 999_000), upgrade=True),
    "no TLS, no HTTP": _leaving(b"\x16\x03\x01" + b"a" * 8000),
    "sockets that said 60 KB": _silent,
}


def resident_bytes(pid: int) -> int:
    """Give the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def least_resident_bytes(pid: int, enough: int) -> int:
    """Give the least resident memory within some seconds, or the first that is little enough."""
    ends_s, least = time.monotonic() + SETTLES_S, resident_bytes(pid)
    while least > enough and time.monotonic() < ends_s:
        time.sleep(0.05)
        least = min(least, resident_bytes(pid))
    return least


def is_answered(port: int) -> bool:
    """Tell whether another client gets an answer."""
    with _open(port) as opened:
        opened.sendall(b"GET /_me HTTP/1.1\r\nHost: a\r\n\r\n")
        return opened.recv(65536).startswith(b"HTTP/1.1 ")


@contextmanager
def _serving(address_space: int | None) -> Iterator[tuple[int, int]]:
    """Run a server, and give its process and port."""

    def bound() -> None:
        if address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "server", "serve", "--port", "0")
        process = subprocess.Popen(
            (*command, "--data", f"{folder}/keys.db", "--set", "logs.requests=none"),
            stdout=subprocess.PIPE,
            preexec_fn=bound,
        )
        try:
            assert process.stdout is not None
            found = next(filter(None, map(_LISTENS.search, process.stdout)))
            yield process.pid, int(found[1])
        finally:
            process.terminate()
            process.wait()


def main() -> int:
    """Run the floods, and say what they have left; 1 if one has left too much."""
    parser = argparse.ArgumentParser(prog="bench.loads.memory_floods", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each flood")
    parser.add_argument("--address-space", type=int, help="bytes the server may have")
    parser.add_argument("--only", nargs="*", choices=FLOODS, default=list(FLOODS))
    given = parser.parse_args()
    failed = 0
    print(f"{'flood':38}{'requests':>9}{'before':>8}{'end':>8}{'after':>8}  MiB")
    for name in given.only:
        with _serving(given.address_space) as (pid, port):
            is_answered(port)
            before = resident_bytes(pid)
            count, held = FLOODS[name](port, given.minutes * 60)
            end = resident_bytes(pid)
            after = least_resident_bytes(pid, before + MORE_BYTES)
            is_bad = after > before + MORE_BYTES or not is_answered(port)
            sizes = "".join(f"{size / 2**20:8.0f}" for size in (before, end, after))
            print(f"{name:38}{count:9}{sizes}{'  FAILED' if is_bad else ''}", flush=True)
            failed += is_bad
            for opened in held:
                opened.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
