"""What providers are asked with: nothing of one user's visit gets into another's (security check
O8)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from server.auth.strategies.oauth.http_client import Web

WAIT_S = 20.0


class Site(ThreadingHTTPServer):
    """Remembers the cookies it is shown; `/slow` says half of its answer before it waits."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.begun, self.released = Event(), Event()
        self.shown: dict[str, str | None] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Gives everybody a cookie."""

    server: Site

    def do_GET(self) -> None:
        self.server.shown[self.path] = self.headers["Cookie"]
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Set-Cookie", f"visit={self.path[1:]}; Path=/")
        if self.path == "/away":
            self.send_header("Location", "/back")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{")
        if self.path == "/slow":
            self.server.begun.set()
            self.server.released.wait(WAIT_S)
        self.wfile.write(b"}")

    def log_message(self, *given: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[Site]:
    with Site() as made:
        thread = Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            made.released.set()
            made.shutdown()
            thread.join()


async def test_cookies_of_one_visit_are_not_the_next_ones() -> None:
    """Nor those of one that goes on at the same time. Within a visit they come back, where the
    provider sends from one address to another."""
    with site() as provider:
        web = Web(timeout_s=WAIT_S, connections=2)
        slow = asyncio.create_task(asyncio.to_thread(web.send, "GET", f"{provider.url}/slow"))
        assert await asyncio.to_thread(provider.begun.wait, WAIT_S)
        await asyncio.to_thread(web.send, "GET", f"{provider.url}/meanwhile")
        provider.released.set()
        assert (await slow).content == b"{}"
        await asyncio.to_thread(web.send, "GET", f"{provider.url}/away")
        web.close()
    assert provider.shown == {
        "/slow": None,
        "/meanwhile": None,
        "/away": None,
        "/back": "visit=away",
    }
