"""A budget divided among layers, so that what the layers lose is least in sum.

Costs of layers are taken to add up, as they nearly do while each is small. Where a budget can be divided at
will (zeros, bits of clusters), each layer's curve of costs is replaced by its lower convex hull, and the
pieces of all hulls are taken in the order of their slopes: the answer of a Lagrangian sweep (Shoham and
Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers"). Where a layer takes one of two
formats as a whole, it is a knapsack, as the integer programs of HAWQ-V3 (Yao et al. 2021) are.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .curves import Curve, slope

EQUAL = 1e-9
"""Slopes this near to each other, relative to the larger, are the same."""
CELLS = 4096
"""Resolution of the knapsack: parts of all weights."""


def divide(curves: Sequence[Curve], mean: float) -> list[float]:
    """The amount for each layer whose mean over all weights is `mean`, at the least sum of costs.

    With a larger mean no layer gets less. Layers whose next piece costs the same share it evenly, so equal
    layers get equal amounts.

    Args:
        curves: one for each layer.
        mean: of the amounts, weighted by the layers' sizes; what lies outside the curves is brought to
            their ends.
    """
    hulls = [curve.hull() for curve in curves]
    amounts = [corners[0][0] for corners in hulls]
    wanted = sum(c.size * (mean - amount) for c, amount in zip(curves, amounts, strict=True))
    pieces = sorted(
        (slope(low, high) / curves[i].size, i, high[0] - low[0])
        for i, corners in enumerate(hulls)
        for low, high in pairwise(corners)
    )
    for group in _equal_slopes(pieces):
        room = sum(curves[i].size * length for _, i, length in group)
        share = min(max(wanted / room, 0.0), 1.0)
        for _, i, length in group:
            amounts[i] += share * length
        wanted -= share * room
    return amounts


def cover(sizes: Sequence[int], costs: Sequence[float], share: float) -> list[bool]:
    """The layers that hold at least `share` of all weights at the least sum of costs.

    Exact up to the 4,096th part of all weights, to which each layer is rounded down; a larger share never
    costs less.

    Args:
        sizes: number of weights of each layer.
        costs: of choosing it, not negative.
        share: 0..1.
    """
    total = sum(sizes)
    cells = [size * CELLS // total for size in sizes]
    wanted = min(-int(-share * CELLS // 1), sum(cells))
    # best[c]: least cost of layers that hold at least c cells
    best = np.full(wanted + 1, np.inf)
    best[0] = 0.0
    taken = np.zeros((len(sizes), wanted + 1), np.bool_)
    for i, (size, cost) in enumerate(zip(cells, costs, strict=True)):
        before = best[np.maximum(np.arange(wanted + 1) - size, 0)] + cost
        taken[i] = before < best
        best = np.where(taken[i], before, best)
    chosen, left = [False] * len(sizes), wanted
    for i in range(len(sizes) - 1, -1, -1):
        if left and taken[i, left]:
            chosen[i], left = True, max(left - cells[i], 0)
    return chosen


def _equal_slopes(pieces: Sequence[tuple[float, int, float]]) -> list[list[tuple[float, int, float]]]:
    groups: list[list[tuple[float, int, float]]] = []
    for piece in pieces:
        if groups and piece[0] - groups[-1][0][0] <= EQUAL * abs(piece[0]):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups
