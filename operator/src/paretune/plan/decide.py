"""Observed -> Plan. The whole logic of a study's life, without a client, a clock or a logger."""

from collections.abc import Iterable, Iterator

from paretune_contract.failure import CANDIDATE_REASONS
from paretune_contract.stages import BENCHMARK, COMPRESS, EVALUATE

from ..api import OptimizationTrial, State
from ..search import gates
from ..search.front import members
from .actions import Action, Ask, Conclude, Copy, Finish, Plan, Run
from .observed import Observed, Work


def decide(seen: Observed) -> Plan:
    """What to do now.

    Trials that exist are served before new ones are asked for, devices before compression (a finished file
    is closer to a result), lower numbers before higher ones. Trial 0, the baseline, runs alone: every
    constraint is relative to it.
    """
    settled = tuple(_settle(seen))
    if settled:
        return Plan(settled)
    active = [t for t in seen.trials if not t.final]
    starts = tuple(_startable(seen, _work_of_search(seen, active)))
    ended = _end_of_search(seen)
    if ended is None and not seen.spec.suspend:
        return Plan((*starts, *_asks(seen, active)))
    if active:
        return Plan(starts, phase="Draining")
    if ended is None:
        return Plan((Finish("Suspended", "spec.suspend is true: no new trial starts."),), phase="Suspended")
    remaining = list(_work_of_final(seen))
    if remaining:
        return Plan(tuple(_startable(seen, remaining)), phase="Measuring the front")
    return Plan((ended,), phase="Finished")


def _settle(seen: Observed) -> Iterator[Action]:
    """Decisions that cost nothing: verdicts, and measurements of equal bytes."""
    for trial in seen.trials:
        if trial.final or trial.status.artifact is None:
            continue
        if trial.number > 0 and seen.baseline is not None and not seen.baseline.final:
            continue
        verdict = gates.verdict(
            seen.objectives,
            trial,
            seen.baseline if seen.baseline is not trial else None,
            searched_pools(seen),
        )
        if verdict is not None:
            yield Conclude(trial.number, *verdict)
            continue
        for pool in _unmeasured(seen, trial):
            twin = _twin(seen, trial, pool)
            if twin is None:
                continue
            if pool in twin.status.pools:
                yield Copy(trial.number, pool, twin.number)
            elif _to_blame(twin):
                yield Conclude(
                    trial.number,
                    State.FAILED,
                    twin.status.reason,
                    f"The same bytes as trial {twin.number}: {twin.status.message}",
                )
                break


def searched_pools(seen: Observed) -> tuple[str, ...]:
    """Pools that an objective looks at. The others measure only the front, at the end."""
    named = {o.device for o in seen.objectives if o.device}
    return tuple(p for p in seen.pools if p in named)


def _unmeasured(seen: Observed, trial: OptimizationTrial) -> Iterator[str]:
    return (p for p in searched_pools(seen) if p not in trial.status.pools)


def _twin(seen: Observed, trial: OptimizationTrial, pool: str) -> OptimizationTrial | None:
    """The lowest earlier trial with equal bytes that was, is or will be measured on this pool."""
    for other in seen.trials:
        if other.number >= trial.number:
            return None
        same = _sha(other) is not None and _sha(other) == _sha(trial)
        if same and (pool in other.status.pools or not other.final or _to_blame(other)):
            return other
    return None


def _to_blame(trial: OptimizationTrial) -> bool:
    """It failed by its own bytes, and so will equal ones; what the world did says nothing of them."""
    return trial.status.state is State.FAILED and trial.status.reason in CANDIDATE_REASONS


def _sha(trial: OptimizationTrial) -> str | None:
    return trial.status.artifact.sha256 if trial.status.artifact else None


def _work_of_search(seen: Observed, active: Iterable[OptimizationTrial]) -> list[Work]:
    work: list[Work] = []
    for trial in active:
        if trial.status.artifact is None:
            work.append(Work(trial.number, COMPRESS))
            continue
        for pool in _unmeasured(seen, trial):
            if _twin(seen, trial, pool) is None:
                work.append(Work(trial.number, BENCHMARK, pool))
    return sorted(work, key=lambda w: (w.stage != BENCHMARK, w.number, w.pool))


def _work_of_final(seen: Observed) -> Iterator[Work]:
    """Fresh rounds on every pool, and the test split once, for the front and the baseline."""
    front = members(seen.objectives, seen.trials)
    for trial in seen.trials:
        if trial.number not in front and trial.number != 0:
            continue
        if trial.status.artifact is None:
            continue
        final = trial.status.final
        done = {*final.pools, *final.faults} if final else set()
        for pool in seen.pools:
            if pool not in done:
                yield Work(trial.number, BENCHMARK, pool, final=True)
        if seen.spec.dataset.test is not None and not (final and (final.test or "test" in final.faults)):
            yield Work(trial.number, EVALUATE, final=True)


def _startable(seen: Observed, wanted: Iterable[Work]) -> Iterator[Run]:
    """As much of the wanted work as fits beside what runs."""
    capacity = seen.capacity
    free = capacity.cores - sum(capacity.cores_of(w) for w in seen.running)
    benchmarks = sum(w.stage == BENCHMARK for w in seen.running)
    places, starts = dict(capacity.places), capacity.starts
    for work in wanted:
        if work in seen.running or capacity.cores_of(work) > free or starts < 1:
            continue
        if work.stage == BENCHMARK:
            if benchmarks >= capacity.benchmarks or places.get(capacity.place_of(work), 1) < 1:
                continue
            benchmarks += 1
            if capacity.place_of(work) in places:
                places[capacity.place_of(work)] -= 1
        starts -= 1
        free -= capacity.cores_of(work)
        yield Run(work)


def _asks(seen: Observed, active: list[OptimizationTrial]) -> Iterator[Ask]:
    if active and active[0].number == 0:
        return
    if seen.capacity.starts < 1:
        return
    if len(active) < (seen.capacity.parallelism if seen.trials else 1):
        yield Ask(len(seen.trials))  # one at a time: the next ask knows the record of this one


def _end_of_search(seen: Observed) -> Finish | None:
    baseline = seen.baseline
    if baseline is not None and baseline.status.state is State.FAILED:
        return Finish(
            "BaselineFailed", f"The untouched model could not be measured: {baseline.status.message}", True
        )
    return gates.budget_end(seen.spec, seen.trials, seen.elapsed, seen.exhausted, Finish)
