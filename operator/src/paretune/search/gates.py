"""Decisions on a trial and on the study: what a trial has come to, and when the search is over."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from paretune_contract.failure import CANDIDATE_REASONS
from paretune_contract.measurement import SIZE_METRICS

from ..api import OptimizationTrial, State
from ..api.study import StudySpec
from .objectives import MetricValues, ResolvedObjective, bounds, broken, sentence
from .records import baseline as baseline_of
from .records import reported, searched

CONSTRAINTS_NOT_MET = "ConstraintsNotMet"
MEASURED = "Measured"
MEASUREMENT_MISSING = "StepFailed"

Finish = TypeVar("Finish")


class Verdict(NamedTuple):
    """Final state of a trial."""

    state: State
    reason: str
    message: str


def size_limits(objectives: Sequence[ResolvedObjective], baseline: MetricValues | None) -> dict[str, float]:
    """Upper bounds in bytes of the size objectives, the tightest for each; a file above one is infeasible."""
    limits: dict[str, float] = {}
    for objective in objectives:
        if objective.metric not in SIZE_METRICS:
            continue
        uppers = [bound.limit for bound in bounds(objective, baseline) if bound.upper]
        if uppers:
            limits[objective.name] = min(uppers)
    return limits


def verdict(
    objectives: Sequence[ResolvedObjective],
    trial: OptimizationTrial,
    baseline: OptimizationTrial | None,
    pools: Collection[str],
) -> Verdict | None:
    """What a trial whose file is finished has come to; None while it still has to be measured.

    A broken constraint ends it at once, so that it takes no device, or no further one. Two trials go on
    nevertheless: the baseline, which everything is compared with, and the reference on devices that cannot
    run the baseline.

    Args:
        objectives: what is optimized.
        trial: the record, with what has been measured so far.
        baseline: the finished baseline; None for the baseline itself.
        pools: devices on which the search measures.
    """
    metrics = searched(trial)
    known = searched(baseline) if baseline is not None else None
    missed = sentence(objectives, metrics, known)
    open_pools = [p for p in pools if p not in trial.status.pools]
    if missed and not (open_pools and _must_be_measured(trial, baseline, open_pools)):
        spared = f"; not measured on {', '.join(open_pools)}" if open_pools else ""
        return Verdict(State.INFEASIBLE, CONSTRAINTS_NOT_MET, f"{missed}{spared}")
    if open_pools:
        return None
    unknown = [o.name for o in objectives if o.name not in metrics]
    if unknown:
        return Verdict(State.FAILED, MEASUREMENT_MISSING, f"no value for {', '.join(unknown)} was measured")
    where = f" on {', '.join(sorted(pools))}" if pools else ""
    return Verdict(State.COMPLETE, MEASURED, f"every objective was measured{where}")


def _must_be_measured(
    trial: OptimizationTrial, baseline: OptimizationTrial | None, pools: Collection[str]
) -> bool:
    origin = trial.spec.ask.origin
    if origin == "baseline":
        return True
    return (
        origin == "reference" and baseline is not None and any(p not in baseline.status.pools for p in pools)
    )


def failures(trials: Sequence[OptimizationTrial]) -> int:
    """Failures that candidates caused; evictions, nodes, quota and stores do not count."""
    return sum(t.status.state is State.FAILED and t.status.reason in CANDIDATE_REASONS for t in trials)


def budget_end(
    spec: StudySpec,
    trials: Sequence[OptimizationTrial],
    elapsed: float,
    exhausted: bool,
    finish: Callable[[str, str, bool], Finish],
) -> Finish | None:
    """Why no further trial is asked for, or None when there is budget left.

    Args:
        spec: the study, whose budget may have changed since it began.
        trials: all records, running ones included.
        elapsed: active time of the study in seconds.
        exhausted: the space has no settings left that were not tried.
        finish: makes the result from a reason, a sentence, and whether the study has failed.
    """
    budget, count, failed = spec.budget, len(trials), failures(trials)
    if failed > budget.max_failures:
        why = f"{failed} candidates failed, more than budget.maxFailures = {budget.max_failures}."
        return finish("TooManyFailures", why, True)
    if count >= budget.trials:
        return finish("BudgetSpent", f"All {budget.trials} trials of the budget are done.", False)
    if budget.seconds is not None and elapsed >= budget.seconds:
        why = f"budget.maxDuration = {budget.max_duration} is over after {count} trials."
        return finish("DurationSpent", why, False)
    if exhausted:
        return finish("SpaceExhausted", f"All that the space allows was tried, in {count} trials.", False)
    return None


@dataclass(frozen=True)
class Miss:
    """A trial that is not feasible, and how far it is from being so.

    Args:
        number: number of the trial.
        violation: sum of its relative violations; never 0.
        sentence: which constraints it misses, and by how much.
    """

    number: int
    violation: float
    sentence: str


def nearest_misses(
    objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]
) -> tuple[Miss, ...]:
    """Infeasible trials, the nearest to feasible first.

    A trial that a gate stopped early is judged by the constraints that are known to be broken; at equal
    violation one that was measured in full comes first.
    """
    baseline = baseline_of(trials, fresh=True)
    found: list[tuple[float, int, int, Miss]] = []
    for trial in trials:
        if trial.status.state not in (State.COMPLETE, State.INFEASIBLE):
            continue
        metrics = reported(trial)
        total = sum(violation for _, violation in broken(objectives, metrics, baseline))
        if total > 0:
            unknown = sum(o.name not in metrics for o in objectives)
            miss = Miss(trial.number, total, sentence(objectives, metrics, baseline))
            found.append((total, unknown, trial.number, miss))
    return tuple(miss for *_, miss in sorted(found, key=lambda f: f[:3]))
