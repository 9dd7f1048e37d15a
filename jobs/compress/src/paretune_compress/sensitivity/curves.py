"""What a layer loses by how much is asked of it, as a curve that never falls."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Points = tuple[tuple[float, float], ...]
LEAST = 1e-9
"""Costs below count as this where logarithms are taken."""


@dataclass(frozen=True)
class Curve:
    """What a layer loses, by how much is asked of it.

    Attributes:
        size: number of weights.
        points: (amount per weight, cost), amounts ascending and distinct, at least one point. Costs that
            fall where the amount grows are noise of the measurement, and are lifted.
    """

    size: int
    points: Points

    def between(self, low: float, high: float) -> "Curve":
        """The part from amount `low` to `high`, with straight lines between the points."""
        amounts, costs = self._lifted()
        inner = [float(a) for a in amounts if low < a < high]
        cut = sorted({low, *inner, high})
        return Curve(self.size, tuple((a, float(np.interp(a, amounts, costs))) for a in cut))

    def cost(self, amount: float) -> float:
        """Cost at an amount, on straight lines between the points; beyond them that of the last one."""
        amounts, costs = self._lifted()
        return float(np.interp(amount, amounts, costs))

    def hull(self) -> Points:
        """The corners of the lower convex hull, amounts ascending."""
        corners: list[tuple[float, float]] = []
        for point in zip(*self._lifted(), strict=True):
            while len(corners) > 1 and slope(corners[-2], corners[-1]) >= slope(corners[-1], point):
                corners.pop()
            corners.append(point)
        return tuple(corners)

    def _lifted(self) -> tuple[list[float], list[float]]:
        amounts, costs = zip(*self.points, strict=True)
        return list(amounts), [float(c) for c in np.maximum.accumulate(costs)]


def slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Cost of one more of the amount between two points."""
    return (high[1] - low[1]) / (high[0] - low[0])


def filled(
    found: Sequence[tuple[float, float]], wanted: Sequence[float], scale: Callable[[float], float]
) -> Points:
    """Points at all amounts that are wanted, where only some were measured.

    The logarithm of the cost runs straight over `scale` of the amount between two measured points, and on
    beyond the first and the last as between their neighbors.

    Args:
        found: (amount, cost), amounts ascending.
        wanted: amounts, ascending.
        scale: a function that grows with the amount.
    """
    at = np.array([scale(amount) for amount, _ in found])
    logs = np.log(np.maximum(np.maximum.accumulate([cost for _, cost in found]), LEAST))
    known = dict(found)
    points = []
    for amount in wanted:
        place = scale(amount)
        log = float(np.interp(place, at, logs))
        if len(at) > 1 and place < at[0]:
            log = logs[0] + (place - at[0]) * (logs[1] - logs[0]) / (at[1] - at[0])
        elif len(at) > 1 and place > at[-1]:
            log = logs[-1] + (place - at[-1]) * (logs[-1] - logs[-2]) / (at[-1] - at[-2])
        points.append((amount, known.get(amount, math.exp(log))))
    return tuple(points)
