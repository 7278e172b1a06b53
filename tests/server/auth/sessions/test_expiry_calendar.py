"""What is due, beside a naive list (docs/api/transport.md#notifications)."""

from hypothesis import given
from hypothesis import strategies as st

from server.auth.sessions.expiry_calendar import ExpirySchedule

MOMENTS = st.one_of(st.integers(0, 400), st.just(float("inf")))
HASHES = st.integers(0, 5).map(lambda number: bytes([number]))


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "due"]), HASHES, MOMENTS)))
def test_what_is_due_is_what_a_list_says(steps: list[tuple[str, bytes, float]]) -> None:
    """Entered once, taken once, never early, never lost."""
    calendar, naive, now_ms = ExpirySchedule(), dict[bytes, float](), 0.0
    for step, token_hash, moment in steps:
        if step == "enter" and token_hash not in naive:
            naive[token_hash] = moment
            calendar.enter(token_hash, moment)
        elif step == "leave":
            calendar.leave(token_hash, naive.pop(token_hash, moment))
        elif step == "due" and moment >= now_ms and moment < float("inf"):
            now_ms = moment
            due = {one for one, at_ms in naive.items() if at_ms <= now_ms}
            naive = {one: at_ms for one, at_ms in naive.items() if one not in due}
            taken = calendar.take_due(now_ms)
            assert set().union(*taken) == due
            assert sum(map(len, taken)) == len(due)


def test_what_ends_otherwise_leaves_nothing_behind() -> None:
    calendar = ExpirySchedule()
    for number in range(10_000):
        calendar.enter(number.to_bytes(2), 1000.0 * number)
    for number in range(10_000):
        calendar.leave(number.to_bytes(2), 1000.0 * number)
    assert len(calendar) <= 1024
