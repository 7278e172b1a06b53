"""Users with an application for one-time codes, as browsers and sockets."""

from dataclasses import replace

import pyotp

from server.config.model import Config
from tests.support.clock import Clock
from tests.support.login_steps import Client
from tests.support.server import PASSWORD, Envelope, Running, cheap_config

CREATE, UPDATE = "auth:createMyCredentials", "auth:updateMyCredentials"
DELETE, GET = "auth:deleteMyCredentials", "auth:getMyCredentials"
STEP_MS = 30_000


def mfa_config(totp: dict[str, object] | None = None, **mfa: object) -> Config:
    """Give a configuration with codes as a second factor, and this policy."""
    config = cheap_config(strategies={"totp": {"use": "totp", **(totp or {})}})
    security = config.security
    return replace(config, security=replace(security, mfa=replace(security.mfa, **mfa)))


class App:
    """The application on somebody's phone, whose clock is right."""

    def __init__(self, uri: str, clock: Clock) -> None:
        made = pyotp.parse_uri(uri)
        assert isinstance(made, pyotp.TOTP)
        self.totp = made
        self.clock = clock

    def code(self, steps: int = 0) -> str:
        """Give the code of now, or of so many steps later."""
        return self.totp.at(self.clock.now_ms // 1000, counter_offset=steps)

    def next_code(self) -> str:
        """Wait for a code that has not been shown yet, and give it."""
        self.clock.now_ms += STEP_MS
        return self.code()

    def wrong_code(self) -> str:
        """Give a code that is none of those around now."""
        near = {self.code(steps) for steps in range(-3, 4)}
        return next(text for text in map("{:06}".format, range(10)) if text not in near)


class Person(Client):
    """A browser or socket of somebody with a password."""

    async def ask(self, full_name: str, token: str | None = None, **args: object) -> Envelope:
        """Ask for an action where the steps of a login go."""
        controller, action = full_name.split(":")
        sent = {"controller": controller, "action": action, **args}
        if self.transport == "websocket":
            if self._socket is None:
                self._socket = await self.server.open_socket(self.headers)
            return await self._socket.ask(sent | ({"jwt": token} if token else {}))
        if self._http is None:
            self._http = await self.server.connect()
        headers = {"Cookie": self.cookie} if self.cookie else {}
        answer = await self._http.ask("POST", "/_query", sent, token=token, headers=headers)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer.json

    async def first(self, name: str = "ann") -> Envelope:
        """Show the first factor."""
        return await self.login("local", username=name, password=PASSWORD)

    async def enrol(self, token: str, clock: Clock) -> tuple[App, list[str]]:
        """Enrol while logged in, and give the application and the recovery codes."""
        asked = await self.ask(CREATE, token, strategy="totp", body={})
        assert asked["status"] == 200, asked
        app = App(asked["result"]["challenge"]["uri"], clock)
        body = {"state": asked["result"]["state"], "code": app.code()}
        done = await self.ask(CREATE, token, strategy="totp", body=body)
        assert done["status"] == 200, done
        return app, done["result"]["recoveryCodes"]


async def people(server: Running) -> tuple[str, str]:
    """Make an administrator and Ann, and give their tokens."""
    admin = await server.create_admin()
    return admin, await server.create_user(admin, "ann")
