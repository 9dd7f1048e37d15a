"""Objectives in base units, and how far a candidate is from their constraints."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paretune_contract.measurement import (
    ACCURACY,
    AGREEMENT,
    DEVICE_METRICS,
    LATENCY,
    LATENCY_RATIO,
    ROC_AUC,
    SIZE_METRICS,
    Measurement,
    on_pool,
)
from paretune_contract.quantity import show_bytes, show_seconds

from ..api import Goal, Objective
from ..api.metrics import BUILT_IN, Unit, in_unit
from ..api.study import StudySpec

PROPORTIONS = frozenset({ACCURACY, AGREEMENT, ROC_AUC})
"""Metrics between 0 and 1 of which more is better; as a loss they are the error, 1 - value."""

_ROUNDING = 1e-9
"""Constraints are held up to this relative error: 0.88 - 0.01 has no exact form."""

MetricValues = Mapping[str, Measurement]


@dataclass(frozen=True)
class ResolvedObjective:
    """An objective with its full metric name, its goal, and its constraints in base units.

    Args:
        name: the name under which the metric travels: `accuracy`, `latency/cpu`.
        metric: the metric without its pool.
        device: name of the device it is measured on; None for metrics that have none.
        goal: minimize or maximize.
        at_least: lower bound.
        at_most: upper bound.
        max_drop: how much worse than the baseline it may be, in the metric's unit.
        max_ratio: upper bound of value / baseline.
    """

    name: str
    metric: str
    device: str | None
    goal: Goal
    at_least: float | None = None
    at_most: float | None = None
    max_drop: float | None = None
    max_ratio: float | None = None

    @property
    def minimized(self) -> bool:
        return self.goal is Goal.MINIMIZE

    def loss(self, value: float) -> float:
        """The value as something to minimize: itself, an error 1 - value, or its negative."""
        if self.minimized:
            return float(value)
        return 1.0 - value if self.metric in PROPORTIONS else -float(value)

    def show(self, value: float) -> str:
        """The value with its unit, for sentences."""
        unit = BUILT_IN[self.metric].unit if self.metric in BUILT_IN else Unit.NONE
        if unit is Unit.BYTES:
            return show_bytes(value)
        return show_seconds(value) if unit is Unit.SECONDS else f"{value:.4g}"


def quality_metrics(objectives: Iterable[ResolvedObjective]) -> tuple[str, ...]:
    """Metrics that are evaluated on data: neither sizes nor measured on a device."""
    return tuple(o.metric for o in objectives if o.metric not in SIZE_METRICS | DEVICE_METRICS)


@dataclass(frozen=True)
class Bound:
    """One constraint as a number that a metric must not pass.

    Args:
        objective: name of the objective it belongs to.
        kind: the field of the manifest: `atLeast`, `atMost`, `maxDrop`, `maxRatio`.
        metric: full name of the metric it is about; a latency's maxRatio is about `latencyRatio/POOL`.
        limit: the bound in the metric's base unit.
        upper: the metric must not be above the limit; else not below it.
        origin: where a relative bound comes from, such as `baseline 0.88 - 0.01`; else empty.
    """

    objective: ResolvedObjective
    kind: str
    metric: str
    limit: float
    upper: bool
    origin: str = ""

    @property
    def key(self) -> str:
        return f"{self.objective.name}:{self.kind}"

    def violation(self, value: float) -> float:
        """How far the value is beyond the bound, relative to the bound; <= 0 is feasible.

        Upper bounds: value / limit - 1. Lower bounds of proportions: the same of the errors, so that 0.86
        against 0.87 weighs 0.077, like 7.7% of bytes too many. Other lower bounds: 1 - value / limit.
        """
        if self.upper:
            excess, scale = value - self.limit, abs(self.limit)
        elif self.objective.metric in PROPORTIONS:
            excess, scale = self.limit - value, max(1.0 - self.limit, 0.01)
        else:
            excess, scale = self.limit - value, abs(self.limit)
        scaled = excess / scale if scale > 0 else excess
        return scaled if scaled > _ROUNDING else min(scaled, 0.0)

    def sentence(self, value: float) -> str:
        """`accuracy 0.861 is below 0.87 = baseline 0.88 - 0.01`."""
        side = "above" if self.upper else "below"
        shown = (lambda v: f"{v:.4g}") if self.metric != self.objective.name else self.objective.show
        equals = f" = {self.origin}" if self.origin else ""
        return f"{self.metric} {shown(value)} is {side} {shown(self.limit)}{equals}"


def resolve(spec: StudySpec) -> tuple[ResolvedObjective, ...]:
    """Objectives of a study, in the order of the manifest.

    Raises:
        ValueError: naming the field, when an objective's device or goal cannot be known, or a bound is no
            quantity.
    """
    return tuple(_resolved(o, f"spec.objectives[{i}]", spec) for i, o in enumerate(spec.objectives))


def _resolved(objective: Objective, path: str, spec: StudySpec) -> ResolvedObjective:
    try:
        definition = objective.definition
        device = spec.device_of(objective)
        at_most = None if objective.at_most is None else in_unit(objective.at_most, definition.unit)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return ResolvedObjective(
        name=on_pool(objective.metric, device) if device else objective.metric,
        metric=objective.metric,
        device=device,
        goal=definition.goal,
        at_least=objective.at_least,
        at_most=at_most,
        max_drop=objective.max_drop,
        max_ratio=objective.max_ratio,
    )


def bounds(
    objective: ResolvedObjective, baseline: MetricValues | None, metrics: MetricValues | None = None
) -> Iterator[Bound]:
    """The constraints of one objective as numbers.

    Relative ones are left out while the baseline's value is not known. A latency's maxRatio is held against
    `latencyRatio/POOL`, which comes from interleaved rounds, where `metrics` has it.
    """
    name = objective.name
    if objective.at_least is not None:
        yield Bound(objective, "atLeast", name, objective.at_least, upper=False)
    if objective.at_most is not None:
        yield Bound(objective, "atMost", name, objective.at_most, upper=True)
    base = baseline[name].value if baseline and name in baseline else None
    if objective.max_drop is not None and base is not None:
        sign, word = (1, "+") if objective.minimized else (-1, "-")
        yield Bound(
            objective,
            "maxDrop",
            name,
            base + sign * objective.max_drop,
            upper=objective.minimized,
            origin=f"baseline {objective.show(base)} {word} {objective.show(objective.max_drop)}",
        )
    if objective.max_ratio is not None:
        ratio = on_pool(LATENCY_RATIO, objective.device) if objective.device else ""
        if objective.metric == LATENCY and metrics is not None and ratio in metrics:
            yield Bound(objective, "maxRatio", ratio, objective.max_ratio, upper=True)
        elif base is not None:
            yield Bound(
                objective,
                "maxRatio",
                name,
                base * objective.max_ratio,
                upper=True,
                origin=f"{objective.max_ratio:g} x baseline {objective.show(base)}",
            )


def broken(
    objectives: Sequence[ResolvedObjective], metrics: MetricValues, baseline: MetricValues | None
) -> tuple[tuple[Bound, float], ...]:
    """The bounds that known metrics break, with their violations, in the objectives' order."""
    judged = _judged(objectives, metrics, baseline)
    return tuple((bound, violation) for bound, violation in judged if violation > 0)


