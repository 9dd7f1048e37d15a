"""The trials as points in the plane: which objectives are the axes, and what each point stands for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from paretune_contract.measurement import DOWNLOAD_SIZE, LATENCY, MODEL_SIZE, Measurement, Metrics

from ..api import OptimizationTrial, State
from ..search.front import aliases
from ..search.objectives import Bound, ResolvedObjective, bounds, resolve
from ..search.records import reported
from .view import StudyView
from .wording import axis_value, base

_X_PREFERENCE = (DOWNLOAD_SIZE, LATENCY, MODEL_SIZE)


class Role(StrEnum):
    """What a point is, from the most important down."""

    BASELINE = "baseline"
    FRONT = "front"
    DOMINATED = "dominated"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class Spot:
    """A trial with a value for every objective that has one."""

    trial: OptimizationTrial
    role: Role
    metrics: Metrics
    on_front: bool
    marks: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        return self.trial.number

    def at(self, objective: ResolvedObjective) -> float:
        """Value in the unit of the axis; NaN where it was not measured."""
        found = self.metrics.get(objective.name)
        return math.nan if found is None else axis_value(objective.name, found.value)


@dataclass(frozen=True)
class Axes:
    """Which objectives are drawn how: x, y, a third as color; from three on all of them side by side."""

    x: ResolvedObjective
    y: ResolvedObjective
    color: ResolvedObjective | None
    all: tuple[ResolvedObjective, ...]


def axes(view: StudyView) -> Axes | None:
    """Quality upwards, bytes or time to the right; None where there is only one objective."""
    objectives = resolve(view.study.spec)
    if len(objectives) < 2:
        return None
    y = next((o for o in objectives if not o.minimized), None) or next(
        (o for o in objectives if base(o.name) not in _X_PREFERENCE), objectives[0]
    )
    rest = [o for o in objectives if o is not y]
    x = min(rest, key=lambda o: _X_PREFERENCE.index(o.metric) if o.metric in _X_PREFERENCE else 9)
    others = [o for o in rest if o is not x]
    return Axes(x, y, others[0] if others else None, objectives)


def spots(view: StudyView) -> tuple[Spot, ...]:
    """Final trials with metrics, in number order."""
    front = {entry.trial: entry.metrics for entry in view.front.front}
    marks: dict[int, list[str]] = {}
    for alias, number in aliases(view.front).items():
        marks.setdefault(number, []).append(alias)
    found = []
    for trial in view.finals():
        metrics = front.get(trial.number, reported(trial))
        if metrics and trial.status.state is not State.FAILED:
            found.append(
                Spot(
                    trial,
                    _role(view, trial, front),
                    metrics,
                    trial.number in front,
                    tuple(marks.get(trial.number, ())),
                )
            )
    return tuple(found)


def _role(view: StudyView, trial: OptimizationTrial, front: dict[int, Metrics]) -> Role:
    if trial.number == view.front.baseline.trial:
        return Role.BASELINE
    if trial.number in front:
        return Role.FRONT
    return {State.INFEASIBLE: Role.INFEASIBLE, State.PRUNED: Role.PRUNED}.get(
        trial.status.state, Role.DOMINATED
    )


def limits(view: StudyView, objective: ResolvedObjective) -> Iterator[tuple[Bound, float]]:
    """The constraints on an objective's own metric, each with its limit in the unit of the axis."""
    for bound in bounds(objective, view.front.baseline.metrics):
        if bound.metric == objective.name:
            yield bound, axis_value(objective.name, bound.limit)


def staircase(
    points: Sequence[tuple[float, float]], x_minimized: bool, y_minimized: bool
) -> list[tuple[float, float]]:
    """The border of what a two-objective front dominates, as the corners of a line from left to right."""
    sign_x, sign_y = (1 if x_minimized else -1), (1 if y_minimized else -1)
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (sign_x * p[0], sign_y * p[1])):
        if not best or sign_y * point[1] < sign_y * best[-1][1]:
            best.append(point)
    corners: list[tuple[float, float]] = []
    for i, point in enumerate(best):
        if i:
            corners.append((point[0], best[i - 1][1]))
        corners.append(point)
    return sorted(corners, key=lambda p: p[0]) if x_minimized else corners


def interval(spot: Spot, objective: ResolvedObjective) -> tuple[float, float]:
    """Lengths of the interval below and above the value, in the unit of the axis."""
    found: Measurement | None = spot.metrics.get(objective.name)
    if found is None:
        return 0.0, 0.0
    low, value, high = (axis_value(objective.name, v) for v in (found.low, found.value, found.high))
    return max(0.0, value - low), max(0.0, high - value)
