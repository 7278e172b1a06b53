"""Logins with a provider of OpenID Connect that runs beside the bench, as a browser takes them."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from bench.loads.http_client import HOST, WrongAnswer
from tests.support.issuer import Issuer, settings_for


@dataclass(frozen=True, slots=True)
class Begun:
    """A login between its two steps: what the browser comes back with."""

    query: str
    cookie: str


class NotBegun(WrongAnswer):
    """A login that was not sent to the provider, but answered with `status`."""

    def __init__(self, status: int, said: bytes) -> None:
        super().__init__(f"not sent to the provider: {status} {said!r}")
        self.status = status


def write_config(issuer: Issuer, strategies: Mapping[str, Mapping[str, object]]) -> str:
    """Give the configuration of strategies with this provider, as TOML; some have more settings."""
    lines = []
    for name, more in strategies.items():
        lines.append(f"[strategies.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in settings_for(issuer, **more).items()]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = '{one}'" for key, one in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def begin(port: int, issuer: Issuer, name: str) -> Begun:
    """Take the first step, and be at the provider, which agrees; NotBegun."""
    connection = http.client.HTTPConnection(HOST, port)
    connection.request("GET", f"/_login/{name}")
    away = connection.getresponse()
    said = away.read()
    connection.close()
    if away.status != 302:
        raise NotBegun(away.status, said)
    back = issuer.authorize(away.headers["Location"])
    query = "&".join(f"{key}={value}" for key, value in back.items())
    return Begun(query, away.headers["Set-Cookie"].partition(";")[0])


def come_back(port: int, name: str, begun: Begun) -> int:
    """Take the second step, and give the status of the answer."""
    connection = http.client.HTTPConnection(HOST, port)
    connection.request("GET", f"/_login/{name}?{begun.query}", headers={"Cookie": begun.cookie})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status
