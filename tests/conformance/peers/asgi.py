"""An ASGI application that answers every request and echoes every message."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """See the ASGI specification."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})
    else:
        await _echo(receive, send)


async def _echo(receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            text = event.get("text")
            said = {"text": text} if text is not None else {"bytes": event["bytes"]}
            await send({"type": "websocket.send", **said})
        else:
            return
