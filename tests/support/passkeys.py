"""Pages that make passkeys and log in by them, over all transports; where they run is given."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from server.storage.rows import Table
from tests.support.authenticator import ORIGIN, RP_ID, Answers, Authenticator
from tests.support.server import Envelope, Http, Running, Socket, cheap_config, route_of, running

TABLE: dict[str, object] = {
    "use": "passkey",
    "rpId": RP_ID,
    "rpName": "Keys",
    "origins": [ORIGIN],
}
CREATE, UPDATE = "auth:createMyCredentials", "auth:updateMyCredentials"
GET, DELETE = "auth:getMyCredentials", "auth:deleteMyCredentials"
PAGES = ("query", "websocket")


@dataclass
class Page:
    """One page in one browser."""

    server: Running
    transport: str = "query"
    token: str | None = None
    cookie: str = ""
    _http: Http | None = None
    _socket: Socket | None = None
    strategy: str = "passkey"

    async def ask(self, full_name: str, body: object = None, **args: object) -> Envelope:
        """Send a request with the page's token and cookie."""
        controller, action = full_name.split(":")
        sent = {"controller": controller, "action": action, "strategy": self.strategy, **args}
        if body is not None:
            sent["body"] = body
        if self.transport == "websocket":
            self._socket = self._socket or await self.server.open_socket()
            return await self._socket.ask({**sent, "jwt": self.token} if self.token else sent)
        self._http = self._http or await self.server.connect()
        headers = {"Cookie": self.cookie} if self.cookie else {}
        method, path, payload = "POST", "/_query", cast(object, sent)
        if self.transport == "http":
            given = {"strategy": self.strategy, **args}
            method, path = route_of(controller, action, given, can_get=body is None)
            payload = body
        answer = await self._http.ask(method, path, payload, token=self.token, headers=headers)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer.json

    async def begin(self, full_name: str = "auth:login") -> tuple[dict, str]:
        """Give what the page is asked to have signed, and the name of the next step."""
        asked = await self.ask(full_name, {})
        assert asked["status"] == 200, asked
        return asked["result"]["challenge"], asked["result"]["state"]

    async def register(
        self, key: Authenticator, name: str = "", wrong: Answers | None = None, **how: str
    ) -> Envelope:
        """Make a key for who is logged in."""
        asked, state = await self.begin(CREATE)
        credential = key.create(asked, wrong, **how)
        return await self.ask(CREATE, {"state": state, "credential": credential, "name": name})

    async def log_in(self, key: Authenticator, wrong: Answers | None = None) -> Envelope:
        """Log in by a key."""
        asked, state = await self.begin()
        return await self.finish(state, key.get(asked, wrong))

    async def finish(self, state: str, credential: object) -> Envelope:
        """Take the last step of a login."""
        return await self.ask("auth:login", {"state": state, "credential": credential})


@dataclass
class Place:
    """A server with passkeys, an administrator, and Ann with one key."""

    server: Running
    admin: str
    ann: str
    key: Authenticator = field(default_factory=Authenticator)

    def page(self, transport: str = "query", token: str | None = None) -> Page:
        """Open a page."""
        return Page(self.server, transport, token)

    async def counts(self) -> list[int]:
        """Count what a refused answer must not add to."""
        storage = self.server.app.services.storage
        tables = (Table.SESSIONS, Table.PASSKEYS, Table.CREDENTIALS, Table.USERS)
        return [await storage.count(table) for table in tables]


@asynccontextmanager
async def place_of(key: Authenticator | None = None, **settings: object) -> AsyncIterator[Place]:
    """Run such a server."""
    config = cheap_config(strategies={"passkey": TABLE | settings})
    async with running(config) as server:
        admin = await server.create_admin()
        place = Place(server, admin, await server.create_user(admin, "ann"))
        place.key = key or place.key
        made = await place.page(token=place.ann).register(place.key, "laptop")
        assert made["status"] == 200, made
        yield place
