"""An application with the JavaScript SDK that a test tells what to do, and that tells what it
hears."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interop.programs import HERE, find_program, started
from tests.interop.serving import Json


class Refused(Exception):
    """The SDK rejected what was asked for; `error_id` is None when it did so by itself."""

    def __init__(self, error_id: str | None, status: int | None) -> None:
        super().__init__(error_id, status)
        self.error_id = error_id
        self.status = status


@dataclass
class Remote:
    """A running application; `heard` are the SDK's events that nobody has waited for yet."""

    process: "subprocess.Popen[str]"
    heard: list[str] = field(default_factory=list)

    def call(self, name: str, *args: object) -> Any:
        """Call a method of the SDK and give what it resolves to; Refused if it does not."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"call": name, "args": args}) + "\n")
        self.process.stdin.flush()
        while "event" in (line := self._read()):
            self.heard.append(line["event"])
        if "error" in line:
            raise Refused(line["error"]["id"], line["error"]["status"])
        return line["result"]

    def wait_for(self, event: str) -> None:
        """Wait until the SDK has told of an event; what came before it is forgotten."""
        while event not in self.heard:
            self.heard.append(self._read()["event"])
        del self.heard[: self.heard.index(event) + 1]

    def has_heard(self) -> list[str]:
        """Give the events nobody has waited for, once what was sent before is answered."""
        self.call("state")
        return self.heard

    def _read(self) -> Json:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the application ended, or was ended at the deadline"
        told: Json = json.loads(line)
        return told


StartRemote = Callable[[str, int], Remote]
"""Start an application on a transport and a port; it ends with the test."""


@contextmanager
def remote(transport: str, port: int, errors: Path) -> Iterator[Remote]:
    """Run an application for a block; it is not connected yet."""
    command = [find_program("node"), str(HERE / "remote.cjs"), transport, str(port)]
    with started(command, errors=errors) as process:
        yield Remote(process)
