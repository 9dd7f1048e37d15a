"""Estimates with 95% intervals: pure functions. (The interval of a proportion is the contract's `wilson`.)"""

import math

import numpy as np
from numpy.typing import NDArray
from paretune_contract.measurement import Measurement

Z = 1.959964


def mean_interval(values: NDArray[np.float64], lowest: float = -math.inf) -> Measurement:
    """The mean and its normal interval, mean ± 1.96 s / sqrt(n); one value has no spread to speak of.

    Args:
        values: one number for each sample.
        lowest: a bound that the quantity cannot go under.
    """
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Measurement(value=mean, low=max(lowest, mean - Z * spread), high=mean + Z * spread)


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive sample scores above a negative one, ties counting one half.

    The Mann-Whitney statistic, by mid-ranks.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    midranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = int(positive.sum()), int((~positive).sum())
    return float((midranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(area: float, positives: int, negatives: int) -> Measurement:
    """An area under the ROC curve with its 95% interval.

    Newcombe's method 5 (Statistics in Medicine 25, 2006, 559-573): the score form of Hanley and McNeil's
    interval, which solves |t - area| = 1.96 sqrt(V(t)) for t and so has width at areas of 0 and 1, too.
    """

    def distance(t: float) -> float:
        half = (positives + negatives) / 2 - 1
        variance = t * (1 - t) * (1 + half * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
        return abs(t - area) - Z * math.sqrt(max(variance, 0.0))

    def end(outside: float) -> float:
        """The point between `area` and `outside` where the distance is zero, by bisection."""
        inside = area
        if distance(outside) <= 0:
            return outside
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if distance(middle) <= 0 else (inside, middle)
        return inside

    return Measurement(value=area, low=end(0.0), high=end(1.0))
