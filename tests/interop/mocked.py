"""A provider of OpenID Connect in Python, somebody else's, where whoever comes is who he says."""

import http.client
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from urllib.parse import urlencode, urlsplit

from tests.interop.programs import DEADLINE_S


@contextmanager
def mocking() -> Iterator[str]:
    """Run the provider, and give its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries it uses, about each other
        mock = import_module("oidc_provider_mock")
        with mock.run_server_in_thread() as site:
            yield f"http://localhost:{site.server_port}"


def agree(location: str, subject: str = "ann") -> str:
    """Do what somebody does on the provider's page, and give the address he is sent back to."""
    parts = urlsplit(location)
    connection = http.client.HTTPConnection(parts.netloc, timeout=DEADLINE_S)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        said = urlencode({"sub": subject})
        connection.request("POST", f"{parts.path}?{parts.query}", said, headers)
        answer = connection.getresponse()
        assert answer.status == 302, answer.read()
        return str(answer.headers["Location"])
    finally:
        connection.close()