def _judged(
    objectives: Sequence[ResolvedObjective], metrics: MetricValues, baseline: MetricValues | None
) -> Iterator[tuple[Bound, float]]:
    for objective in objectives:
        for bound in bounds(objective, baseline, metrics):
            if bound.metric in metrics:
                yield bound, bound.violation(metrics[bound.metric].value)


def violations(
    objectives: Sequence[ResolvedObjective], metrics: MetricValues, baseline: MetricValues | None
) -> dict[str, float]:
    """Relative violation of each constraint, by `NAME:KIND`; <= 0 is feasible.

    Only what is known is judged: a constraint whose metric was not measured, or that is relative to a
    baseline not yet measured, is left out.
    """
    return {bound.key: violation for bound, violation in _judged(objectives, metrics, baseline)}


def feasible(
    objectives: Sequence[ResolvedObjective], metrics: MetricValues, baseline: MetricValues | None
) -> bool:
    """No known metric breaks a constraint."""
    return not broken(objectives, metrics, baseline)


def sentence(
    objectives: Sequence[ResolvedObjective], metrics: MetricValues, baseline: MetricValues | None
) -> str:
    """Which constraints are missed and by how much; empty when none is."""
    return "; ".join(
        bound.sentence(metrics[bound.metric].value) for bound, _ in broken(objectives, metrics, baseline)
    )
