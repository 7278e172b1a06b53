"""A nginx in front of the server, as a page of the documents configures it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.interop.programs import find_program
from tests.support.ports import free_port
from tests.support.waiting import deadline, in_time


@asynccontextmanager
async def nginx_serving(site: str, folder: Path) -> AsyncIterator[int]:
    """Run nginx with a `server` block until the block is left; give the port it listens on instead
    of 443."""
    nginx = find_program("nginx", "/usr/sbin/nginx")
    port = free_port()
    site = site.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    proxy = await asyncio.create_subprocess_exec(
        *(nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"))
    )
    try:
        await until_open(port)
        yield port
    finally:
        proxy.terminate()
        await in_time(proxy.wait())


async def until_open(port: int) -> None:
    """Wait until somebody listens."""
    async with deadline():
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.005)
                continue
            writer.close()
            return
