"""The web server of the browser test: hands out a page and takes what the page saw."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from tests.interop.serving import Json

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


@contextmanager
def static_site(files: Mapping[str, Path]) -> Iterator[tuple[int, SimpleQueue[Json]]]:
    """Serve these files by name; give the port and where the bodies of POST requests arrive."""
    outcomes: SimpleQueue[Json] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = files.get(self.path.partition("?")[0].lstrip("/"))
            if file is None:
                self.send_error(404)
            else:
                self._answer(_TYPES[file.suffix], file.read_bytes())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("text/plain", b"")
            outcomes.put(json.loads(body))

        def _answer(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *values: object) -> None:
            """Stay silent: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        thread = Thread(target=site.serve_forever)
        thread.start()
        try:
            yield site.server_port, outcomes
        finally:
            site.shutdown()
            thread.join()
