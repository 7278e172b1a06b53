"""What every server under test is asked for and must answer: one user, one token, one envelope.

Passed between the processes of a run as a JSON file whose path is in the environment variable `BENCH_SAMPLE`.
"""

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "BENCH_SAMPLE"
HTTP_MEMBERS = (
    "action",
    "controller",
    "error",
    "headers",
    "node",
    "requestId",
    "result",
    "status",
    "volatile",
)
WEBSOCKET_MEMBERS = (*HTTP_MEMBERS, "room")


@dataclass(frozen=True, slots=True)
class Sample:
    """`result` is the envelope's member of that name; the two answers are our server's own, byte for byte: the whole
    HTTP response, and the payload of a WebSocket message whose `requestId` has 36 characters."""

    token: str
    node: str
    result: dict[str, object]
    http_answer: bytes
    websocket_answer: bytes

    def write(self, path: Path) -> None:
        """Leave the sample for the servers under test."""
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


def stand_in() -> Sample:
    """Give a sample of about the real sizes, for runs in which our own server can't be started."""
    user: dict[str, object] = {
        "_id": "bench",
        "_source": {
            "profileIds": ["admin"],
            "name": "Bench",
            "_kuzzle_info": {
                "author": "admin",
                "createdAt": 1700000000000,
                "updatedAt": None,
                "updater": None,
            },
        },
        "strategies": ["local"],
    }
    envelope = {
        "action": "getCurrentUser",
        "controller": "auth",
        "error": None,
        "headers": {},
        "node": "manykeys",
        "requestId": "0" * 36,
        "result": user,
        "status": 200,
        "volatile": None,
    }
    body = json.dumps(envelope, separators=(",", ":")).encode()
    message = json.dumps({**envelope, "room": "0" * 36}, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Sample("e" * 220, "manykeys", user, head.encode() + body, message)
