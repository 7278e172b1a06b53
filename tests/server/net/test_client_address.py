"""Whose word counts for where a request comes from (docs/api/differences.md#cookie-attributes,
security check H8)."""

import pytest

from server.net.client_address import Addresses

PROXY = "10.0.0.1"
FAR_PROXY = "10.9.9.9"
CLIENT = "203.0.113.7"
LIAR = "198.51.100.9"
OURS = Addresses(["10.0.0.0/8", "fd00::/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "listed", "client"),
    [
        # Nobody's word counts but a trusted peer's.
        (LIAR, CLIENT, LIAR),
        (LIAR, PROXY, LIAR),
        ("", CLIENT, ""),
        ("unix", CLIENT, "unix"),
        # From the right: the first that is no proxy of ours.
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"{LIAR}, {CLIENT}", CLIENT),
        (PROXY, f"{LIAR}, {CLIENT}, {FAR_PROXY}", CLIENT),
        (PROXY, f"{PROXY}, {CLIENT}", CLIENT),
        (PROXY, f"{LIAR},{CLIENT}\t,\t{FAR_PROXY} ", CLIENT),
        (PROXY, f"{FAR_PROXY}, {FAR_PROXY}", FAR_PROXY),
        # What can't be read ends the search at the proxy that sent it.
        (PROXY, "", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, f"{CLIENT},", PROXY),
        (PROXY, f"{CLIENT}, nonsense", PROXY),
        (PROXY, f"{CLIENT}, nonsense, {FAR_PROXY}", FAR_PROXY),
        (PROXY, f"{CLIENT} {LIAR}", PROXY),
        (PROXY, "203.0.113.07", PROXY),
        (PROXY, "203.0.113.7/32", PROXY),
        (PROXY, "203.0.113.7:x", PROXY),
        (PROXY, "[203.0.113.7", PROXY),
        (PROXY, "fe80::1%eth0", PROXY),
        # The same address in other clothes, and with its port.
        (PROXY, f"{CLIENT}:4711", CLIENT),
        (PROXY, f"::ffff:{CLIENT}", CLIENT),
        (PROXY, "[2001:DB8:0::7]:4711", "2001:db8::7"),
        (PROXY, "2001:db8::7", "2001:db8::7"),
        (PROXY, f"{CLIENT}, ::ffff:{FAR_PROXY}", CLIENT),
        (f"::ffff:{PROXY}", CLIENT, CLIENT),
        (f"::ffff:{LIAR}", CLIENT, LIAR),
        ("fd00::5", f"{LIAR}, 2001:db8::7, ::1", "2001:db8::7"),
    ],
)
def test_x_forwarded_for(peer: str, listed: str, client: str) -> None:
    """The rightmost address that is not trusted."""
    assert OURS.client_of(peer, {"x-forwarded-for": listed}) == client


@pytest.mark.parametrize(
    ("listed", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT};proto=https;by={PROXY}", CLIENT),
        (f'proto=https; for="{CLIENT}:80"', CLIENT),
        (f"for={LIAR}, for={CLIENT}", CLIENT),
        (f"for={LIAR}, for={CLIENT}, for={FAR_PROXY}", CLIENT),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        (f'for="{LIAR}, for={CLIENT}', CLIENT),
        (f'for={LIAR};by="x, for={CLIENT}', CLIENT),
        ("for=unknown", PROXY),
        ("for=_hidden", PROXY),
        (f"for={CLIENT};for={LIAR}", PROXY),
        (f"for={CLIENT};", PROXY),
        (f"for = {CLIENT}", PROXY),
        (f"by={CLIENT}", PROXY),
        (f"for={LIAR}, proto=https", PROXY),
        ("", PROXY),
    ],
)
def test_forwarded(listed: str, client: str) -> None:
    """RFC 7239 §4, by the same rule; a quote left open hides nothing."""
    assert OURS.client_of(PROXY, {"forwarded": listed}) == client
    assert OURS.client_of(LIAR, {"forwarded": listed}) == LIAR


def test_one_of_the_two_lists_counts() -> None:
    """Proxies that write the older one pass the other on as they got it."""
    headers = {"x-forwarded-for": CLIENT, "forwarded": f"for={LIAR}"}
    assert OURS.client_of(PROXY, headers) == CLIENT
    assert OURS.client_of(PROXY, headers | {"x-forwarded-for": "unknown"}) == PROXY


def test_a_long_list() -> None:
    """A list of trusted addresses is not followed without end."""
    listed = f"{CLIENT}, " + ", ".join([FAR_PROXY] * 1000)
    assert OURS.client_of(PROXY, {"x-forwarded-for": listed}) == FAR_PROXY
    listed = f"{CLIENT}, " + ", ".join([FAR_PROXY] * 20)
    assert OURS.client_of(PROXY, {"x-forwarded-for": listed}) == CLIENT


def test_without_proxies() -> None:
    """By default nobody is trusted, loopback neither."""
    headers = {"x-forwarded-for": CLIENT, "forwarded": f"for={CLIENT}"}
    nobody = Addresses([])
    assert nobody.client_of("127.0.0.1", headers) == "127.0.0.1"
    assert nobody.client_of("::ffff:127.0.0.1", headers) == "127.0.0.1"
    assert not nobody.is_https("127.0.0.1", {"x-forwarded-proto": "https"})


@pytest.mark.parametrize(
    ("peer", "headers", "is_https"),
    [
        (PROXY, {"x-forwarded-proto": "https"}, True),
        (PROXY, {"x-forwarded-proto": "HTTPS"}, True),
        (PROXY, {"x-forwarded-proto": "http"}, False),
        (PROXY, {"x-forwarded-proto": "http, https"}, True),
        (PROXY, {"x-forwarded-proto": "https, http"}, False),
        (PROXY, {"forwarded": f"for={CLIENT};proto=https"}, True),
        (PROXY, {"forwarded": "proto=https, proto=http"}, False),
        (PROXY, {"x-forwarded-proto": "http", "forwarded": "proto=https"}, False),
        (PROXY, {}, False),
        (LIAR, {"x-forwarded-proto": "https"}, False),
        (LIAR, {"forwarded": "proto=https"}, False),
        ("", {"x-forwarded-proto": "https"}, False),
    ],
)
def test_tls_in_front(peer: str, headers: dict[str, str], is_https: bool) -> None:
    """Only the nearest proxy knows how it was called by the one before it."""
    assert OURS.is_https(peer, headers) is is_https


def test_a_proxy_on_the_unix_socket() -> None:
    """`unix` among `server.trustedProxies`, beside networks or alone; no name a list may hold, and
    nobody whose address is not known."""
    headers = {
        "x-forwarded-for": f"{LIAR}, {CLIENT}",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "keys.test",
    }
    for trusted in (["unix"], ["10.0.0.0/8", "unix"]):
        ours = Addresses(trusted)
        assert ours.client_of("unix", headers) == CLIENT
        assert ours.is_https("unix", headers)
        assert ours.host_of("unix", headers) == "keys.test"
        assert ours.client_of("unix", {"x-forwarded-for": f"{CLIENT}, unix"}) == "unix"
        assert ours.client_of("", headers) == ""
        assert ours.client_of(LIAR, headers) == LIAR
    assert not OURS.is_https("unix", headers)
    assert OURS.client_of("unix", headers) == "unix"
