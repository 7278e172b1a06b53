"""Whether two samples may come from one distribution: the Mann-Whitney U test."""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from math import erfc, sqrt


def likelihood(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Give the probability (two-sided, 0 to 1) that samples of one distribution differ as much.

    The normal approximation, corrected for ties and continuity: for samples of 20 and more. 1.0
    where all values are the same.
    """
    counts = Counter([*ours, *theirs])
    values = sorted(counts)
    last_ranks = accumulate(counts[value] for value in values)
    rank = {
        value: last - (counts[value] - 1) / 2
        for value, last in zip(values, last_ranks, strict=True)
    }
    one, other = len(ours), len(theirs)
    total = one + other
    u = sum(rank[value] for value in ours) - one * (one + 1) / 2
    ties = sum(count**3 - count for count in counts.values()) / (total * (total - 1))
    variance = one * other / 12 * (total + 1 - ties)
    if variance == 0:
        return 1.0
    distance = max(0.0, abs(u - one * other / 2) - 0.5)
    return erfc(distance / sqrt(2 * variance))
