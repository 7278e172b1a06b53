"""Fair queue for password hashing, with a clock and work that cost what a test says (security check
X3)."""

from dataclasses import dataclass, field

import pytest

from protocol.errors import ApiError
from server.auth.passwords.fair_queue import DECAY_S, FIRST_EXPECTED_S, FairQueue, Place
from server.auth.passwords.work_owner import UNATTRIBUTED, WorkOwner
from server.core.limit_counters import Limit

HASH_S = FIRST_EXPECTED_S
HOME, OFFICE, FAR = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@dataclass
class Bench:
    """A queue whose threads do what a test says; `limits` are the refusals counted."""

    running: int = 1
    waiting: int = 7
    max_tallies: int = 100
    now_s: float = 1000.0
    limits: list[Limit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue: FairQueue[str] = FairQueue(
            running=self.running,
            waiting=self.waiting,
            clock_s=lambda: self.now_s,
            on_limit=self.limits.append,
            max_tallies=self.max_tallies,
        )

    def enter(self, account: str, address: str = HOME, count: int = 1) -> list[str]:
        """Enter jobs named by their account; return the jobs that were displaced."""
        displaced = []
        for _ in range(count):
            _, other = self.queue.enter(WorkOwner(account, address), account)
            displaced += [] if other is None else [other.job]
        return displaced

    def is_refused(self, account: str, address: str = HOME) -> bool:
        """Tell whether there is no place for a job."""
        held = len(self.queue)
        try:
            self.enter(account, address)
        except ApiError as refused:
            assert (refused.id, refused.status) == ("api.process.overloaded", 503)
            assert refused.retry_after_s is not None and refused.retry_after_s >= 1
            assert len(self.queue) == held
            return True
        return False

    def begin(self) -> Place[str]:
        """Begin the next job."""
        place = self.queue.next()
        assert place is not None
        return place

    def run_all(self, cost_s: float = HASH_S) -> list[str]:
        """Run what waits, one job after the other; return the order."""
        done = []
        while (place := self.queue.next()) is not None:
            self.now_s += cost_s
            self.queue.finish(place, cost_s)
            done.append(place.job)
        return done


def test_jobs_of_one_owner_run_in_the_order_of_their_entry() -> None:
    bench = Bench()
    for job in ("first", "second", "third"):
        bench.queue.enter(WorkOwner("ann", HOME), job)
    assert bench.run_all() == ["first", "second", "third"]


def test_no_more_jobs_run_than_there_are_threads() -> None:
    bench = Bench(running=2)
    bench.enter("ann", count=3)
    first = bench.begin()
    bench.begin()
    assert bench.queue.next() is None
    bench.queue.finish(first, HASH_S)
    assert bench.begin().job == "ann"


@pytest.mark.parametrize("address", [HOME, OFFICE])
def test_an_account_that_comes_last_goes_before_one_that_waits_with_many(address: str) -> None:
    """From the same address as well as from another one."""
    bench = Bench(waiting=15)
    bench.enter("flood", count=5)
    bench.enter("ann", address)
    assert bench.run_all()[0] == "ann"


def test_of_accounts_at_one_address_the_one_with_the_least_hashing_goes_next() -> None:
    bench = Bench()
    for account, cost_s in (("much", 5.0), ("some", 1.0)):
        bench.enter(account)
        bench.run_all(cost_s)
    for account in ("much", "some", "none"):
        bench.enter(account)
    assert bench.run_all() == ["none", "some", "much"]


def test_of_addresses_the_one_with_the_least_hashing_goes_next() -> None:
    """New names at an address that hashes all the time gain nothing, nor do registrations."""
    bench = Bench()
    for number in range(4):
        bench.enter(f"made-up-{number}", HOME)
    bench.run_all()
    bench.enter("made-up-6", HOME)
    bench.enter("ann", OFFICE)
    assert bench.run_all() == ["ann", "made-up-6"]


def test_an_account_that_is_attacked_goes_next_from_its_own_address() -> None:
    bench = Bench()
    bench.enter("ann", HOME, count=3)
    bench.run_all()
    bench.enter("ann", HOME)
    bench.queue.enter(WorkOwner("ann", OFFICE), "owner")
    assert bench.run_all()[0] == "owner"


def test_hashing_is_forgotten_within_minutes() -> None:
    bench = Bench()
    bench.enter("ann", HOME)
    bench.run_all(10.0)
    bench.now_s += 10 * DECAY_S
    bench.enter("ann", HOME)
    bench.enter("bob", OFFICE)
    bench.enter("bob", OFFICE)
    assert bench.run_all(1.0)[0] == "ann"


def test_an_ipv6_customer_counts_as_one_whatever_address_it_takes() -> None:
    """Within a /64 fully, within a /56 and a /48 less: strangers may share those."""
    bench = Bench()
    for number in range(3):
        bench.enter(f"flood-{number}", f"2001:db8:0:1::{number}")
    bench.run_all(1.0)
    bench.enter("same 64", "2001:db8:0:1::99")
    bench.enter("same 56", "2001:db8:0:2::1")
    bench.enter("same 48", "2001:db8:0:102::1")
    bench.enter("elsewhere", "2001:db8:1:1::1")
    assert bench.run_all(0.01) == ["elsewhere", "same 48", "same 56", "same 64"]


def test_an_account_holds_half_of_the_places_from_however_many_addresses() -> None:
    bench = Bench()  # 8 places
    for number in range(4):
        bench.enter("ann", f"198.51.100.{number}")
    assert bench.is_refused("ann", HOME)
    assert not bench.is_refused("bob", HOME)
    assert bench.limits == [Limit.HASHING_SHARE]


@pytest.mark.parametrize(
    ("addresses", "share"),
    [
        ("192.0.2.1", 4),
        ("2001:db8::{0:x}", 4),  # one /64
        ("2001:db8:0:{0:x}::1", 5),  # one /56
        ("2001:db8:0:{0:x}00::1", 6),  # one /48
    ],
)
def test_an_address_holds_a_share_of_the_places_with_however_many_accounts(
    addresses: str, share: int
) -> None:
    bench = Bench()  # 8 places
    held = 0
    while not bench.is_refused(f"account-{held}", addresses.format(held)):
        held += 1
    assert held == share
    assert not bench.is_refused("other", OFFICE)


def test_a_share_is_counted_until_the_job_is_done() -> None:
    bench = Bench()
    bench.enter("ann", count=4)
    place = bench.begin()
    assert bench.is_refused("ann")
    bench.queue.finish(place, HASH_S)
    assert not bench.is_refused("ann")


def test_a_job_that_gives_up_leaves_its_place_once() -> None:
    bench = Bench()
    entered = [bench.queue.enter(WorkOwner("ann", HOME), "ann")[0] for _ in range(4)]
    for _ in range(2):
        bench.queue.leave(entered[3])
    assert not bench.is_refused("ann")
    assert bench.is_refused("ann")
    begun = bench.begin()
    bench.queue.leave(begun)  # too late: it runs
    assert bench.is_refused("ann")


def test_a_newcomer_takes_the_last_place_of_the_heaviest_at_its_full_address() -> None:
    """A login of another account at the address of a flood is not refused."""
    bench = Bench()
    bench.enter("flood", HOME, count=3)
    bench.enter("other", HOME)
    assert bench.enter("ann", HOME) == ["flood"]
    assert bench.run_all() == ["other", "ann", "flood", "flood"]


def test_a_newcomer_takes_the_last_place_of_the_heaviest_in_a_full_queue() -> None:
    bench = Bench()
    bench.enter("flood-1", HOME, count=4)
    bench.enter("flood-2", OFFICE, count=4)
    assert bench.enter("ann", FAR) == ["flood-2"]
    assert bench.limits == [Limit.HASHING_QUEUE]


def test_a_newcomer_that_has_used_as_much_takes_no_place() -> None:
    bench = Bench(waiting=3)
    for number in range(4):
        bench.enter(f"account-{number}", f"198.51.100.{number}")
    assert bench.is_refused("ann", FAR)
    assert bench.limits == [Limit.HASHING_QUEUE]


def test_a_job_that_runs_keeps_its_place() -> None:
    bench = Bench(running=2, waiting=1)
    bench.enter("flood", count=2)
    bench.begin(), bench.begin()
    assert bench.is_refused("flood")
    bench.enter("ann", OFFICE)
    assert bench.is_refused("bob", FAR)


def test_work_of_the_servers_own_may_take_every_place() -> None:
    """An import hashes as many at once as there are places."""
    bench = Bench()
    for _ in range(8):
        bench.queue.enter(UNATTRIBUTED, "import")
    assert bench.run_all() == ["import"] * 8


def test_a_refusal_says_when_the_queue_will_be_shorter() -> None:
    """In seconds: what waits, by the time a job took, for each thread; half a minute at most."""
    bench = Bench(running=2, waiting=200)
    bench.enter("ann")
    bench.run_all(2.25)
    expected_s = HASH_S + (2.25 - HASH_S) / 8
    assert expected_s == 0.5
    for number in range(20):
        bench.enter(f"account-{number}", f"198.51.100.{number}")
    assert bench.queue.refusal().retry_after_s == 20 * expected_s / 2
    for number in range(180):
        bench.enter(f"account-{number}", f"203.0.113.{number}")
    assert bench.queue.refusal().retry_after_s == 30


def test_tallies_are_limited() -> None:
    bench = Bench(max_tallies=10)
    for number in range(50):
        bench.enter(f"account-{number}", f"198.51.100.{number}")
        bench.run_all()
    assert bench.queue.tallies == 20


def test_a_long_name_of_an_account_is_not_kept() -> None:
    bench = Bench()
    bench.enter("x" * 100_000 + "\ud800")
    (tally,) = [place.account for place in [bench.begin()]]
    assert len(tally.key) == 16
