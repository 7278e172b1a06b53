"""A real server in the test's own loop, and small clients that speak to it byte by byte."""

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

from server.api.actions import find
from server.app.application import App, start
from server.config.model import Config
from tests.support.waiting import deadline, in_time

TRANSPORTS = ("http", "query", "websocket")
WAIT_S = 20.0
PASSWORD = "correct horse"
Envelope = dict[str, object]


def cheap_config(**sections: object) -> Config:
    """Give a configuration for tests: any free port, the cheapest hashing, no limit on requests."""
    config = Config()
    security = replace(
        config.security, passwords=replace(config.security.passwords, cost=4, threads=1)
    )
    server = replace(config.server, port=0)
    return replace(config, **{"security": security, "server": server, **sections})


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Envelope:
        """The body, read."""
        return json.loads(self.body)


@dataclass
class Http:
    """One HTTP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request and read its answer."""
        fields = {"Host": "localhost"}
        payload = b""
        if body is not None:
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(payload))}
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (fields | (headers or {})).items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + payload)
        return await self.read(has_body=method != "HEAD")

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, *, has_body: bool = True) -> Answer:
        """Read one answer; EOFError (IncompleteReadError) if there is none."""
        async with deadline():
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {}
            for line in lines:
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            length = int(headers.get("content-length", "0")) if has_body else 0
            body = await self.reader.readexactly(length)
        return Answer(int(first.split(" ")[1]), headers, body)

    async def read_end(self) -> bytes:
        """Read until the server closes."""
        async with deadline():
            return await self.reader.read()

    def close(self) -> None:
        """Close."""
        self.writer.close()


@dataclass
class Socket:
    """One WebSocket connection."""

    http: Http
    heard: list[Envelope] = field(default_factory=list)

    async def ask(self, payload: object) -> Envelope:
        """Send one message and read its answer; notifications before it go to `heard`."""
        await self.send(payload)
        while "type" in (message := await self.read()):
            self.heard.append(message)
        return message

    async def send(self, payload: object) -> None:
        """Send one text message."""
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self.http.send(write_client_frame(0x81, text))

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame: its first byte and its payload."""
        reader = self.http.reader
        async with deadline():
            first, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8), "big")
            return first, await reader.readexactly(size)

    async def read(self) -> Envelope:
        """Read one text message."""
        first, payload = await self.read_frame()
        assert first == 0x81, (first, payload)
        return json.loads(payload)


def write_client_frame(first: int, payload: bytes) -> bytes:
    """Give a masked frame."""
    mask, size = os.urandom(4), len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@dataclass
class Running:
    """A server under test; `tls` is what its clients connect with, None without TLS."""

    app: App
    port: int
    tls: ssl.SSLContext | None = None
    opened: list[Http] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)

    async def connect(self) -> Http:
        """Open a HTTP connection; it is closed with the server."""
        opening = asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        http = Http(*await in_time(opening))
        self.opened.append(http)
        return http

    async def open_socket(self, headers: dict[str, str] | None = None) -> Socket:
        """Open a WebSocket connection."""
        http = await self.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        }
        answer = await http.ask("GET", "/", headers=fields | (headers or {}))
        assert answer.status == 101, answer
        return Socket(http)

    async def call(
        self,
        transport: str,
        full_name: str,
        *,
        token: str | None = None,
        body: object = None,
        **args: object,
    ) -> Envelope:
        """Ask for an action over one of `TRANSPORTS` and give the envelope."""
        controller, _, action = full_name.partition(":")
        payload = {"controller": controller, "action": action, **args}
        if body is not None:
            payload["body"] = body
        if transport == "websocket":
            if token is not None:
                payload["jwt"] = token
            if not self.sockets:
                self.sockets.append(await self.open_socket())
            return await self.sockets[0].ask(payload)
        http = await self.connect()
        if transport == "query":
            answer = await http.ask("POST", "/_query", payload, token=token)
        else:
            method, path = route_of(controller, action, args)
            answer = await http.ask(method, path, body, token=token)
        http.close()
        assert answer.json["status"] == answer.status
        return answer.json

    async def create_admin(self) -> str:
        """Make the first administrator, `admin`, and give a token of his."""
        body = {"credentials": {"local": {"username": "admin", "password": PASSWORD}}}
        code = self.app.services.first_admin.code
        created = await self.call(
            "http", "security:createFirstAdmin", body=body, _id="admin", setupCode=code
        )
        assert created["status"] == 200, created
        return await self.login("admin")

    async def create_user(self, admin: str, kuid: str, *profile_ids: str) -> str:
        """Make a user who logs in with his kuid and `PASSWORD`, and give a token of his."""
        body = {
            "content": {"profileIds": list(profile_ids or ("default",))},
            "credentials": {"local": {"username": kuid, "password": PASSWORD}},
        }
        made = await self.call("query", "security:createUser", token=admin, body=body, _id=kuid)
        assert made["status"] == 200, made
        return await self.login(kuid)

    async def login(self, username: str, **args: object) -> str:
        """Log in and give the token."""
        body = {"username": username, "password": PASSWORD}
        answer = await self.call("query", "auth:login", body=body, strategy="local", **args)
        assert answer["status"] == 200, answer
        return answer["result"]["jwt"]


def route_of(
    controller: str, action: str, args: dict[str, object], *, can_get: bool = True
) -> tuple[str, str]:
    """Choose the route whose parameters are all given, and write its path as a client would."""
    entry = find(controller, action)
    assert entry is not None, f"{controller}:{action} has no route"
    for route in entry.routes:
        names = [part[1:] for part in route.path.split("/") if part.startswith(":")]
        is_allowed = can_get or route.verb != "GET"
        if is_allowed and all(args.get(name) is not None for name in names):
            break
    rest = {name: value for name, value in args.items() if name not in names}
    path = "/".join(
        quote(str(args[part[1:]]), safe="") if part.startswith(":") else part
        for part in route.path.split("/")
    )
    fields = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in rest.items()
        if value is not None
    }
    return route.verb, path + ("?" + urlencode(fields) if fields else "")


@asynccontextmanager
async def running(
    config: Config | None = None, *, data: str = ":memory:", open_mode: bool = False
) -> AsyncIterator[Running]:
    """Run a server for the length of a test."""
    app = await start(config or cheap_config(), data=data, open_mode=open_mode)
    server = Running(app, int(app.address.rpartition(":")[2]))
    try:
        yield server
    finally:
        for http in server.opened:
            http.close()
        await app.stop()
