"""The `ms` syntax of lifetimes (docs/api/auth.md#expiresin)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.durations import parse_duration_ms, write_duration

UNITS = {
    1: "ms msec msecs millisecond milliseconds",
    1000: "s sec secs second seconds",
    60_000: "m min mins minute minutes",
    3_600_000: "h hr hrs hour hours",
    86_400_000: "d day days",
    604_800_000: "w week weeks",
    31_557_600_000: "y yr yrs year years",
}
ALL_UNITS = [(name, unit_ms) for unit_ms, names in UNITS.items() for name in names.split()]


@pytest.mark.parametrize(("name", "unit_ms"), ALL_UNITS)
@pytest.mark.parametrize("gap", ["", " ", "   "])
def test_every_unit(name: str, unit_ms: int, gap: str) -> None:
    assert parse_duration_ms(f"2{gap}{name}") == 2 * unit_ms
    assert parse_duration_ms(f"2{gap}{name.upper()}") == 2 * unit_ms
    assert parse_duration_ms(f"-2{gap}{name}") == -2 * unit_ms


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("60", 60),
        ("-1", -1),
        ("0", 0),
        ("1.5h", 5_400_000),
        ("2 days", 172_800_000),
        (".5s", 500),
        ("-.5s", -500),
        ("0.5", 0.5),
        ("60 ", 60),
        ("0" * 99 + "7", 7),
    ],
)
def test_accepted(text: str, duration_ms: float) -> None:
    parsed = parse_duration_ms(text)
    assert parsed == duration_ms
    assert isinstance(parsed, int) == float(duration_ms).is_integer()


REFUSED = [
    *(
        "1mo",
        "1e3",
        " 1h",
        "abc",
        "",
        "h",
        "1h ",
        "1h\n",
        "\n1h",
        "1.",
        "1.h",
        "+1h",
        "--1h",
        "1h1m",
    ),
    *("1,5h", "0x10", "1_000", "٣h", "1ſ", "1\th", "nan", "inf", "0" * 101, "9" * 30 + "y"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    assert parse_duration_ms(text) is None


@given(st.text())
def test_any_text_gives_a_number_or_none(text: str) -> None:
    parsed = parse_duration_ms(text)
    assert parsed is None or abs(parsed) <= 2**53


@given(st.integers(-(2**31), 2**31), st.sampled_from([""] + [name for name, _ in ALL_UNITS[:15]]))
def test_whole_numbers_are_exact(number: int, unit: str) -> None:
    assert parse_duration_ms(f"{number}{unit}") == number * dict([*ALL_UNITS, ("", 1)])[unit]


@given(st.integers(-1, 2**53))
def test_what_is_written_can_be_read(duration_ms: int) -> None:
    assert parse_duration_ms(str(write_duration(duration_ms))) == duration_ms


@pytest.mark.parametrize(
    ("duration_ms", "written"),
    [(3_600_000, "1h"), (90_000, "90s"), (172_800_000, "2d"), (1500, 1500), (0, 0), (-1, -1)],
)
def test_written_as_people_do(duration_ms: int, written: object) -> None:
    assert write_duration(duration_ms) == written
