"""Passwords known from breaches: what a service is told, what a file says, and that whatever fails
lets a password pass (security check P7)."""

import asyncio
import hashlib
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError
from server.auth.passwords.breaches import BreachCheck, file_lookup, make_breach_check, range_lookup

# SHA-1 of "password", RFC 3174 applied by hand elsewhere: a fixed point against our own mistakes.
PASSWORD, DIGEST = "password", "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8"
LEAKED = f"{DIGEST[5:]}:3861493"


@asynccontextmanager
async def service(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve one fixed answer; give the address and the heads it was asked with."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/range/", heads
    finally:
        server.close()
        await server.wait_closed()


def ok(*lines: str) -> bytes:
    body = "\r\n".join(lines).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@asynccontextmanager
async def checking(lookup, **options) -> AsyncIterator[BreachCheck]:
    check = BreachCheck(lookup, **options)
    try:
        yield check
    finally:
        check.close()


@pytest.mark.parametrize(
    ("lines", "is_breached"),
    [
        ((LEAKED,), True),
        (("0" * 35 + ":1", LEAKED.lower(), "F" * 35 + ":2"), True),
        (("0" * 35 + ":1", "F" * 35 + ":2"), False),
        ((f"{DIGEST[5:]}:0",), False),
        ((), False),
    ],
)
async def test_a_service_learns_five_digits(lines: tuple[str, ...], is_breached: bool) -> None:
    """security check P7: k-anonymity; a count of 0 is padding."""
    async with service(ok(*lines)) as (url, heads), checking(range_lookup(url)) as check:
        assert await check.is_breached(PASSWORD) is is_breached
    head = heads[0].decode()
    assert head.startswith("GET /range/5BAA6 HTTP/1.1\r\n")
    assert "\r\nAdd-Padding: true\r\n" in head
    assert PASSWORD not in head and DIGEST[5:] not in head.upper()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nfew",
        b"",
    ],
)
async def test_a_service_in_trouble_lets_passwords_pass(answer: bytes, caplog) -> None:
    """security check P7: fails open, with a line in the log that says no password."""
    async with service(answer) as (url, _), checking(range_lookup(url)) as check:
        assert await check.is_breached(PASSWORD) is False
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "passwords are not checked against breaches" in caplog.text
    assert PASSWORD + " " not in caplog.text and DIGEST not in caplog.text.upper()


async def test_a_service_that_is_not_there_lets_passwords_pass(caplog) -> None:
    """security check P7."""
    async with service(b"") as (url, _):
        pass
    async with checking(range_lookup(url)) as check:
        assert await check.is_breached(PASSWORD) is False
    assert len(caplog.records) == 1


async def test_who_waits_too_long_passes_and_the_thread_is_not_lost(caplog) -> None:
    """security check P7: a slow service keeps nobody."""
    released = threading.Event()

    def slow(digest: str) -> bool:
        assert released.wait(20)
        return True

    async with checking(slow, timeout_s=0.01) as check:
        assert await check.is_breached(PASSWORD) is False
        released.set()
    async with checking(slow) as check:
        assert await check.is_breached(PASSWORD) is True
    assert len(caplog.records) == 1


async def test_only_so_many_wait(caplog) -> None:
    """CONTRIBUTING.md: every queue is bounded; who finds it full passes at once."""
    released = threading.Event()

    def slow(digest: str) -> bool:
        assert released.wait(20)
        return True

    async with checking(slow, timeout_s=20) as check:
        waiting = [asyncio.create_task(check.is_breached(PASSWORD)) for _ in range(32)]
        await asyncio.sleep(0)
        assert await check.is_breached(PASSWORD) is False
        released.set()
        assert await asyncio.gather(*waiting) == [True] * 32
        assert await check.is_breached(PASSWORD) is True
    assert "too many" in caplog.text


async def test_trouble_is_told_once_until_it_is_over(caplog) -> None:
    """security check P7: a log line, not one for each password."""
    answers = [OSError("down"), OSError("down"), False, OSError("down again")]

    def lookup(digest: str) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async with checking(lookup) as check:
        assert [await check.is_breached(PASSWORD) for _ in range(4)] == [False] * 4
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "down",
        "down again",
    ]


# Digests made of few digits, so that neighbours differ late and hits are frequent.
DIGESTS = st.text("0F", min_size=40, max_size=40)


@given(st.sets(DIGESTS, max_size=40), DIGESTS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_file_says_yes_to_its_own_lines_only(
    tmp_path_factory, known: set[str], other: str, end: str, ends: bool
) -> None:
    """security check P7, offline: every line is found, wherever it stands."""
    lines = [f"{digest}:{at + 1}" for at, digest in enumerate(sorted(known))]
    path = tmp_path_factory.mktemp("breaches") / "sorted.txt"
    path.write_bytes((end.join(lines) + (end if ends else "")).encode())
    is_known = file_lookup(path)
    assert all(is_known(digest) for digest in known)
    assert is_known(other) is (other in known)


async def test_a_file_wins_over_a_service(tmp_path: Path) -> None:
    """`security.passwords.breachFile`; the password's own SHA-1 is looked up."""
    path = tmp_path / "sorted.txt"
    path.write_text(f"{'0' * 40}:9\n{DIGEST}:3\n")
    check = make_breach_check(str(path), "http://127.0.0.1:1/")
    assert check is not None
    assert await check.is_breached(PASSWORD) is True
    assert await check.is_breached("Password") is False
    path.unlink()
    assert await check.is_breached(PASSWORD) is False
    check.close()


def test_nothing_is_checked_unless_it_is_asked_for() -> None:
    """docs/api/differences.md#password-rules, password rules: none by default."""
    assert make_breach_check("", "") is None


def test_a_file_that_cant_be_read_is_told_at_start(tmp_path: Path) -> None:
    """docs/architecture.md: what is wrong is named before the server starts."""
    with pytest.raises(LocalError, match=r"breachFile: .*absent\.txt"):
        make_breach_check(str(tmp_path / "absent.txt"), "")


@pytest.mark.parametrize("url", ["http://host:99999/", "http://host:port/", "http://[::1/"])
def test_a_url_that_is_none_is_told_at_start(url: str) -> None:
    """docs/architecture.md."""
    with pytest.raises(LocalError, match="breachUrl"):
        make_breach_check("", url)


def test_the_digest_is_sha_1() -> None:
    """The fixed point above."""
    assert hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest().upper() == DIGEST
