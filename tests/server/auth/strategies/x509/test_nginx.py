"""docs/strategies/x509.md as it stands: the configurations in it, with curl and nginx (security
checks D5, H8)."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.programs import find_program
from tests.server.app.test_serve import serving
from tests.server.net.test_bind import serving_at
from tests.support.certificates import Authority as Signer
from tests.support.nginx import nginx_serving
from tests.support.pki import Authority, Shown
from tests.support.waiting import in_time

PAGE = (Path(__file__).parents[5] / "docs/strategies/x509.md").read_text()
ROOT = Authority("root")
BETWEEN = Authority("between", ROOT)
ANN = BETWEEN.sign("ann", x509.RFC822Name("ann@mail.test"))


def block(language: str, containing: str) -> str:
    """Give the block of the page in which something stands."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


class Folder:
    """All files the page names."""

    def __init__(self, folder: Path) -> None:
        signer = Signer(folder)
        files = signer.sign("server")
        self.folder, self.authority = folder, signer.cert
        (folder / "clients.pem").write_text(ROOT.pem)
        (folder / "between.pem").write_text(BETWEEN.pem)
        self.names = {"server.pem": files.cert, "server.key": files.key}

    def put(self, text: str) -> str:
        """Give a text of the page with the files of this folder."""
        return re.sub(r"/(?:etc|run)/(?:manykeys|nginx)", str(self.folder), text)

    async def log_in(self, port: int, shown: Shown | None, *more: str) -> dict[str, object]:
        """Log in with curl."""
        command = [find_program("curl"), "-s", "-X", "POST", "--cacert", str(self.authority)]
        if shown is not None:
            command += ["--cert", str(shown.write(self.folder / "shown.pem"))]
        process = await asyncio.create_subprocess_exec(
            *(*command, *more, f"https://127.0.0.1:{port}/_login/card"),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await in_time(process.communicate())
        answer: dict[str, object] = json.loads(printed)
        return answer


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_our_own_port(folder: Folder, tmp_path: Path) -> None:
    config = tmp_path / "keys.toml"
    config.write_text(folder.put(block("toml", "clientCa")))
    async with serving(tmp_path / "keys.db", "--config", str(config)) as server:
        first, second = [await folder.log_in(server.port, ANN) for _ in range(2)]
        assert first["status"] == second["status"] == 200, first
        assert first["result"]["_id"] == second["result"]["_id"]  # type: ignore[index]
        assert (await folder.log_in(server.port, None))["status"] == 401


async def test_behind_nginx(folder: Folder, tmp_path: Path) -> None:
    """A client's own field does not get through, with a certificate or without."""
    config = tmp_path / "keys.toml"
    config.write_text(folder.put(block("toml", "uds")))
    where = tmp_path / "keys.sock"
    site = folder.put(block("nginx", "ssl_verify_client"))
    async with (
        serving_at(f"unix:{where}", "--config", str(config)),
        nginx_serving(site, tmp_path) as port,
    ):
        answer = await folder.log_in(port, ANN)
        assert answer["status"] == 200, answer
        forged = ("-H", f"X-Client-Cert: {ANN.pem.replace(chr(10), '%0A')}")
        assert (await folder.log_in(port, None, *forged))["status"] == 401
        again = await folder.log_in(port, ANN, *forged)
        assert again["result"]["_id"] == answer["result"]["_id"]  # type: ignore[index]
        assert (await folder.log_in(port, None))["status"] == 401
