"""A bare ASGI function, run by uvicorn and by granian: no framework, no routing, no lifespan."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bench.peers.answers import me_over_http

Message = MutableMapping[str, Any]


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer any request with the user of its bearer token."""
    authorization = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
            break
    status, body = me_over_http(authorization)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
