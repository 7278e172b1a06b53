"""One checked exchange with a server under test, before its measurement and after every round."""

import json

from bench.loads.http_client import (
    WrongAnswer,
    ask,
    ask_websocket,
    connect,
    frame_payload,
    open_websocket,
)
from bench.subject.checks import check_same, check_user
from bench.subject.sample import REQUEST_ID, Sample, me_message

_REFUSED = 401
_SOMEBODY_ELSES = "x"


def check_http(port: int, sample: Sample, *, is_constant: bool) -> bytes:
    """Give a server's answer to `GET /_me`, once it is known to be right.

    Asked twice on one connection, because the second time may take a short cut. A constant answer
    must be ours; all others must also refuse a token they do not know.
    """
    with connect(port) as connection:
        first = ask(port, "GET", "/_me", token=sample.token, connection=connection)
        again = ask(port, "GET", "/_me", token=sample.token, connection=connection)
    check_same(first.raw, again.raw)
    if is_constant:
        check_same(sample.http_answer, first.raw)
        return first.raw
    for answer in (first, again):
        if answer.status != 200:
            raise WrongAnswer(f"status {answer.status}")
        check_user(answer.json, sample)
    refused = ask(port, "GET", "/_me", token=sample.token + _SOMEBODY_ELSES)
    if refused.status != _REFUSED:
        raise WrongAnswer(f"a wrong token is answered with {refused.status}")
    return first.raw


def check_websocket(port: int, sample: Sample, *, is_constant: bool) -> bytes:
    """Give a server's frame with the current user, once it is known to be right, as above."""
    with open_websocket(port) as connection:
        first = ask_websocket(connection, me_message(sample.token, REQUEST_ID))
        again = ask_websocket(connection, me_message(sample.token, REQUEST_ID))
        if not is_constant:
            wrong = me_message(sample.token + _SOMEBODY_ELSES, REQUEST_ID)
            refused = json.loads(frame_payload(ask_websocket(connection, wrong)))
            if refused["status"] != _REFUSED:
                raise WrongAnswer(f"a wrong token is answered with {refused['status']}")
    if first != again or (is_constant and frame_payload(first) != sample.websocket_answer):
        raise WrongAnswer(f"another answer the second time: {again!r}")
    check_user(json.loads(frame_payload(first)), sample, room=REQUEST_ID)
    return first
