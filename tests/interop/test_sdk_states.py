"""The JavaScript SDK's way through authentication, unmodified: what it does when its token ends,
when the server comes and goes, and with keys (docs/api/clients.md#session-state)."""

from pathlib import Path

import pytest

from tests.interop.remote import Refused, Remote, StartRemote
from tests.interop.serving import PASSWORD, Served, serving

pytestmark = pytest.mark.interop

TRANSPORTS = ("websocket", "http")
ACCOUNT = {"username": "admin", "password": PASSWORD}
LOGIN = ("local", ACCOUNT, "1h")
INVALID = ("security.token.invalid", 401)
FORBIDDEN = ("security.token.refresh_forbidden", 401)
SHORT_MS = 300
NOT_SO_SHORT_MS = 1500  # long enough to be looked at once by a slow machine


def open_session(start_remote: StartRemote, transport: str, port: int, *login: object) -> Remote:
    """Start an application that is connected and logged in."""
    client = start_remote(transport, port)
    client.call("connect")
    client.call("auth.login", *(login or LOGIN))
    return client


def token_of(client: Remote) -> str:
    """Give the token an application holds."""
    return str(client.call("state")["token"])


def end_session(server: Served, client: Remote) -> str:
    """Log the token of an application out, elsewhere, and give it."""
    token = token_of(client)
    server.ask("POST", "/_logout", token=token)
    return token


def make_key(server: Served) -> str:
    """Give an API key of the administrator's; its id is `key`."""
    made = server.ask("POST", "/api-keys/_create?_id=key", {"description": "x"}, server.login())
    return str(made["_source"]["token"])


