"""docs/operating.md as it stands: its configuration behind its nginx, its backup, its user who
watches."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import ssl
import stat
import sys
from contextlib import closing
from pathlib import Path

from server.cli import main as cli
from tests.docs.test_pages import ROOT
from tests.server.app.test_serve import create_admin, login, serving
from tests.server.net.test_bind import serving_at
from tests.support.certificates import Authority
from tests.support.commands import CHEAP
from tests.support.nginx import nginx_serving
from tests.support.server import Http, Socket
from tests.support.waiting import in_time

PAGE = (ROOT / "docs/operating.md").read_text()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def block(language: str, containing: str = "") -> str:
    """Give the block of the page in which something stands."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def put(text: str, folder: Path) -> str:
    """Give a text of the page with the files of a folder."""
    return re.sub(r"/(?:etc|run|var/lib)/(?:manykeys|nginx)", str(folder), text)


def has_user(data: Path) -> bool:
    """Tell whether a copy of the database has anybody but those who are there at first."""
    with closing(sqlite3.connect(data)) as opened:
        return bool(opened.execute("SELECT 1 FROM users WHERE kuid = 'admin'").fetchone())


async def test_behind_nginx(tmp_path: Path) -> None:
    """Requests pass and sockets too, and who comes that way is not taken for local."""
    authority = Authority(tmp_path)
    authority.sign("server")
    config = tmp_path / "keys.toml"
    config.write_text(put(block("toml"), tmp_path))
    where = f"unix:{tmp_path}/keys.sock"
    tls = ssl.create_default_context(cafile=str(authority.cert))
    async with (
        serving_at(where, "--config", str(config)),
        nginx_serving(put(block("nginx"), tmp_path), tmp_path) as port,
    ):
        http = Http(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
        assert (await http.ask("GET", "/_healthcheck")).status == 200
        assert (await http.ask("POST", "/_createFirstAdmin", {})).status == 401
        await http.ask("GET", "/", headers=UPGRADE)
        answer = await Socket(http).ask({"controller": "auth", "action": "getCurrentUser"})
        assert answer["result"]["_id"] == "-1"
        http.close()


async def test_a_backup_has_what_the_file_alone_lacks(tmp_path: Path) -> None:
    data, backup = tmp_path / "manykeys.db", tmp_path / "backup.db"
    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        alone = tmp_path / "alone.db"
        shutil.copy(data, alone)
        command = put(block("sh", "umask"), tmp_path).replace(
            "/opt/manykeys/bin/python", sys.executable
        )
        process = await asyncio.create_subprocess_exec("bash", "-ec", command, cwd=tmp_path)
        assert await in_time(process.wait()) == 0
        assert not has_user(alone), "else the page warns of nothing"
        assert has_user(backup)
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        http.close()
        await server.stop()
    for name in (data, Path(f"{data}-wal"), Path(f"{data}-shm")):
        name.unlink(missing_ok=True)
    os.replace(backup, data)
    async with serving(data) as server:
        http = await server.connect()
        await login(http)
        http.close()


async def test_who_watches(tmp_path: Path) -> None:
    """What the page lets him see, and no more."""
    data, lines = tmp_path / "manykeys.db", tmp_path / "watch.jsonl"
    lines.write_text(block("json", "watcher"))
    async with serving(data) as server:
        http = await server.connect()
        await create_admin(http)
        arguments = ["import", str(lines), "--data", str(data), *CHEAP]
        assert await asyncio.to_thread(cli.main, arguments) == 0
        asked = re.search(r"localhost:7512(\S+)'", block("sh", "api-keys"))
        given = re.search(r"-d '(.*)'", block("sh", "api-keys"))
        assert asked is not None and given is not None
        token = await login(http)
        made = await http.ask("POST", asked[1], json.loads(given[1]), token=token)
        key = made.json["result"]["_source"]["token"]
        for path in re.findall(r"^\| `GET (/\w+)`", PAGE, re.MULTILINE):
            assert (await http.ask("GET", path, token=key)).status == 200, path
        assert (await http.ask("GET", "/_getConfig", token=key)).status == 403
        http.close()
