"""A browser told what to do over the pipes of its developer tools, JSON by JSON."""

import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic

from tests.interop.programs import DEADLINE_S, started
from tests.interop.serving import Json

_PIECE_BYTES = 65_536
# The shell opens both, in this order, where a browser expects them.
_SHELL = 'exec "$@" 3<"$0/to" 4>"$0/from"'


class Devtools:
    """One page of a browser."""

    def __init__(self, to: int, from_: int) -> None:
        self._to = to
        self._from = from_
        self._read = b""
        self._numbers = count(1)
        self._session = ""

    def attach(self) -> None:
        """Speak to the first page from now on."""
        targets = self.ask("Target.getTargets")["targetInfos"]
        (page,) = [one["targetId"] for one in targets if one["type"] == "page"]
        asked = self.ask("Target.attachToTarget", targetId=page, flatten=True)
        self._session = asked["sessionId"]

    def ask(self, method: str, **params: object) -> Json:
        """Send a command and give its result."""
        sent: Json = {"id": next(self._numbers), "method": method, "params": params}
        if self._session:
            sent["sessionId"] = self._session
        os.write(self._to, json.dumps(sent).encode() + b"\0")
        while (message := self._next()).get("id") != sent["id"]:
            pass
        assert "result" in message, message
        result: Json = message["result"]
        return result

    def open(self, address: str) -> None:
        """Load a page, and wait until it is there."""
        self.ask("Page.enable")
        self.ask("Page.navigate", url=address)
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, script: str) -> Json:
        """Give what a script's promise gives."""
        how = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self.ask("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in found, found
        value: Json = found["result"]["value"]
        return value

    def _next(self) -> Json:
        ends = monotonic() + DEADLINE_S
        while b"\0" not in self._read:
            ready, _, _ = select.select((self._from,), (), (), max(0.0, ends - monotonic()))
            assert ready, "the browser said nothing"
            self._read += os.read(self._from, _PIECE_BYTES)
        message, _, self._read = self._read.partition(b"\0")
        read: Json = json.loads(message)
        return read


@contextmanager
def driving(browser: list[str], folder: Path) -> Iterator[Devtools]:
    """Start a browser, and speak to its page."""
    paths = [folder / "to", folder / "from"]
    for path in paths:
        os.mkfifo(path)
    # For both directions: opening one never waits for a browser that does not come.
    to, from_ = (os.open(path, os.O_RDWR) for path in paths)
    command = ["/bin/sh", "-c", _SHELL, str(folder), *browser, "--remote-debugging-pipe"]
    try:
        with started(command, errors=folder / "browser.stderr"):
            tools = Devtools(to, from_)
            tools.attach()
            yield tools
    finally:
        os.close(to)
        os.close(from_)
