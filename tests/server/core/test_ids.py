"""Which ids users may have, and what made-up ones look like (docs/api/security.md#users)."""

import re
import uuid

import pytest

from protocol.errors import ApiError
from server.core.ids import MOST_ID_BYTES, check_id, check_kuid, is_id, make_kuid

GOOD = (
    "alice",
    "a b",
    "_alice",
    "Ünïcödé 🔑",
    "x" * MOST_ID_BYTES,
    "é" * (MOST_ID_BYTES // 2),
    "-2",
)
BAD = (
    "",
    "x" * (MOST_ID_BYTES + 1),
    "é" * (MOST_ID_BYTES // 2) + "x",
    "a\0b",
    "a\nb",
    "\x7f",
    "\x9f",
    "\ud800",
)


@pytest.mark.parametrize("value", GOOD)
def test_any_text_can_be_an_id(value):
    assert is_id(value)
    assert check_kuid(value) is value


@pytest.mark.parametrize("value", BAD, ids=ascii)
def test_what_would_break_logs_or_databases_is_no_id(value):
    assert not is_id(value)
    with pytest.raises(ApiError) as refused:
        check_kuid(value, "userId")
    wanted = "invalid_argument" if value else "empty_argument"
    assert (refused.value.id, refused.value.status) == (f"api.assert.{wanted}", 400)
    assert refused.value.props[0] == "userId"


@pytest.mark.parametrize("value", [".", "..", "%2e", "%2E%2e", ".%2e", "%2E."])
def test_id_that_is_a_step_of_a_path_is_for_nothing_new(value):
    """RFC 3986 §5.2.4: `/users/../_update` becomes `/_update` before a client sends it."""
    with pytest.raises(ApiError) as refused:
        check_id(value, "userId")
    assert (refused.value.id, refused.value.status) == ("api.assert.invalid_argument", 400)
    assert refused.value.props[0] == "userId"
    assert is_id(value)  # what is stored goes on


@pytest.mark.parametrize("value", ["...", ".a", "a.", "%2", "%2ea", "%2f", "a/..", "%2e%2e%2e"])
def test_id_with_dots_that_is_no_step_of_a_path_is_accepted(value):
    assert check_id(value) is value


@pytest.mark.parametrize("value", ["-1", "anonymous"])
def test_the_anonymous_user_is_always_there_already(value):
    with pytest.raises(ApiError) as refused:
        check_kuid(value)
    assert (refused.value.id, refused.value.status) == ("security.user.already_exists", 412)
    assert refused.value.props == (value,)


@pytest.mark.parametrize("kind", ["human", "anything", ""])
def test_a_made_up_id_can_be_read_out(kind):
    made = {make_kuid(kind) for _ in range(200)}
    assert len(made) > 190
    for kuid in made:
        found = re.fullmatch(r"kuid-[a-z]+-[a-z]+-(0|[1-9][0-9]{0,4})", kuid)
        assert found, kuid
        assert check_kuid(kuid) == kuid


def test_a_made_up_uuid_is_random():
    first, second = (make_kuid("uuid").removeprefix("kuid-") for _ in range(2))
    assert first != second
    assert uuid.UUID(first).version == 4 and str(uuid.UUID(first)) == first
