"""Dominance, the front, its knee, and how much of the objective space it covers. All losses are minimized."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..api import OptimizationTrial, State
from .objectives import PROPORTIONS, MetricValues, ResolvedObjective, bounds, feasible
from .records import baseline as baseline_of
from .records import reported, searched

Losses = tuple[float, ...]
MARGIN = 1.1
"""The reference point lies this much beyond the worse of baseline and constraint bound."""
LEAST_EXTENT = 0.01
"""Extent of an axis whose reference would be zero: a baseline without any error, and no constraint."""


def losses(objectives: Sequence[ResolvedObjective], metrics: MetricValues) -> Losses | None:
    """Objective values as losses, in the objectives' order; None when one is not known."""
    if not all(o.name in metrics for o in objectives):
        return None
    return tuple(o.loss(metrics[o.name].value) for o in objectives)


def dominates(a: Losses, b: Losses) -> bool:
    """`a` is nowhere worse than `b` and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def nondominated(points: Mapping[int, Losses]) -> tuple[int, ...]:
    """Numbers of the points that no other dominates, ascending; of equal points the lowest number stays."""
    if not points:
        return ()
    numbers = np.array(sorted(points))
    left = np.array([points[n] for n in numbers], dtype=float)
    order = np.lexsort(left.T[::-1])
    left, numbers = left[order], numbers[order]
    front: list[int] = []
    while len(left):
        front.append(int(numbers[0]))  # nothing dominates what comes first in lexicographic order
        better_somewhere = (left < left[0]).any(axis=1)
        left, numbers = left[better_somewhere], numbers[better_somewhere]
    return tuple(sorted(front))


def _insert(front: dict[int, Losses], number: int, point: Losses) -> bool:
    """Add a point to a front and drop what it dominates; False when the front has its equal or better."""
    if any(other == point or dominates(other, point) for other in front.values()):
        return False
    for worse in [n for n, other in front.items() if dominates(point, other)]:
        del front[worse]
    front[number] = point
    return True


def candidates(
    objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial], *, fresh: bool = True
) -> dict[int, Losses]:
    """Losses of the complete, feasible trials; of trials with equal bytes only the first.

    Args:
        objectives: what is optimized.
        trials: records, in number order.
        fresh: judge by the fresh rounds' values where there are any, else by what the search saw.
    """
    read = reported if fresh else searched
    baseline = baseline_of(trials, fresh=fresh)
    found: dict[int, Losses] = {}
    files: set[str] = set()
    for trial in trials:
        if trial.status.state is not State.COMPLETE:
            continue
        sha256 = trial.status.artifact.sha256 if trial.status.artifact else ""
        if sha256 in files:
            continue
        files |= {sha256} - {""}
        metrics = read(trial)
        point = losses(objectives, metrics)
        if point is not None and feasible(objectives, metrics, baseline):
            found[trial.number] = point
    return found


def closeness(points: Mapping[int, Losses]) -> dict[int, float]:
    """Sum of each point's losses, each loss scaled to 0..1 over the points; less is nearer to the ideal."""
    if not points:
        return {}
    low = [min(axis) for axis in zip(*points.values(), strict=True)]
    extent = [max(axis) - min(axis) for axis in zip(*points.values(), strict=True)]
    return {
        number: sum((v - m) / e for v, m, e in zip(point, low, extent, strict=True) if e > 0)
        for number, point in points.items()
    }


def knee(points: Mapping[int, Losses]) -> int | None:
    """The point of a front farthest from the hyperplane through its extremes, on the side of the ideal.

    With every loss scaled to 0..1 over the front, the hyperplane is the one that cuts all axes alike (for two
    objectives it goes through the two extremes), and the distance to it grows as the sum of the losses falls
    (Das, "On characterizing the knee of the Pareto curve", 1999). Ties go to the lowest number.
    """
    near = closeness(points)
    return min(near, key=lambda n: (near[n], n), default=None)


def best(points: Mapping[int, Losses], axis: int) -> int | None:
    """The point with the least loss on one axis; ties go to the one nearest to the ideal."""
    near = closeness(points)
    return min(points, key=lambda n: (points[n][axis], near[n], n), default=None)


