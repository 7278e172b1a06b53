"""Rows of tokens that are worth nothing: each is shown to an action, and to checkToken."""

import base64
import hmac
import json
from collections.abc import Mapping

from server.core.secrets import hash_token
from server.storage.base import Insert
from server.storage.rows import Table
from tests.server.api.auth_table.errors import INVALID_TOKEN
from tests.server.api.auth_table.made import admin, key, reset_token
from tests.server.api.auth_table.rows import (
    ANYTHING,
    CLOSED,
    TYPED,
    Expected,
    Gives,
    Maker,
    Row,
    Setting,
    World,
    token_setting,
)
from tests.server.api.auth_table.tokens import ENDED, WORTHLESS, checked
from tests.support.clock import START_MS
from tests.support.server import TRANSPORTS

SECRET = "a configured secret of more than thirty-two bytes"
CONFIGURED = token_setting(secret=SECRET)
ISSUING = token_setting(secret=SECRET, issuer="https://here.test")
SOUND = {"_id": "admin", "iat": START_MS // 1000, "exp": START_MS // 1000 + 3600, "jti": "x"}
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def changed(token: str, at: int) -> str:
    """Give a token with another character at a place."""
    other = CHARACTERS[(CHARACTERS.index(token[at]) + 32) % 64]
    return token[:at] + other + token[at + 1 :]


def part(value: bytes | Mapping[str, object]) -> str:
    """Give a segment of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: str, claims: Mapping[str, object], secret: str, digest: str = "sha256") -> str:
    """Give a token with this first segment, signed with a secret."""
    signed = f"{header}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), digest))}"


async def store(world: World, token: str) -> str:
    """Let the store believe that this token was given out, so that only what it is decides."""
    await world.get(admin)
    row = {
        "token_hash": hash_token(token),
        "id": "planted",
        "kuid": "admin",
        "created_at": START_MS,
        "expires_at": START_MS + 3_600_000,
        "ttl": 3_600_000,
        "single_use": 0,
        "refreshed_at": None,
        "family": "planted",
        "started_at": START_MS,
        "used_at": START_MS,
        "data": {},
    }
    await world.server.app.services.storage.apply([Insert(Table.SESSIONS, row)])
    return token


async def header_of(world: World) -> str:
    """Give the first segment this server's tokens have."""
    return str(await world.get(admin)).partition(".")[0]


async def planted(world: World) -> str:
    """A token signed rightly elsewhere and stored: what the refused ones differ from."""
    return await store(world, sign(await header_of(world), SOUND, SECRET))


async def another_secret(world: World) -> str:
    """A token signed with another secret."""
    return await store(world, sign(await header_of(world), SOUND, SECRET[::-1]))


async def another_algorithm(world: World) -> str:
    """A token signed with the same secret by another algorithm, as its header says."""
    header = part({"alg": "HS512", "typ": "JWT"})
    return await store(world, sign(header, SOUND, SECRET, "sha512"))


async def unsigned(world: World) -> str:
    """A token that says it needs no signature."""
    return await store(world, f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(SOUND)}.")


async def unsigned_with_signature(world: World) -> str:
    """The same in capitals, with something in the place of a signature."""
    return await store(world, f"{part({'alg': 'NONE', 'typ': 'JWT'})}.{part(SOUND)}.eA")


async def never_given_out(world: World) -> str:
    """A token with our signature that is not in the store."""
    await world.get(admin)
    return world.server.app.services.keyring.sign(dict(SOUND))


async def not_yet_valid(world: World) -> str:
    """A token with our signature whose time has not come."""
    await world.get(admin)
    later = {"nbf": START_MS // 1000 + 60, "iat": START_MS // 1000 + 60}
    return world.server.app.services.keyring.sign(SOUND | later)


async def of_another_issuer(world: World) -> str:
    """A token that another server signed with the same secret."""
    claims = SOUND | {"iss": "https://there.test"}
    return await store(world, sign(await header_of(world), claims, SECRET))


async def of_our_issuer(world: World) -> str:
    """The same with the issuer of this server: what the refused one differs from."""
    claims = SOUND | {"iss": "https://here.test"}
    return await store(world, sign(await header_of(world), claims, SECRET))


async def for_nobody(world: World) -> str:
    """A token without `_id` (docs/api/auth.md#verification)."""
    claims = {name: value for name, value in SOUND.items() if name != "_id"}
    return await store(world, sign(await header_of(world), claims, SECRET))


async def cut(world: World) -> str:
    """A token without its last character."""
    return str(await world.get(admin))[:-1]


async def without_signature(world: World) -> str:
    """A token whose signature is empty."""
    return str(await world.get(admin)).rpartition(".")[0] + "."


async def with_a_fourth_part(world: World) -> str:
    """A token with something after it."""
    return str(await world.get(admin)) + ".eA"


async def padded(world: World) -> str:
    """A token with the padding base64url leaves out."""
    return str(await world.get(admin)) + "="


async def other_header(world: World) -> str:
    """A token with another character in its header."""
    return changed(str(await world.get(admin)), 3)


async def other_payload(world: World) -> str:
    """A token with another character in its payload."""
    token = str(await world.get(admin))
    return changed(token, token.index(".") + 5)


async def other_signature(world: World) -> str:
    """A token with another character in its signature."""
    token = str(await world.get(admin))
    return changed(token, token.rindex(".") + 5)


async def in_use(world: World, maker: Maker) -> str:
    """Give a token that is live: what is remembered of it must not help others."""
    token = str(await world.get(maker))
    assert await world.is_good("query", token)
    return token


async def key_without_prefix(world: World) -> str:
    """An API key that does not say so."""
    return (await in_use(world, key)).removeprefix("kapikey-")


async def key_as_session(world: World) -> str:
    """An API key with the prefix of a session."""
    return f"kauth-{await key_without_prefix(world)}"


async def key_behind_prefix(world: World) -> str:
    """A whole API key behind the prefix of a session."""
    return f"kauth-{await in_use(world, key)}"


async def key_twice_prefixed(world: World) -> str:
    """An API key with its prefix twice."""
    return f"kapikey-{await in_use(world, key)}"


async def session_as_key(world: World) -> str:
    """A session with the prefix of an API key."""
    return f"kapikey-{await in_use(world, admin)}"


async def session_twice_prefixed(world: World) -> str:
    """A session with its prefix twice."""
    return f"kauth-kauth-{await in_use(world, admin)}"


async def fingerprint(world: World) -> str:
    """What the store has of a session."""
    return hash_token(str(await world.get(admin))).hex()


def the_text(text: str) -> Maker:
    """Give what makes this text."""

    async def make(world: World) -> str:
        """A text that is no token."""
        return text

    return make


SIGNED = (
    another_secret,
    another_algorithm,
    unsigned,
    unsigned_with_signature,
    for_nobody,
    never_given_out,
    not_yet_valid,
)
DAMAGED = (
    cut,
    without_signature,
    with_a_fourth_part,
    padded,
    other_header,
    other_payload,
    other_signature,
)
MISTAKEN = (
    key_without_prefix,
    key_as_session,
    key_behind_prefix,
    key_twice_prefixed,
    session_as_key,
    session_twice_prefixed,
    reset_token,
    fingerprint,
)
TEXTS = ("x", ".", "..", "a.b.c", "kauth-", "kapikey-", "null", "eyJ." * 100, "x" * 8193)
STRANGE = ("a b", "\0", "é.é.é", "x" * 100_000)
"""What a header can't carry, and a payload can."""
BAD: list[tuple[str, Maker, Setting, tuple[str, ...]]] = [
    *(("forged", maker, CONFIGURED, TRANSPORTS) for maker in SIGNED),
    ("foreign issuer", of_another_issuer, ISSUING, TRANSPORTS),
    ("no issuer", planted, ISSUING, TRANSPORTS),
    *(("damaged", maker, CLOSED, TRANSPORTS) for maker in DAMAGED),
    *(("ended", maker, CLOSED, TRANSPORTS) for maker in ENDED),
    *(("another kind of token", maker, CLOSED, TRANSPORTS) for maker in MISTAKEN),
    *(("no token", the_text(text), CLOSED, TRANSPORTS) for text in TEXTS),
    *(("no token", the_text(text), CLOSED, TYPED) for text in STRANGE),
]
WHO = Gives({"_id": "admin", "_source": ANYTHING, "strategies": ["local"]})


def shown(line: str, by: Maker, comes: Expected, on: Setting, ways: tuple[str, ...]) -> Row:
    """Give a row in which somebody shows this token and asks who he is."""
    told = f"02 §1.5 {line}: {by.__name__}"
    return Row(told, "getCurrentUser", by, comes, on=on, ways=ways)


def asked_about(line: str, token: Maker, on: Setting) -> Row:
    """Give a row in which somebody asks whether this token is good."""
    return checked(f"{line}: {token.__name__}", WORTHLESS, {"token": token}, on=on)


ROWS = [
    shown("a sound one", planted, WHO, CONFIGURED, TRANSPORTS),
    shown("a sound one", of_our_issuer, WHO, ISSUING, TRANSPORTS),
    shown("no token", the_text(""), INVALID_TOKEN, CLOSED, TRANSPORTS),
    *(shown(line, token, INVALID_TOKEN, on, ways) for line, token, on, ways in BAD),
    *(asked_about(line, token, on) for line, token, on, _ in BAD),
]
