"""picows (Cython) on uvloop: its listener gets whole frames and writes whole frames."""

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.peers.answers import me_over_websocket


class Listener(WSListener):
    """Answers each text frame; the bench's messages are never fragmented."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer at once, out of the read callback."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(WSMsgType.TEXT, me_over_websocket(frame.get_payload_as_memoryview()))


def listen(request: WSUpgradeRequest) -> WSListener:
    """Take every connection."""
    return Listener()


async def main(port: int) -> None:
    """Listen until the process is ended; its read buffers hold a message of the bench at once."""
    server = await ws_create_server(
        listen, "127.0.0.1", port, read_buffer_init_size=1024, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