# --- hypervolume ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Axes on which hypervolumes of one study are comparable.

    Minimized objectives count as ratio to the baseline, proportions as error (1 - value), other maximized
    ones as the baseline's ratio to them. The reference point is, on each axis, the worse of the baseline and
    the constraint's bound, times 1.1.
    """

    objectives: tuple[ResolvedObjective, ...]
    baseline: tuple[float, ...]
    reference: tuple[float, ...]

    def coordinates(self, metrics: MetricValues) -> Losses | None:
        """A trial on these axes; None when a metric is not known."""
        if not all(o.name in metrics for o in self.objectives):
            return None
        pairs = zip(self.objectives, self.baseline, strict=True)
        return tuple(_coordinate(o, metrics[o.name].value, base) for o, base in pairs)

    def share(self, points: Sequence[Losses]) -> float:
        """Hypervolume of the points, divided by that of the box between the reference and zero: 0..1."""
        return volume(points, self.reference) / prod(self.reference)


def scale(objectives: Sequence[ResolvedObjective], baseline: MetricValues | None) -> Scale | None:
    """The axes of a study; None while the baseline is not known on all of them."""
    if baseline is None or not all(o.name in baseline for o in objectives):
        return None
    values = tuple(baseline[o.name].value for o in objectives)
    reference = []
    for objective, value in zip(objectives, values, strict=True):
        limits = [
            _coordinate(objective, bound.limit, value)
            for bound in bounds(objective, baseline)
            if bound.metric == objective.name
        ]
        worse = max([_coordinate(objective, value, value), *([min(limits)] if limits else [])])
        reference.append(MARGIN * worse if worse > 0 else LEAST_EXTENT)
    return Scale(tuple(objectives), values, tuple(reference))


def _coordinate(objective: ResolvedObjective, value: float, base: float) -> float:
    if objective.minimized:
        return value / base if base > 0 else value
    if objective.metric in PROPORTIONS:
        return 1.0 - value
    return base / value if value > 0 and base > 0 else float("inf")


def covered(
    objectives: Sequence[ResolvedObjective],
    trials: Sequence[OptimizationTrial],
    *,
    fresh: bool = True,
    front: Sequence[int] | None = None,
) -> tuple[float, Scale | None]:
    """Share of the objective space that the feasible trials cover, 0..1, and the axes it refers to.

    Args:
        objectives: what is optimized.
        trials: records, in number order.
        fresh: judge by the fresh rounds' values where there are any, else by what the search saw.
        front: numbers of the nondominated trials, where they are known.
    """
    axes = scale(objectives, baseline_of(trials, fresh=fresh))
    if axes is None:
        return 0.0, None
    read = reported if fresh else searched
    numbers = set(nondominated(candidates(objectives, trials, fresh=fresh)) if front is None else front)
    points = [axes.coordinates(read(t)) for t in trials if t.number in numbers]
    return axes.share([p for p in points if p is not None]), axes


def curve(
    objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]
) -> Iterator[tuple[int, float]]:
    """(number, covered share) after each final trial, in number order, by what the search saw.

    Nothing is said before the baseline, which gives the axes, is known.
    """
    axes = scale(objectives, baseline_of(trials))
    if axes is None:
        return
    points = candidates(objectives, trials, fresh=False)
    front: dict[int, Losses] = {}
    value = 0.0
    for trial in trials:
        if not trial.final:
            continue
        if trial.number in points:
            point = axes.coordinates(searched(trial))
            if point is not None and _insert(front, trial.number, point):
                value = axes.share(list(front.values()))
        yield trial.number, value


def volume(points: Sequence[Losses], reference: Losses) -> float:
    """Lebesgue measure of what the points dominate, bounded by the reference point.

    WFG (While, Bradstreet, Barone, "A fast way of calculating exact hypervolumes", 2012); points that do not
    lie before the reference on every axis contribute nothing.
    """
    inside = np.array(
        [p for p in points if all(x < r for x, r in zip(p, reference, strict=True))], dtype=float
    )
    if inside.size == 0:
        return 0.0
    return _wfg(_front_of(inside), np.array(reference, dtype=float))


def _wfg(front: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Sum of what each point adds to the ones after it; the front is sorted by its first axis."""
    if front.shape[1] == 2:
        upper = np.concatenate([reference[1:], front[:-1, 1]])
        return float((reference[0] - front[:, 0]) @ (upper - front[:, 1]))
    total = 0.0
    for i, point in enumerate(front):
        total += float(np.prod(reference - point))
        rest = np.maximum(front[i + 1 :], point)
        if len(rest):
            total -= _wfg(_front_of(rest), reference)
    return total


def _front_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nondominated points without repetition, in lexicographic order."""
    kept: list[NDArray[np.float64]] = []
    for point in np.unique(points, axis=0):  # sorted: nothing dominates what comes before it
        if not kept or not (np.array(kept) <= point).all(axis=1).any():
            kept.append(point)
    return np.array(kept)
