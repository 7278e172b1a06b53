"""Messages to programs and services of the operator's."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.core.config_file import ConfigError
from server.messaging.delivery import MOST_HEAD_BYTES, Command, Outbox, Post, Undelivered, read_url
from tests.support.certificates import Authority
from tests.support.waiting import until

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MESSAGE = {"kind": "x", "who": "J\u00f6rg"}


@asynccontextmanager
async def service(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a service and give where it is, without the scheme."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def saying(answer: bytes, heard: list[bytes] | None = None) -> Talk:
    """Read a request, keep it, and give this answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(size)
        if heard is not None:
            heard.extend((head, body))
        writer.write(answer)
        await writer.drain()

    return talk


async def test_a_service_gets_a_message() -> None:
    heard: list[bytes] = []
    async with service(saying(b"HTTP/1.1 204 No Content\r\n\r\n", heard)) as place:
        await Post(read_url("url", f"http://{place}/in?key=1"), 5.0).deliver(MESSAGE)
    head, body = heard
    assert head.startswith(b"POST /in?key=1 HTTP/1.1\r\nHost: " + place.encode() + b"\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert json.loads(body) == MESSAGE


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await reader.read()


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (saying(b"HTTP/1.1 500 Oh\r\n\r\n"), "the webhook responded with status 500"),
        (
            saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"),
            "responded with status 302",
        ),
        (saying(b"SSH-2.0-x\r\n"), "the response is not HTTP"),
        (saying(b""), "IncompleteReadError"),
        (saying(b"x" * 3 * MOST_HEAD_BYTES), "LimitOverrunError"),
        (hang, "TimeoutError"),
    ],
)
async def test_a_service_that_fails(talk: Talk, said: str) -> None:
    """Nothing of it is read beyond a line, nowhere else is gone to, nobody waits for good."""
    async with service(talk) as place:
        with pytest.raises(Undelivered, match=said) as raised:
            await Post(read_url("url", f"http://{place}/secret"), 0.5).deliver(MESSAGE)
    assert "secret" not in str(raised.value)


async def test_a_service_must_prove_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS with a certificate of an authority that is trusted, and no other."""
    authority = Authority(tmp_path)
    made = authority.sign("service")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(made.cert, made.key)
    async with service(saying(b"HTTP/1.1 200 OK\r\n\r\n"), tls) as place:
        post = Post(read_url("url", f"https://{place}/"), 5.0)
        with pytest.raises(Undelivered, match="SSLCertVerificationError"):
            await post.deliver(MESSAGE)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
        await post.deliver(MESSAGE)


@pytest.mark.parametrize(
    "text",
    ["", "ftp://a/", "http://mail.test/", "https://", "https://a:b@c/", "https://a/\n", "//a"]
    + ["https://a:99999/", "https://[::1/", "https://a/" + "x" * 3000],
)
def test_urls_that_can_not_be_used(text: str) -> None:
    """Plain HTTP stays on this machine; what is refused is not shown."""
    with pytest.raises(ConfigError) as raised:
        read_url("security.notify.url", text)
    assert str(raised.value).startswith("security.notify.url: expected https://")


async def test_a_program_gets_a_message(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    await Command(("/bin/sh", "-c", 'cat > "$0"', str(kept)), 5.0).deliver(MESSAGE)
    assert json.loads(kept.read_text()) == MESSAGE


async def test_an_outbox_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """After a failure, and where too many wait."""
    sent: list[int] = []

    async def send(one: int) -> None:
        if one == 0:
            raise Undelivered("no reason")
        sent.append(one)

    box = Outbox("things", send, logging.getLogger("box"), workers=1, most_waiting=2)
    for one in range(3):
        box.put(one)
    assert caplog.text.count("things: delivery queue full, message dropped") == 1
    running = asyncio.create_task(box.run())
    await until(lambda: sent == [1])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "things: delivery failed: no reason" in caplog.text
