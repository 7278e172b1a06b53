"""Fair queue for password hashing: the client that has used the least goes next.

The next job is the one whose account and address have had the least hashing time in about the last
minute; places that are held count as hashing still to come. An account or an address may hold only
a share of all places. If there is no place for a job, the waiting job with the most hashing time
loses its place if that is more than the new one's: a client that fills the queue keeps no other
client out of it.

Knows neither threads nor passwords: `server.auth.passwords.hasher` runs the jobs.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import ceil, exp
from typing import Generic, TypeVar

from protocol.errors import ApiError, error
from server.auth.passwords.work_owner import WorkOwner
from server.core.client_networks import address_groups
from server.core.limit_counters import Limit

MAX_TALLIES = 65_536
"""Accounts, and as many networks, whose hashing time is kept: some 12 MB of each at the most."""
DECAY_S = 60.0
"""Time constant: hashing time counts for a third after so long."""
FIRST_EXPECTED_S = 0.25
"""Expected time of a job before one has been measured; bcrypt of cost 12."""
MAX_RETRY_AFTER_S = 30
ACCOUNT_SHARE = 0.5
NETWORK_SHARES = (0.5, 0.625, 0.75)
"""Shares of all places: of an IPv4 address or an IPv6 /64, of a /56, of a /48."""
_NETWORK_WEIGHTS = (1.0, 0.5, 0.25)  # how much the hashing of a /64, /56, /48 counts in the order
_SMOOTHING = 8  # jobs over which the expected time is averaged, roughly

J = TypeVar("J")


@dataclass(slots=True, eq=False)
class _Tally:
    """Hashing of one account or network: `spent_s` as of `at_s`, and places held now."""

    key: bytes
    max_places: int
    weight: float = 1.0
    spent_s: float = 0.0
    at_s: float = 0.0
    held: int = 0

    @property
    def is_full(self) -> bool:
        return self.held >= self.max_places

    def read(self, now_s: float, expected_s: float, more: int) -> float:
        """Return the hashing time that counts, what is still to come included, as if `more` places
        were held."""
        decayed_s = self.spent_s * exp((self.at_s - now_s) / DECAY_S)
        return (decayed_s + (self.held + more) * expected_s) * self.weight

    def spend(self, cost_s: float, now_s: float) -> None:
        self.spent_s = self.spent_s * exp((self.at_s - now_s) / DECAY_S) + cost_s
        self.at_s = now_s


class _Tallies:
    """A limited table of tallies; the ones not used for the longest time are dropped first.

    Every use costs a client a hash, and counts for minutes only, so heavy users cannot be pushed
    out by made-up names in time.
    """

    __slots__ = ("_kept", "_max_kept")

    def __init__(self, max_kept: int) -> None:
        self._kept: OrderedDict[bytes, _Tally] = OrderedDict()
        self._max_kept = max_kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, max_places: int, weight: float = 1.0) -> _Tally:
        """Return the tally of a key; a new one is not kept before `keep`."""
        return self._kept.get(key) or _Tally(key, max_places, weight)

    def keep(self, tally: _Tally) -> None:
        """Keep a tally as the newest one."""
        self._kept[tally.key] = tally
        self._kept.move_to_end(tally.key)
        while len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)


@dataclass(slots=True, eq=False)
class Place(Generic[J]):
    """A job's place in the queue, from its entry until it is finished or cancelled."""

    job: J
    number: int
    account: _Tally
    networks: tuple[_Tally, ...]

    def tallies(self) -> Iterator[_Tally]:
        """Return the tallies that the job counts under."""
        yield self.account
        yield from self.networks