def learn(client: Remote, transport: str) -> None:
    """Let an application learn that its token has ended: a socket is told, over HTTP the next
    request is refused."""
    if transport == "http":
        with pytest.raises(Refused) as refused:
            client.call("who")
        assert (refused.value.error_id, refused.value.status) == INVALID


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_kept_token_logs_in(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Row `connected`: the token is checked before anything is asked with it."""
    client = start_remote(transport, server.port)
    client.call("setToken", server.login())
    client.call("connect")
    assert client.call("isAuthenticated") is True
    assert client.call("who") == "admin"
    assert client.has_heard() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_without_a_token(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Row `connected`: anonymous is valid, and not logged in."""
    client = start_remote(transport, server.port)
    client.call("connect")
    assert client.call("isAuthenticated") is False
    assert client.call("who") == "-1"
    assert client.has_heard() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_logout_elsewhere(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Rows `TokenExpired` and `security.token.invalid`: without an authenticator the token is
    dropped, and the application goes on as anonymous."""
    client = open_session(start_remote, transport, server.port)
    assert client.call("who") == "admin"
    end_session(server, client)
    learn(client, transport)
    client.wait_for("tokenExpired")
    assert client.call("state") == {"token": None, "authenticated": False, "connected": True}
    assert client.call("who") == "-1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_logout_elsewhere_with_an_authenticator(
    server: Served, start_remote: StartRemote, transport: str
) -> None:
    """Row `tokenExpired`: the authenticator logs in again, and nobody else notices."""
    client = open_session(start_remote, transport, server.port)
    client.call("setAuthenticator", *LOGIN)
    ended = end_session(server, client)
    learn(client, transport)
    client.wait_for("authenticator")
    client.wait_for("reAuthenticated")
    assert token_of(client) != ended
    assert client.call("who") == "admin"
    assert "tokenExpired" not in client.has_heard()


def test_the_end_by_the_clock(server: Served, start_remote: StartRemote) -> None:
    """Row `TokenExpired`: on a live socket, once, also for who asks for nothing."""
    client = open_session(start_remote, "websocket", server.port, "local", ACCOUNT, SHORT_MS)
    client.wait_for("tokenExpired")
    assert client.call("state")["token"] is None
    assert client.call("who") == "-1"
    assert client.has_heard() == []


def test_the_end_by_the_clock_over_http(server: Served, start_remote: StartRemote) -> None:
    """Row `security.token.invalid`: nobody tells, the first refused request does."""
    client = open_session(start_remote, "http", server.port, "local", ACCOUNT, SHORT_MS)
    with pytest.raises(Refused) as refused:
        while client.call("who") == "admin":
            pass
    assert (refused.value.error_id, refused.value.status) == INVALID
    client.wait_for("tokenExpired")
    assert client.call("who") == "-1"


def test_the_end_by_the_clock_with_an_authenticator(
    server: Served, start_remote: StartRemote
) -> None:
    """Row `tokenExpired`: as often as it takes."""
    login = ("local", ACCOUNT, NOT_SO_SHORT_MS)
    client = open_session(start_remote, "websocket", server.port, *login)
    client.call("setAuthenticator", *login)
    for _ in range(2):
        client.wait_for("authenticator")
        client.wait_for("reAuthenticated")
    assert "tokenExpired" not in client.has_heard()


def test_an_authenticator_that_fails(server: Served, start_remote: StartRemote) -> None:
    """Row `tokenExpired`: failing that, the token is dropped and the event fired."""
    client = open_session(start_remote, "websocket", server.port)
    client.call("setAuthenticator", "local", {**ACCOUNT, "password": "wrong"}, "1h")
    end_session(server, client)
    client.wait_for("authenticator")
    client.wait_for("reconnectionError")
    client.wait_for("tokenExpired")
    assert client.call("state")["token"] is None


def test_a_token_that_is_still_good(server: Served, start_remote: StartRemote) -> None:
    """Row `tokenExpired`: the end of the socket's last token is nothing to who holds another."""
    client = open_session(start_remote, "websocket", server.port)
    ended, kept = token_of(client), server.login()
    client.call("setToken", kept)
    server.ask("POST", "/_logout", token=ended)
    client.wait_for("reAuthenticated")
    assert token_of(client) == kept
    assert client.call("who") == "admin"
    assert "tokenExpired" not in client.has_heard()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_logout(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Row `auth:logout`: the token is dropped and dead; who logs out is told nothing."""
    client = open_session(start_remote, transport, server.port)
    token = token_of(client)
    client.call("auth.logout")
    assert client.call("state")["token"] is None
    assert client.call("auth.checkToken", token)["valid"] is False
    assert client.call("isAuthenticated") is False
    assert client.has_heard() == []


def test_logout_with_a_dead_token(server: Served, start_remote: StartRemote) -> None:
    """Row `security.token.invalid`: any action but logout fires the event."""
    client = open_session(start_remote, "http", server.port)
    end_session(server, client)
    with pytest.raises(Refused) as refused:
        client.call("auth.logout")
    assert refused.value.error_id == "security.token.invalid"
    assert "tokenExpired" not in client.has_heard()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_refresh(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Row `auth:refreshToken`: the SDK goes on with the new token, its socket moves along."""
    client = open_session(start_remote, transport, server.port)
    old = token_of(client)
    given = client.call("auth.refreshToken", {"expiresIn": "2h"})
    assert (given["_id"], given["ttl"]) == ("admin", 7_200_000)
    assert token_of(client) == given["jwt"] != old
    assert client.call("who") == "admin"
    assert client.call("state")["authenticated"] is True
    assert client.has_heard() == []
    end_session(server, client)
    learn(client, transport)
    client.wait_for("tokenExpired")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_without_end(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Row `expired locally`: without `exp` the getter says expired, the server says valid; such a
    token can't be refreshed, which is no reason to drop it."""
    client = open_session(start_remote, transport, server.port, "local", ACCOUNT, -1)
    assert client.call("state")["authenticated"] is False
    check = client.call("auth.checkToken")
    assert check == {"expiresAt": -1, "kuid": "admin", "valid": True}
    with pytest.raises(Refused) as refused:
        client.call("auth.refreshToken")
    assert (refused.value.error_id, refused.value.status) == FORBIDDEN
    assert client.call("who") == "admin"
    assert client.has_heard() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_api_key(server: Served, start_remote: StartRemote, transport: str) -> None:
    """Row `setAPIKey`: no login; a logout keeps the key, its deletion is told as an end."""
    key = make_key(server)
    client = start_remote(transport, server.port)
    client.call("connect")
    with pytest.raises(Refused) as refused:
        client.call("setAPIKey", key.removeprefix("kapikey-"))
    assert refused.value.error_id is None
    client.call("setAPIKey", key)
    assert client.call("who") == "admin"
    assert client.call("isAuthenticated") is True
    client.call("auth.logout")
    client.call("setAPIKey", key)
    assert client.call("who") == "admin"
    assert client.has_heard() == []
    server.ask("DELETE", "/api-keys/key", token=server.login())
    learn(client, transport)
    client.wait_for("tokenExpired")
    assert client.call("state")["token"] is None


def test_reconnection(tmp_path: Path, start_remote: StartRemote) -> None:
    """Row `reconnected`: the token outlives the server, so nobody has to log in again."""
    with serving(tmp_path) as server:
        server.create_admin()
        client = open_session(start_remote, "websocket", server.port)
        client.call("setAuthenticator", *LOGIN)
        token = token_of(client)
    client.wait_for("disconnected")
    with serving(tmp_path, port=server.port):
        client.wait_for("reconnected")
        assert client.call("who") == "admin"
        assert token_of(client) == token
        assert client.has_heard() == []


def test_reconnection_as_anonymous(tmp_path: Path, start_remote: StartRemote) -> None:
    """Row `reconnected`: who was not logged in needs no token."""
    with serving(tmp_path) as server:
        client = start_remote("websocket", server.port)
        client.call("connect")
    client.wait_for("disconnected")
    with serving(tmp_path, port=server.port):
        client.wait_for("reconnected")
        assert client.call("who") == "-1"


def test_reconnection_with_a_key(tmp_path: Path, start_remote: StartRemote) -> None:
    """Row `reconnected`: a key is good after a restart, without an authenticator."""
    with serving(tmp_path) as server:
        server.create_admin()
        client = start_remote("websocket", server.port)
        client.call("connect")
        client.call("setAPIKey", make_key(server))
    client.wait_for("disconnected")
    with serving(tmp_path, port=server.port):
        client.wait_for("reconnected")
        assert client.call("who") == "admin"


def revoke_meanwhile(folder: Path, token: str) -> None:
    """End a token while the server its application knows is away."""
    with serving(folder) as another:
        another.ask("POST", "/_logout", token=token)


def test_reconnection_after_a_logout_elsewhere(tmp_path: Path, start_remote: StartRemote) -> None:
    """Row `reconnected`: the token has ended meanwhile, the authenticator logs in again."""
    with serving(tmp_path) as server:
        server.create_admin()
        client = open_session(start_remote, "websocket", server.port)
        client.call("setAuthenticator", *LOGIN)
        token = token_of(client)
    client.wait_for("disconnected")
    revoke_meanwhile(tmp_path, token)
    with serving(tmp_path, port=server.port):
        client.wait_for("authenticator")
        client.wait_for("reconnected")
        assert token_of(client) != token
        assert client.call("who") == "admin"


def test_reconnection_without_a_way_to_log_in(tmp_path: Path, start_remote: StartRemote) -> None:
    """Row `reconnected`: otherwise the SDK disconnects."""
    with serving(tmp_path) as server:
        server.create_admin()
        client = open_session(start_remote, "websocket", server.port)
        token = token_of(client)
    client.wait_for("disconnected")
    revoke_meanwhile(tmp_path, token)
    with serving(tmp_path, port=server.port):
        client.wait_for("reconnectionError")
        assert client.call("state")["connected"] is False


def test_http_after_a_restart(tmp_path: Path, start_remote: StartRemote) -> None:
    """Over HTTP nothing is lost with a connection: the token is good after a restart."""
    with serving(tmp_path) as server:
        server.create_admin()
        client = open_session(start_remote, "http", server.port)
    with serving(tmp_path, port=server.port):
        assert client.call("who") == "admin"
        assert client.has_heard() == []
