"""Throttling of failed logins: exponential, decaying, never permanent (NIST SP 800-63B §3.2.2).

An account is a strategy with the identifier as it was given, whether any user has it or not, so
that throttling reveals nothing. Three limits are checked before a password is verified, each a
multiple of `limits.failedLogins`:

- an account from one address (a device that has logged in to the account before: the account from
  this device, whatever its address) may fail that often;
- an account from all addresses together `ACCOUNT_FACTOR` times as often, and from all known devices
  together as often again: guesses from many addresses do not use up the known devices' share;
- an address `NETWORK_FACTORS` times as often: IPv4 by address, IPv6 by /64, /56 and /48.

So one attacker blocks an account for one address only, and many attackers never for the devices of
its owner. A known device passes the waits of the account and of the address; its failures count for
the address too. Clients that are refused because they come too early learn nothing, and only their
own address is charged. A success forgets the failures of the account from this address, or device,
and nothing else: it gives an attacker elsewhere no new guesses.

An attempt in progress counts as a failed one: the last ones before the limit run one after the
other, however many come at once. Attempts that wait for another site, where nothing can be guessed,
count when they have failed: a site that hangs would keep all users behind one address from logging
in. All counts live in this process only.

What one identifier cannot show: a directory may know one entry by several names. Where a strategy
reports which entry it was, failures count for the entry as well, at the account's limit; the names
are throttled separately as if they had nothing in common, or throttling would reveal that they do.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from enum import Enum
from functools import partial

from server.auth.limits.backoff import BackoffTable, Counter, too_many
from server.core.client_networks import address_groups

FORGIVE_S = 600.0
"""After this time one failure of an account is forgotten; of an address, as many as its factor."""
ACCOUNT_FACTOR = 10
NETWORK_FACTORS = (10, 20, 50)
"""Of an IPv4 address or an IPv6 /64, of a /56, of a /48."""
MOST_COUNTERS = 65_536
"""Counters kept of each kind: of accounts from one address or device, of accounts, and of networks
of each width. Some 400 bytes each."""
MOST_ENTRIES = 8192
"""Names of accounts for which the entry of a directory is remembered."""
MOST_UNLOCKED = 4096
"""Accounts for which it is remembered that an administrator has unlocked them."""
_ANYWHERE = b"anywhere"  # peers without an address, like those of a Unix socket


class Slowed(Enum):
    """What must wait after a failed login; the value is what the audit log says."""

    FROM_ADDRESS = "too many failed logins of this account from this address"
    FROM_DEVICE = "too many failed logins of this account from this device"
    ACCOUNT = "too many failed logins of this account"
    DEVICES = "too many failed logins of this account from known devices"
    ADDRESS = "too many failed logins from this address"


Limit = tuple[BackoffTable, bytes, Slowed]
"""A counter by its table and key, and its reason in the audit log."""


class Attempt:
    """One login in progress; the first of its three outcomes counts."""

    __slots__ = ("_entry", "_reserved", "_throttle", "_unreserved")

    def __init__(self, throttle: "LoginThrottle") -> None:
        self._throttle = throttle
        self._reserved: list[tuple[BackoffTable, Counter, Slowed]] = []
        self._unreserved: list[Limit] = []
        self._entry: tuple[str, str] | None = None

    async def reserve(self, limits: Iterable[Limit], later: list[Limit]) -> None:
        """Count it under all `limits` or none, and under `later` once it has failed. ApiError
        429."""
        with ExitStack() as undo:
            undo.callback(self.cancelled)
            for table, key, slowed in limits:
                self._reserved.append((table, await table.reserve(key), slowed))
            undo.pop_all()
        self._unreserved = later

    def identify(self, account: str, entry: str) -> None:
        """Report which entry of a directory the account is, by an identifier that never changes."""
        self._entry = (account, entry)

    def failed(self) -> list[Slowed]:
        """The credentials were refused. Return what must wait from now on, and did not before."""
        begun = [slowed for table, counter, slowed in self._reserved if table.fail(counter)]
        begun += [slowed for table, key, slowed in self._unreserved if table.count_failure(key)]
        if self._entry is not None and self._throttle.count_entry(*self._entry):
            begun.append(Slowed.ACCOUNT)
        self._forget()
        return list(dict.fromkeys(begun))

    def succeeded(self) -> None:
        """The credentials were correct."""
        for table, counter, slowed in self._reserved:
            is_source = slowed in (Slowed.FROM_ADDRESS, Slowed.FROM_DEVICE)
            (table.clear if is_source else table.release)(counter)
        self._forget()

    def cancelled(self) -> None:
        """The result is unknown."""
        for table, counter, _ in self._reserved:
            table.release(counter)
        self._forget()

    def _forget(self) -> None:
        self._reserved, self._unreserved, self._entry = [], [], None


class LoginThrottle:
    """Lets login attempts begin, or not yet. `failed_logins` is the limit of an account from one
    address, 0 for none; `account_factor` times that is its limit from all addresses."""

    __slots__ = ("_accounts", "_entries", "_is_on", "_networks", "_sources", "_unlocked")

    def __init__(
        self,
        failed_logins: int,
        *,
        clock_s: Callable[[], float],
        most_counters: int = MOST_COUNTERS,
        account_factor: int = ACCOUNT_FACTOR,
    ) -> None:
        self._is_on = failed_logins > 0
        table = partial(BackoffTable, clock_s=clock_s, most=most_counters)
        self._sources = table(failed_logins, forgive_s=FORGIVE_S)
        self._accounts = table(failed_logins * account_factor, forgive_s=FORGIVE_S)
        self._networks = tuple(
            table(failed_logins * factor, forgive_s=FORGIVE_S / factor)
            for factor in NETWORK_FACTORS
        )
        self._entries: OrderedDict[bytes, str] = OrderedDict()
        self._unlocked: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many counters there are, of failures or of attempts in progress."""
        return sum(map(len, (self._sources, self._accounts, *self._networks)))

    async def begin(
        self, account: str | None, address: str, *, device: str = "", is_guess: bool = True
    ) -> Attempt:
        """Begin an attempt, whose outcome must be reported; it waits for others under the same
        limit if as many are in progress as may still fail. One that is not a guess waits for none,
        and none for it: the address alone counts, once it has failed.

        `device` names a device that has logged in to this account before, "" for none. Without an
        account, or a valid address, the other one alone counts. ApiError 429 with the seconds to
        wait.
        """
        attempt = Attempt(self)
        if not self._is_on:
            return attempt
        groups = address_groups(address)
        networks = _network_limits(self._networks, groups)
        limits: list[Limit] = []
        asked: list[Limit] = []
        later: list[Limit] = []
        if account is not None and device:
            limits, later = self._device_limits(account, device), networks
        elif is_guess:
            limits, asked = self._account_limits(account, groups)
            limits += networks
        else:
            asked = later = networks
        wait_s = max((table.wait_s(key) for table, key, _ in (*limits, *asked)), default=0.0)
        if wait_s > 0:
            _charge_early(networks)
            raise too_many(wait_s)
        await attempt.reserve(limits, later)
        return attempt

    def entry_of(self, account: str) -> str | None:
        """Return the entry that failed attempts on an account were for, as far as remembered."""
        return self._entries.get(_account_key(account))

    def count_entry(self, account: str, entry: str) -> bool:
        """Count a failure for an entry of a directory, and remember that the account is a name of
        it; see `BackoffTable.fail`."""
        key = _account_key(account)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > MOST_ENTRIES:
            self._entries.popitem(last=False)
        return self._accounts.count_failure(self._entry_key(entry))

    def unlock(self, accounts: Iterable[str]) -> None:
        """Forget the failures of accounts and of entries, from all addresses. Those of addresses
        stay."""
        for account in accounts:
            key = _account_key(account)
            self._unlocked[key] = self._unlocked.pop(key, 0) + 1
            if len(self._unlocked) > MOST_UNLOCKED:
                self._unlocked.popitem(last=False)

    def _account_limits(
        self, account: str | None, groups: tuple[bytes, ...]
    ) -> tuple[list[Limit], list[Limit]]:
        """Return the limits an attempt of an unknown device counts for, and one that is only
        checked: that it is the same entry again is known when it has failed."""
        if account is None:
            return [], []
        key, place = _account_key(account), groups[0] if groups else _ANYWHERE
        limits = [
            (self._sources, self._key(b"address", key, place), Slowed.FROM_ADDRESS),
            (self._accounts, self._key(b"account", key), Slowed.ACCOUNT),
        ]
        entry = self._entries.get(key)
        if entry is None:
            return limits, []
        return limits, [(self._accounts, self._entry_key(entry), Slowed.ACCOUNT)]

    def _device_limits(self, account: str, device: str) -> list[Limit]:
        key = _account_key(account)
        return [
            (self._sources, self._key(b"device", key, device.encode()), Slowed.FROM_DEVICE),
            (self._accounts, self._key(b"devices", key), Slowed.DEVICES),
        ]

    def _entry_key(self, entry: str) -> bytes:
        return self._key(b"entry", _account_key(entry))

    def _key(self, kind: bytes, account_key: bytes, source: bytes = b"") -> bytes:
        """Return the key of a counter: all of an account change when it is unlocked."""
        unlocked = self._unlocked.get(account_key, 0)
        text = b"%b %d %b %b" % (kind, unlocked, account_key, source)
        return hashlib.blake2b(text, digest_size=16).digest()


def _account_key(account: str) -> bytes:
    """Return a key of fixed length for an account of any length."""
    return hashlib.blake2b(account.encode(errors="surrogatepass"), digest_size=16).digest()


def _network_limits(tables: Iterable[BackoffTable], groups: Iterable[bytes]) -> list[Limit]:
    """Return the limits of an address, the narrowest network first; IPv4 has one."""
    return [(table, group, Slowed.ADDRESS) for table, group in zip(tables, groups, strict=False)]


def _charge_early(networks: list[Limit]) -> None:
    """Count a refusal for the client's own address, unless that is what waits: repeating requests
    during a block is not free, and yet a block of an address ends."""
    if networks and not any(table.wait_s(key) > 0 for table, key, _ in networks):
        table, key, _ = networks[0]
        table.count_failure(key)