class FairQueue(Generic[J]):
    """Places for `running` jobs at once and for `waiting` further ones.

    `on_limit` is called for each refusal, whichever limit was reached.
    """

    def __init__(
        self,
        *,
        running: int,
        waiting: int,
        clock_s: Callable[[], float],
        on_limit: Callable[[Limit], None] = lambda limit: None,
        max_tallies: int = MAX_TALLIES,
    ) -> None:
        self.places = running + waiting
        self._max_running = running
        self._running = 0
        self._waiting: dict[int, Place[J]] = {}
        self._clock_s = clock_s
        self._on_limit = on_limit
        self._numbers = count()
        self._expected_s = FIRST_EXPECTED_S
        self._accounts = _Tallies(max_tallies)
        self._networks = _Tallies(max_tallies)
        self._max_of_account = ceil(self.places * ACCOUNT_SHARE)
        self._max_of_networks = [ceil(self.places * share) for share in NETWORK_SHARES]

    def __len__(self) -> int:
        """Return how many places are held."""
        return self._running + len(self._waiting)

    @property
    def tallies(self) -> int:
        """How many accounts and networks are known."""
        return len(self._accounts) + len(self._networks)

    def enter(self, owner: WorkOwner, job: J) -> tuple[Place[J], Place[J] | None]:
        """Give a job a place; return it and the place that another job loses for it, if any.

        ApiError 503 with the seconds to wait if there is no place for this job.
        """
        place = Place(job, next(self._numbers), self._account_of(owner), self._networks_of(owner))
        full = [tally for tally in place.tallies() if tally.is_full]
        displaced: Place[J] | None = None
        if full or len(self) >= self.places:
            limit = Limit.HASHING_SHARE if full else Limit.HASHING_QUEUE
            self._on_limit(limit)
            displaced = self._heaviest_within(full, place)
            if displaced is None:
                raise self.refusal()
            self.leave(displaced)
        for tally in place.tallies():
            tally.held += 1
        for tally in place.networks:
            self._networks.keep(tally)
        self._accounts.keep(place.account)
        self._waiting[place.number] = place
        return place, displaced

    def next(self) -> Place[J] | None:
        """Return the job to begin now, which then counts as running; None if there is none, or no
        thread for it."""
        if not self._waiting or self._running >= self._max_running:
            return None
        now_s = self._clock_s()
        place = min(self._waiting.values(), key=lambda one: (self._used_s(one, now_s), one.number))
        del self._waiting[place.number]
        self._running += 1
        return place

    def leave(self, place: Place[J]) -> None:
        """Release the place of a job that has not begun; nothing for one that has."""
        if self._waiting.pop(place.number, None) is not None:
            for tally in place.tallies():
                tally.held -= 1

    def leave_all(self) -> list[J]:
        """Release the places of all jobs that have not begun, and return those jobs."""
        left = list(self._waiting.values())
        for place in left:
            self.leave(place)
        return [place.job for place in left]

    def finish(self, place: Place[J], cost_s: float) -> None:
        """Count the cost of a job that ran, in seconds of processor time."""
        self._running -= 1
        self._expected_s += (cost_s - self._expected_s) / _SMOOTHING
        now_s = self._clock_s()
        for tally in place.tallies():
            tally.held -= 1
            tally.spend(cost_s, now_s)

    def refusal(self) -> ApiError:
        """Return the error of a job without a place: 503, and when a good part of the queue should
        have been worked off."""
        wait_s = ceil(len(self._waiting) * self._expected_s / self._max_running)
        wait_s = min(max(wait_s, 1), MAX_RETRY_AFTER_S)
        return error("api.process.overloaded", retry_after_s=wait_s)

    def _heaviest_within(self, full: list[_Tally], newcomer: Place[J]) -> Place[J] | None:
        """Return the waiting job that must make room: the last of those in every full share, if
        its owner has used more than the newcomer would have."""
        now_s = self._clock_s()
        there = [
            place
            for place in self._waiting.values()
            if all(any(tally is one for one in place.tallies()) for tally in full)
        ]
        if not there:
            return None
        heaviest = max(there, key=lambda one: (self._used_s(one, now_s), one.number))
        own_s = self._used_s(newcomer, now_s, in_place_of=heaviest)
        return heaviest if self._used_s(heaviest, now_s) > own_s else None

    def _used_s(
        self, place: Place[J], now_s: float, *, in_place_of: Place[J] | None = None
    ) -> float:
        """Return the hashing time of a job's account and address together; of a job that has not
        entered, what it would be if it had the place of another one."""
        others = () if in_place_of is None else tuple(in_place_of.tallies())

        def read(tally: _Tally) -> float:
            more = in_place_of is not None and not any(tally is other for other in others)
            return tally.read(now_s, self._expected_s, int(more))

        return read(place.account) + max(map(read, place.networks), default=0.0)

    def _account_of(self, owner: WorkOwner) -> _Tally:
        if not owner.account:
            # The server's own work: it counts, and may use every place.
            return self._accounts.get(b"", self.places)
        # Names may have any length, keys have a fixed one.
        named = owner.account.encode(errors="surrogatepass")
        key = hashlib.blake2b(named, digest_size=16).digest()
        return self._accounts.get(key, self._max_of_account)

    def _networks_of(self, owner: WorkOwner) -> tuple[_Tally, ...]:
        limits = zip(
            address_groups(owner.address), self._max_of_networks, _NETWORK_WEIGHTS, strict=False
        )
        return tuple(self._networks.get(*one) for one in limits)
