"""Runs one HTTP case against a server, and says what came of it."""

import asyncio
from dataclasses import dataclass

from tests.conformance.http_cases import GET, HttpCase, Wanted

_LIMIT_S = 5.0
_QUIET_S = 0.25  # a server that has not answered in this time waits for more


@dataclass(frozen=True, slots=True)
class Outcome:
    """`is_met`, or why not."""

    case: HttpCase
    reason: str

    @property
    def is_met(self) -> bool:
        """Whether all is as it has to be."""
        return not self.reason


@dataclass(slots=True)
class Seen:
    """What a server sent: the statuses of whole answers, and whether it ended the connection."""

    statuses: list[int]
    is_ended: bool


async def run_http_case(case: HttpCase, port: int) -> Outcome:
    """Send a case's bytes, then look whether the connection goes on."""
    try:
        async with asyncio.timeout(_LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return Outcome(case, "no connection")
    try:
        seen = await _talk(case, reader, writer)
    finally:
        writer.close()
    return Outcome(case, _judge(case, seen))


async def _talk(case: HttpCase, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seen:
    seen = Seen([], False)
    is_head = case.wire.startswith(b"HEAD ")
    try:
        writer.write(case.wire)
        while await _read_answer(reader, seen, is_head, _wait_s(case, seen)):
            pass
        if case.wanted is Wanted.ANSWERED and not seen.is_ended:
            writer.write(GET)
            await _read_answer(reader, seen, False, _LIMIT_S)
    except (ConnectionError, asyncio.IncompleteReadError):
        seen.is_ended = True
    return seen


def _wait_s(case: HttpCase, seen: Seen) -> float:
    """Give how long to wait for what should come next: an answer, the end, or nothing."""
    is_over = case.wanted is Wanted.ANSWERED and len(seen.statuses) >= case.answers
    return _QUIET_S if is_over else _LIMIT_S


async def _read_answer(
    reader: asyncio.StreamReader, seen: Seen, is_head: bool, wait_s: float
) -> bool:
    """Read one answer, False when none comes any more."""
    try:
        async with asyncio.timeout(wait_s):
            head = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        return False
    except asyncio.LimitOverrunError:
        seen.is_ended = True
        return False
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    if status == 100:
        return True
    seen.statuses.append(status)
    fields = dict(line.lower().partition(":")[::2] for line in lines[1:] if line)
    async with asyncio.timeout(_LIMIT_S):
        await _read_body(reader, fields, is_head)
    return True


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str], is_head: bool) -> None:
    if is_head:
        return
    if "chunked" in fields.get("transfer-encoding", ""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(fields.get("content-length", "0")))


def _judge(case: HttpCase, seen: Seen) -> str:
    """Give what is wrong, "" for nothing."""
    good = [status for status in seen.statuses if status < 400]
    bad = [status for status in seen.statuses if status >= 400]
    if case.wanted is Wanted.REFUSED:
        return _judge_refusal(case, seen, good, bad)
    wanted = case.answers + (case.wanted is Wanted.ANSWERED)
    if bad:
        return f"refused with {bad[0]}"
    if len(good) != wanted:
        return f"{len(good)} of {wanted} answers"
    if case.wanted is Wanted.ANSWERED_LAST and not seen.is_ended:
        return "the connection goes on"
    return ""


def _judge_refusal(case: HttpCase, seen: Seen, good: list[int], bad: list[int]) -> str:
    if len(good) > case.answers:
        return "accepted"
    if len(good) < case.answers:
        return "the valid one before it was not answered"
    if not bad:
        return "ended without an answer" if seen.is_ended else "never answered"
    if bad[0] not in case.statuses:
        return f"refused with {bad[0]}"
    if len(bad) > 1:
        return "something behind it was read"
    return "" if seen.is_ended else "the connection goes on"
