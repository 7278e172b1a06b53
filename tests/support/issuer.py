"""A provider of OpenID Connect that does what a test says, wrong things too."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Event, Thread
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

KEY, SECRET = "the-application", "a secret of the application's"
KID = "first"
Claims = dict[str, object]
Fields = dict[str, str]


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    """Give a key to sign with."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(name: str) -> dict[str, object]:
    """Give the key others verify with."""
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key(name).public_key()))
    return {**key, "kid": name, "alg": "RS256", "use": "sig"}


@dataclass
class Issuer:
    """The provider; whoever was sent to it is `claims`, of which `kept_back` are told to who asks
    for them alone. `codes` are those it has given out."""

    url: str = ""
    claims: Claims = field(
        default_factory=lambda: {"sub": "248289761001", "email": "ann@mail.test"}
    )
    kept_back: frozenset[str] = frozenset()
    changes: Callable[[Claims], None] = lambda claims: None
    sign: Callable[[Claims], str] | None = None
    description: Claims = field(default_factory=dict)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, Fields, dict[str, str]]] = field(default_factory=list)
    codes: dict[str, Fields] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    hangs_at: str = ""
    drips_at: str = ""
    released: Event = field(default_factory=Event)
    hanging: int = 0

    def authorize(self, location: str) -> Fields:
        """Do what the provider's page does for a user who agrees; give what he comes back with."""
        asked = dict(parse_qsl(urlsplit(location).query))
        assert asked["client_id"] == KEY
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{next(self.numbers)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def paths(self) -> list[str]:
        """Give what was asked for."""
        return [path for path, _, _ in self.asked]

    def answer(self, path: str, given: Fields, headers: dict[str, str]) -> tuple[int, bytes]:
        """Give status and body."""
        self.asked.append((path, given, headers))
        if path == self.hangs_at:
            self.hanging += 1
            self.released.wait(60)
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self._describe()).encode()
        if path == "/jwks":
            return 200, json.dumps({"keys": [public_jwk(KID)]}).encode()
        if path == "/token":
            return self._exchange(given, headers)
        if path == "/userinfo":
            return 200, json.dumps(self.claims).encode()
        return 404, b"{}"

    def _describe(self) -> Claims:
        paths = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
        known = {f"{name}_endpoint": f"{self.url}/{path}" for name, path in paths.items()}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **known, **self.description}

    def _exchange(self, given: Fields, headers: dict[str, str]) -> tuple[int, bytes]:
        asked = self.codes.pop(given["code"], None)
        basic = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        assert headers["authorization"] == f"Basic {basic}"
        digest = hashlib.sha256(given["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or challenge != asked["code_challenge"]:
            return 400, b'{"error": "invalid_grant"}'
        assert given["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        told = {name: value for name, value in self.claims.items() if name not in self.kept_back}
        claims = {"iss": self.url, "aud": KEY, "exp": now + 60, "iat": now, **told}
        claims["nonce"] = asked["nonce"]
        self.changes(claims)
        sign = self.sign or sign_well
        token = {
            "access_token": "provider-access",
            "token_type": "Bearer",
            "id_token": sign(claims),
        }
        return 200, json.dumps(token).encode()


def sign_well(claims: Claims, *, key: str = KID, **more: object) -> str:
    """Sign as a provider should."""
    headers: dict[str, object] = {"kid": KID, **more}
    return jwt.encode(claims, private_key(key), "RS256", headers=headers)


@contextmanager
def issuing() -> Iterator[Issuer]:
    """Run a provider."""
    issuer = Issuer()
    private_key(KID)  # made once, before several threads want it

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes, and the second waits for the first one's receipt.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(body).items()})

        def _answer(self, given: Fields) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = issuer.answer(urlsplit(self.path).path, given, headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if urlsplit(self.path).path == issuer.drips_at:
                with suppress(OSError):  # until whoever asked gives up
                    while not issuer.released.wait(0.02):
                        self.wfile.write(b" ")
                return
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            """Stay silent."""

    class Site(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever gave up is not an error."""

    with Site(("127.0.0.1", 0), Handler) as site:
        issuer.url = f"http://127.0.0.1:{site.server_port}"
        thread = Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield issuer
        finally:
            issuer.released.set()
            site.shutdown()
            thread.join()


def settings_for(issuer: Issuer, **more: object) -> Claims:
    """Give the table of a strategy that logs in with this provider."""
    return {
        "use": "oauth",
        "backend": "oidc",
        "key": KEY,
        "secret": SECRET,
        "callbackUrl": "https://login.test/_login/site",
        "settings": {"OIDC_ENDPOINT": issuer.url},
        **more,
    }
