"""What a server with TLS of its own needs that asks for client certificates, and Ann's own one."""

import ssl
from dataclasses import replace
from pathlib import Path

from server.config.model import Config
from tests.support.certificates import Authority as Signer
from tests.support.certificates import Files
from tests.support.pki import Authority, Shown
from tests.support.server import cheap_config

ROOT, OTHER_ROOT = Authority("root"), Authority("other root")
BETWEEN = Authority("between", ROOT)
ANN = BETWEEN.sign("ann")


class House:
    """Files of a server that asks for client certificates of ROOT and OTHER_ROOT; the strategy
    trusts ROOT alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signer = Signer(folder)
        self.files: Files = self.signer.sign("server")
        self.client_ca = folder / "clients.pem"
        self.client_ca.write_text(ROOT.pem + OTHER_ROOT.pem)
        self.ca = folder / "root.pem"
        self.ca.write_text(ROOT.pem)

    def context(self, shown: Shown | None = None) -> ssl.SSLContext:
        """Give what a client connects with."""
        context = ssl.create_default_context(cafile=str(self.signer.cert))
        if shown is not None:
            context.load_cert_chain(shown.write(self.folder / "shown.pem"))
        return context

    def config(self, trusted: tuple[str, ...] = (), **table: object) -> Config:
        """Give the configuration of such a server."""
        config = cheap_config(strategies={"card": {"use": "x509", "ca": [str(self.ca)], **table}})
        tls = replace(
            config.server.tls,
            cert=str(self.files.cert),
            key=str(self.files.key),
            client_ca=str(self.client_ca),
        )
        return replace(config, server=replace(config.server, tls=tls, trusted_proxies=trusted))
