"""Networks by which clients are counted."""

import pytest

from server.core.client_networks import address_groups


def test_an_ipv4_address_is_a_group_of_its_own_however_it_is_written() -> None:
    assert len(address_groups("192.0.2.1")) == 1
    assert address_groups("::ffff:192.0.2.1") == address_groups("192.0.2.1")
    assert address_groups("192.0.2.1") != address_groups("192.0.2.2")


@pytest.mark.parametrize(
    ("other", "common"),
    [
        ("2001:db8:1:203::2", 3),  # the same /64
        ("2001:db8:1:2ff::1", 2),  # the same /56
        ("2001:db8:1:303::1", 1),  # the same /48
        ("2001:db8:2:203::1", 0),
    ],
)
def test_ipv6_addresses_share_the_groups_of_their_networks(other: str, common: int) -> None:
    own, others = address_groups("2001:db8:1:203::1"), address_groups(other)
    assert [one == another for one, another in zip(own, others, strict=True)] == [
        at >= 3 - common for at in range(3)
    ]


@pytest.mark.parametrize("text", ["", "unix", "localhost", "192.0.2.1:80", "192.0.2.0/24"])
def test_text_that_is_not_an_address_has_no_groups(text: str) -> None:
    assert address_groups(text) == ()
