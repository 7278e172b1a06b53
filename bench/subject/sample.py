"""What every server under test is asked for and must answer: one user, one token, one envelope.

Passed between the processes of a run as a JSON file, whose path is in the environment variable
`BENCH_SAMPLE`.
"""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "BENCH_SAMPLE"
REQUEST_ID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Sample:
    """One user as our server tells him: `result` is the envelope's member of that name.

    The two answers are our server's own, byte for byte: the whole HTTP response, and the payload of
    the WebSocket message that answers the request id `REQUEST_ID`.
    """

    token: str
    node: str
    result: dict[str, object]
    http_answer: bytes
    websocket_answer: bytes

    def write(self, path: Path) -> None:
        """Leave the sample for the other processes of the run."""
        fields = {
            "token": self.token,
            "node": self.node,
            "result": self.result,
            "http_answer": base64.b64encode(self.http_answer).decode(),
            "websocket_answer": base64.b64encode(self.websocket_answer).decode(),
        }
        path.write_text(json.dumps(fields))


def read_sample() -> Sample:
    """Give the sample of this run; KeyError outside of one."""
    fields = json.loads(Path(os.environ[VARIABLE]).read_text())
    return Sample(
        fields["token"],
        fields["node"],
        fields["result"],
        base64.b64decode(fields["http_answer"]),
        base64.b64decode(fields["websocket_answer"]),
    )


def me_message(token: str, request_id: str) -> bytes:
    """Give the message that asks for the current user, as a client would write it."""
    fields = {
        "controller": "auth",
        "action": "getCurrentUser",
        "requestId": request_id,
        "jwt": token,
    }
    return json.dumps(fields, separators=(",", ":")).encode()
