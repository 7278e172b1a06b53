"""What people do with an authentication server, each answer checked: the load of
`bench.extra.soak`.

Every visitor has a user of his own, so that what he expects does not depend on the others.
"""

import json
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.loads.http_client import (
    Answer,
    WrongAnswer,
    ask,
    ask_websocket,
    connect,
    exchange,
    frame_payload,
    open_websocket,
    read_frame,
    write_request,
)

PASSWORD = "the same long Passphrase for 1 and all"
_PROFILES = ["admin"]  # the one without a limit of requests a second
_UNAUTHORIZED, _NOT_FOUND, _BAD = 401, 404, 400
_GRACE_S = 1.0
_MOST_ASKED = 20


def expect(answer: Answer, status: int, what: str) -> Answer:
    """Give the answer back; WrongAnswer unless it has this status."""
    if answer.status != status:
        raise WrongAnswer(f"{what}: {answer.status} instead of {status}: {answer.json}")
    return answer


@dataclass
class Visitor:
    """One user and what he does; `done` counts his visits by kind."""

    port: int
    kuid: str
    admin: str
    chance: random.Random
    done: dict[str, int] = field(default_factory=dict)

    def arrive(self) -> None:
        """Have an account."""
        body = {
            "content": {"profileIds": _PROFILES},
            "credentials": {"local": {"username": self.kuid, "password": PASSWORD}},
        }
        path = f"/users/{self.kuid}/_create"
        expect(ask(self.port, "POST", path, body=body, token=self.admin), 200, "createUser")

    def visit(self) -> None:
        """Do one thing, chosen by chance."""
        way = self.chance.choice(self.ways())
        way()
        self.done[way.__name__] = self.done.get(way.__name__, 0) + 1

    def ways(self) -> list[Callable[[], None]]:
        """Give all there is to do, what is done most twice."""
        return [
            self.browse,
            self.browse,
            self.refresh,
            self.listen,
            self.leave_everywhere,
            self.fail,
            self.break_off,
            self.come_back_anew,
        ]

    def login(self) -> str:
        """Log in and give the token."""
        body = {"username": self.kuid, "password": PASSWORD}
        answer = ask(self.port, "POST", "/_login/local", body=body)
        return str(expect(answer, 200, "login").result()["jwt"])

    def check_in(self, token: str, connection: socket.socket | None = None) -> None:
        """Check that a token stands for this user."""
        answer = ask(self.port, "GET", "/_me", token=token, connection=connection)
        if expect(answer, 200, "getCurrentUser").result()["_id"] != self.kuid:
            raise WrongAnswer(f"{self.kuid} is taken for another: {answer.json}")

    def check_out(self, token: str) -> None:
        """Check that a token stands for nobody."""
        expect(ask(self.port, "GET", "/_me", token=token), _UNAUTHORIZED, "a token that ended")

    def browse(self) -> None:
        """Log in, ask for much on one connection, log out."""
        token = self.login()
        with connect(self.port) as connection:
            for _ in range(self.chance.randrange(_MOST_ASKED)):
                self.check_in(token, connection)
        expect(ask(self.port, "POST", "/_logout", token=token), 200, "logout")
        self.check_out(token)

    def refresh(self) -> None:
        """Refresh a token: the old one expires after its grace, and a further refresh with it ends
        the whole session (RFC 9700 §4.14)."""
        old = self.login()
        answer = ask(self.port, "POST", "/_refreshToken", token=old)
        new = str(expect(answer, 200, "refreshToken").result()["jwt"])
        self.check_in(new)
        time.sleep(_GRACE_S + 0.2)
        self.check_out(old)
        self.check_in(new)
        reused = ask(self.port, "POST", "/_refreshToken", token=old)
        expect(reused, _UNAUTHORIZED, "a refresh with a spent token")
        self.check_out(new)

    def listen(self) -> None:
        """Use a token on a WebSocket, log out elsewhere, and be told of it there."""
        token = self.login()
        with open_websocket(self.port) as opened:
            asked = {"controller": "auth", "action": "getCurrentUser", "jwt": token}
            for _ in range(1 + self.chance.randrange(_MOST_ASKED)):
                answer = self._ask(opened, asked)
                if answer.get("status") != 200:
                    raise WrongAnswer(f"on a WebSocket: {answer}")
            expect(ask(self.port, "POST", "/_logout", token=token), 200, "logout")
            told = json.loads(frame_payload(read_frame(opened)))
            if told.get("type") != "TokenExpired":
                raise WrongAnswer(f"not told of the end: {told}")
            if self._ask(opened, asked).get("status") != _UNAUTHORIZED:
                raise WrongAnswer("a token that ended is good on its WebSocket")

    def leave_everywhere(self) -> None:
        """End all sessions from one of them."""
        tokens = [self.login() for _ in range(4)]
        for token in tokens:
            self.check_in(token)
        path = "/_logout?global=true"
        expect(ask(self.port, "POST", path, token=tokens[0]), 200, "global logout")
        for token in tokens:
            self.check_out(token)

    def fail(self) -> None:
        """Be wrong in several ways."""
        wrong = {"username": self.kuid, "password": "not it"}
        expect(ask(self.port, "POST", "/_login/local", body=wrong), _UNAUTHORIZED, "wrong password")
        expect(ask(self.port, "GET", "/no/such/path"), _NOT_FOUND, "unknown path")
        expect(ask(self.port, "GET", "/_me", token="x.y.z"), _UNAUTHORIZED, "no token")
        broken = write_request("POST", "/_login/local", body={}).replace(b"{}", b"{,")
        with connect(self.port) as connection:
            expect(exchange(connection, broken), _BAD, "broken JSON")

    def break_off(self) -> None:
        """Go away in the middle of a request, a frame, or an answer."""
        whole = write_request("GET", "/_serverInfo")
        for part in (whole[: self.chance.randrange(len(whole))], whole * 50):
            with connect(self.port) as connection:
                connection.sendall(part)
        with open_websocket(self.port) as opened:
            opened.sendall(b"\x81\xfe\x10")

    def come_back_anew(self) -> None:
        """Be deleted with a session open, and register again under the same name."""
        token = self.login()
        self.check_in(token)
        path = f"/users/{self.kuid}"
        expect(ask(self.port, "DELETE", path, token=self.admin), 200, "deleteUser")
        self.check_out(token)
        self.arrive()

    def _ask(self, opened: socket.socket, payload: dict[str, object]) -> dict[str, object]:
        frame = ask_websocket(opened, json.dumps(payload).encode())
        answer: dict[str, object] = json.loads(frame_payload(frame))
        return answer
