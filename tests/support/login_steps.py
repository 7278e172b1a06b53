"""A strategy of several steps, and clients that go through them as browsers and sockets do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from server.auth.strategies.base import (
    Authenticated,
    Challenge,
    LoginAttempt,
    Outcome,
    Redirect,
    Refused,
)
from tests.support.sample_strategy import Badge
from tests.support.server import Envelope, Http, Running, Socket

AWAY = "https://id.test/authorize"


class Steps(Badge):
    """Sends whoever comes away, or challenges who says so; the code `ann` proves him to be Ann."""

    async def verify(self, attempt: LoginAttempt) -> Outcome:
        """See `Strategy`."""
        kind = attempt.args.get("kind") or attempt.body.get("kind")
        if kind is None:
            return Redirect(f"{AWAY}?{urlencode({'state': attempt.state})}", kept={"of": "ann"})
        return Challenge({"next": "code"}, kept={"of": "ann"}, is_portable=kind == "portable")

    async def resume(self, attempt: LoginAttempt, kept: Mapping[str, object]) -> Outcome:
        """See `Resumes`."""
        code = attempt.args.get("code") or attempt.body.get("code")
        if code == "again":
            return Challenge({"next": "code"}, kept=kept)
        return Authenticated("ann") if code == kept["of"] else Refused("another code")

    def account_of(self, attempt: LoginAttempt) -> str:
        """See `Strategy`."""
        return "ann"


@dataclass
class Client:
    """A browser, or a socket."""

    server: Running
    transport: str
    headers: dict[str, str] = field(default_factory=dict)
    cookie: str = ""
    set_cookie: str = ""
    _http: Http | None = None
    _socket: Socket | None = None

    async def login(self, strategy: str = "steps", **args: object) -> Envelope:
        """Take a step."""
        sent = {"controller": "auth", "action": "login", "strategy": strategy, **args}
        if self.transport == "websocket":
            if self._socket is None:
                self._socket = await self.server.open_socket(self.headers)
            return await self._socket.ask(sent)
        if self._http is None:
            self._http = await self.server.connect()
        headers = self.headers | ({"Cookie": self.cookie} if self.cookie else {})
        if self.transport == "query":
            answer = await self._http.ask("POST", "/_query", sent, headers=headers)
        else:
            path = f"/_login/{strategy}?{urlencode(args)}"
            answer = await self._http.ask("GET", path, headers=headers)
        # A device that becomes known at the end is not what goes on with a login.
        if "set-cookie" in answer.headers and "loginDevice=" not in answer.headers["set-cookie"]:
            self.set_cookie = answer.headers["set-cookie"]
            self.cookie = self.set_cookie.partition(";")[0]
        assert "set-cookie" not in (answer.json.get("headers") or {})
        assert answer.status == answer.json["status"]
        if answer.status == 302:
            assert answer.headers["location"] == answer.json["result"]["headers"]["Location"]
        return answer.json


def state_of(answer: Envelope) -> str:
    """Give what names the next step."""
    result = answer["result"]
    if answer["status"] == 200:
        return result["state"]
    location = result["headers"]["Location"]
    assert location.startswith(f"{AWAY}?state=")
    return location.removeprefix(f"{AWAY}?state=")
