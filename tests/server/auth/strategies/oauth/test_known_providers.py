"""The best-known providers, both legs: what they answer is written by hand after their
documentation, and given by an adapter in the place of the one that opens sockets."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from server.auth.strategies.federated import Declined
from server.auth.strategies.oauth.provider import Provider
from server.auth.strategies.oauth.settings import OAuthSettings
from tests.server.auth.strategies.oauth.test_backends import HOME, PEM
from tests.support.issuer import KEY, KID, private_key
from tests.support.known_providers import KNOWN, TOKEN


class Answering(BaseAdapter):
    """Answers what is asked for, by what its address begins with; the longest one counts."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        super().__init__()
        self.answers = answers
        self.begun: dict[str, object] = {}
        self.asked: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, **more: object) -> requests.Response:
        """See `BaseAdapter`."""
        self.asked.append(request)
        url = str(request.url)
        found = [start for start in self.answers if url.partition("?")[0] == start]
        found = found or [start for start in self.answers if url.startswith(start)]
        assert found, f"nobody answers {url}"
        answer = self.answers[max(found, key=len)]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            takes_one = getattr(answer, "__code__", None) and answer.__code__.co_argcount  # type: ignore[attr-defined]
            answer = answer(self.begun) if takes_one else answer()  # type: ignore[operator]
        response = requests.Response()
        response.status_code, response.url, response.request = 200, url, request
        response.raw = HTTPResponse(BytesIO(json.dumps(answer).encode()), preload_content=False)
        return response

    def close(self) -> None:
        """See `BaseAdapter`."""


def keycloak_key() -> str:
    """Give the public key as Keycloak shows it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = private_key(KID).public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    return "".join(pem.splitlines()[1:-1])


def made(name: str, **changed: object) -> tuple[Provider, Answering]:
    """Give a provider whose questions are answered here."""
    settings, answers, _ = KNOWN[name]
    secrets = {"KEYCLOAK": keycloak_key(), "APPLE": PEM}
    filled = {key: secrets.get(str(value), value) for key, value in settings.items()}
    given = OAuthSettings(
        backend=name, key=KEY, secret="s" * 32, callback_url=HOME, settings=filled
    )
    provider, adapter = Provider(given), Answering({**answers, **changed})
    for scheme in ("https://", "http://"):
        provider.web._session.mount(scheme, adapter)
    return provider, adapter


def went(provider: Provider, adapter: Answering, **more: str) -> object:
    """Go through a login, and give who it was."""
    url, session = provider.begin("the-state", {})
    adapter.begun = dict(parse_qsl(urlsplit(url).query))
    assert adapter.begun["state"] == "the-state"
    assert adapter.begun["redirect_uri"] == HOME
    back = {"code": "the-code", "state": "the-state", **more}
    return provider.complete("the-state", back, json.loads(json.dumps(session)))


@pytest.mark.parametrize("name", KNOWN)
def test_both_legs(name: str) -> None:
    """O2, O6, O8: the code goes with the verifier, the id is the provider's, its tokens are
    gone."""
    provider, adapter = made(name)
    profile = went(provider, adapter)
    assert profile.uid == KNOWN[name][2]
    assert "provider-access" not in repr(dict(profile.attributes))
    exchanges = [
        sent
        for one in adapter.asked
        if (sent := f"{one.body or ''}&{urlsplit(str(one.url)).query}").find("the-code") >= 0
    ]
    assert len(exchanges) == 1
    assert "code_verifier=" in exchanges[0]
    assert adapter.begun["code_challenge_method"] == "S256"


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("answer", [{}, [], None, "x", {"error": "server"}], ids=repr)
def test_odd_answers(name: str, answer: object) -> None:
    """O7: to every question but those about the provider itself; never anything but a refusal."""
    for changed in KNOWN[name][1]:
        if "well-known" in changed:
            continue
        provider, adapter = made(name, **{changed: answer})
        try:
            profile = went(provider, adapter)
        except Declined as reason:
            assert "the-code" not in str(reason)
            continue
        assert profile.uid == KNOWN[name][2], (changed, profile)


@pytest.mark.parametrize("name", KNOWN)
def test_another_state(name: str) -> None:
    """O1: the library looks at the state once more."""
    provider, adapter = made(name)
    _, session = provider.begin("the-state", {})
    with pytest.raises(Declined):
        provider.complete("the-state", {"code": "c", "state": "another"}, session)
    assert TOKEN["access_token"] not in repr(adapter.asked)


def test_unverified_addresses_of_google() -> None:
    """Google's word counts only for addresses it has verified."""
    start = "https://www.googleapis.com/oauth2/v3/userinfo"
    told = {"sub": "1", "email": "a@b.test", "email_verified": False}
    provider, adapter = made("google-oauth2", **{start: told})
    with pytest.raises(Declined, match="email_verified"):
        went(provider, adapter)


def test_google_says_that_it_is_google() -> None:
    """O3, RFC 9207."""
    provider, adapter = made("google-oauth2")
    went(provider, adapter, iss="https://accounts.google.com")
    with pytest.raises(Declined, match="from another issuer"):
        went(provider, adapter, iss="https://evil.test")


def test_who_is_let_in() -> None:
    """The backend's own settings about that count."""
    provider, adapter = made("google-oauth2")
    provider.values["WHITELISTED_DOMAINS"] = ["example.test"]
    with pytest.raises(Declined, match="do not allow this user"):
        went(provider, adapter)
    provider.values["WHITELISTED_DOMAINS"] = ["gmail.test"]
    went(provider, adapter)
