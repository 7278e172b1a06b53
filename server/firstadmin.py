"""Who may make the first administrator (design §4): somebody on this machine, or who knows the
setup code.

The code is made at start while there is no administrator, shown once to the operator, and kept in
memory only.
"""

import hmac
import secrets
from ipaddress import ip_address

# A proxy in front makes every caller look local; any of these tells that there is one.
_FORWARDING = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
)


class FirstAdmin:
    """The setup code of one run; without one (`code` None) only a local caller passes."""

    __slots__ = ("code",)

    def __init__(self, *, is_wanted: bool) -> None:
        self.code = secrets.token_urlsafe(12) if is_wanted else None

    def is_allowed(self, address: str, headers: dict[str, str], code: object) -> bool:
        """Tell whether this caller may make the first administrator."""
        if isinstance(code, str) and self.code is not None:
            return hmac.compare_digest(code.encode(errors="replace"), self.code.encode())
        return is_loopback(address) and not any(name in headers for name in _FORWARDING)


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
