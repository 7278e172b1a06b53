"""A server process, as an operator starts it, and the few requests the tests make themselves."""

import http.client
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.programs import DEADLINE_S, SERVER_LIFE_S, started

PASSWORD = "correct horse"
READY = "manykeys listens on http://127.0.0.1:"
Json = dict[str, Any]
"""A JSON object, as a server or a client wrote it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers on a port of this machine."""

    port: int

    def ask(self, method: str, path: str, body: Json | None = None, token: str = "") -> Json:
        """Send a request and give the `result` of its answer, which must be a success."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == 200, answer
        result: Json = answer["result"]
        return result

    def create_admin(self) -> None:
        """Make the first administrator, who logs in as `admin` with `PASSWORD`."""
        account = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
        self.ask("POST", "/_createFirstAdmin/admin", account)

    def login(self) -> str:
        """Log the administrator in and give the token."""
        account = {"username": "admin", "password": PASSWORD}
        return str(self.ask("POST", "/_login/local", account)["jwt"])


@contextmanager
def serving(
    folder: Path, settings: Mapping[str, str] | None = None, *, port: int = 0
) -> Iterator[Served]:
    """Run a server that keeps its files in `folder`; `settings` reach it by its environment. Port 0
    is any free one.

    At the end it is asked to stop, and must do so without ever having failed.
    """
    errors = folder / "server.stderr"
    flags = ["--port", str(port), "--data", str(folder / "manykeys.db")]
    command = [sys.executable, "-m", "server", "serve", *flags]
    command += ["--set", "security.passwords.cost=4"]
    env = _environment(settings or {})
    with started(command, errors=errors, env=env, deadline_s=SERVER_LIFE_S) as process:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith(READY)), None)
        assert ready is not None, f"the server did not start:\n{errors.read_text()}"
        yield Served(int(ready.removeprefix(READY)))
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    complaints = errors.read_text()
    assert code == 0, f"the server ended with {code}:\n{complaints}"
    assert "Traceback" not in complaints, complaints


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Give our own environment with these settings and no others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().startswith(("manykeys_", "kuzzle_"))
    }
    added = {f"MANYKEYS_{name.replace('.', '__')}": value for name, value in settings.items()}
    return kept | added
