"""uvicorn with httptools and uvloop, one process, no access log, no headers of its own."""

import sys

import uvicorn

if __name__ == "__main__":
    uvicorn.run(
        "bench.peers.asgi:app",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_keep_alive=600,
    )
