"""aiohttp, answering every request and echoing every message."""

import sys

from aiohttp import WSMsgType, web

_MOST_BYTES = 1 << 25


async def answer(request: web.Request) -> web.StreamResponse:
    """Echo on a socket, or read the body and succeed."""
    if request.headers.get("upgrade", "").lower() == "websocket":
        socket = web.WebSocketResponse(max_msg_size=_MOST_BYTES)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket
    await request.read()
    return web.json_response({})


if __name__ == "__main__":
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)
