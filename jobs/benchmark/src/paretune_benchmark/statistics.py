"""What rounds of timings say: pure functions, no clock and no runtime.

All intervals are of the median, by order statistics: the interval between the j-th smallest and the j-th
largest of n values covers the median with probability 1 - 2 P(Binomial(n, 1/2) < j), whatever the
distribution (Conover, Practical Nonparametric Statistics, 3rd ed., 3.2; it is the inversion of the sign
test). Timings are skewed and have outliers, so nothing here assumes a normal distribution.
"""

import functools
import math
from collections.abc import Sequence

from paretune_contract.measurement import Measurement

CONFIDENCE = 0.95
FEWEST = 6
"""Below six values no pair of order statistics reaches 95%; the interval is then the range of the values."""
FIRST_LOOK = 24
"""Rounds before the first look at the interval: looking at fewer would stop at lucky streaks."""
_EXACT = 1000


@functools.lru_cache(maxsize=4096)
def interval_rank(n: int, confidence: float = CONFIDENCE) -> int:
    """The j (from 1) for which the j-th smallest and j-th largest of n values bound the median.

    The largest j whose coverage is still at least `confidence`; 1 when even the extremes do not reach it.
    """
    if n < 1:
        raise ValueError("an interval needs at least one value")
    tail = (1 - confidence) / 2
    if n > _EXACT:  # the normal approximation is within one rank here
        return max(1, math.floor((n - 1.959964 * math.sqrt(n)) / 2))
    limit = tail * 2**n
    term, cumulated, rank = 1, 1, 0  # term = C(n, rank), cumulated = sum of C(n, 0..rank)
    while cumulated <= limit:
        rank += 1
        term = term * (n - rank + 1) // rank
        cumulated += term
    return max(1, rank)


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, linear between order statistics (type 7 of Hyndman and Fan 1996)."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median_interval(values: Sequence[float]) -> Measurement:
    """The median and its 95% interval by order statistics; fewer than six values give their range."""
    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    return Measurement(value=quantile(ordered, 0.5), low=ordered[rank - 1], high=ordered[-rank])


def ratio_interval(candidate: Sequence[float], reference: Sequence[float]) -> Measurement:
    """Median of candidate / reference paired by round, with its 95% interval.

    The two sides of a round ran within milliseconds of each other, so what slows the machine down for
    longer than a round cancels in the ratio.
    """
    return median_interval([c / r for c, r in zip(candidate, reference, strict=True)])


def half_width(ratio: Measurement) -> float:
    """Half of the interval's width, relative to the value."""
    return (ratio.high - ratio.low) / 2 / ratio.value


def is_narrow(candidate: Sequence[float], reference: Sequence[float], limit: float) -> bool:
    """The ratio's relative half-width is at most `limit`, on enough rounds to say so."""
    return len(candidate) >= FEWEST and half_width(ratio_interval(candidate, reference)) <= limit


def next_look(rounds: int) -> int:
    """After how many rounds to look at the interval again: twice as many each time.

    Every look is a chance to stop on luck. With doubling, the interval at the stop still covers the truth
    in 95% of simulated runs; with a quarter more each time in 93.5%.
    """
    return FIRST_LOOK if rounds < FIRST_LOOK else 2 * rounds


def inferences_per_round(seconds_per_inference: float, round_seconds: float) -> int:
    """Inferences for a round of about `round_seconds`; at least one."""
    return max(1, math.ceil(round_seconds / max(seconds_per_inference, 1e-9)))
